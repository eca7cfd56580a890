"""The pictures of a question as the loaded model gets them, page by page; for a thread."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vlmchat.conversation import Message, Picture, Video
from vlmchat.engine.api import Engine, Request
from vlmchat.engine.view import Sight
from vlmchat.errors import InputError, VlmchatError
from vlmchat.options import VisionOptions
from vlmchat.tui.screens.tiles import Page

_TIME = re.compile(r"@(\d+\.\d)s")
"""In the name of a frame."""


def pages(engine: Engine, media: Sequence[Picture | Video], vision: VisionOptions) -> list[Page]:
    """Return one page for each of ``media``, tiles cut.

    Raises:
        VlmchatError: a picture is gone, a video cannot be read, or the model takes neither.
    """
    pictures = tuple(medium for medium in media if isinstance(medium, Picture))
    found = [Page(sight.picture.name, (sight,)) for sight in _together(engine, pictures, vision, draw=True)]
    for video in media:
        if isinstance(video, Video):
            frames = _seen(engine, (video,), vision, draw=True)
            times = tuple(_time(sight.picture.name) for sight in frames)
            found.append(Page(video.name, frames, is_video=True, times=times))
    return found


def costs(engine: Engine, media: Sequence[Picture | Video], vision: VisionOptions) -> Mapping[str, int]:
    """Return the tokens of each of ``media`` by digest; what the model cannot take is left out."""
    pictures = tuple(medium for medium in media if isinstance(medium, Picture))
    try:
        found = {sight.picture.digest: sight.tokens for sight in _together(engine, pictures, vision, draw=False)}
    except VlmchatError:
        return {}
    for video in media:
        if isinstance(video, Video):
            try:
                found[video.digest] = sum(sight.tokens for sight in _seen(engine, (video,), vision, draw=False))
            except VlmchatError:
                continue
    return found


def _together(
    engine: Engine, pictures: tuple[Picture, ...], vision: VisionOptions, draw: bool
) -> tuple[Sight, ...]:  # fmt: skip
    """Look at the pictures of one question together: Ovis2 cuts several less finely than one."""
    if not pictures:
        return ()
    try:
        return _seen(engine, pictures, vision, draw)
    except InputError:
        # A model that takes one picture is shown them one by one.
        return tuple(sight for picture in pictures for sight in _seen(engine, (picture,), vision, draw))


def _seen(
    engine: Engine, media: tuple[Picture | Video, ...], vision: VisionOptions, draw: bool
) -> tuple[Sight, ...]:  # fmt: skip
    return engine.view(Request((Message("user", media),), vision=vision), draw)


def _time(name: str) -> float | None:
    found = _TIME.search(name)
    return float(found[1]) if found else None
