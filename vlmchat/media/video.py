"""Video file -> the frames a family asks for.

FFmpeg reads the file through PyAV, which is imported on first use (0.1 s). The index
of all frames comes from the container without decoding; then only the frames asked for are decoded,
each from the key frame before it. Which frames those are is each family's own rule.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vlmchat.conversation import Message, Picture, Video
from vlmchat.errors import VideoError
from vlmchat.media.image import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

MAX_FRAMES = 2_000_000
"""Longest video that is indexed: nine hours at 60 frames a second."""
_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg"
"""Containers FFmpeg may try. Left out on purpose: playlists and scripts that name other files."""
_SAFE = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """The frames of a video file, in the order in which they are shown; equal only to itself."""

    path: Path
    ticks: tuple[int, ...]
    """When each frame is shown, in units of the stream's time base."""
    seconds: tuple[float, ...]
    """The same in seconds, counted from the first frame."""
    keys: tuple[int, ...]
    """``ticks`` of the frames at which decoding can begin."""
    fps: float
    """Frames per second on average, as the container says."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.ticks)


def read_video(path: Path) -> Video:
    """Return the video file ``path`` as a part of a conversation; its frames are chosen by the family later.

    Raises:
        VideoError: there is no such file, or it is no video.
    """
    read_clip(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Video(digest, path.name, path=path.resolve())


def video_of_frames(frames: Sequence[Picture], name: str = "frames") -> Video:
    """Return pictures as a video that is used frame by frame as it is."""
    digest = hashlib.sha256("\n".join(frame.digest for frame in frames).encode()).hexdigest()
    return Video(digest, name, frames=tuple(frames))


Choice: TypeAlias = Callable[[Clip], Sequence[int]]
"""A family's rule: which frames of a clip it reads, as indices; an index may come twice."""


def with_frames(messages: Sequence[Message], choose: Choice) -> tuple[Message, ...]:
    """Return ``messages`` with every video file replaced by the frames that ``choose`` picks.

    Videos that came frame by frame stay as they are.

    Raises:
        VideoError: as in :func:`read_clip` and :func:`read_frames`.
    """
    return tuple(
        replace(
            message, parts=tuple(_sampled(part, choose) if isinstance(part, Video) else part for part in message.parts)
        )
        for message in messages
    )


def _sampled(video: Video, choose: Choice) -> Video:
    if video.frames:
        return video
    if video.path is None:
        raise VideoError(f"{video.name} holds neither frames nor a file.", "Attach it again.")
    clip = read_clip(video.path)
    frames = read_frames(clip, tuple(choose(clip)))
    # A chat's own copy of the file is called by its digest: the frames are named after what the user called it.
    own = (replace(frame, name=video.name + frame.name.removeprefix(video.path.name)) for frame in frames)
    return replace(video, frames=tuple(own))


