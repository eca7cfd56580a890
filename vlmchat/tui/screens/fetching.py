"""What the chat does with downloads: begins them, shows how far they are, offers what has come."""

from __future__ import annotations

from textual import on
from textual.screen import Screen

from vlmchat.plaintext import one_line
from vlmchat.tui.desk import Desk
from vlmchat.tui.downloads import DownloadEnded, DownloadsMoved
from vlmchat.tui.faults import told
from vlmchat.tui.screens.panel import Panel
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import say
from vlmchat.tui.widgets.status import StatusLine


class Fetching(Screen[None]):
    """The part of the chat that hears from downloads; the chat itself gives it what it works with."""

    desk: Desk
    status: StatusLine
    _come: str = ""
    """The model that has come last."""

    def switch_model(self, reference: str) -> None:
        """Load another model."""
        raise NotImplementedError

    def fetch_model(self, reference: str, fit: str = "") -> None:
        """Show what the download of ``reference`` takes, and begin it with a yes."""
        from vlmchat.tui.screens.downloads import PlanScreen

        self.app.push_screen(PlanScreen(self.desk.downloads, reference, fit), self._agreed)

    def offer_downloads(self) -> None:
        """Say what is left of the downloads of the start before."""
        if left := self.desk.downloads.left:
            tell(self, "toast.downloads_left", names=", ".join(map(one_line, left)))

    def action_downloads(self) -> None:
        """Show the downloads."""
        from vlmchat.tui.screens.downloads import DownloadsScreen

        self.app.push_screen(DownloadsScreen(self.desk.downloads), self._use)

    def action_use_download(self) -> None:
        """Talk to the model that has come last."""
        if self._come:
            self.switch_model(self._come)
        else:
            tell(self, "toast.no_download")

    def _agreed(self, agreed: bool | None) -> None:
        if agreed:
            self.action_downloads()

    def _use(self, reference: str | None) -> None:
        """Load ``reference``; the list of models, where the download was begun there, closes too."""
        from vlmchat.tui.screens.models import ModelsScreen

        if reference is None:
            return
        if isinstance(self.app.screen, ModelsScreen):
            self.app.screen.dismiss(reference)
        else:
            self.switch_model(reference)

    @on(DownloadsMoved)
    def _moved(self) -> None:
        from vlmchat.tui.widgets.download_text import indicator

        self.status.downloads = indicator(self.desk.downloads.all)

    @on(DownloadEnded)
    def _ended(self, message: DownloadEnded) -> None:
        from vlmchat.tui.screens.downloads import DownloadsScreen

        it = message.download
        if it.error is None:
            self._come = it.reference
            tell(self, "toast.downloaded", name=it.reference)
        elif isinstance(self.app.screen, DownloadsScreen):
            body = "\n\n".join((*told(it.error), say("downloads.kept")))
            self.app.push_screen(Panel(say("downloads.failed.title", name=it.reference), body, say("panel.close")))
        elif it.plan is not None:
            complain(self, it.error, say("downloads.kept"))
