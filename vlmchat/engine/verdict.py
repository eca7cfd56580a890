"""Will it fit on this machine: each setting beside what is free, and one English sentence that says it.

Settings are looked at from the most exact to the smallest. A setting fits when one largest picture and
a short question about it do; what is left over is told as pictures and tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from vlmchat.engine.fit import Estimate, estimate
from vlmchat.engine.machine import Kind, Machine
from vlmchat.errors import DoesNotFit
from vlmchat.families.sizes import Sizes
from vlmchat.options import SHORT_DTYPES, LoadOptions, Quantization

if TYPE_CHECKING:
    from vlmchat.engine.api import LoadedModel

SETTINGS: tuple[Quantization, ...] = ("none", "8-bit", "4-bit")
"""From the most exact to the smallest."""
QUESTION_TOKENS = 512
"""A short question and its answer, pictures apart: with less room than this a model is of no use."""
LIBRARIES = 500_000_000
"""Bytes that Python, torch and Transformers take beside the model: 0.4 to 0.5 GB of main memory were measured;
as much is set aside for a CUDA context on a GPU, which was not."""
Where: TypeAlias = Literal["shared", "gpu", "gpus", "split", "memory"]
"""Memory shared with the GPU, one GPU, several, GPUs with a part in main memory, main memory."""
_LABELS: Mapping[Where, str] = {
    "shared": "in the memory shared with the GPU ({free} free)",
    "gpu": "on the GPU ({free} free)",
    "gpus": "on {gpus} GPUs together",
    "split": "with a part in main memory, which is slow",
    "memory": "in main memory ({free} free)",
}
_PICTURE_SHARE = 2
"""Of the room for a conversation, one part in this many is told as pictures, the rest as tokens."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere a model can be held."""

    kind: Kind
    where: Where
    free: int
    """Bytes a model can use."""
    told: int
    """Bytes the machine says are free, what the libraries need included."""
    gpus: int = 0
    """Over how many GPUs it is spread."""

    @property
    def slow(self) -> bool:
        """Weights that have no room on a GPU come to it from main memory for every token."""
        return self.where == "split"

    @property
    def label(self) -> str:
        """For the sentence: ``on the GPU (24.1 GB free)``."""
        return _LABELS[self.where].format(free=gigabytes(self.told), gpus=self.gpus)


@dataclass(frozen=True, slots=True)
class Room:
    """One setting in one place."""

    estimate: Estimate
    place: Place
    needs: int
    """Bytes for one picture and a short question."""
    lacks: int
    """How many of them are missing; 0 when it fits."""
    pictures: int
    """Largest pictures (or videos) that the room for a conversation takes along, with ..."""
    tokens: int
    """... this many tokens of text beside them."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The whole answer for one model on one machine."""

    rooms: tuple[Room, ...]
    """One for each setting, in its best place, the most exact setting first."""
    medium: str
    """What ``pictures`` counts: ``picture`` or ``video``."""

    @property
    def fits(self) -> bool:
        """Whether any setting does."""
        return any(not room.lacks for room in self.rooms)

    @property
    def best(self) -> Room:
        """The room to be told of: the most exact one that fits, those that are slow last; else the nearest miss."""
        fitting = [room for room in self.rooms if not room.lacks]
        quick = next((room for room in fitting if not room.place.slow), None)
        return quick or (fitting[0] if fitting else min(self.rooms, key=lambda room: room.lacks))

    @property
    def text(self) -> str:
        """The verdict in English; the app says it in its own words."""
        return _sentence(self)


def judge(sizes: Sizes, machine: Machine, settings: Sequence[Quantization] = SETTINGS) -> Fit:
    """Say what of ``sizes`` fits on ``machine``.

    Args:
        sizes: of the network.
        machine: as it is now.
        settings: quantizations it can run in; a checkpoint that comes quantized has one.
    """
    chosen: Sequence[Quantization] = settings if sizes.packing is None else ("none",)
    rooms = tuple(_best_room(sizes, machine, setting) for setting in SETTINGS if setting in chosen)
    return Fit(rooms, sizes.pictures.medium)


def refuse_too_large(
    sizes: Sizes, machine: Machine, options: LoadOptions, name: str, loaded: LoadedModel | None = None
) -> None:
    """Refuse a load that cannot succeed on this machine as it is now.

    Args:
        sizes: of the network.
        machine: as it is now.
        options: of the load.
        name: of the model, for the message.
        loaded: the model in memory now, which goes first.

    Raises:
        DoesNotFit: with the numbers, and the smaller setting that would fit.
    """
    if not _is_seen(machine, options.device):
        return
    kind, free = _reach(machine, options.device)
    wanted = estimate(sizes, options.quantization, options.dtype, kind, machine.bfloat16)
    given_back = loaded.weight_bytes if loaded is not None and loaded.device.partition(":")[0] == kind else 0
    needs, room = _least(wanted, sizes), free + given_back
    if needs <= room:
        return
    smaller = (replace(options, quantization=setting) for setting in SETTINGS[1:])
    fitting = None
    if sizes.packing is None:
        estimates = [estimate(sizes, o.quantization, o.dtype, kind, machine.bfloat16) for o in smaller]
        fitting = next((tried for tried in estimates if _least(tried, sizes) <= room), None)
    raise DoesNotFit(
        f"{name} needs {gigabytes(needs)} in {setting_word(wanted)}; {gigabytes(room)} of memory is free.",
        f"Use --quantization {fitting.quantization}: that needs {gigabytes(_least(fitting, sizes))}."
        if fitting
        else "Pick a smaller model: `vlmchat show MODEL` says what fits.",
    )


