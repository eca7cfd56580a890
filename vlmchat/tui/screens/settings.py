"""What the next answers of the open chat are made with: system prompt, sampling, tiles, quantization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from vlmchat.errors import UsageError
from vlmchat.plaintext import one_line
from vlmchat.settings import KEYS, Key, Settings
from vlmchat.settings import with_text as typed
from vlmchat.tui.faults import told
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.text import say

if TYPE_CHECKING:
    from vlmchat.chat.choices import Choices

FIELDS = (
    "system", "temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "seed", "max_tiles",
    "quantization", "device",
)  # fmt: skip
"""Keys of the settings in the order of the panel; the last two load the model anew."""
_OPTIONAL = {"system", "seed", "max_tiles"}
"""Keys for which nothing at all is a choice."""
_KEYS: Mapping[str, Key] = {key.name: key for key in KEYS}


class SettingsScreen(Dialog["Settings | None"]):
    """A line for each choice; dismissed with the settings they make, or None."""

    CSS_PATH = "panel.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, settings: Settings, focus: str = FIELDS[0]) -> None:
        super().__init__()
        self._settings = settings
        self._first = focus

    def compose(self) -> ComposeResult:
        """Names, lines, what is wrong, keys."""
        with Vertical(classes="panel help"):
            yield Static(Content(say("panel.settings")), classes="title")
            with VerticalScroll(can_focus=False):
                for name in FIELDS:
                    with Horizontal(classes="row"):
                        yield Static(Content(say(f"settings.{name}")), classes="label")
                        yield Input(_text(self._settings.value(name)), id=name, placeholder=_hint(name))
            yield Static(classes="problem")
            yield Static(Content(say("panel.settings.keys")), classes="keys")

    def on_mount(self) -> None:
        """Begin in the first line."""
        self.query_one(f"#{self._first}", Input).focus()

    @on(Input.Submitted)
    def _save(self) -> None:
        """Leave with what the lines say, or name the first that cannot be."""
        settings = self._settings
        for name in FIELDS:
            line = self.query_one(f"#{name}", Input)
            if line.value.strip() == _text(settings.value(name)):
                continue
            try:
                settings = with_text(settings, name, line.value.strip())
            except UsageError as error:
                self.query_one(".problem", Static).update(Content(one_line(" ".join(told(error)))))
                line.focus()
                return
        self.dismiss(settings)


def with_text(settings: Settings, name: str, text: str) -> Settings:
    """Return ``settings`` with what was typed for ``name``; nothing is the default.

    Raises:
        UsageError: it cannot be.
    """
    if text:
        return typed(settings, _KEYS[name], text, say(f"settings.{name}"))
    if name == "system":
        return replace(settings, system=None)
    if name == "max_tiles":
        return replace(settings, vision=replace(settings.vision, max_tiles=None))
    if name == "seed":
        return replace(settings, sampling=replace(settings.sampling, seed=None))
    return settings.changed({name: Settings().value(name)})


def settings_of(settings: Settings, choices: Choices) -> Settings:
    """Return ``settings`` as the open chat has them."""
    vision = replace(settings.vision, max_tiles=choices.max_tiles)
    return replace(settings, sampling=choices.sampling, system=choices.system, vision=vision)


def choices_of(settings: Settings, before: Choices) -> Choices:
    """Return what of ``settings`` belongs to the chat."""
    tiles = settings.vision.max_tiles
    return replace(before, sampling=settings.sampling, system=settings.system, max_tiles=tiles)


def _text(value: object) -> str:
    return "" if value is None else one_line(str(value))


def _hint(name: str) -> str:
    key = _KEYS[name]
    if name in _OPTIONAL:
        return say("settings.as_model" if name != "seed" else "settings.any")
    return " | ".join(key.choices) or key.metavar
