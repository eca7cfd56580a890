"""An engine's events as one line of progress."""

from __future__ import annotations

from vlmchat.cli.output import size_text
from vlmchat.engine.events import Delta, Encoding, Event, Finished, Loading, Prefill, Stage

_STAGES: dict[Stage, str] = {
    "libraries": "Starting torch",
    "config": "Reading the checkpoint",
    "tokenizer": "Reading the checkpoint",
    "weights": "Loading the weights",
    "unpacking": "Unpacking the weights",
    "audit": "Checking the weights",
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
