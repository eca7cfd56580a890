"""An engine's events, and the lines of a pipe, as one line of progress."""

from __future__ import annotations

import time

from vlmchat.cli.output import size_text
from vlmchat.engine.events import Delta, Encoding, Event, Finished, Loading, Prefill, Stage

_STAGES: dict[Stage, str] = {
    "waiting": "Waiting for the kept engine, which works for another program",
    "libraries": "Starting torch",
    "config": "Reading the checkpoint",
    "tokenizer": "Reading the checkpoint",
    "weights": "Loading the weights",
    "unpacking": "Unpacking the weights",
    "audit": "Checking the weights",
    "compiling": "Compiling for this processor, once",
    "arranging": "Laying the weights out for this processor",
}


def progress_text(event: Event) -> str:
    """Return what to show while ``event`` is the latest; empty when the answer itself is what moves."""
    match event:
        case Loading(stage="weights", done=done, total=total) if total:
            return f"Loading the weights: {size_text(done)} of {size_text(total)}"
        case Loading(stage=stage):
            return _STAGES.get(stage, "")
        case Encoding():
            return f"Looking at picture {event.picture} of {event.pictures}: tile {event.tile} of {event.tiles}"
        case Prefill(done=done, total=total) if done < total:
            return f"Reading the prompt: {done} of {total} tokens"
        case Prefill() | Delta() | Finished():
            return ""


class LineProgress:
    """How many lines a pipe has answered, how fast, and how long the rest will take."""

    def __init__(self, total_bytes: int) -> None:
        """Begin; ``total_bytes`` of input are to come, 0 where nobody knows."""
        self.failed = 0
        """Lines that gave an error."""
        self.skipped = 0
        """Lines that had a result from an earlier run."""
        self._total = total_bytes
        self._done = 0
        self._first = 0
        self._read = 0
        self._begun = 0.0

    def begin(self) -> None:
        """Start the clock with the first line that is answered: the model is loaded by then."""
        self._begun = self._begun or time.monotonic()

    def skip(self, end: int) -> None:
        """Leave out a line that ends at byte ``end`` of the input."""
        self.skipped += 1
        self._first = end

    def count(self, end: int, failed: bool) -> None:
        """Count a line that ends at byte ``end`` of the input."""
        self._done += 1
        self.failed += failed
        self._read = end

    @property
    def text(self) -> str:
        """What to show."""
        parts = [f"{self._done:,} lines"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        spent = time.monotonic() - self._begun if self._begun else 0.0
        if spent > 0:
            parts.append(f"{self._done / spent:.1f} a second")
        read, left = self._read - self._first, self._total - self._read
        if spent > 0 and read > 0 and left > 0:
            minutes, seconds = divmod(round(spent / read * left), 60)
            parts.append(f"{minutes // 60:d}:{minutes % 60:02d}:{seconds:02d} left")
        return ", ".join(parts)
