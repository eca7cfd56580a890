"""A saved chat as files that need nothing else: Markdown with a folder of its pictures, or one HTML file.

What a model or a file name says is data here too: Markdown of answers is rendered with HTML off and
without pictures of its own, everything else is escaped, and the page forbids itself scripts and every
address (Content-Security-Policy), so that opening an export asks nobody for anything.
"""

from __future__ import annotations

import base64
import errno
import re
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

from vlmchat.conversation import Part, Picture, Video
from vlmchat.errors import DiskFull, StoreError, UsageError, VlmchatError
from vlmchat.plaintext import one_line, printable
from vlmchat.store.export import as_markdown
from vlmchat.store.model import Chat, Turn

_LONGEST_NAME = 60
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
header p, .made { color: GrayText; font-size: 0.85rem; }
article { margin: 1.5rem 0; padding-left: 1rem; border-left: 4px solid GrayText; }
article.user { border-color: LinkText; }
.typed { white-space: pre-wrap; }
img { max-width: 100%; max-height: 28rem; display: block; margin: 0.5rem 0; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid GrayText; }
table { border-collapse: collapse; } td, th { border: 1px solid GrayText; padding: 0.2rem 0.5rem; }
"""


def write(chat: Chat, kind: str, folder: Path) -> Path:
    """Write ``chat`` into ``folder`` as ``html`` or ``markdown`` under a name that is free; returns the file.

    Raises:
        UsageError: there is no such kind.
        DiskFull, StoreError: it cannot be written.
    """
    if kind not in {"html", "markdown", "md"}:
        raise UsageError(f"A chat cannot be exported as {kind!r}.", "Name html or markdown.")
    suffix = ".html" if kind == "html" else ".md"
    target = _free(folder, _stem(chat), suffix)
    return write_html(chat, target) if kind == "html" else write_markdown(chat, target)


def write_html(chat: Chat, target: Path) -> Path:
    """Write the branch in use as one file with its pictures in it; returns ``target``.

    Raises:
        DiskFull, StoreError: it cannot be written, or a picture is gone.
    """
    _put(target, as_html(chat).encode("utf-8", "replace"))
    return target


def write_markdown(chat: Chat, target: Path) -> Path:
    """Write the branch in use, its pictures into the folder ``<name>_files`` beside it; returns ``target``.

    Raises:
        DiskFull, StoreError: it cannot be written, or a picture is gone.
    """
    folder = target.with_name(f"{target.stem}_files")
    places = {digest: folder / name for digest, name in _file_names(chat).items()}
    for picture in _pictures(chat):
        _put(places[picture.digest], _bytes(picture))
    moved = replace(chat, turns=tuple(_with_places(turn, places, target.parent) for turn in chat.turns))
    _put(target, as_markdown(moved).encode("utf-8", "replace"))
    return target


def as_html(chat: Chat) -> str:
    """Return the branch in use as one HTML page that holds its pictures and loads nothing."""
    title = escape(one_line(chat.summary.title) or "Chat")
    turns = "\n".join(_article(turn) for turn in chat.branch())
    return (
        f'<!doctype html>\n<html><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body><header><h1>{title}</h1><p>{escape(one_line(chat.summary.model))} · vlmchat</p></header>\n"
        f"{turns}\n</body></html>\n"
    )


def _article(turn: Turn) -> str:
    role = turn.message.role
    parts = "\n".join(_part(part, typed=role != "assistant") for part in turn.message.parts)
    made = turn.provenance
    notes: list[str] = [] if turn.status == "complete" else [turn.status]
    if made is not None:
        notes = [made.model, made.revision[:12], made.quantization, f"{made.completion_tokens} tokens", *notes]
    line = escape(" · ".join(one_line(note) for note in notes if note and note != "none"))
    return f'<article class="{role}">\n{parts}\n' + (f'<p class="made">{line}</p>\n' if line else "") + "</article>"


def _part(part: Part, typed: bool) -> str:
    if isinstance(part, Picture):
        return _figure(part)
    if isinstance(part, Video):
        return f"<p>{escape(one_line(part.name))}</p>" + "".join(_figure(frame) for frame in part.frames)
    text = printable(part.text)
    return f'<p class="typed">{escape(text)}</p>' if typed else _rendered(text)


def _figure(picture: Picture) -> str:
    data = base64.b64encode(_bytes(picture)).decode("ascii")
    name = escape(one_line(picture.name))
    return f'<img alt="{name}" title="{name}" src="data:{escape(picture.media_type)};base64,{data}">'


def _rendered(text: str) -> str:
    # Late: only an export to HTML renders Markdown, and the store is a cheap room.
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text)
    return str(rendered).strip()


def _pictures(chat: Chat) -> Iterator[Picture]:
    """Yield every picture of the branch in use, frames of videos too, each once."""
    seen: set[str] = set()
    for turn in chat.branch():
        for part in turn.message.parts:
            for picture in (part,) if isinstance(part, Picture) else part.frames if isinstance(part, Video) else ():
                if picture.digest not in seen:
                    seen.add(picture.digest)
                    yield picture


def _file_names(chat: Chat) -> dict[str, str]:
    """Return a file name for each picture, like the one it came with: digest -> name."""
    names: dict[str, str] = {}
    for number, picture in enumerate(_pictures(chat), 1):
        stem = _clean(Path(picture.name).stem) or "picture"
        kind = picture.media_type.rpartition("/")[2]
        names[picture.digest] = f"{number:02}-{stem}.{'jpg' if kind == 'jpeg' else _clean(kind)}"
    return names


def _with_places(turn: Turn, places: dict[str, Path], base: Path) -> Turn:
    parts = tuple(
        replace(part, path=places[part.digest].relative_to(base))
        if isinstance(part, Picture) and part.digest in places
        else part
        for part in turn.message.parts
    )
    return replace(turn, message=replace(turn.message, parts=parts))


def _bytes(picture: Picture) -> bytes:
    try:
        return picture.read()
    except OSError as problem:
        raise StoreError(
            f"The picture {one_line(picture.name)} of this chat is gone.", "`vlmchat doctor` checks the store."
        ) from problem


def _put(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as problem:
        kind: type[VlmchatError] = DiskFull if problem.errno == errno.ENOSPC else StoreError
        raise kind(f"{target} cannot be written: {problem.strerror or problem}.", "Choose another folder.") from problem


def _stem(chat: Chat) -> str:
    return _clean(one_line(chat.summary.title)) or f"chat-{chat.summary.id[:8]}"


def _clean(name: str) -> str:
    """Return ``name`` with letters, digits, dots and dashes only, so that every file system takes it."""
    return re.sub(r"[^\w.-]+", "-", name)[:_LONGEST_NAME].strip("-.")


def _free(folder: Path, stem: str, suffix: str) -> Path:
    """Return a path in ``folder`` that neither a file nor a folder of pictures has."""
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        target = folder / f"{name}{suffix}"
        if not target.exists() and not (folder / f"{name}_files").exists():
            return target
        number += 1
