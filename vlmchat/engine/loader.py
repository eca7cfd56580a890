"""A local folder -> a model on its device, every tensor of the files accounted for.

Nothing in the folder is executed (:mod:`vlmchat.engine.shards`). Files are mapped, not read: a
tensor that keeps its dtype and stays on the CPU is never copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vlmchat.engine.api import LoadedModel
from vlmchat.engine.device import choose_device, choose_dtype, memory_guard
from vlmchat.engine.events import Loading
from vlmchat.engine.quantize import QuantizedLinear, prepare
from vlmchat.engine.shards import Shard, Stored, open_shards, release_pages, stored_tensors
from vlmchat.engine.spread import Spread, plan_spread
from vlmchat.errors import CheckpointError
from vlmchat.families.family import Checkpoint, Network
from vlmchat.families.mapping import Placement, plan
from vlmchat.families.packed.base import PackedLinear
from vlmchat.families.registry import open_checkpoint
from vlmchat.options import LoadOptions
from vlmchat.paths import places

Home: TypeAlias = Callable[[str], torch.device]
"""Parameter name -> the device it is put on."""
PROGRESS_BYTES = 64 * 1024**2
"""A progress event per this many bytes of weights."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded checkpoint, ready to compute."""

    checkpoint: Checkpoint
    network: Network
    device: torch.device
    dtype: torch.dtype
    about: LoadedModel
    offload: TemporaryDirectory[str] | None = None
    """The parts that live on disk; the folder goes with the model."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A checkpoint whose every tensor has its place; no byte of weights is read yet."""

    checkpoint: Checkpoint
    network: Network
    """Parameters still on the meta device."""
    shards: dict[Path, Shard]
    """The weights files in order."""
    stored: dict[str, Stored]
    """All they hold, by original name."""
    placements: list[Placement]


def draw_up(folder: Path) -> Blueprint:
    """Read config, tokenizer and the headers of the weights files, and match every tensor with its place.

    Raises:
        CheckpointError: see :mod:`vlmchat.families.mapping`; also files missing or cut short.
    """
    checkpoint = open_checkpoint(folder)
    network = checkpoint.build()
    shards = {shard.path: shard for shard in open_shards(folder)}
    stored = stored_tensors(list(shards.values()))
    shapes = {name: entry.shape for name, entry in stored.items()}
    placements = plan(shapes, checkpoint.rules(), _wanted(network.module))
    _check_dtypes(placements, stored, network.module)
    return Blueprint(checkpoint, network, shards, stored, placements)


def check_packed_layers(drawn: Blueprint) -> None:
    """Map what is kept as stored and look at the description of each packed layer.

    Raises:
        CheckpointError: one does not fit its layer.
    """
    for placement in drawn.placements:
        if placement.as_stored and placement.targets:
            tensor = drawn.shards[drawn.stored[placement.source].file].read(placement.source)
            _place(drawn.network.module, placement, tensor, lambda name: torch.device("cpu"), tensor.dtype)
    _check_packed(drawn.network.module)


def load(folder: Path, options: LoadOptions, stopped: Callable[[], bool]) -> Generator[Loading, None, Model | None]:
    """Load ``folder``; yields progress and returns the model, or None when ``stopped`` said so.

    Raises:
        CheckpointError: see :mod:`vlmchat.families.mapping`; also files missing or cut short.
        OutOfMemory: the weights do not fit.
    """
    yield Loading("config")
    device = choose_device(options.device)
    drawn = draw_up(folder)
    checkpoint, network, shards, stored = drawn.checkpoint, drawn.network, drawn.shards, drawn.stored
    dtype = choose_dtype(options, checkpoint.dtype or _prevailing_dtype(stored), device)
    prepare(network, options.quantization, device)
    spread = _spread(options, network.module, device, dtype)
    home = spread.device_of if spread else lambda name: device
    total = sum(entry.bytes for entry in stored.values())
    order = list(shards)
    done = since = 0
    yield Loading("weights", 0, total, 1, len(order))
    for placement in sorted(drawn.placements, key=lambda placement: order.index(stored[placement.source].file)):
        if stopped():
            return None
        entry = stored[placement.source]
        with memory_guard("loading the weights"):
            if placement.targets:
                tensor = shards[entry.file].read(placement.source)
                if _place(network.module, placement, tensor, home, dtype):
                    release_pages(tensor)
        done += entry.bytes
        since += entry.bytes
        if since >= PROGRESS_BYTES or done == total:
            since = 0
            yield Loading("weights", done, total, order.index(entry.file) + 1, len(order))
    _check_packed(network.module)
    held_as = _held_as(network.module, options, device)
    if device.type == "cpu":
        yield from _unpack(network.module, dtype, total)
    yield Loading("audit")
    held = _audit(network.module, home)
    offload = spread.connect(network.module, places().cache) if spread else None
    about = _describe(checkpoint, held_as, device, dtype, held, fingerprint(folder, stored))
    return Model(checkpoint, network, device, dtype, about, offload)


