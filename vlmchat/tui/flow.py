"""Questions on their way: from the box, through the desk, into the transcript; one at work, one waiting.

The screen tells the flow what the user wants and what the bridge reports; the flow decides what
happens next. It draws through the transcript and the status line, and keeps nothing on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line
from vlmchat.tui import deeds
from vlmchat.tui.desk import Deed, Desk
from vlmchat.tui.memory import Draft
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import say, shorten
from vlmchat.tui.widgets.exchange import Exchange
from vlmchat.tui.widgets.prompt import PromptBox
from vlmchat.tui.widgets.status import StatusLine
from vlmchat.tui.widgets.transcript import Transcript
from vlmchat.tui.widgets.turn import QuestionView, Shown

if TYPE_CHECKING:
    from vlmchat.chat.session import Session
    from vlmchat.tui.screens.chat import ChatScreen

Given = ParamSpec("Given")
Got = TypeVar("Got")
TITLE_LENGTH = 60
"""Characters of a chat's title in the status line."""


class Flow:
    """What is asked and answered in the open chat."""

    def __init__(
        self, screen: ChatScreen, desk: Desk, transcript: Transcript, prompt: PromptBox, status: StatusLine
    ) -> None:
        self.screen, self.desk = screen, desk
        self.transcript, self.prompt, self.status = transcript, prompt, status
        self.exchange = Exchange(transcript)
        self.editing: str | None = None
        """The question that the one in the box will replace."""
        self.again: Callable[[], Awaitable[None]] | None = None
        """Does once more what failed last."""
        self._aside = Draft()
        """What was in the box before an earlier question was put there to be edited."""
        self._edited: str | None = None
        """The question that the one being answered replaces."""
        self._waiting: QuestionView | None = None
        self._starting = False
        """Something was accepted and is being drawn; the next has to wait."""
        self._stop_first = False
        """It was stopped before the engine had it."""

    @property
    def busy(self) -> bool:
        """Whether an answer is under way or about to be."""
        return self._starting or self.desk.answering is not None

    @property
    def draft(self) -> Draft:
        """All that was written and not answered: what waits, what was put aside, what is in the box."""
        return (self.desk.queued or Draft()).before(self._aside.before(self.prompt.draft))

    def submit(self, draft: Draft) -> bool:
        """Take a finished question; False leaves it in the box, with the reason said."""
        if self._starting or (self.editing is not None and self.busy):
            tell(self.screen, "toast.busy")
        elif self.desk.queued is not None:
            tell(self.screen, "toast.queued")
        elif self.desk.model is None and self.desk.loading is None:
            tell(self.screen, "toast.no_model")
        elif self.editing is not None and self.desk.model is None:
            tell(self.screen, "toast.no_model_yet")
        elif self.screen.single.refuses(draft):
            return False
        else:
            self._starting = True
            self.screen.call_next(self._begin, draft)
            return True
        return False

    async def stop(self) -> bool:
        """Stop the answer, and give a waiting question or one put aside back to the box; else stop the load.

        False: there was nothing to stop.
        """
        self._stop_first = self._starting
        stopped = self.desk.stop() or self._starting
        if await self.take_back() or stopped or await self.leave_edit():
            return True
        if not self.desk.stop_load():
            return False
        self.status.show(say("status.stopping"), "warning")
        return True

    async def take_back(self) -> bool:
        """Put a waiting question back into the box; False when none waits."""
        draft, self.desk.queued = self.desk.queued, None
        if draft is None:
            return False
        view, self._waiting = self._waiting, None
        if view is not None:
            await view.remove()
        if await self.transcript.welcome_if_empty():
            self.status.title = ""
        await self.prompt.put_back(draft)
        self.screen.refresh_bindings()
        return True

    async def edit(self, turn_id: str, question: Draft) -> None:
        """Put the question ``turn_id`` into the box, its pictures with it, to be asked in other words."""
        if self.editing is None:
            self._aside = self.prompt.draft
        self.editing = turn_id
        self.prompt.border_title = say("prompt.editing")
        await self.prompt.put(question)
        self.prompt.focus_text()
        self.screen.refresh_bindings()

    async def leave_edit(self) -> bool:
        """Put what was in the box before an edit back; False when nothing is edited."""
        if self.editing is None:
            return False
        await self.prompt.put(self._end_edit())
        return True

    async def regenerate(self, turn_id: str | None = None) -> None:
        """Answer a question once more, the last one when none is named; the present answer stays as a version."""
        session = await self.free_session()
        if session is None:
            return
        questions = [turn for turn in session.turns if turn.message.role == "user"]
        if turn_id is not None:
            upto = {turn.id for turn in session.branch(turn_id)}
            questions = [turn for turn in questions if turn.id in upto]
        if not questions:
            tell(self.screen, "toast.nothing_asked")
            return
        self._starting, self._edited = True, None
        await self.transcript.show(self.shown(session, questions[-1].id))
        await self.exchange.begin()
        self._set_off(partial(deeds.answer_again, questions[-1].id), partial(self.regenerate, turn_id))

    async def resume(self) -> None:
        """Go on with a stopped answer, at the very token where it ended."""
        from vlmchat.tui.widgets.answer import AnswerView

        session = await self.free_session()
        views = self.transcript.views
        if session is None:
            return
        last = views[-1] if views else None
        if not isinstance(last, AnswerView) or "continue" not in last.deeds():
            tell(self.screen, "toast.nothing_stopped")
            return
        self._edited = None
        self.exchange.grow(last)
        self._set_off(deeds.go_on, self.resume)

    async def pump(self) -> None:
        """Send the waiting question, if there is one and nothing is in its way."""
        draft, view = self.desk.queued, self._waiting
        if draft is not None and view is not None and self.desk.model is not None and not self.busy:
            if self.screen.single.refuses(draft):
                await self.take_back()
                return
            self.desk.queued = self._waiting = None
            await self._ask(draft, view)

    async def finished(self) -> None:
        """Show the end of an answer, which the session has stored by now."""
        self.desk.answering = None
        await self.exchange.finish(self.shown())
        await self.pump()

    async def failed(self) -> Draft:
        """Put everything back after an error; returns the question it happened to."""
        asked, self.desk.answering = self.desk.asked, None
        if await self.exchange.fail():
            self.status.title = ""
        if self._edited is not None or not asked:
            await self.transcript.show(self.shown())
        await self.take_back()
        if self._edited is not None:
            await self.edit(self._edited, asked)
        elif asked:
            await self.prompt.put_back(asked)
        return asked

    async def redraw(self) -> None:
        """Show the branch in use of the open chat."""
        await self.transcript.show(self.shown())
        self.prompt.remember([view.question for view in self.transcript.query(QuestionView)])

    def shown(self, session: Session | None = None, head: str | None = None) -> list[Shown]:
        """Return the branch that ends with ``head`` (None: the one in use), as the transcript takes it."""
        session = session or self.desk.chat.session
        return [] if session is None else [Shown(*placed) for placed in session.placed(head)]

    async def free_session(self) -> Session | None:
        """Return the open chat's session, or None with the reason said: no model, or an answer is under way."""
        if self.busy:
            tell(self.screen, "toast.wait")
        elif self.desk.model is None:
            tell(self.screen, "toast.no_model_yet")
        else:
            return await self.attempt(self.desk.session)
        return None

    async def attempt(self, call: Callable[Given, Got], *args: Given.args, **kwargs: Given.kwargs) -> Got | None:
        """Run ``call`` on a thread; an error is said, and None returned."""
        try:
            return await asyncio.to_thread(call, *args, **kwargs)
        except VlmchatError as error:
            complain(self.screen, error)
            return None

    async def leave(self) -> None:
        """Let go of the chat on the screen, another one comes; what is in the box or was put aside stays."""
        await self.take_back()
        self.exchange.forget()
        self._waiting, self.again = None, None
        if self.editing is not None:
            await self.prompt.put(self.prompt.draft.before(self._end_edit()))

    async def _begin(self, draft: Draft) -> None:
        """Draw an accepted question and ask it, now or when nothing is in its way any more."""
        edited, aside = self.editing, Draft()
        if edited is not None:
            # After the box has emptied itself, which is in its queue already.
            aside = self._end_edit()
            self.prompt.call_next(self.prompt.put, aside)
            await self.transcript.show(self._before(edited))
        waits = self.desk.model is None or self.desk.answering is not None
        note = "" if not waits else say("turn.queued" if self.desk.model is None else "turn.next")
        view = await self.transcript.add_question(draft, note)
        if not self.status.title:
            self.status.title = shorten(one_line(draft.text), TITLE_LENGTH)
        if not waits:
            await self._ask(draft, view, edited)
            return
        self.desk.queued, self._waiting, self._starting = draft, view, False
        if self.desk.model is None and self.desk.loading is None:
            await self.take_back()
        await self.pump()
        self.screen.refresh_bindings()

    def _before(self, turn_id: str) -> list[Shown]:
        """Return the branch up to, and without, ``turn_id``."""
        return self.shown(head=turn_id)[:-1]

    async def _ask(self, draft: Draft, view: QuestionView, edited: str | None = None) -> None:
        self._starting, self._edited = True, edited
        await self.exchange.begin(view)
        self._set_off(partial(deeds.ask, draft.parts, edited), partial(self._resend, draft, edited), draft)

    async def _resend(self, draft: Draft, edited: str | None) -> None:
        """Send a question that came back again, unless the user has gone on writing."""
        if self.prompt.draft == draft and self.editing == edited:
            self.prompt.send()

    def _set_off(self, deed: Deed, again: Callable[[], Awaitable[None]], asked: Draft | None = None) -> None:
        self.again = again
        self.desk.answer(deed, asked or Draft())
        self._starting = False
        if self._stop_first:
            self._stop_first = False
            self.desk.stop()
        self.status.show(say("turn.waiting"), "warning")
        self.screen.refresh_bindings()

    def _end_edit(self) -> Draft:
        """Stop editing; returns what was in the box before."""
        aside, self._aside, self.editing = self._aside, Draft(), None
        self.prompt.border_title = ""
        self.screen.refresh_bindings()
        return aside
