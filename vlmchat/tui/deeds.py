"""What the engine's thread is given to do in a chat: ask, answer again, go on. Each refuses first what cannot fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event as CancelEvent
from typing import TYPE_CHECKING

from vlmchat.conversation import Part
from vlmchat.engine.events import AnswerEvent

if TYPE_CHECKING:
    from vlmchat.chat.session import Session


def ask(parts: Sequence[Part], edited: str | None, session: Session, cancel: CancelEvent) -> Iterator[AnswerEvent]:
    """Ask ``parts`` at the end of the branch in use, or in place of the question ``edited``.

    Raises:
        ContextOverflow: question and history leave no room for an answer; nothing was written.
    """
    # Late: the session's imports are not for the first frame.
    from vlmchat.chat.overflow import require_room

    require_room(session, parts, after=session.parent(edited) if edited else None)
    yield from session.edit(edited, parts, cancel) if edited else session.ask(parts, cancel)


def answer_again(question: str, session: Session, cancel: CancelEvent) -> Iterator[AnswerEvent]:
    """Answer ``question`` once more, beside its present answer.

    Raises:
        ContextOverflow: it leaves no room for an answer; nothing was changed.
    """
    from vlmchat.chat.overflow import require_room

    require_room(session, (), after=question)
    yield from session.regenerate(cancel, question)


def go_on(session: Session, cancel: CancelEvent) -> Iterator[AnswerEvent]:
    """Continue the stopped answer at the end of the branch in use.

    Raises:
        ContextOverflow: it has filled the context; nothing was changed.
    """
    from vlmchat.chat.overflow import require_room

    require_room(session, ())
    yield from session.resume(cancel)
