"""One conversation: asks the engine, writes the store, yields the engine's events unchanged.

Both front ends stand on this class and keep no copy of its logic. Every method that answers is a
generator of :data:`vlmchat.engine.events.AnswerEvent`; the user's turn is in the store before the
first event, and the answer is written when the stream ends, whatever ended it: a stopped answer
is kept with status ``interrupted``, an error leaves the question in place (status ``failed``) and
is raised to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event as CancelEvent

from vlmchat.conversation import Part
from vlmchat.engine.api import Engine, PromptSize
from vlmchat.engine.events import AnswerEvent
from vlmchat.options import Sampling, VisionOptions
from vlmchat.store.model import Turn


class Session:
    """One conversation over one engine and, unless it is temporary, one store."""

    def __init__(self, engine: Engine, store: object | None, model: str, revision: str = "", chat_id: str | None = None) -> None:
        """Open chat ``chat_id`` of ``store``, or a new chat that is created with its first question.

        ``store`` None makes a temporary chat that is never written.
        """
        raise NotImplementedError

    @property
    def chat_id(self) -> str | None:
        """The stored chat, or None before the first question and for a temporary chat."""
        raise NotImplementedError

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The branch in use, oldest first."""
        raise NotImplementedError

    sampling: Sampling
    """For the next answers; may be replaced between turns."""
    vision: VisionOptions
    """For the next answers; may be replaced between turns."""
    system: str | None
    """System prompt in place of the family's own; None keeps the family's."""

    def ask(self, parts: Sequence[Part], cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Append a user turn of ``parts`` (pictures before the text) and answer it."""
        raise NotImplementedError

    def regenerate(self, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Answer the last question again, as a new branch beside the present answer."""
        raise NotImplementedError

    def resume(self, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Continue a stopped answer where it ended; the turn grows, no new one is made."""
        raise NotImplementedError

    def edit(self, turn_id: str, parts: Sequence[Part], cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Ask ``parts`` in place of user turn ``turn_id``, as a new branch from its parent."""
        raise NotImplementedError

    def fork(self, turn_id: str) -> Session:
        """Return a new chat that begins with the branch up to and including ``turn_id``."""
        raise NotImplementedError

    def measure(self, parts: Sequence[Part]) -> PromptSize:
        """What asking ``parts`` now would cost."""
        raise NotImplementedError
