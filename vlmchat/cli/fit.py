"""How ``show`` writes the answer to "will it fit": a few lines, or one object of JSON."""

from __future__ import annotations

from collections.abc import Iterator

from vlmchat.cli.output import size_text
from vlmchat.engine.machine import Machine
from vlmchat.engine.verdict import Fit, Room, setting_word

_KILO = 1000


def fit_facts(fit: Fit | None, machine: Machine, download: int | None) -> Iterator[tuple[str, str]]:
    """Yield label and text of what is known.

    Args:
        fit: the verdict; None where a config does not say enough.
        machine: that it was made for.
        download: bytes still to be downloaded; None for none, or where nobody says.
    """
    if fit is not None:
        yield "will it fit", fit.text
        yield "memory", ", ".join(f"{setting_word(room.estimate)} {size_text(room.needs)}" for room in fit.rooms)
        exact = fit.rooms[0].estimate
        cache = size_text(exact.kv_per_token * _KILO)
        largest = f"{exact.picture_tokens:,} tokens for the largest {fit.medium}"
        yield "of that", f"{size_text(exact.vision)} visual part, {cache} of cache per 1,000 tokens, {largest}"
    if download is not None:
        lacks = download - machine.disk_free
        more = f": {size_text(lacks)} too little" if lacks > 0 else ""
        yield "disk", f"{size_text(download)} to download, {size_text(machine.disk_free)} free{more}"


def fit_object(fit: Fit | None, machine: Machine, download: int | None) -> dict[str, object]:
    """Return the same for ``--json``; ``verdict`` is null and ``settings`` empty where nothing is known."""
    return {
        "verdict": fit.text if fit else None,
        "fits": fit.fits if fit else None,
        "medium": fit.medium if fit else None,
        "settings": [_room_object(room) for room in fit.rooms] if fit else [],
        "download_bytes": download,
        "disk_free_bytes": machine.disk_free,
        "memory_free_bytes": machine.memory_free,
        "gpus": [{"name": gpu.name, "free_bytes": gpu.free, "total_bytes": gpu.total} for gpu in machine.gpus],
    }


def _room_object(room: Room) -> dict[str, object]:
    taken = room.estimate
    return {
        "quantization": taken.quantization,
        "dtype": taken.dtype,
        "device": taken.kind,
        "partly_in_main_memory": room.place.slow,
        "weights_bytes": taken.weights,
        "vision_bytes": taken.vision,
        "kv_bytes_per_1000_tokens": taken.kv_per_token * _KILO,
        "working_bytes": taken.working,
        "picture_tokens": taken.picture_tokens,
        "needs_bytes": room.needs,
        "lacks_bytes": room.lacks,
        "pictures": room.pictures,
        "tokens": room.tokens,
    }