def _spread(options: LoadOptions, module: nn.Module, device: torch.device, dtype: torch.dtype) -> Spread | None:
    """Split over several devices only where the user left the choice and a GPU is there."""
    if options.device != "auto" or device.type != "cuda":
        return None
    return plan_spread(module, dtype)


def _check_dtypes(placements: list[Placement], stored: dict[str, Stored], module: nn.Module) -> None:
    """Refuse integers where weights belong, and other integers than the network has for packed ones."""
    buffers = dict(module.named_buffers())
    for placement in placements:
        found = stored[placement.source].dtype
        kept = [buffers[target].dtype for target in placement.targets if placement.as_stored and target in buffers]
        packed = [dtype for dtype in kept if not dtype.is_floating_point]
        fits = found in packed if packed else found.is_floating_point
        if placement.targets and not fits:
            raise CheckpointError(
                f"{placement.source} is stored as {_word(found)}, "
                f"not as {_word(packed[0]) if packed else 'floating point'}.",
                "Fetch the checkpoint again.",
            )


def _prevailing_dtype(stored: dict[str, Stored]) -> torch.dtype:
    """Return the floating dtype that most bytes of the files have."""
    held: dict[torch.dtype, int] = {}
    for entry in stored.values():
        if entry.dtype.is_floating_point:
            held[entry.dtype] = held.get(entry.dtype, 0) + entry.bytes
    return max(held, key=lambda dtype: held[dtype], default=torch.float32)


def _check_packed(module: nn.Module) -> None:
    """Refuse packed layers whose own description does not fit them."""
    for name, layer in module.named_modules():
        if isinstance(layer, PackedLinear) and (flaw := layer.flaw()):
            raise CheckpointError(f"The packed layer {name} cannot be used: {flaw}.", "Fetch the checkpoint again.")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _wanted(module: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of all parameters and persistent buffers: what the files must fill."""
    return {name: tensor.shape for name, tensor in module.state_dict(keep_vars=True).items()}


def _place(module: nn.Module, placement: Placement, tensor: Tensor, home: Home, dtype: torch.dtype) -> bool:
    """Put the parts of ``tensor`` where they belong; says whether all of them were copied."""
    stored = tensor.untyped_storage().data_ptr()
    copied = True
    for target, part in zip(placement.targets, placement.split(tensor), strict=True):
        owner_name, _, leaf = target.rpartition(".")
        owner = module.get_submodule(owner_name)
        moved = part.to(home(target)) if placement.as_stored else part.to(home(target), dtype)
        if isinstance(owner, QuantizedLinear) and leaf == "weight":
            owner.take(moved)
            continue
        copied = copied and moved.untyped_storage().data_ptr() != stored
        if leaf in owner._buffers:
            owner._buffers[leaf] = moved
        else:
            setattr(owner, leaf, nn.Parameter(moved, requires_grad=False))
    return copied


def _unpack(module: nn.Module, dtype: torch.dtype, total: int) -> Iterator[Loading]:
    """Turn packed layers into ordinary ones, one at a time (why: families/packed/base.py)."""
    packed = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, PackedLinear)]
    for place, (name, layer) in enumerate(packed, 1):
        owner, _, leaf = name.rpartition(".")
        with memory_guard("unpacking the weights"):
            setattr(module.get_submodule(owner), leaf, layer.unpacked(dtype))
        yield Loading("unpacking", place * total // len(packed), total)


def _audit(module: nn.Module, home: Home) -> int:
    """Move what no file holds (rotary tables), prove that nothing is left empty, and count the bytes."""
    for prefix, owner in module.named_modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, buffer.to(home(f"{prefix}.{name}")))
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise CheckpointError(f"Nothing was loaded for {', '.join(empty[:8])}.", "Please report this.")
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)


def fingerprint(folder: Path, stored: dict[str, Stored]) -> str:
    """Return the identity of a folder as sha256: its config.json, and names, shapes and dtypes of its tensors."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name, entry in sorted(stored.items()):
        digest.update(f"\n{name} {list(entry.shape)} {entry.dtype}".encode())
    return digest.hexdigest()


def _held_as(module: nn.Module, options: LoadOptions, device: torch.device) -> str:
    """Say how the weights are held: a checkpoint that comes packed pays no heed to ``--quantization``."""
    if any(isinstance(layer, PackedLinear) for layer in module.modules()):
        return "unpacked" if device.type == "cpu" else "packed"
    return options.quantization


def _describe(
    checkpoint: Checkpoint, held_as: str, device: torch.device, dtype: torch.dtype, held: int, print_: str
) -> LoadedModel:
    return LoadedModel(
        folder=checkpoint.folder,
        family=checkpoint.family,
        device=str(device),
        dtype=_word(dtype),
        quantization=held_as,
        context_tokens=checkpoint.context_tokens,
        weight_bytes=held,
        kv_bytes_per_token=checkpoint.kv_elements_per_token * dtype.itemsize,
        fingerprint=print_,
    )


def load_now(folder: Path, options: LoadOptions | None = None) -> Model:
    """Load ``folder`` without progress: for tests, benchmarks and tools."""
    steps: Iterator[Loading] = load(folder, options or LoadOptions(), lambda: False)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            model: Model = end.value
            return model
