"""The chat: status above, transcript, the box to type in, keys below.

The screen says what keys and commands mean, and lets others do it: :mod:`vlmchat.tui.flow` asks and
answers, ``chats`` changes the chat, ``turns`` a turn of it, ``rescue`` finds ways out of what did not fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Key
from textual.widget import Widget
from textual.widgets import TextArea

from vlmchat.plaintext import printable
from vlmchat.settings import Settings
from vlmchat.tui.actions import Scope, bindings, of
from vlmchat.tui.chats import ChatDeeds
from vlmchat.tui.copying import copy
from vlmchat.tui.desk import Desk
from vlmchat.tui.flow import Flow
from vlmchat.tui.memory import Draft, Memory
from vlmchat.tui.meter import Meter
from vlmchat.tui.pace import QUIET_S, Collections
from vlmchat.tui.rescue import Rescue
from vlmchat.tui.screens.fetching import Fetching
from vlmchat.tui.screens.panel import LinkPanel
from vlmchat.tui.screens.picturing import Picturing
from vlmchat.tui.screens.reporting import Reporting
from vlmchat.tui.single import Single
from vlmchat.tui.slash import completions, read_command
from vlmchat.tui.telling import tell
from vlmchat.tui.turns import TurnDeeds
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.prompt import PromptBox
from vlmchat.tui.widgets.status import StatusLine
from vlmchat.tui.widgets.transcript import Transcript
from vlmchat.tui.widgets.turn import LinkSeen, TurnView

_KEEP_DRAFT_S = 2.0
"""How often the draft is kept, so that a closed terminal costs two seconds of typing at most."""


class ChatScreen(Reporting, Picturing, Fetching):
    """One chat with one model."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("chat")
    scope: ClassVar[Scope] = "chat"

    def __init__(self, desk: Desk, memory: Memory) -> None:
        super().__init__()
        self.desk = desk
        self.memory = memory
        self.status = StatusLine()
        self.transcript = Transcript()
        self.flow: Flow
        self.prompt = PromptBox(lambda draft: self.flow.submit(draft))
        self.prompt.command = self.run_command
        self.prompt.reading.settings = desk.settings
        self.flow = Flow(self, desk, self.transcript, self.prompt, self.status)
        self.chats = ChatDeeds(self.flow)
        self.turns = TurnDeeds(self.flow, self.chats.enter)
        self.rescue = Rescue(self.flow, self.reload_model, self.chats.enter)
        self.meter = Meter(self.flow)
        self.collections = Collections()
        self.single = Single(self.flow, self.chats.enter)

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
        self.collections.begin()
        self.set_interval(QUIET_S, self._collect)
        self.call_after_refresh(self.switch_model, self.desk.reference)
        self.call_after_refresh(self.offer_downloads)

    def on_unmount(self) -> None:
        """Leave the garbage to Python again."""
        self.collections.end()

    def _collect(self) -> None:
        self.collections.look(self.flow.busy)

    def switch_model(self, reference: str) -> None:
        """Load another model; the chat goes on with it."""
        self.desk.load(reference)
        self.status.show_wanted(reference)
        self.refresh_bindings()

    def reload_model(self) -> None:
        """Load the present model anew, as the settings say now."""
        self.switch_model(self.desk.reference)

    def keep_draft(self) -> None:
        """Write what is in the box to disk, a waiting question in front of it; not that of a temporary chat."""
        self.memory.keep(Draft() if self.desk.chat.temporary else self.flow.draft)

    def run_command(self, text: str) -> bool | None:
        """Do what a typed command says; None when ``text`` is none."""
        command = read_command(text)
        if command is None:
            return None
        if command.action is None:
            tell(self, "toast.no_command", name=text.strip(), near=command.nearest)
            return False
        method = command.action.method.partition("(")[0]
        target = "app." if command.action.scope == "app" else ""
        argument = f"({command.argument!r})" if command.argument else ""
        self.call_next(self.run_action, f"{target}{method}{argument}")
        return True

    async def action_stop(self) -> None:
        """Stop what is read or answered, take a waiting question back, leave an edit, or stop the load."""
        if not self.prompt.reading.stop():
            await self.flow.stop()

    async def action_new_chat(self) -> None:
        """Begin a new chat."""
        await self.chats.enter()

    async def action_temporary(self) -> None:
        """Begin a chat that is not saved."""
        await self.chats.temporary()

    def action_chats(self, words: str = "") -> None:
        """Show the saved chats, searched for ``words``."""
        from vlmchat.tui.screens.chats import ChatsScreen

        busy = self.desk.answering is not None
        self.app.push_screen(ChatsScreen(self.desk.store, self.desk.chat.id, busy, words), self.chats.open)

    def action_models(self, reference: str = "") -> None:
        """Show the models, or load the one that is named."""
        from vlmchat.tui.screens.models import ModelsScreen

        if reference:
            self.switch_model(reference)
        else:
            recent = self.memory.recent
            picker = ModelsScreen(self.desk.reference, self.desk.settings.hub, recent, self.fetch_model)
            self.app.push_screen(picker, self._model_chosen)

    async def action_settings(self, system: str = "") -> None:
        """Change what the next answers are made with, or only the system prompt."""
        from vlmchat.tui.screens.settings import SettingsScreen, settings_of

        session = await self.flow.attempt(self.desk.session)
        if session is None:
            return
        settings = settings_of(self.desk.settings, session.choices)
        if system:
            self._settings_chosen(replace(settings, system=system))
        else:
            self.app.push_screen(SettingsScreen(settings), self._settings_chosen)

    async def action_regenerate(self) -> None:
        """Answer the last question again."""
        await self.flow.regenerate()

    async def action_continue(self) -> None:
        """Go on with the stopped answer."""
        await self.flow.resume()

    async def action_undo(self) -> None:
        """Bring back the chat or the turns deleted last."""
        if not await self.chats.undo():
            await self.turns.undo()

    async def action_fork(self) -> None:
        """Go on in a copy of this chat."""
        await self.turns.fork()

    async def action_rename(self, title: str = "") -> None:
        """Give this chat another title."""
        await self.chats.rename(title)

    async def action_export(self, kind: str = "") -> None:
        """Write this chat into a file."""
        await self.chats.export(kind)

    async def action_archive(self) -> None:
        """Take this chat out of the list."""
        await self.chats.archive()

    async def action_delete_chat(self) -> None:
        """Delete this chat."""
        await self.chats.delete()

    def action_turns(self) -> None:
        """Mark the newest turn."""
        self.turns.mark_last()

    def action_jump(self) -> None:
        """Put a letter on everything that can be gone to."""
        from vlmchat.tui.screens.jump import JumpScreen

        turns = [view for view in self.transcript.views if self.transcript.region.contains_region(view.region)]
        overlapping = [view for view in self.transcript.views if self.transcript.region.overlaps(view.region)]
        self.app.push_screen(JumpScreen([self.prompt, *(turns or overlapping), self.status]), self._jumped)

    async def action_copy_answer(self) -> None:
        """Copy the last answer to the clipboard."""
        text = self.transcript.last_answer
        if text:
            await copy(self, text, "toast.copied")
        else:
            tell(self, "toast.nothing_to_copy")

    async def action_drop_picture(self) -> None:
        """Take the last picture off the draft."""
        await self.prompt.drop_last()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer Esc only while there is something to stop."""
        if action == "stop":
            work = (self.desk.answering, self.desk.queued, self.flow.editing, self.desk.loading)
            return self.prompt.reading.turn.locked() or any(it is not None for it in work)
        if action == "drop_picture":
            return bool(self.prompt.draft.media) if self.is_mounted else False
        return True

    def on_key(self, event: Key) -> None:
        """A letter that means nothing to a marked turn begins a question."""
        # Keys reach the screen before the bindings of the marked turn are looked at.
        meant = {key for action in of("turn") for key in action.bound.split(",")}
        if isinstance(self.focused, TurnView) and event.is_printable and event.character and event.key not in meant:
            event.stop()
            self.prompt.focus_text()
            self.prompt.area.insert(printable(event.character))

    @on(TextArea.Changed)
    def _typed(self, event: TextArea.Changed) -> None:
        self.flow.exchange.pace.typed()
        self.collections.typed()
        self.meter.look()
        commands = completions(event.text_area.text)
        if commands or self.status.commands:
            self.status.commands = "  ".join(commands)

    @on(PromptBox.Changed)
    def _attached(self) -> None:
        self.meter.look()

    @on(PromptBox.Scrolled)
    async def _scrolled(self, event: PromptBox.Scrolled) -> None:
        await self.transcript.page(event.direction)

    @on(LinkSeen)
    def _link_seen(self, event: LinkSeen) -> None:
        self.app.push_screen(LinkPanel(event.target))

    @on(TurnView.Wanted)
    async def _wanted_of_turn(self, event: TurnView.Wanted) -> None:
        await self.turns.do(event.view, event.deed)

    def _model_chosen(self, reference: str | None) -> None:
        if reference is not None:
            self.switch_model(reference)

    def _settings_chosen(self, settings: Settings | None) -> None:
        from vlmchat.tui.screens.settings import choices_of

        if settings is None:
            return
        other = settings.load != self.desk.settings.load
        self.desk.choose(choices_of(settings, self.desk.choices))
        self.desk.settings = replace(self.desk.settings, load=settings.load)
        if other:
            self.reload_model()
        self.meter.look()
        tell(self, "toast.settings")

    def _jumped(self, place: Widget | None) -> None:
        if place is self.prompt:
            self.prompt.focus_text()
        elif place is self.status:
            self.action_models()
        elif place is not None:
            place.focus()
