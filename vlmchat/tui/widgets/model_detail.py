"""What is said of one model: a line of the list, and all that is known of it beside the list."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content

from vlmchat.catalog.spec import ModelSpec
from vlmchat.options import SHORT_DTYPES
from vlmchat.plaintext import one_line
from vlmchat.tui.browsing import ModelRow, best_room
from vlmchat.tui.faults import words_of
from vlmchat.tui.text import many, model_name, say, size
from vlmchat.tui.widgets.fit_text import fit_text

COLUMNS = (
    ("name", 23), ("size", 5), ("settings", 7), ("context", 5), ("languages", 6), ("abilities", 4), ("disk", 8),
    ("fit", 6),
)  # fmt: skip
"""Columns of the list between mark and state, with their cells, the gap after each included."""
_MARKS = {"installed": "● ", "partial": "◐ ", "missing": "○ "}
_SETTINGS = {"none": "16", "8-bit": "8", "4-bit": "4", "int8": "8", "int4": "4"}
"""Bits of a weight."""


def heading_line() -> Content:
    """Return the names of the columns."""
    names = (_cell(say(f"models.column.{name}"), width) for name, width in COLUMNS)
    return Content.styled("  " + "".join(names) + say("models.column.state"), "$quiet")


def model_line(row: ModelRow, current: bool) -> Content:
    """Return one model as a line of the list."""
    tone = "$success" if row.here else "$warning" if row.state == "partial" else "$quiet"
    cells = [_cell(text, width) for text, (_, width) in zip(_cells(row), COLUMNS, strict=False)]
    return Content.assemble(
        (_MARKS[row.state], tone),
        (cells[0], "bold" if row.here else "$foreground 70%"),
        ("".join(cells[1:]), "$quiet"),
        (_cell(*_fit_word(row)[:1], COLUMNS[-1][1]), _fit_word(row)[1]),
        (state_word(row, current), tone),
    )


def state_word(row: ModelRow, current: bool) -> str:
    """Return where a model stands in one word."""
    if current:
        return say("models.current")
    if row.here and row.spec is None:
        return say("models.folder")
    return say(f"models.{row.state}")


def describe(row: ModelRow) -> Content:
    """Return everything that is known of one model, the most useful first."""
    parts: list[Content] = []
    if row.spec is not None:
        parts.append(Content.styled(one_line(row.spec.title), "bold $primary"))
        parts.append(Content.styled(one_line(words_of(row.spec.description)), "$foreground"))
    else:
        parts.append(Content.styled(one_line(row.reference), "bold $primary"))
    parts.append(Content.styled(one_line(_does(row)), "$primary"))
    parts += _fits(row)
    if row.spec is not None:
        parts += (Content.assemble((f"{name}  ", "$quiet"), one_line(words)) for name, words in _facts(row.spec))
    return Content("\n").join(parts)


def _does(row: ModelRow) -> str:
    """Say what Enter does."""
    if row.here:
        return say("models.detail.folder" if row.spec is None else "models.detail.here")
    if not row.fetchable:
        return words_of(row.hint)
    return say("models.detail.partial", done=size(row.bytes)) if row.state == "partial" else say("models.detail.get")


def _fits(row: ModelRow) -> Iterator[Content]:
    """Yield the verdict, then one line for each setting: where, and with how much room."""
    if row.fit is None:
        return
    yield Content.styled(one_line(fit_text(row.fit)), "$success" if row.fit.fits else "$error")
    for room in row.fit.rooms:
        setting = room.estimate.quantization
        setting = SHORT_DTYPES[room.estimate.dtype] if setting in {"none", "unpacked"} else setting
        if room.lacks:
            words, tone = say("models.room.lacks", needs=size(room.needs), lacks=size(room.lacks)), "$error"
        else:
            key = "models.room.slow" if room.place.slow else "models.room.fits"
            words, tone = say(key, needs=size(room.needs), free=size(room.place.free), kind=room.place.kind), "$success"
        yield Content.assemble((f"{setting}  ", "$quiet"), (words, tone))


def _facts(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    if spec.licence:
        yield say("models.fact.licence"), " · ".join(filter(None, (words_of(spec.licence), spec.licence_url)))
    limits = list(_limits(spec))
    if limits:
        yield say("models.fact.limits"), " · ".join(limits)
    abilities = (say(f"models.ability.{ability}") for ability in spec.abilities)
    yield say("models.fact.abilities"), " · ".join((*abilities, *spec.languages))
    if spec.scores:
        yield say("models.fact.scores"), " · ".join(f"{name} {figure:g}" for name, figure in spec.scores)
    for hub in filter(None, dict.fromkeys((spec.huggingface, spec.modelscope))):
        yield say("models.fact.hub"), hub


def _limits(spec: ModelSpec) -> Iterator[str]:
    if spec.context_tokens:
        yield say("models.limit.context", count=f"{spec.context_tokens:,}")
    vision = spec.vision
    if vision is None:
        return
    key = "models.limit.frames" if vision.frames and "video" in spec.abilities else "models.limit.tiles"
    count = vision.frames if key.endswith("frames") else vision.max_tiles
    yield many(key, count or 1, pixels=vision.tile_pixels, tokens=vision.tokens_per_tile)
    if vision.max_images:
        yield many("models.limit.images", vision.max_images)


def _cells(row: ModelRow) -> list[str]:
    """Return the cells before the verdict."""
    spec = row.spec
    weight = size(row.bytes if row.here and row.bytes else spec.bytes if spec is not None and spec.bytes else 0)
    if spec is None:
        return [model_name(row.reference), "", "", "", "", "", weight if row.bytes else ""]
    settings = " ".join(dict.fromkeys(_SETTINGS.get(name, name) for name in spec.quantizations))
    abilities = "".join(say(f"models.ability.{ability}.short") for ability in spec.abilities)
    return [
        spec.name, _billions(spec.parameters), settings, _thousands(spec.context_tokens), " ".join(spec.languages),
        abilities, "" if weight == size(0) else weight,
    ]  # fmt: skip


def _fit_word(row: ModelRow) -> tuple[str, str]:
    """Return the verdict in one word, and the role it is written in."""
    if row.fit is None:
        return "", "$quiet"
    room = best_room(row.fit)
    if room is None:
        return say("models.fit.no"), "$error"
    if room.place.slow:
        return say("models.fit.slow"), "$warning"
    setting = room.estimate.quantization
    return (setting if setting in {"8-bit", "4-bit"} else say("models.fit.yes")), "$success"


def _billions(count: int | None) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.0f}B" if count >= 9.95e9 else f"{count / 1e9:.1f}B"


def _thousands(count: int | None) -> str:
    return f"{count // 1024}k" if count else ""


def _cell(text: str, width: int) -> str:
    """Return ``text`` in exactly ``width`` cells, the last one blank."""
    content = Content(one_line(text)).truncate(width - 1, ellipsis=True)
    return content.plain + " " * (width - content.cell_length)
