"""Keeps one answer while it is made, however it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from vlmchat.chat.tree import Tree
from vlmchat.conversation import assistant
from vlmchat.engine.events import AnswerEvent, Delta, Finished, FinishReason
from vlmchat.store.model import Provenance, Turn, TurnStatus

SAVE_EVERY_S = 2.0
"""How much of an answer a crash of the program may cost, in seconds."""
_STATUS: Mapping[FinishReason, TurnStatus] = {
    "stop": "complete",
    "length": "length",
    "interrupted": "interrupted",
}


class Record:
    """Notes the events of one answer and writes its turn when the ``with`` block is left.

    Left in the ordinary way, by a stop, or because nobody takes more events, the answer is kept as far
    as it came; left by an error, a begun answer is kept as ``failed`` and a question without one is
    marked so.
    """

    def __init__(self, tree: Tree, question: Turn, grows: Turn | None, made_by: Provenance) -> None:
        """Begin an answer to ``question``; ``grows`` is a stopped answer that is continued instead."""
        self._tree = tree
        self._question = question
        self._answer = grows
        self._grows = grows is not None
        self._before = grows.message.text if grows is not None else ""
        self._made_by = made_by
        self._said: list[str] = []
        self._tokens = 0
        self._finished: Finished | None = None
        self._saved = time.monotonic()

    def note(self, event: AnswerEvent) -> None:
        """Take in one event; every now and then this writes what there is."""
        if isinstance(event, Finished):
            self._finished = event
        elif isinstance(event, Delta):
            self._said.append(event.text)
            self._tokens += len(event.token_ids)
            if time.monotonic() - self._saved > SAVE_EVERY_S:
                self._write("interrupted")
                self._saved = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(problem, Exception):
            self._fail()
            return
        if self._question.status == "failed":
            self._tree.update(self._question, None, "complete", None)
        self._write(_STATUS[self._finished.reason] if self._finished is not None else "interrupted")

    def _fail(self) -> None:
        """Keep what was said before an error; a question that got no word of an answer failed itself."""
        if self._grows:
            self._write("interrupted")
        elif self._said:
            self._write("failed")
        else:
            self._tree.update(self._question, None, "failed", None)

    def _write(self, status: TurnStatus) -> None:
        message, provenance = assistant(self._text()), self._provenance()
        if self._answer is None:
            self._answer = self._tree.add(self._question.id, message, status, provenance)
        else:
            self._answer = self._tree.update(self._answer, message, status, provenance)

    def _text(self) -> str:
        """The whole answer: as the family presents it, or pieced together where it never came to that."""
        if self._finished is not None and not self._before:
            return self._finished.text
        return (self._before + "".join(self._said)).strip()

    def _provenance(self) -> Provenance:
        end = self._finished
        if end is None:
            return replace(self._made_by, completion_tokens=self._tokens)
        return replace(
            self._made_by,
            prompt_tokens=end.usage.prompt_tokens,
            image_tokens=end.usage.image_tokens,
            completion_tokens=end.usage.completion_tokens,
            first_token_s=end.timing.first_token_s,
            total_s=end.timing.total_s,
            decode_tokens_per_s=end.timing.decode_tokens_per_s,
        )
