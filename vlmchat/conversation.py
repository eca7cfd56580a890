"""Messages, pictures and videos: the frozen values that every room passes along.

A message is a sequence of parts in the order the user gave them, so a picture stays where it was
put. Nothing here decodes a picture: ``media`` turns files into :class:`Picture` values (checked,
measured, hashed), families turn them into pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of text; never markup, never control tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture whose bytes were checked once; its identity is the sha256 of those bytes."""

    digest: str
    """sha256 of the encoded file, 64 hex digits."""
    name: str
    """What the user called it: a file name, a URL's last part, ``stdin``, ``clipboard``."""
    media_type: str
    """By content, not by extension: ``image/png``, ``image/jpeg``, …"""
    width: int
    """Pixels, after the EXIF orientation was applied."""
    height: int
    """Pixels, after the EXIF orientation was applied."""
    data: bytes | None = field(default=None, repr=False, compare=False)
    """The encoded file, when it is held in memory."""
    path: Path | None = field(default=None, compare=False)
    """The encoded file on disk (the store's own copy), when it is not held in memory."""

    def read(self) -> bytes:
        """Return the encoded file.

        Raises:
            FileNotFoundError: the store's copy is gone.
        """
        if self.data is not None:
            return self.data
        if self.path is None:
            raise FileNotFoundError(self.name)
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Video:
    """A video: either frames chosen by the user, or a file that the family samples by its own rule."""

    digest: str
    """sha256 of the file, or of the frames' digests joined by newlines."""
    name: str
    frames: tuple[Picture, ...] = ()
    """Given frame by frame; used as they are. Empty when ``path`` has to be sampled."""
    path: Path | None = field(default=None, compare=False)


Part: TypeAlias = Text | Picture | Video


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of one speaker."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All text parts joined by newlines; pictures leave no trace."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures of this turn in order, frames of videos not included."""
        return tuple(part for part in self.parts if isinstance(part, Picture))

    @property
    def media(self) -> tuple[Picture | Video, ...]:
        """The pictures and videos of this turn in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture | Video))


def user(text: str, *media: Picture | Video) -> Message:
    """Return a user turn with ``media`` before ``text``, the form in which people ask."""
    return Message("user", (*media, Text(text)))


def assistant(text: str) -> Message:
    """Return a finished answer as a turn of the history."""
    return Message("assistant", (Text(text),))


def system(text: str) -> Message:
    """Return a system prompt; it replaces the family's own."""
    return Message("system", (Text(text),))
