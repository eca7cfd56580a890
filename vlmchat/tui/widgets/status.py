"""The line at the top: which model, on what, and what it is doing now."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from vlmchat.engine.events import Encoding, Loading, Prefill
from vlmchat.options import SHORT_DTYPES
from vlmchat.tui.desk import ReadyModel
from vlmchat.tui.text import model_name, say, size

_BAR = 12
"""Cells of the progress bar."""
_LEAST_TITLE = 16
"""Cells of a title that is cut; with less room there is none."""
_NEARLY = 0.85
"""Share of the context from which on the meter warns."""


class StatusLine(Widget):
    """Model and device on the left, the chat in the middle, the work at hand on the right."""

    model: reactive[str] = reactive("")
    detail: reactive[str] = reactive("")
    title: reactive[str] = reactive("")
    activity: reactive[str] = reactive("")
    meter: reactive[tuple[int, int] | None] = reactive[tuple[int, int] | None](None)
    """Tokens the prompt would take, and tokens the model reads at most."""
    temporary: reactive[bool] = reactive(False)
    """The chat is not written to disk."""
    commands: reactive[str] = reactive("")
    """The typed commands that begin like what is in the box; while there are some, they are the line."""
    downloads: reactive[str] = reactive("")
    """How far the download under way is."""
    part: reactive[float | None] = reactive[float | None](None)
    """How much of the work is done, 0 to 1; None where there is no measure."""
    tone: reactive[str] = reactive("quiet")
    """The theme role in which the work is written: quiet, warning, success or error."""

    def render(self) -> Content:
        """Draw the three parts; the middle gives way first."""
        room = self.content_size.width
        if self.commands:
            return Content.styled(self.commands, "$primary").truncate(room, ellipsis=True)
        fetched = (f"{self.downloads}  ", "$primary") if self.downloads else ""
        right = Content.assemble(fetched, self._fill(), self._work())
        left = Content.assemble(("● ", f"${self.tone}"), (self.model, "bold $primary"))
        if self.detail and room >= left.cell_length + len(self.detail) + right.cell_length + 4:
            left = Content.assemble(left, (f"  {self.detail}", "$quiet"))
        space = room - left.cell_length - right.cell_length
        if space < 1:
            left, space = left.truncate(max(1, room - right.cell_length - 1), ellipsis=True), 1
        words = " · ".join(filter(None, (say("status.temporary") if self.temporary else "", self.title)))
        title = Content.styled(words, "$foreground 80%")
        if space >= _LEAST_TITLE + 5:
            title = title.truncate(min(title.cell_length, space - 5), ellipsis=True)
        if space > title.cell_length + 4:
            before = max(2, min(room // 2 - title.cell_length // 2 - left.cell_length, space - title.cell_length - 2))
            return Content.assemble(
                left, " " * before, title, " " * (space - before - title.cell_length), right
            )  # fmt: skip
        return Content.assemble(left, " " * space, right)

    def _fill(self) -> Content:
        """How full the context is; louder the fuller."""
        if self.meter is None or self.part is not None:
            return Content("")
        used, limit = self.meter
        tone = "$error" if used >= limit else "$warning" if used >= _NEARLY * limit else "$quiet"
        return Content.styled(f"{used:,}/{limit:,}  ", tone)

    def _work(self) -> Content:
        if self.part is None:
            return Content.styled(self.activity, f"${self.tone}")
        full = round(max(0.0, min(1.0, self.part)) * _BAR)
        return Content.assemble(
            (self.activity, "$quiet"), " ", ("━" * full, "$primary"), ("─" * (_BAR - full), "$line")
        )

    def show_wanted(self, reference: str) -> None:
        """Name a model that is about to load."""
        self.model, self.detail = model_name(reference), ""
        self.show(say("status.loading"), "warning")

    def show_ready(self, model: ReadyModel) -> None:
        """Name the model that is in memory, and what it runs on."""
        self.model = model_name(model.name)
        if model.loaded is not None:
            held = [model.loaded.device, SHORT_DTYPES.get(model.loaded.dtype, model.loaded.dtype)]
            if model.loaded.quantization != "none":
                held.append(model.loaded.quantization)
            self.detail = " · ".join(held)
        self.show(say("status.ready"), "success")

    def show_progress(self, event: Loading | Encoding | Prefill) -> None:
        """Show how far a load or a prompt has come."""
        if isinstance(event, Loading):
            self._show_load(event)
        elif isinstance(event, Encoding):
            words = say(
                "status.reading",
                picture=event.picture, pictures=event.pictures, tile=event.tile, tiles=event.tiles,
            )  # fmt: skip
            self.show(words, "warning", event.tile / max(1, event.tiles))
        else:
            words = say("status.prefill", done=f"{event.done:,}", total=f"{event.total:,}")
            self.show(words, "warning", event.done / max(1, event.total))

    def show(self, activity: str, tone: str = "quiet", part: float | None = None) -> None:
        """Say what is going on."""
        self.activity, self.tone, self.part = activity, tone, part

    def _show_load(self, event: Loading) -> None:
        stage = "shards" if event.stage == "weights" and event.shards > 1 else event.stage
        figures = {"done": size(event.done), "total": size(event.total)}
        words = say(f"status.loading.{stage}", shard=event.shard, shards=event.shards, **figures)
        self.show(words, "warning", event.done / event.total if event.total else None)