def read_clip(path: Path) -> Clip:
    """Index the frames of the first video stream of ``path``; nothing is decoded.

    Raises:
        VideoError: PyAV is missing, there is no such file, it is no video, holds no frame, or more
            than :data:`MAX_FRAMES`.
    """
    try:
        about = path.stat()
    except OSError as problem:
        raise VideoError(f"{path} cannot be read: {problem.strerror}.", "Check the path.") from problem
    return _read_clip(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _read_clip(path: Path, _changed: int, _size: int) -> Clip:
    with _opened(path) as (container, stream):
        shown: list[tuple[int, bool]] = []
        for packet in container.demux(stream):
            # AVI knows only the order of decoding, which is that of showing where frames carry no pts.
            tick = packet.dts if packet.pts is None else packet.pts
            if tick is not None and not packet.is_discard:
                shown.append((tick, packet.is_keyframe))
            if len(shown) > MAX_FRAMES:
                raise VideoError(f"{path.name} has more than {MAX_FRAMES:,} frames.", "Cut out the part that matters.")
        shown.sort()
        if not shown:
            raise VideoError(f"{path.name} holds no frames.", "Save it again, or give frames as pictures.")
        ticks = tuple(tick for tick, _ in shown)
        seconds = tuple(float((tick - ticks[0]) * stream.time_base) for tick in ticks)
        keys = tuple(tick for tick, is_key in shown if is_key)
        return Clip(path, ticks, seconds, keys, float(stream.average_rate or 0))


@lru_cache(maxsize=2)
def read_frames(clip: Clip, indices: tuple[int, ...]) -> tuple[Picture, ...]:
    """Decode frames of ``clip`` at their full size, turned upright, as pictures in memory, named ``clip.mp4@4.2s``.

    Args:
        clip: from :func:`read_clip`.
        indices: which frames, in any order; an index may come twice.

    Raises:
        VideoError: PyAV is missing, the file changed or is damaged, or its frames are too large.
    """
    wanted = sorted({clip.ticks[index] for index in indices})
    with _opened(clip.path) as (container, stream):
        decoded = _decoded(clip, container, stream, wanted)
        shown = dict(zip(clip.ticks, clip.seconds, strict=True))
        pictures = {tick: _as_picture(image, f"{clip.path.name}@{shown[tick]:.1f}s") for tick, image in decoded}
    return tuple(pictures[clip.ticks[index]] for index in indices)


def _decoded(clip: Clip, container: Any, stream: Any, wanted: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
    """Yield (tick, picture) for each tick of ``wanted``, which is in order."""
    frames: Iterator[Any] = iter(())
    key: int | None = None
    for tick in wanted:
        starts = _starts(clip, tick)
        # Behind the same key frame decoding just goes on.
        frame = _forward(frames, tick) if key == starts[0] else None
        for start in starts:
            if frame is None:
                container.seek(start, stream=stream)
                frames = container.decode(stream)
                frame = _forward(frames, tick)
        if frame is None:
            raise _unreadable(clip.path, "a frame cannot be decoded")
        key = starts[0]
        yield tick, frame.to_image().rotate(frame.rotation, expand=True)


def _starts(clip: Clip, tick: int) -> tuple[int, ...]:
    """Return where to seek for the frame at ``tick``: its key frame, the one before it, the beginning.

    Some containers lead to the key frame behind the one that was asked for (MPEG transport
    streams, whose headers stand before it), so the beginning is sought well before it.
    """
    place = bisect_right(clip.keys, tick)
    return (*reversed(clip.keys[max(place - 2, 0) : place]), 2 * clip.ticks[0] - clip.ticks[-1] - 1)


def _forward(frames: Iterator[Any], tick: int) -> Any | None:
    """Return the frame shown at ``tick``, or None when ``frames`` has none or begins behind it."""
    for frame in frames:
        if frame.pts is not None and frame.pts >= tick:
            return frame if frame.pts == tick else None
    return None


def _as_picture(image: Image.Image, name: str) -> Picture:
    """Hold ``image`` as a PNG, quickly packed."""
    packed = io.BytesIO()
    image.save(packed, "PNG", compress_level=1)
    data = packed.getvalue()
    return Picture(hashlib.sha256(data).hexdigest(), name, "image/png", image.width, image.height, data)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open ``path`` and its first video stream; what FFmpeg refuses becomes a VideoError."""
    try:
        # Optional and slow to import (FFmpeg's libraries): only who attaches a video needs it.
        import av
    except ImportError as problem:
        raise VideoError(
            "Reading videos needs PyAV, which is not installed.", "Install vlmchat[video], or give frames as pictures."
        ) from problem
    try:
        with path.open("rb") as file, av.open(file, options=_SAFE, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise _unreadable(path, "it holds no video stream")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise _unreadable(path, f"its frames have {stream.width:,} x {stream.height:,} pixels")
            stream.thread_type = "AUTO"
            yield container, stream
    except (OSError, av.FFmpegError) as problem:
        raise _unreadable(path, problem.strerror or str(problem)) from problem


def _unreadable(path: Path, why: str) -> VideoError:
    return VideoError(f"{path.name} is not a video this program can read: {why}.", "Give frames of it as pictures.")
