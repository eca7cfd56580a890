"""``vlmchat ask --dry-run``: the prompt as the model would see it, and what it would cost; no weights are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlmchat.chat.opening import Target
from vlmchat.cli.answering import settings_object
from vlmchat.cli.output import Talk, write_json, write_line
from vlmchat.engine.api import Request
from vlmchat.errors import ContextOverflow, ExitCode
from vlmchat.settings import Settings

if TYPE_CHECKING:
    from vlmchat.engine.preview import Preview
    from vlmchat.engine.view import Sight

_RUN = re.compile(r"(<[^<>\s]{1,40}>)\1{3,}")
"""Placeholders of picture positions: hundreds of the same one in a row."""


def show_preview(target: Target, request: Request, settings: Settings, talk: Talk, as_json: bool) -> ExitCode:
    """Write what ``request`` would be for the checkpoint of ``target``.

    Raises:
        ContextOverflow: it leaves no room for an answer; all is written all the same.
        CheckpointError, InputError: as :func:`vlmchat.engine.preview.preview`.
    """
    talk.status("Reading the checkpoint")
    # Late: torch takes seconds, and everything typed was checked before it.
    from vlmchat.engine.preview import preview

    seen = preview(target.folder, request)
    talk.clear()
    if as_json:
        write_json(_object(target, seen, settings))
    else:
        for label, text in _facts(target, seen):
            write_line(f"{label:<10}{text}")
        write_line("\n" + _RUN.sub(_counted, seen.prompt))
    if seen.answer_tokens < 1:
        raise ContextOverflow(
            f"The prompt takes {seen.size.prompt_tokens:,} tokens; {target.name} reads at most "
            f"{seen.size.context_tokens:,} and needs room for an answer.",
            "Use fewer or smaller pictures (--max-tiles), or shorten the text.",
        )
    return ExitCode.OK


def _facts(target: Target, seen: Preview) -> Iterator[tuple[str, str]]:
    size = seen.size
    yield "model", f"{target.name} ({seen.family})"
    yield "prompt", f"{size.prompt_tokens:,} tokens, {size.image_tokens:,} of them pictures"
    for picture in seen.pictures:
        yield "picture", _picture(picture)
    left = size.context_tokens - size.prompt_tokens
    fits = f"leaves {left:,} for the answer, which may take {seen.answer_tokens:,}" if left > 0 else "is too short"
    yield "context", f"{size.context_tokens:,} tokens: {fits}"


def _picture(sight: Sight) -> str:
    shown = sight.picture
    grid = f" ({sight.columns} x {sight.rows}{'' if sight.thumbnail == 'none' else ' and a thumbnail'})"
    tiles = f"{sight.tiles} tiles{grid}" if sight.tiles > 1 else "1 tile"
    return f"{shown.name}, {shown.width} x {shown.height} pixels: {tiles}, {sight.tokens:,} tokens"


def _counted(run: re.Match[str]) -> str:
    return f"{run[1]} x {len(run[0]) // len(run[1])}"


def _object(target: Target, seen: Preview, settings: Settings) -> dict[str, object]:
    return {
        "model": target.name,
        "revision": target.revision or seen.fingerprint,
        "family": seen.family,
        "prompt": seen.prompt,
        "token_ids": list(seen.token_ids),
        "usage": {"prompt_tokens": seen.size.prompt_tokens, "image_tokens": seen.size.image_tokens},
        "pictures": [
            {
                "name": sight.picture.name,
                "width": sight.picture.width,
                "height": sight.picture.height,
                "tiles": sight.tiles,
                "columns": sight.columns,
                "rows": sight.rows,
                "thumbnail": sight.thumbnail,
                "tokens": sight.tokens,
            }
            for sight in seen.pictures
        ],
        "context_tokens": seen.size.context_tokens,
        "answer_tokens": max(0, seen.answer_tokens),
        "fits": seen.answer_tokens > 0,
        "settings": settings_object(settings),
    }
