"""The question under way and its answer, as the transcript shows them: one exchange at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vlmchat.tui.pace import Pace
from vlmchat.tui.text import say
from vlmchat.tui.widgets.transcript import Transcript
from vlmchat.tui.widgets.turn import QuestionView, Shown

if TYPE_CHECKING:
    from vlmchat.tui.widgets.answer import AnswerView


class Exchange:
    """Grows at the end of ``transcript``, from the question to the last figure under its answer."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.pace = Pace()
        """Says when text that has arrived is to be drawn."""
        self._question: QuestionView | None = None
        self._answer: AnswerView | None = None
        self._take: Callable[[], str] | None = None
        """Returns the text that has arrived and is not drawn yet."""

    async def begin(self, question: QuestionView | None = None) -> None:
        """Draw the place of the answer, to ``question`` or to the one that is there already."""
        self.forget()
        self._question = question
        if question is not None:
            question.note("")
        self._answer = await self._transcript.add_answer()

    def grow(self, answer: AnswerView) -> None:
        """Let new text go on at the end of ``answer``."""
        self.forget()
        self._transcript.reveal(answer)
        self._answer = answer

    def announce(self, take: Callable[[], str]) -> None:
        """Remember where new text can be taken from."""
        self._take = take

    async def draw(self) -> None:
        """Draw all text that has arrived."""
        if self._take is not None and self._answer is not None:
            self._transcript.tend()
            text = self._take()
            self.pace.drawn(len(text))
            await self._answer.write(text)

    async def finish(self, stored: Sequence[Shown]) -> None:
        """Draw the rest and the figures; ``stored`` is the branch that ends with this exchange."""
        await self.draw()
        if self._answer is not None and stored:
            await self._answer.settle(stored[-1])
        if self._question is not None and len(stored) > 1:
            await self._question.settle(stored[-2])
        self._transcript.call_after_refresh(self._transcript.tend)
        self.forget()

    async def fail(self) -> bool:
        """Keep what was written and mark it, or take the exchange away; True when the chat is empty now."""
        await self.draw()
        if self._answer is None or not self._answer.text:
            return await self.remove()
        await self._answer.end_stream()
        self._answer.show_stats(say("turn.failed"), stopped=True)
        self.forget()
        return False

    async def remove(self) -> bool:
        """Take question and answer off the transcript; True when the chat is empty now."""
        views = [view for view in (self._question, self._answer) if view is not None]
        self.forget()
        for view in views:
            await view.remove()
        return await self._transcript.welcome_if_empty()

    def forget(self) -> None:
        """Leave the views to the transcript: they are history now."""
        self._question = self._answer = self._take = None
        self.pace.forget()
