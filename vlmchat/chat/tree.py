"""The turns of one chat as a tree: in memory, and in the store where there is one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlmchat.conversation import Message, Part
from vlmchat.errors import UsageError
from vlmchat.plaintext import one_line
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Provenance, Turn, TurnStatus

_TITLE_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Removed:
    """What :meth:`Tree.remove` took out, to be put back."""

    turns: tuple[Turn, ...]
    head: str | None
    """Where the branch in use ended before."""


class Tree:
    """The turns of a chat; every change is written before it is visible here."""

    def __init__(self, store: ChatStore | None, chat_id: str | None) -> None:
        """Read chat ``chat_id`` of ``store``, or begin with nothing.

        Raises:
            InputError: there is no such chat.
        """
        self._store = store
        self.chat_id: str | None = None
        self.head: str | None = None
        self._turns: dict[str, Turn] = {}
        if store is not None and chat_id is not None:
            chat = store.chat(chat_id)
            self.chat_id, self.head = chat.summary.id, chat.head
            self._turns = {turn.id: turn for turn in chat.turns}

    def turn(self, turn_id: str) -> Turn:
        """Return the turn ``turn_id``.

        Raises:
            UsageError: it is not in this chat.
        """
        if turn_id not in self._turns:
            raise UsageError(f"This chat has no turn {turn_id}.")
        return self._turns[turn_id]

    def branch(self, head: str | None = None) -> tuple[Turn, ...]:
        """Return the turns that lead to ``head`` (None: to the head in use), oldest first."""
        path: list[Turn] = []
        at = self.head if head is None else head
        while at is not None:
            path.append(self._turns[at])
            at = path[-1].parent
        return tuple(reversed(path))

    def begin(self, model: str, title: str) -> None:
        """Create the chat in the store, unless it is there or there is no store."""
        if self._store is not None and self.chat_id is None:
            self.chat_id = self._store.create_chat(model, title).id

    def add(self, parent: str | None, message: Message, status: TurnStatus, provenance: Provenance | None) -> Turn:
        """Append a turn after ``parent`` and make it the head."""
        if self._store is not None and self.chat_id is not None:
            turn = self._store.add_turn(self.chat_id, parent, message, status, provenance)
        else:
            turn = Turn(os.urandom(8).hex(), "", parent, message, status, time.time(), provenance)
        self._turns[turn.id] = turn
        self.head = turn.id
        return turn

    def update(self, turn: Turn, message: Message | None, status: TurnStatus, provenance: Provenance | None) -> Turn:
        """Replace the status of ``turn`` and what else is given."""
        changed = replace(
            turn, message=message or turn.message, status=status, provenance=provenance or turn.provenance
        )
        if self._store is not None:
            self._store.update_turn(turn.id, message, status, provenance)
        self._turns[turn.id] = changed
        return changed

    def versions(self, turn_id: str) -> tuple[Turn, ...]:
        """Return the turns that stand in the place of ``turn_id``, itself among them, oldest first."""
        turn = self.turn(turn_id)
        role = turn.message.role
        return tuple(it for it in self._turns.values() if it.parent == turn.parent and it.message.role == role)

    def placed(self, head: str | None = None) -> list[tuple[Turn, int, int]]:
        """Return the branch that ends with ``head``, each turn with its place (from 1) among how many versions."""
        beside: dict[tuple[str | None, str], list[str]] = {}
        for turn in self._turns.values():
            beside.setdefault((turn.parent, turn.message.role), []).append(turn.id)
        found = [(turn, beside[turn.parent, turn.message.role]) for turn in self.branch(head)]
        return [(turn, ids.index(turn.id) + 1, len(ids)) for turn, ids in found]

    def leaf(self, turn_id: str) -> Turn:
        """Return the end of the branch that was used last among those through ``turn_id``."""
        turn = self.turn(turn_id)
        while after := [it for it in self._turns.values() if it.parent == turn.id]:
            turn = after[-1]
        return turn

    def remove(self, turn_id: str) -> Removed:
        """Take ``turn_id`` and all that follows it out; another version of it, or what was before, is the head."""
        others = [it for it in self.versions(turn_id) if it.id != turn_id]
        gone = self._from(self.turn(turn_id))
        head = self.leaf(others[-1].id).id if others else self.turn(turn_id).parent
        removed = Removed(gone, self.head)
        if self._store is not None and self.chat_id is not None:
            self._store.delete_turns(self.chat_id, [turn.id for turn in gone], head)
        for turn in gone:
            del self._turns[turn.id]
        self.head = head
        return removed

    def restore(self, removed: Removed) -> None:
        """Undo :meth:`remove`."""
        if self._store is not None and self.chat_id is not None:
            self._store.restore_turns(self.chat_id, [turn.id for turn in removed.turns], removed.head)
        together = {**self._turns, **{turn.id: turn for turn in removed.turns}}
        self._turns = dict(sorted(together.items(), key=lambda item: item[1].created))
        self.head = removed.head

    def _from(self, first: Turn) -> tuple[Turn, ...]:
        """Return ``first`` and every turn after it, on all branches."""
        found = {first.id: first}
        for turn in self._turns.values():
            if turn.parent in found:
                found[turn.id] = turn
        return tuple(found.values())

    def move_head(self, turn_id: str | None) -> None:
        """Make the branch that ends with ``turn_id`` (None: an empty one) the one in use."""
        if self._store is not None and self.chat_id is not None:
            self._store.set_head(self.chat_id, turn_id)
        self.head = turn_id


def prompt_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Return what the model is shown of a branch, oldest first.

    Left out are questions that failed (a broken picture would fail every later turn too) and answers
    that were stopped before their first word; the question before such an answer is joined with the
    next one, so that its pictures stay in the conversation.
    """
    messages: list[Message] = []
    for turn in turns:
        refused = turn.message.role == "user" and turn.status == "failed" and turn is not turns[-1]
        silent = turn.message.role == "assistant" and not turn.message.text
        if refused or silent:
            continue
        if messages and messages[-1].role == turn.message.role == "user":
            parts: tuple[Part, ...] = (*messages.pop().parts, *turn.message.parts)
            messages.append(Message("user", parts))
        else:
            messages.append(turn.message)
    return tuple(messages)


def title_of(message: Message) -> str:
    """Return a title for the chat that begins with ``message``: its first words, else its first picture."""
    text = one_line(message.text)
    if not text:
        return one_line(next((picture.name for picture in message.pictures), ""))
    return text if len(text) <= _TITLE_LENGTH else text[: _TITLE_LENGTH - 1].rstrip() + "…"
