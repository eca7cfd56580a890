"""One conversation: asks the engine, writes the store, yields the engine's events unchanged.

Both front ends stand on this class and keep no copy of its logic. Every method that answers is a
generator of :data:`vlmchat.engine.events.AnswerEvent`; the user's turn is in the store before the
first event, and the answer is written when the stream ends, whatever ended it: a stopped answer
is kept with status ``interrupted``, an error leaves the question in place (status ``failed``) and
is raised to the caller. A long answer is also written every few seconds, so that a crash of the whole
program costs no more than that.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from threading import Event as CancelEvent
from typing import TypeAlias

from vlmchat.chat.choices import Choices, choices_of
from vlmchat.chat.record import Record
from vlmchat.chat.tree import Removed, Tree, prompt_messages, title_of
from vlmchat.conversation import Message, Part, Picture, Text, system
from vlmchat.engine.api import Engine, PromptSize, Request
from vlmchat.engine.events import AnswerEvent
from vlmchat.errors import UsageError
from vlmchat.options import Sampling, VisionOptions
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Provenance, Turn

Answer: TypeAlias = Generator[AnswerEvent, None, None]
"""The events of one answer; closing it stops the engine and keeps what came so far."""
BEGINNING = ""
"""In place of a turn's id: before the first turn."""


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
        self.schema: str | None = None
        self._store = store
        self._tree = Tree(store, chat_id)
        self.since: str | None = None
        self.choices = choices_of(self.turns) or self.choices

    sampling: Sampling
    """For the next answers; may be replaced between turns."""
    vision: VisionOptions
    """For the next answers; may be replaced between turns."""
    system: str | None
    """System prompt in place of the family's own; None keeps the family's."""
    schema: str | None
    """JSON Schema, as JSON, that the next answers are held to; None: any text."""
    since: str | None
    """The turn from which on the model is shown the chat; None shows all of it."""

    @property
    def chat_id(self) -> str | None:
        """The stored chat, or None before the first question and for a temporary chat."""
        return self._tree.chat_id

    @property
    def choices(self) -> Choices:
        """What the next answers are made with, as one value; the prompt form apart, which is the model's."""
        return Choices(self.sampling, self.system, self.vision.max_tiles, self.since)

    @choices.setter
    def choices(self, choices: Choices) -> None:
        self.sampling, self.system, self.since = choices.sampling, choices.system, choices.since
        self.vision = replace(self.vision, max_tiles=choices.max_tiles)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The branch in use, oldest first."""
        return self._tree.branch()

    def branch(self, turn_id: str) -> tuple[Turn, ...]:
        """The turns that lead to ``turn_id``, oldest first, itself the last."""
        return self._tree.branch(turn_id)

    def parent(self, turn_id: str) -> str:
        """The id of the turn that ``turn_id`` follows, or :data:`BEGINNING`."""
        return self._tree.turn(turn_id).parent or BEGINNING

    def placed(self, head: str | None = None) -> list[tuple[Turn, int, int]]:
        """The branch that ends with ``head`` (None: the one in use), each turn with its place among its versions."""
        return self._tree.placed(head)

    def versions(self, turn_id: str) -> tuple[Turn, ...]:
        """The turns that stand in the place of ``turn_id``: answers to one question, edits of one question."""
        return self._tree.versions(turn_id)

    def ask(self, parts: Sequence[Part], cancel: CancelEvent | None = None) -> Answer:
        """Append a user turn of ``parts`` (pictures before the text) and answer it.

        Raises:
            VlmchatError: as :meth:`vlmchat.engine.api.Engine.generate`, and what the store raises.
        """
        question = self._add_question(self._tree.head, parts)
        yield from self._answer(question, cancel)

    def regenerate(self, cancel: CancelEvent | None = None, turn_id: str | None = None) -> Answer:
        """Answer a question again, as a new branch beside the present answer.

        ``turn_id`` is the question or its answer, None the last question. An error before the first word
        leaves the chat as it was.

        Raises:
            UsageError: nothing was asked yet, or ``turn_id`` is no turn of this chat.
        """
        question = self._question_of(turn_id)
        head = self._tree.head
        self._tree.move_head(question.id)
        with self._kept_on_error(head, question):
            yield from self._answer(question, cancel)

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

        An error before the first word leaves the branch in use as it was.

        Raises:
            UsageError: ``turn_id`` is no question of this chat.
        """
        old = self._tree.turn(turn_id)
        if old.message.role != "user":
            raise UsageError("Only a question can be edited.")
        head = self._tree.head
        question = self._add_question(old.parent, parts)
        with self._kept_on_error(head, question):
            yield from self._answer(question, cancel)

    def fork(self, turn_id: str, with_media: bool = True) -> Session:
        """Return a new chat that begins with the branch up to and including ``turn_id``, with its words only if asked.

        Raises:
            UsageError: ``turn_id`` is no turn of this chat.
        """
        other = Session(self.engine, self._store, self.model, self.revision)
        other.vision, other.choices = self.vision, replace(self.choices, since=None)
        tree, parent = other._tree, None
        for turn in self._tree.branch(self._tree.turn(turn_id).id):
            message = turn.message if with_media else _words_of(turn.message)
            tree.begin(self.model, title_of(message))
            parent = tree.add(parent, message, turn.status, turn.provenance).id
        return other

    def select(self, turn_id: str) -> None:
        """Make the branch that ends with ``turn_id`` the one in use: another answer, an earlier edit.

        Raises:
            UsageError: ``turn_id`` is no turn of this chat.
        """
        self._tree.move_head(self._tree.turn(turn_id).id)

    def switch(self, turn_id: str, step: int) -> None:
        """Go to the version ``step`` after ``turn_id`` (round and round), and on to the end of its branch.

        Raises:
            UsageError: ``turn_id`` is no turn of this chat.
        """
        versions = self._tree.versions(turn_id)
        at = [turn.id for turn in versions].index(turn_id)
        self._tree.move_head(self._tree.leaf(versions[(at + step) % len(versions)].id).id)

    def delete(self, turn_id: str) -> Removed:
        """Take a turn and all that follows it out of the chat; :meth:`undelete` puts it back.

        Raises:
            UsageError: ``turn_id`` is no turn of this chat.
        """
        return self._tree.remove(turn_id)

    def undelete(self, removed: Removed) -> None:
        """Undo :meth:`delete`."""
        self._tree.restore(removed)

    def measure(
        self, parts: Sequence[Part] = (), choices: Choices | None = None, after: str | None = None
    ) -> PromptSize:
        """What asking ``parts`` now would cost; the arguments are those of :meth:`request`."""
        return self.engine.measure(self.request(parts, choices, after))

    def request(self, parts: Sequence[Part] = (), choices: Choices | None = None, after: str | None = None) -> Request:
        """What asking ``parts`` now would send to the engine; nothing is kept.

        Args:
            parts: the question; empty for what is to be answered already.
            choices: in place of those in force.
            after: the turn it would follow, :data:`BEGINNING` for none; None: the end of the branch in use.
        """
        turns = () if after == BEGINNING else self._tree.branch(after)
        asked = (Message("user", tuple(parts)),) if parts else ()
        chosen = choices or self.choices
        return self._request((*_shown(turns, chosen.since), *asked), chosen)

    def _question_of(self, turn_id: str | None) -> Turn:
        """Return the question ``turn_id`` or the one it answers; None: the last one."""
        asked = [turn for turn in self._tree.branch(turn_id) if turn.message.role == "user"]
        if not asked:
            raise UsageError("There is no question to answer again.")
        return asked[-1]

    @contextmanager
    def _kept_on_error(self, head: str | None, question: Turn) -> Iterator[None]:
        """Go back to the branch before when an answer failed before its first word."""
        try:
            yield
        except Exception:
            if self._tree.head == question.id:
                self._tree.move_head(head)
                if any(turn.id == question.id for turn in self.turns):
                    self._tree.update(question, None, question.status, None)
            raise

    def _add_question(self, parent: str | None, parts: Sequence[Part]) -> Turn:
        message = Message("user", tuple(_kept(self._store, part) for part in parts))
        self._tree.begin(self.model, title_of(message))
        return self._tree.add(parent, message, "complete", None)

    def _answer(self, last: Turn, cancel: CancelEvent | None, grows: Turn | None = None) -> Answer:
        """Run the branch that ends with ``last`` through the engine and keep what comes out.

        ``grows`` is the stopped answer that gets longer; without it a new turn follows ``last``.
        """
        request = self._request(_shown(self._tree.branch(last.id), self.since), self.choices)
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
            settings={**asdict(self.sampling), **asdict(self.vision), "system": self.system, "since": self.since},
        )

    def _request(self, messages: tuple[Message, ...], choices: Choices) -> Request:
        lead = () if choices.system is None else (system(choices.system),)
        vision = replace(self.vision, max_tiles=choices.max_tiles)
        return Request((*lead, *messages), choices.sampling, vision, self.schema, private=self._store is None)


def _kept(store: ChatStore | None, part: Part) -> Part:
    """Return ``part`` with its pictures and its video file in ``store``, where there is one."""
    if store is None or isinstance(part, Text):
        return part
    if isinstance(part, Picture):
        return store.keep_picture(part)
    return store.keep_video(part)


def _shown(turns: Sequence[Turn], since: str | None) -> tuple[Message, ...]:
    """Return what the model is shown of ``turns``: all of them, or those from ``since`` on."""
    at = next((number for number, turn in enumerate(turns) if turn.id == since), 0)
    return prompt_messages(turns[at:])


def _words_of(message: Message) -> Message:
    """Return ``message`` without its pictures and videos."""
    return replace(message, parts=tuple(part for part in message.parts if isinstance(part, Text)))
