"""How hard a download tries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. The defaults are for people's connections; tests shorten them."""

    streams: int = 8
    """Connections at once, over all files."""
    piece_bytes: int = 64 * 1024**2
    """A file larger than this is fetched in pieces of this size, several at once."""
    connect_s: float = 5.0
    read_s: float = 10.0
    """Seconds without a byte after which a stream is given up and taken up again."""
    attempts: int = 8
    """Attempts in a row without a single byte, over all hubs, before a file is given up."""
    backoff_s: float = 0.5
    """Wait before the second fruitless attempt; doubled up to 8 s, replaced by a Retry-After."""
    floor_rate: float = 16 * 1024
    """Bytes a second of one stream below which another hub is tried."""
    floor_s: float = 30.0
    """Seconds that a stream may stay below the floor."""
