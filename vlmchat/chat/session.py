"""One conversation: asks the engine, writes the store, yields the engine's events unchanged.

Both front ends stand on this class and keep no copy of its logic. Every method that answers is a
generator of :data:`vlmchat.engine.events.AnswerEvent`; the user's turn is in the store before the
first event, and the answer is written when the stream ends, whatever ended it: a stopped answer
is kept with status ``interrupted``, an error leaves the question in place (status ``failed``) and
is raised to the caller. A long answer is also written every few seconds, so that a crash of the whole
program costs no more than that.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict
from threading import Event as CancelEvent
from typing import TypeAlias, cast

from vlmchat.chat.record import Record
from vlmchat.chat.tree import Tree, prompt_messages, title_of
from vlmchat.conversation import Message, Part, Picture, Text, Video, system
from vlmchat.engine.api import Engine, PromptSize, Request
from vlmchat.engine.events import AnswerEvent
from vlmchat.errors import UsageError
from vlmchat.options import Sampling, VisionOptions
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Provenance, Turn

Answer: TypeAlias = Generator[AnswerEvent, None, None]
"""The events of one answer; closing it stops the engine and keeps what came so far."""


class Session:
    """One conversation over one engine and, unless it is temporary, one store."""

    def __init__(
        self, engine: Engine, store: ChatStore | None, model: str, revision: str = "", chat_id: str | None = None
    ) -> None:
        """Open chat ``chat_id`` of ``store``, or a new chat that is created with its first question.

        ``store`` None makes a temporary chat that is never written. An opened chat goes on with the
        system prompt its last answer was made with.

        Raises:
            InputError: there is no chat ``chat_id``.
        """
        self.engine = engine
        self.model = model
        """As the user knows it; may be replaced when another model was loaded."""
        self.revision = revision
        """Commit of a hub checkpoint; empty takes the fingerprint of the loaded folder."""
        self.sampling = Sampling()
        self.vision = VisionOptions()
        self.system: str | None = None
        self._store = store
        self._tree = Tree(store, chat_id)
        made_with = [turn.provenance for turn in self.turns if turn.provenance is not None]
        if made_with:
            self.system = cast("str | None", made_with[-1].settings.get("system"))

    sampling: Sampling
    """For the next answers; may be replaced between turns."""
    vision: VisionOptions
    """For the next answers; may be replaced between turns."""
    system: str | None
    """System prompt in place of the family's own; None keeps the family's."""

    @property
    def chat_id(self) -> str | None:
        """The stored chat, or None before the first question and for a temporary chat."""
        return self._tree.chat_id

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The branch in use, oldest first."""
        return self._tree.branch()

    def ask(self, parts: Sequence[Part], cancel: CancelEvent | None = None) -> Answer:
        """Append a user turn of ``parts`` (pictures before the text) and answer it.

        Raises:
            VlmchatError: as :meth:`vlmchat.engine.api.Engine.generate`, and what the store raises.
        """
        question = self._add_question(self._tree.head, parts)
        yield from self._answer(question, cancel)

    def regenerate(self, cancel: CancelEvent | None = None) -> Answer:
        """Answer the last question again, as a new branch beside the present answer.

        Raises:
            UsageError: nothing was asked yet.
        """
        asked = [turn for turn in self.turns if turn.message.role == "user"]
        if not asked:
            raise UsageError("There is no question to answer again.")
        self._tree.move_head(asked[-1].id)
        yield from self._answer(asked[-1], cancel)

    def resume(self, cancel: CancelEvent | None = None) -> Answer:
        """Continue a stopped answer where it ended; the turn grows, no new one is made.

        Raises:
            UsageError: the last turn is no answer that was stopped or cut at its longest.
        """
        last = self.turns[-1] if self.turns else None
        if last is None or last.message.role != "assistant" or last.status == "complete":
            raise UsageError("There is no stopped answer to continue.")
        if not last.message.text and last.parent is not None:
            yield from self._answer(self._tree.turn(last.parent), cancel, grows=last)
        else:
            yield from self._answer(last, cancel, grows=last)

    def edit(self, turn_id: str, parts: Sequence[Part], cancel: CancelEvent | None = None) -> Answer:
        """Ask ``parts`` in place of user turn ``turn_id``, as a new branch from its parent.

        Raises:
            UsageError: ``turn_id`` is no question of this chat.
        """
        old = self._tree.turn(turn_id)
        if old.message.role != "user":
            raise UsageError("Only a question can be edited.")
        question = self._add_question(old.parent, parts)
        yield from self._answer(question, cancel)

    def fork(self, turn_id: str) -> Session:
        """Return a new chat that begins with the branch up to and including ``turn_id``.

        Raises:
            UsageError: ``turn_id`` is no turn of this chat.
        """
        other = Session(self.engine, self._store, self.model, self.revision)
        other.sampling, other.vision, other.system = self.sampling, self.vision, self.system
        tree, parent = other._tree, None
        for turn in self._tree.branch(self._tree.turn(turn_id).id):
            tree.begin(self.model, title_of(turn.message))
            parent = tree.add(parent, turn.message, turn.status, turn.provenance).id
        return other

    def select(self, turn_id: str) -> None:
        """Make the branch that ends with ``turn_id`` the one in use: another answer, an earlier edit.

        Raises:
            UsageError: ``turn_id`` is no turn of this chat.
        """
        self._tree.move_head(self._tree.turn(turn_id).id)

    def measure(self, parts: Sequence[Part]) -> PromptSize:
        """What asking ``parts`` now would cost."""
        asked = Message("user", tuple(parts))
        return self.engine.measure(self._request((*prompt_messages(self.turns), asked)))

    def _add_question(self, parent: str | None, parts: Sequence[Part]) -> Turn:
        message = Message("user", tuple(self._kept(part) for part in parts))
        self._tree.begin(self.model, title_of(message))
        return self._tree.add(parent, message, "complete", None)

    def _kept(self, part: Part) -> Part:
        """Return ``part`` with its pictures in the store, where there is one."""
        if self._store is None or isinstance(part, Text):
            return part
        if isinstance(part, Picture):
            return self._store.keep_picture(part)
        frames = tuple(self._store.keep_picture(frame) for frame in part.frames)
        return Video(part.digest, part.name, frames, part.path)

    def _answer(self, last: Turn, cancel: CancelEvent | None, grows: Turn | None = None) -> Answer:
        """Run the branch that ends with ``last`` through the engine and keep what comes out.

        ``grows`` is the stopped answer that gets longer; without it a new turn follows ``last``.
        """
        request = self._request(prompt_messages(self._tree.branch(last.id)))
        events = self.engine.generate(request, cancel)
        try:
            with Record(self._tree, last, grows, self._made_by()) as record:
                for event in events:
                    record.note(event)
                    yield event
        finally:
            # The consumer may have left early: end the engine's work now, not when this is collected.
            if isinstance(events, Generator):
                events.close()

    def _made_by(self) -> Provenance:
        """What the next answer is made with."""
        loaded = self.engine.loaded
        return Provenance(
            model=self.model,
            revision=self.revision or (loaded.fingerprint if loaded else ""),
            quantization=loaded.quantization if loaded else "",
            device=loaded.device if loaded else "",
            dtype=loaded.dtype if loaded else "",
            settings={**asdict(self.sampling), **asdict(self.vision), "system": self.system},
        )

    def _request(self, messages: tuple[Message, ...]) -> Request:
        lead = () if self.system is None else (system(self.system),)
        return Request((*lead, *messages), self.sampling, self.vision)
