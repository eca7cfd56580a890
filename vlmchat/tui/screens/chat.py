"""The chat: status above, transcript, the box to type in, keys below; and the handlers between them.

The screen draws what the bridge reports about the work the desk has under way. A message of work
that is no longer shown is dropped here, by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from vlmchat.errors import DoesNotFit, VlmchatError
from vlmchat.plaintext import one_line, printable
from vlmchat.store.model import Turn
from vlmchat.tui import bridge
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.desk import Desk
from vlmchat.tui.memory import Draft, Memory
from vlmchat.tui.screens.panel import ErrorPanel, LinkPanel
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import say, shorten
from vlmchat.tui.widgets.exchange import Exchange
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.prompt import PromptBox
from vlmchat.tui.widgets.status import StatusLine
from vlmchat.tui.widgets.transcript import Transcript
from vlmchat.tui.widgets.turn import LinkSeen

_KEEP_DRAFT_S = 2.0
"""How often the draft is kept, so that a closed terminal costs two seconds of typing at most."""


class ChatScreen(Screen[None]):
    """One chat with one model."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("chat")
    scope: ClassVar[Scope] = "chat"

    def __init__(self, desk: Desk, memory: Memory) -> None:
        super().__init__()
        self.desk = desk
        self.memory = memory
        self.status = StatusLine()
        self.transcript = Transcript()
        self.prompt = PromptBox(self.submit)
        self._exchange = Exchange(self.transcript)
        self._starting = False
        """A question was accepted and is being drawn; another one has to wait."""

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.status
        yield self.transcript
        yield self.prompt
        yield KeyHints()

    async def on_mount(self) -> None:
        """Show the kept draft, then bring the model up behind the first frame."""
        self.desk.listen(self)
        self.status.show_wanted(self.desk.reference)
        self.prompt.focus_text()
        await self.prompt.put(self.memory.draft)
        self.set_interval(_KEEP_DRAFT_S, self.keep_draft)
        self.call_after_refresh(self.switch_model, self.desk.reference)

    # What the user does

    def submit(self, draft: Draft) -> bool:
        """Take a finished question; False leaves it in the box, with the reason said."""
        if self._starting or self.desk.answering is not None:
            tell(self, "toast.busy")
        elif self.desk.queued is not None:
            tell(self, "toast.queued")
        elif self.desk.model is None and self.desk.loading is None:
            tell(self, "toast.no_model")
        else:
            self._starting = True
            self.call_next(self._begin, draft)
            return True
        return False

    def switch_model(self, reference: str) -> None:
        """Load another model; the chat goes on with it."""
        self.desk.load(reference)
        self.status.show_wanted(reference)
        self.refresh_bindings()

    def keep_draft(self) -> None:
        """Write what is in the box to disk, a waiting question in front of it."""
        waiting = self.desk.queued or Draft()
        self.memory.keep(waiting.before(self.prompt.draft))

    async def action_stop(self) -> None:
        """Stop the answer, or take a waiting question back."""
        if not self.desk.stop():
            await self._take_back()

    async def action_new_chat(self) -> None:
        """Begin a new chat."""
        await self._take_back()
        self.desk.leave_chat()
        self._exchange.forget()
        await self.transcript.clear()
        self.prompt.remember([])
        self.status.title = ""
        self._settle()

    def action_chats(self) -> None:
        """Show the saved chats."""
        from vlmchat.tui.screens.chats import ChatsScreen

        busy = self.desk.answering is not None
        self.app.push_screen(ChatsScreen(self.desk.store, self.desk.chat.id, busy), self._chat_chosen)

    def action_models(self) -> None:
        """Show the models."""
        from vlmchat.tui.screens.models import ModelsScreen

        self.app.push_screen(ModelsScreen(self.desk.reference, self.desk.settings.hub), self._model_chosen)

    def action_copy_answer(self) -> None:
        """Copy the last answer to the clipboard."""
        text = self.transcript.last_answer
        if text:
            self.app.copy_to_clipboard(printable(text))
        tell(self, "toast.copied" if text else "toast.nothing_to_copy")

    async def action_drop_picture(self) -> None:
        """Take the last picture off the draft."""
        await self.prompt.drop_last()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer Esc only while there is something to stop."""
        if action == "stop":
            return self.desk.answering is not None or self.desk.queued is not None
        if action == "drop_picture":
            return bool(self.prompt.draft.pictures) if self.is_mounted else False
        return True

    @on(PromptBox.Scrolled)
    async def _scrolled(self, event: PromptBox.Scrolled) -> None:
        await self.transcript.page(event.direction)

    @on(LinkSeen)
    def _link_seen(self, event: LinkSeen) -> None:
        self.app.push_screen(LinkPanel(event.target))

    def _model_chosen(self, reference: str | None) -> None:
        if reference is not None:
            self.switch_model(reference)

    async def _chat_chosen(self, chosen: str | None) -> None:
        """Reopen chat ``chosen``; an empty name means that the open chat was deleted."""
        if chosen is None or chosen == self.desk.chat.id:
            return
        if not chosen:
            await self.action_new_chat()
            return
        try:
            chat = await asyncio.to_thread(self.desk.store.chat, chosen)
        except VlmchatError as error:
            complain(self, error)
            return
        await self._take_back()
        self.desk.leave_chat(chat)
        self._exchange.forget()
        turns = chat.branch()
        await self.transcript.show(turns)
        self.prompt.remember(list(_questions(turns)))
        self.status.title = one_line(chat.summary.title)
        self._settle()

    # What the bridge reports

    @on(bridge.ModelLoading)
    def _model_loading(self, message: bridge.ModelLoading) -> None:
        if self.desk.is_current(message):
            self.status.show_progress(message.event)

    @on(bridge.ModelReady)
    async def _model_ready(self, message: bridge.ModelReady) -> None:
        if not self.desk.is_current(message):
            return
        queued = self.desk.accept_model(message)
        self.memory.model = message.name
        self.memory.write()
        self._settle()
        if queued is not None:
            await self._ask(queued)

    @on(bridge.ModelFailed)
    async def _model_failed(self, message: bridge.ModelFailed) -> None:
        if not self.desk.is_current(message):
            return
        self.desk.refuse_model()
        had = await self._take_back()
        self._settle()
        self.app.push_screen(ErrorPanel(say("panel.load"), message.error, draft_back=had), self._panel_closed)

    @on(bridge.AnswerProgress)
    def _answer_progress(self, message: bridge.AnswerProgress) -> None:
        if self.desk.is_current(message):
            self.status.show_progress(message.event)

    @on(bridge.AnswerText)
    def _answer_text(self, message: bridge.AnswerText) -> None:
        if self.desk.is_current(message):
            self._exchange.announce(message.take)
            self.set_timer(bridge.TAKE_S, self._exchange.draw)
            self.status.show(say("status.answering"), "success")

    @on(bridge.AnswerFinished)
    async def _answer_finished(self, message: bridge.AnswerFinished) -> None:
        if self.desk.is_current(message):
            self.desk.answering = None
            await self._exchange.finish(message.finished, self.status.model)
            self._settle()

    @on(bridge.AnswerFailed)
    async def _answer_failed(self, message: bridge.AnswerFailed) -> None:
        if not self.desk.is_current(message):
            return
        self.desk.answering = None
        if await self._exchange.fail():
            self.status.title = ""
        await self.prompt.put_back(self.desk.asked)
        self._settle()
        if isinstance(message.error, DoesNotFit):
            panel = ErrorPanel(say("panel.answer"), message.error, draft_back=True)
            self.app.push_screen(panel, self._panel_closed)
        else:
            complain(self, message.error, say("panel.draft_back"))

    # The steps they share

    async def _begin(self, draft: Draft) -> None:
        """Draw an accepted question and ask it, now or when the model is ready."""
        ready = self.desk.model is not None
        await self._exchange.begin(draft, waits=not ready)
        if not self.status.title:
            self.status.title = shorten(one_line(draft.text), 60)
        if ready:
            await self._ask(draft)
        else:
            self.desk.queued = draft
            self._starting = False
            if self.desk.loading is None:
                await self._take_back()
        self.refresh_bindings()

    async def _ask(self, draft: Draft) -> None:
        self._starting = True
        await self._exchange.expect()
        self.desk.ask(draft)
        self._starting = False
        self.status.show(say("turn.waiting"), "warning")
        self.refresh_bindings()

    async def _take_back(self) -> bool:
        """Put a waiting question back into the box; False when none waits."""
        draft, self.desk.queued = self.desk.queued, None
        if draft is None:
            return False
        if await self._exchange.remove():
            self.status.title = ""
        await self.prompt.put_back(draft)
        self.refresh_bindings()
        return True

    def _settle(self) -> None:
        """Show what the desk has now: a model, a load, or neither."""
        if self.desk.model is not None:
            self.status.show_ready(self.desk.model)
        elif self.desk.loading is None:
            self.status.show(say("status.failed"), "error")
        else:
            self.status.show(say("status.loading"), "warning")
        self.refresh_bindings()

    def _panel_closed(self, wish: str | None) -> None:
        if wish == "models":
            self.action_models()


def _questions(turns: Iterable[Turn]) -> Iterable[Draft]:
    for turn in turns:
        if turn.message.role == "user":
            yield Draft(turn.message.text, turn.message.pictures)
