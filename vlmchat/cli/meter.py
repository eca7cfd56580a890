"""How a download looks: bars on a terminal, a line now and then in a log, JSON lines for scripts."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from vlmchat.cli.output import Talk, is_watched, size_text, write_json
from vlmchat.hub.events import (
    DownloadEvent,
    HubSwitched,
    Planned,
    Progress,
    Restarted,
    Retrying,
    Slow,
    Waiting,
)
from vlmchat.hub.plan import DownloadPlan
from vlmchat.hub.source import TITLES
from vlmchat.plaintext import one_line

if TYPE_CHECKING:
    from rich.progress import TaskID

_LINE_S = 10.0
"""Seconds between two lines of progress in a log."""


class Meter(Protocol):
    """Takes every event of one download."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        ...

    def show(self, event: DownloadEvent) -> None:
        """Show one event."""
        ...


def meter_for(talk: Talk, as_json: bool) -> Meter:
    """Return what suits this process's streams."""
    if as_json:
        return JsonMeter()
    return BarMeter(talk) if is_watched() and not talk.quiet else LineMeter(talk)


class JsonMeter:
    """One JSON object per event on stdout: ``{"event": "progress", …}``, the fields of the event by name."""

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def show(self, event: DownloadEvent) -> None:
        """Write one line."""
        write_json(event_object(event))


class LineMeter:
    """Lines on stderr: what happened, and how far it is every ten seconds."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def show(self, event: DownloadEvent) -> None:
        """Say it, if it is worth a line."""
        if isinstance(event, Progress):
            if event.done < event.total and time.monotonic() - self._last > _LINE_S:
                self._last = time.monotonic()
                self._talk.warn(f"{_share(event.done, event.total)}, {_speed(event)}")
        elif line := remark(event):
            self._talk.warn(line)


class BarMeter:
    """A bar for each file at work and one for all, on a terminal."""

    def __init__(self, talk: Talk) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._talk = talk
        # No markup in any column: names of files come from a hub.
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Draw."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bars away."""
        self._bars.stop()

    def show(self, event: DownloadEvent) -> None:
        """Move the bars, or say a line above them."""
        if isinstance(event, Progress):
            self._move(event)
        elif line := remark(event):
            from rich.text import Text

            self._bars.console.print(Text(line))

    def _move(self, progress: Progress) -> None:
        at_work = {file.path: file for file in progress.files}
        for path in [path for path in self._tasks if path and path not in at_work]:
            self._bars.remove_task(self._tasks.pop(path))
        for path, file in at_work.items():
            self._set(path, one_line(path)[-40:], file.done, file.bytes, _share(file.done, file.bytes))
        self._set(
            "", "all", progress.done, progress.total, f"{_share(progress.done, progress.total)}, {_speed(progress)}"
        )

    def _set(self, key: str, name: str, done: int, total: int, text: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(name, total=total, text=text)
        self._bars.update(self._tasks[key], completed=done, text=text)


def remark(event: DownloadEvent) -> str:
    """Return what is worth a line of its own; empty for the ordinary course."""
    match event:
        case Waiting(repository=repository):
            text = f"Another process downloads {repository}; waiting for it."
        case Retrying(path=path, hub=hub, reason=reason):
            text = f"{path}: {TITLES[hub]}: {reason}; going on from there."
        case Slow(path=path, hub=hub, rate=rate):
            text = f"{path}: only {size_text(round(rate))}/s from {TITLES[hub]}, and no other hub has it."
        case HubSwitched(path=path, before=before, after=after, reason=reason):
            text = f"{path}: {TITLES[before]}: {reason}; {TITLES[after]} goes on."
        case Restarted(path=path, reason=reason):
            text = f"{path}: {reason}; fetched again."
        case _:
            text = ""
    return one_line(text)


def event_object(event: DownloadEvent) -> dict[str, Any]:
    """Return an event for ``--json``: its name in lower case, and its fields."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()
    if isinstance(event, Planned):
        return {"event": name, **_plan_object(event.plan)}
    fields = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(event).items()}
    return {"event": name, **fields}


def _plan_object(plan: DownloadPlan) -> dict[str, Any]:
    return {
        "model": plan.wanted.reference,
        "hub": plan.hub,
        "repository": plan.listing.repository,
        "revision": plan.listing.revision,
        "commit": plan.listing.commit,
        "folder": str(plan.folder),
        "files": [
            {"path": file.remote.path, "bytes": file.remote.bytes, "have": file.have, "state": file.state}
            for file in plan.files
        ],
        "total_bytes": plan.total_bytes,
        "fetch_bytes": plan.fetch_bytes,
        "free_bytes": plan.free_bytes,
        "licence": asdict(plan.licence),
    }


def _share(done: int, total: int) -> str:
    return f"{size_text(done)} of {size_text(total)}"


def _speed(progress: Progress) -> str:
    if progress.eta_s is None:
        return "nothing comes"
    minutes, seconds = divmod(round(progress.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{size_text(round(progress.rate))}/s, {left} to go"
