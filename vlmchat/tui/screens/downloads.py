"""The plan of a download with its licence, and the queue with every bar."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.types import CSSPathType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from vlmchat.plaintext import one_line
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.downloads import BUSY, Download, Downloads
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.text import say
from vlmchat.tui.widgets.download_text import download_line, download_text, error_text, plan_text
from vlmchat.tui.widgets.hints import KeyHints

_LOOK_S = 0.2
"""How often the queue is looked at while it is on the screen."""


class PlanScreen(Dialog[bool]):
    """What a download takes; dismissed with True when the user said yes to it and to its licence."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["listing.tcss", "downloads.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = bindings("plan")
    scope: ClassVar[Scope] = "plan"

    def __init__(self, downloads: Downloads, reference: str, fit: str = "") -> None:
        super().__init__()
        self._downloads, self._reference, self._fit = downloads, reference, fit
        self._shown: Download | None = None

    def compose(self) -> ComposeResult:
        """The plan and the keys."""
        with Vertical(classes="listing plan") as box:
            box.border_title = Content(say("plan.title", name=one_line(self._reference)))
            with VerticalScroll():
                yield Static(Content(say("plan.asking")), classes="about")
            yield KeyHints()

    def on_mount(self) -> None:
        """Ask a hub on a thread."""
        self._downloads.plan(self._reference)
        self.set_interval(_LOOK_S, self.look)

    def look(self) -> None:
        """Draw the plan when it is there, or why there is none."""
        found = self._downloads.get(self._reference)
        if found is None or found == self._shown:
            return
        self._shown = found
        if found.error is not None:
            self.query_one(".about", Static).update(error_text(found.error))
        elif found.plan is not None:
            self.query_one(".about", Static).update(plan_text(found.plan, self._fit))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the download once there is a plan."""
        planned = self._shown is not None and self._shown.plan is not None and self._shown.error is None
        return planned if action in {"agree", "read"} else True

    def action_agree(self) -> None:
        """Accept the licence and fetch it."""
        self._downloads.agree(self._reference)
        self.dismiss(True)

    def action_read(self) -> None:
        """Open the licence in the browser."""
        if self._shown is not None and self._shown.plan is not None:
            self.app.open_url(self._shown.plan.licence.url)

    def action_close(self) -> None:
        """Leave; nothing was fetched."""
        found = self._downloads.get(self._reference)
        if found is not None and found.state in {"asking", "planned", "failed"}:
            self._downloads.cancel(self._reference)
        self.dismiss(False)


class DownloadsScreen(Dialog[str | None]):
    """The queue and the marked download; dismissed with a model to talk to."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["listing.tcss", "downloads.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = bindings("downloads")
    scope: ClassVar[Scope] = "downloads"

    def __init__(self, downloads: Downloads) -> None:
        super().__init__()
        self._downloads = downloads
        self._shown: tuple[Download, ...] = ()

    def compose(self) -> ComposeResult:
        """The queue, the marked one with its bars, the keys."""
        with Vertical(classes="listing downloads") as box:
            box.border_title = say("downloads.title")
            yield OptionList(markup=False)
            yield Static(Content(say("downloads.none")), classes="empty")
            with VerticalScroll(classes="right", can_focus=False):
                yield Static(classes="detail")
            yield KeyHints()

    def on_mount(self) -> None:
        """Draw, and look again and again."""
        self.query_one(OptionList).display = False
        self.look()
        self.set_interval(_LOOK_S, self.look)

    @property
    def marked(self) -> Download | None:
        """The download under the bar."""
        at = self.query_one(OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    def look(self) -> None:
        """Draw what has changed."""
        now = self._downloads.all
        if now == self._shown:
            return
        options = self.query_one(OptionList)
        if [it.reference for it in now] != [it.reference for it in self._shown]:
            at = options.highlighted or 0
            options.clear_options()
            options.add_options([Option(download_line(it)) for it in now])
            options.highlighted = min(at, len(now) - 1) if now else None
            options.display = bool(now)
            self.query_one(".empty").display = not now
            if now:
                options.focus()
        else:
            for at, (it, before) in enumerate(zip(now, self._shown, strict=True)):
                if it != before:
                    options.replace_option_prompt_at_index(at, download_line(it))
        self._shown = now
        self._show_detail()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what can be done with the marked download."""
        if action == "close":
            return True
        it = self.marked if self.is_mounted else None
        if it is None:
            return False
        can = {"pause": it.state in {*BUSY, "paused", "failed", "planned"}, "use": it.state == "done"}
        can["switch"] = it.other_hub is not None and it.state in {*BUSY, "paused", "failed"}
        return can.get(action, True)

    def action_pause(self) -> None:
        """Pause it, or go on; one nobody said yes to is agreed to here."""
        it = self.marked
        if it is None:
            return
        if it.state == "planned":
            self.app.push_screen(PlanScreen(self._downloads, it.reference))
        elif it.state in BUSY:
            self._downloads.pause(it.reference)
        else:
            self._downloads.resume(it.reference)

    def action_switch(self) -> None:
        """Go on from the other hub."""
        if self.marked is not None:
            self._downloads.switch(self.marked.reference)

    def action_cancel(self) -> None:
        """Take it out of the queue."""
        if self.marked is not None:
            self._downloads.cancel(self.marked.reference)

    def action_use(self) -> None:
        """Talk to a model that has come."""
        if self.marked is not None and self.marked.state == "done":
            self.dismiss(self.marked.reference)

    def action_close(self) -> None:
        """Go back; downloads go on."""
        self.dismiss(None)

    @on(OptionList.OptionHighlighted)
    def _show_detail(self) -> None:
        it = self.marked
        self.query_one(".detail", Static).update(Content("") if it is None else download_text(it))
        self.refresh_bindings()

    @on(OptionList.OptionSelected)
    def _chosen(self) -> None:
        self.action_use()
