"""The app: its themes and its screens, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.command import CommandPalette
from textual.filter import LineFilter, Monochrome, NoColor
from textual.screen import Screen

from vlmchat.engine.api import Engine
from vlmchat.errors import UsageError
from vlmchat.paths import places
from vlmchat.settings import Previews, Settings
from vlmchat.store.chats import ChatStore
from vlmchat.tui.actions import Scope, bindings, rebind
from vlmchat.tui.colourless import colourless
from vlmchat.tui.desk import Desk
from vlmchat.tui.inorder import InOrder
from vlmchat.tui.keymap import read_keymap
from vlmchat.tui.memory import Memory
from vlmchat.tui.palette import Commands
from vlmchat.tui.screens.chat import ChatScreen
from vlmchat.tui.telling import tell, warn
from vlmchat.tui.text import say, use
from vlmchat.tui.themes import DEFAULT, VARIABLES, ThemeShelf, read_themes, stamp

_LOOK_AT_THEMES_S = 1.0
"""How often the folder of the user's themes is looked at."""


class VlmchatApp(InOrder):
    """The full-screen app over one desk."""

    # The first screen's style is named here: Textual reads a screen's own only when it is pushed.
    CSS_PATH = ["app.tcss", "screens/chat.tcss"]  # noqa: RUF012 - as Textual declares it
    TITLE = "vlmchat"
    BINDINGS: ClassVar[list[BindingType]] = bindings("app")
    scope: ClassVar[Scope] = "app"
    COMMANDS = {Commands}  # noqa: RUF012 - as Textual declares it

    def __init__(self, desk: Desk, memory: Memory) -> None:
        use(desk.settings.language)
        super().__init__()
        self.desk = desk
        self.memory = memory
        drawn = desk.settings.previews
        self.previews: Previews = "off" if self.no_color and drawn in {"auto", "half-block"} else drawn
        """How pictures are drawn now."""
        self.shelf: ThemeShelf = read_themes()
        for theme in self.shelf.themes.values():
            self.register_theme(theme)
        self._stamp = stamp(places().themes)
        self._wanted = desk.settings.theme or memory.theme or DEFAULT
        if self._wanted in self.shelf.themes:
            self.theme = self._wanted
        elif DEFAULT in self.shelf.themes:
            self.theme = DEFAULT

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Give this app's own roles a value from the theme's common ones, for themes that lack them."""
        theme = self.current_theme
        return dict.fromkeys(VARIABLES, theme.primary) | {"chip": "transparent"}

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Take every colour out where NO_COLOR is set."""
        filters = super().get_line_filters()
        if not self.no_color:
            return filters
        others = [it for it in filters if not isinstance(it, Monochrome | NoColor)]
        return [*others, colourless(self.theme_variables["background"])]

    def get_default_screen(self) -> Screen[None]:
        """Begin in the chat, without a second screen beneath it."""
        return ChatScreen(self.desk, self.memory)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer none of Textual's own commands: the palette reads the action table."""
        return ()

    def action_command_palette(self) -> None:
        """Open the palette in this app's own words."""
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder=say("palette.search"), id="--command-palette"))

    def on_mount(self) -> None:
        """Put the user's own keys in force; say which of them and which themes could not be used."""
        keymap = read_keymap(self.desk.settings.keys)
        rebind(keymap.keys)
        self.set_keymap(dict(keymap.keys))
        for words in keymap.problems:
            warn(self, "toast.bad_key", problem=words)
        self._tell_problems()
        self.set_interval(_LOOK_AT_THEMES_S, self._look_at_themes)
        if self._wanted not in self.shelf.themes:
            warn(self, "toast.unknown_theme", name=self._wanted, fallback=self.theme)

    def _tell_problems(self) -> None:
        for problem in self.shelf.problems:
            warn(self, "toast.bad_theme", file=problem.file, problem=problem.reason, fallback=self.theme)

    def _look_at_themes(self) -> None:
        """Read the user's themes again when one was written; a bad one leaves the colours as they are."""
        now = stamp(places().themes)
        if now == self._stamp:
            return
        self._stamp, self.shelf = now, read_themes()
        for theme in self.shelf.themes.values():
            self.register_theme(theme)
        self._tell_problems()
        self.mutate_reactive(App.theme)

    def use_theme(self, name: str) -> None:
        """Change to theme ``name`` now and next time."""
        self.theme = name
        self.memory.theme = name
        self.memory.write()
        tell(self, "toast.theme", title=self.shelf.titles.get(name, name))

    def action_next_theme(self, name: str = "") -> None:
        """Go on to the next theme, or to the one called ``name``."""
        if name and name not in self.shelf.themes:
            warn(self, "toast.unknown_theme", name=name, fallback=self.theme)
        elif self.shelf.themes:
            self.use_theme(name or self.shelf.after(self.theme))

    async def action_quit(self) -> None:
        """Leave; what is in the box is kept first."""
        chat = self.screen_stack[0]
        if isinstance(chat, ChatScreen):
            chat.keep_draft()
        self.exit(0)

    async def action_help(self) -> None:
        """Show every key, those of the focused widget and of the open screen first."""
        from vlmchat.tui.screens.help import HelpScreen

        here = [getattr(node, "scope", None) for node in (self.focused, self.screen)]
        if not isinstance(self.screen, HelpScreen):
            await self.push_screen(HelpScreen(list(dict.fromkeys(scope for scope in here if scope))))


def run(
    settings: Settings, *, engine: Engine | None = None, store: ChatStore | None = None, model: str | None = None
) -> int:
    """Open the app and return its exit status when it is left.

    Args:
        settings: what the user has chosen.
        engine: in place of the real one, which is made when the first model loads.
        store: in place of the user's own chats.
        model: in place of the model chosen last or configured.

    Raises:
        UsageError: the terminal calls itself dumb: it cannot place the cursor.
    """
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "This terminal (TERM=dumb) cannot draw a screen.", "Ask with `vlmchat ask`, or set TERM to what it is."
        )
    memory = Memory.read(places().state)
    remembered = memory.model if settings.source("model") == "default" else None
    desk = Desk(settings, store or ChatStore(), model or remembered or settings.model, engine)
    app = VlmchatApp(desk, memory)
    code = app.run() or 0
    if not desk.close():
        # A library's import or a weights file cannot be interrupted, and what matters is on disk.
        sys.stdout.flush()
        os._exit(code)
    return code