def setting_word(taken: Estimate) -> str:
    """Return a setting as the sentence names it: ``bf16``, ``4-bit``, ``its packed form``."""
    if taken.quantization in ("8-bit", "4-bit"):
        return taken.quantization
    dtype = SHORT_DTYPES[taken.dtype]
    return {"packed": "its packed form", "unpacked": f"{dtype}, unpacked"}.get(taken.quantization, dtype)


def gigabytes(count: int) -> str:
    """Return bytes as decimal gigabytes: ``8.1 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 50_000_000 else f"{count / 1e6:.0f} MB"


def _least(taken: Estimate, sizes: Sizes) -> int:
    """Return the bytes without which not one picture can be asked about."""
    return taken.needs(_least_tokens(taken, sizes), 1)


def _least_tokens(taken: Estimate, sizes: Sizes) -> int:
    wanted = taken.picture_tokens + QUESTION_TOKENS
    return min(wanted, sizes.context_tokens or wanted)


def _places(machine: Machine) -> Iterator[Place]:
    """Yield the places ``--device auto`` would use, the fastest first."""
    if machine.unified:
        yield Place("mps", "shared", _host(machine), machine.memory_free)
        return
    for gpu in sorted(machine.gpus, key=lambda gpu: -gpu.free)[:1]:
        yield Place("cuda", "gpu", max(gpu.free - LIBRARIES, 0), gpu.free, 1)
    together = sum(max(gpu.free - LIBRARIES, 0) for gpu in machine.gpus)
    told = sum(gpu.free for gpu in machine.gpus)
    if len(machine.gpus) > 1:
        yield Place("cuda", "gpus", together, told, len(machine.gpus))
    if machine.gpus:
        yield Place("cuda", "split", together + _host(machine), told + machine.memory_free, len(machine.gpus))
    else:
        yield Place("cpu", "memory", _host(machine), machine.memory_free)


def _host(machine: Machine) -> int:
    return max(machine.memory_free - LIBRARIES, 0)


def _is_seen(machine: Machine, device: str) -> bool:
    """Say whether the memory of ``device`` is known; of a GPU that is not there the engine says just that."""
    name, _, number = device.partition(":")
    return name != "cuda" or any(gpu.number == int(number or 0) for gpu in machine.gpus)


def _reach(machine: Machine, device: str) -> tuple[Kind, int]:
    """Return the kind of ``device`` and the most that a load on it can fill, disk included where it is used."""
    name, _, number = device.partition(":")
    if name == "auto":
        name = "mps" if machine.unified else "cuda" if machine.gpus else "cpu"
        if name == "cuda":
            # What fits nowhere else is kept on disk (engine/spread.py).
            return "cuda", sum(gpu.free for gpu in machine.gpus) + machine.memory_free + machine.disk_free
    if name == "cuda":
        return "cuda", sum(gpu.free for gpu in machine.gpus if gpu.number == int(number or 0))
    return ("mps" if name == "mps" else "cpu"), machine.memory_free


def _best_room(sizes: Sizes, machine: Machine, setting: Quantization) -> Room:
    """Return the first place where ``setting`` fits, else the one where least is missing."""
    rooms = [_room(sizes, place, setting, machine) for place in _places(machine)]
    return next((room for room in rooms if not room.lacks), min(rooms, key=lambda room: room.lacks))


def _room(sizes: Sizes, place: Place, setting: Quantization, machine: Machine) -> Room:
    taken = estimate(sizes, setting, "auto", place.kind, machine.bfloat16)
    needs = _least(taken, sizes)
    if needs > place.free:
        return Room(taken, place, needs, needs - place.free, 0, 0)
    left = place.free - taken.needs(0, 1)
    total = min(left // taken.per_token, sizes.context_tokens or left)
    pictures = max(total // _PICTURE_SHARE // taken.picture_tokens, 1) if taken.picture_tokens else 0
    pictures = min(pictures, sizes.pictures.most or pictures)
    return Room(taken, place, needs, 0, pictures, max(total - pictures * taken.picture_tokens, 0))


def _sentence(fit: Fit) -> str:
    """Say which setting fits where with how much room, and what the most exact one would need."""
    best, exact = fit.best, fit.rooms[0]
    if best.lacks:
        return (
            f"does not fit {best.place.label}: in {setting_word(best.estimate)} "
            f"it would need {gigabytes(best.lacks)} more"
        )
    count = f"{best.pictures} {fit.medium}{'s' * (best.pictures != 1)}"
    text = f"fits in {setting_word(best.estimate)} {best.place.label}, with room for {count} and {tokens(best.tokens)}"
    if exact is best:
        return text
    if exact.lacks:
        return f"{text}; in {setting_word(exact.estimate)} it would need {gigabytes(exact.lacks)} more"
    return f"{text}; in {setting_word(exact.estimate)} {exact.place.label}"


def tokens(count: int) -> str:
    """Return a number of tokens as people say it: ``6k tokens``, ``700 tokens``."""
    return f"{count // 1000}k tokens" if count >= 1000 else f"{count // 100 * 100} tokens"
