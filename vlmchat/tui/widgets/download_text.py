"""What is said of a download: its plan, its line in the queue, its files with their bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.content import Content

from vlmchat.errors import VlmchatError
from vlmchat.hub.source import TITLES, host
from vlmchat.plaintext import one_line
from vlmchat.tui.downloads import Download
from vlmchat.tui.faults import told, words_of
from vlmchat.tui.text import many, say, shorten, size

if TYPE_CHECKING:
    from vlmchat.hub.events import DownloadEvent, FileProgress, Progress
    from vlmchat.hub.plan import DownloadPlan

_BAR = 16
"""Cells of a bar."""
_FILES = 8
"""Files that the plan names."""
_TONES = {"failed": "$error", "done": "$success", "running": "$primary", "paused": "$warning"}


def plan_text(plan: DownloadPlan, fit: str = "") -> Content:
    """Return everything a user should know before the first byte."""
    licence = plan.licence
    asked = "" if licence.accepted or not licence.name else "\n" + say("plan.accepts")
    have = plan.total_bytes - plan.fetch_bytes
    total = many("plan.bytes", len(plan.files), total=size(plan.total_bytes), fetch=size(plan.fetch_bytes))
    kept = " " + say("plan.have", have=size(have)) if have else ""
    lacks = plan.fetch_bytes > plan.free_bytes
    named = one_line(words_of(licence.name)) or say("plan.no_licence")
    return Content("\n").join(
        [
            Content.styled(one_line(f"{plan.listing.repository}@{plan.listing.commit[:12]}"), "bold"),
            Content(say("plan.from", hub=TITLES[plan.hub], host=host(plan.hub))),
            Content(total + kept),
            Content.styled(say("plan.free", free=size(plan.free_bytes)), "$error" if lacks else "$foreground"),
            Content.styled(one_line(str(plan.folder)), "$quiet"),
            *([Content(one_line(fit))] if fit else []),
            Content.assemble((say("plan.licence") + "  ", "$quiet"), (named, "bold"), (asked, "$warning")),
            Content.styled(one_line(licence.url), "$primary"),
            *_planned_files(plan),
        ]
    )


def download_line(it: Download) -> Content:
    """Return one download as a line of the queue."""
    tone = _TONES.get(it.state, "$quiet")
    parts = [f"{round(100 * it.share):>3} %", say(f"downloads.{it.state}")]
    if it.progress is not None and it.state == "running":
        parts += [say("downloads.of", done=size(it.progress.done), total=size(it.progress.total))]
    name = shorten(one_line(it.reference), 26)
    return Content.assemble((f"{name:<28}", "bold"), ("  ".join(parts), tone))


def download_text(it: Download) -> Content:
    """Return one download with its total, its files at work, what happened, and what to do."""
    lines: list[Content] = []
    if it.plan is not None:
        lines.append(Content.styled(say("plan.from", hub=TITLES[it.plan.hub], host=host(it.plan.hub)), "$quiet"))
    if it.error is not None:
        lines.append(error_text(it.error))
    elif it.progress is not None:
        done, total = it.progress.done, it.progress.total
        said = say("downloads.of", done=size(done), total=size(total))
        if it.state == "running":
            said = f"{said}  {speed(it.progress)}"
        lines.append(_bar(say("downloads.total"), done, total, said))
        lines += (_file(file, it.plan) for file in it.progress.files)
    if it.remark is not None and (words := remark(it.remark)):
        lines.append(Content.styled(words, "$warning"))
    lines.append(Content.styled(say(f"downloads.{it.state}.tip"), "$primary"))
    return Content("\n").join(lines)


def error_text(error: VlmchatError) -> Content:
    """Return what happened and what to do about it."""
    message, hint = told(error)
    return Content.assemble((one_line(message), "$error"), "\n", (one_line(hint), "$foreground"))


def speed(progress: Progress) -> str:
    """Return the rate and the time to go."""
    if progress.eta_s is None:
        return say("downloads.still")
    minutes, seconds = divmod(round(progress.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return say("downloads.speed", rate=size(round(progress.rate)), left=left)


def remark(event: DownloadEvent) -> str:
    """Return what is worth a line of its own; empty for the ordinary course."""
    from vlmchat.hub import events

    match event:
        case events.Waiting(repository=repository):
            text = say("remark.waiting", repository=repository)
        case events.Checking(path=path, done=done, total=total):
            text = say("remark.checking", path=path, done=size(done), total=size(total))
        case events.Retrying(path=path, hub=hub, reason=reason):
            text = say("remark.retrying", path=path, hub=TITLES[hub], reason=words_of(reason))
        case events.Slow(path=path, hub=hub, rate=rate):
            text = say("remark.slow", path=path, hub=TITLES[hub], rate=size(round(rate)))
        case events.HubSwitched(path=path, before=before, after=after, reason=reason):
            text = say(
                "remark.switched", path=path, before=TITLES[before], after=TITLES[after], reason=words_of(reason)
            )
        case events.Restarted(path=path, reason=reason):
            text = say("remark.restarted", path=path, reason=words_of(reason))
        case _:
            text = ""
    return one_line(text)


def indicator(all_: tuple[Download, ...]) -> str:
    """Return how far the running download is, for the status line; empty while none is under way."""
    busy = [it for it in all_ if it.state in {"waiting", "running"}]
    if not busy:
        return ""
    first = next((it for it in busy if it.state == "running"), busy[0])
    return f"↓ {round(100 * first.share)} %" + (f" +{len(busy) - 1}" if len(busy) > 1 else "")


def _planned_files(plan: DownloadPlan) -> Iterator[Content]:
    largest = sorted(plan.files, key=lambda file: -file.remote.bytes)
    for file in largest[:_FILES]:
        state = "" if file.state == "missing" else say("plan.have", have=size(file.have))
        yield Content.styled(f"  {size(file.remote.bytes):>8}  {one_line(file.remote.path)}  {state}", "$quiet")
    if len(largest) > _FILES:
        yield Content.styled(f"  {say('plan.more', count=len(largest) - _FILES)}", "$quiet")


def _file(file: FileProgress, plan: DownloadPlan | None) -> Content:
    """Return the bar of one file, with its hub where that is another one than the plan's."""
    said = say("downloads.of", done=size(file.done), total=size(file.bytes))
    other = f"  {TITLES[file.hub]}" if plan is not None and file.hub != plan.hub else ""
    return _bar(one_line(file.path), file.done, file.bytes, said + other)


def _bar(name: str, done: int, total: int, said: str) -> Content:
    full = round(_BAR * done / max(1, total))
    return Content.assemble(
        ("━" * full, "$primary"), ("─" * (_BAR - full), "$line"), (f"  {said}  ", "$quiet"), (shorten(name, 36), "bold")
    )
