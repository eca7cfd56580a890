"""What the bridge reports about loads and answers, and what the chat makes of it.

A message of work that is no longer shown is dropped here, by its id.
"""

from __future__ import annotations

from textual import on
from textual.screen import Screen

from vlmchat.errors import ContextOverflow, DoesNotFit
from vlmchat.tui import bridge
from vlmchat.tui.desk import Desk, EngineNotice, LoadStopped
from vlmchat.tui.faults import words_of
from vlmchat.tui.flow import Flow
from vlmchat.tui.memory import Memory
from vlmchat.tui.meter import Meter
from vlmchat.tui.rescue import Rescue
from vlmchat.tui.telling import complain, tell, warn
from vlmchat.tui.text import say
from vlmchat.tui.widgets.prompt import PromptBox
from vlmchat.tui.widgets.status import StatusLine


class Reporting(Screen[None]):
    """The half of the chat that hears from the engine; the chat itself gives it what it works with."""

    desk: Desk
    memory: Memory
    flow: Flow
    rescue: Rescue
    meter: Meter
    status: StatusLine

    def action_models(self, reference: str = "") -> None:
        """Show the models, or load the one that is named."""
        raise NotImplementedError

    @on(bridge.ModelLoading)
    def _model_loading(self, message: bridge.ModelLoading) -> None:
        loading = self.desk.loading
        if self.desk.is_current(message) and loading is not None and not loading.cancel.is_set():
            self.status.show_progress(message.event)

    @on(LoadStopped)
    async def _load_stopped(self, message: LoadStopped) -> None:
        if self.desk.is_current(message):
            self.desk.refuse_model()
            await self.flow.take_back()
            self.settle()
            tell(self, "toast.load_stopped" if self.desk.model is None else "toast.load_stopped_back")

    @on(EngineNotice)
    def _engine_notice(self, message: EngineNotice) -> None:
        warn(self, "toast.engine", words=words_of(message.words))

    @on(bridge.ModelReady)
    async def _model_ready(self, message: bridge.ModelReady) -> None:
        if self.desk.is_current(message):
            self.desk.accept_model(message)
            self.memory.use_model(message.name)
            self.settle()
            await self.flow.pump()

    @on(bridge.ModelFailed)
    async def _model_failed(self, message: bridge.ModelFailed) -> None:
        if self.desk.is_current(message):
            self.desk.refuse_model()
            had = await self.flow.take_back()
            self.settle()
            self.rescue.offer_load(message.error, had, self.action_models)

    @on(bridge.AnswerProgress)
    def _answer_progress(self, message: bridge.AnswerProgress) -> None:
        if self.desk.is_current(message):
            self.status.show_progress(message.event)

    @on(bridge.AnswerText)
    def _answer_text(self, message: bridge.AnswerText) -> None:
        if self.desk.is_current(message):
            self.flow.exchange.announce(message.take)
            self.set_timer(self.flow.exchange.pace.wait(), self._draw)
            self.status.show(say("status.answering"), "success")

    async def _draw(self) -> None:
        """Draw text that is due, unless keys go before it."""
        held = self.flow.exchange.pace.hold()
        if held:
            self.set_timer(held, self._draw)
        else:
            await self.flow.exchange.draw()

    @on(bridge.AnswerFinished)
    async def _answer_finished(self, message: bridge.AnswerFinished) -> None:
        if self.desk.is_current(message):
            await self.flow.finished()
            self.settle()

    @on(bridge.AnswerFailed)
    async def _answer_failed(self, message: bridge.AnswerFailed) -> None:
        if not self.desk.is_current(message):
            return
        asked = await self.flow.failed()
        self.settle()
        if isinstance(message.error, DoesNotFit | ContextOverflow):
            await self.rescue.offer(message.error, asked)
        else:
            complain(self, message.error, say("panel.draft_back") if asked else "")

    def settle(self) -> None:
        """Show what the desk has now: a model, a load, or neither."""
        self.post_message(PromptBox.Changed())
        if self.desk.answering is not None:
            self.status.show(say("turn.waiting"), "warning")
        elif self.desk.model is not None:
            self.status.show_ready(self.desk.model)
        elif self.desk.loading is None:
            self.status.show(say("status.failed"), "error")
        else:
            self.status.show(say("status.loading"), "warning")
        self.refresh_bindings()
