"""A local folder -> a model on its device, every tensor of the files accounted for.

Only JSON and safetensors are read; nothing in the folder is executed. Files are mapped, not read:
a tensor that keeps its dtype and stays on the CPU is never copied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from vlmchat.engine.api import LoadedModel
from vlmchat.engine.device import choose_device, choose_dtype, memory_guard
from vlmchat.engine.events import Loading
from vlmchat.errors import CheckpointError
from vlmchat.families.family import Checkpoint, Network
from vlmchat.families.mapping import Placement, plan
from vlmchat.families.registry import open_checkpoint
from vlmchat.options import LoadOptions

PROGRESS_BYTES = 64 * 1024**2
"""A progress event per this many bytes of weights."""
_FLOATS = {"F64", "F32", "F16", "BF16"}


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded checkpoint, ready to compute."""

    checkpoint: Checkpoint
    network: Network
    device: torch.device
    dtype: torch.dtype
    about: LoadedModel


@dataclass(frozen=True, slots=True)
class _Stored:
    """One tensor of one file."""

    file: int
    shape: torch.Size
    dtype: str
    bytes: int


def load(folder: Path, options: LoadOptions, stopped: Callable[[], bool]) -> Generator[Loading, None, Model | None]:
    """Load ``folder``; yields progress and returns the model, or None when ``stopped`` said so.

    Raises:
        CheckpointError: see :mod:`vlmchat.families.mapping`; also files missing or cut short.
        OutOfMemory: the weights do not fit.
    """
    yield Loading("config")
    checkpoint = open_checkpoint(folder)
    device = choose_device(options.device)
    dtype = choose_dtype(options, checkpoint.dtype, device)
    network = checkpoint.build()
    with ExitStack() as stack:
        files = weight_files(folder)
        handles = [stack.enter_context(_open(file)) for file in files]
        stored = _headers(handles, files)
        shapes = {name: entry.shape for name, entry in stored.items()}
        placements = plan(shapes, checkpoint.rules(), _wanted(network.module))
        total = sum(entry.bytes for entry in stored.values())
        done = since = 0
        yield Loading("weights", 0, total, 1, len(files))
        for placement in sorted(placements, key=lambda placement: stored[placement.source].file):
            if stopped():
                return None
            entry = stored[placement.source]
            with memory_guard("loading the weights"):
                _place(network.module, placement, handles[entry.file], device, dtype)
            done += entry.bytes
            since += entry.bytes
            if since >= PROGRESS_BYTES or done == total:
                since = 0
                yield Loading("weights", done, total, entry.file + 1, len(files))
    yield Loading("audit")
    held = _audit(network.module, device)
    about = _describe(checkpoint, options, device, dtype, held, _fingerprint(folder, stored))
    return Model(checkpoint, network, device, dtype, about)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of ``folder`` in the order of its index.

    Raises:
        CheckpointError: there are none, or one that the index names is missing.
    """
    single = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
            raise CheckpointError(f"{index.name} cannot be used: {problem}.", "Fetch it again.") from problem
        # An index may name files only beside itself, never a path that leaves the folder.
        files = [folder / Path(str(name)).name for name in names]
    else:
        files = [single]
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"{folder.name} is incomplete: it lacks {', '.join(missing)}.", "Fetch the missing files."
        )
    return files


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt", device="cpu")
    except (SafetensorError, OSError) as problem:
        raise CheckpointError(f"{file.name} is damaged or cut short: {problem}.", "Fetch the file again.") from problem


def _headers(handles: list[Any], files: list[Path]) -> dict[str, _Stored]:
    """Read names, shapes and dtypes; refuse a name that two files hold and a dtype that is no weight."""
    stored: dict[str, _Stored] = {}
    for number, handle in enumerate(handles):
        for name in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            part = handle.get_slice(name)
            shape, dtype = torch.Size(part.get_shape()), part.get_dtype()
            if name in stored:
                raise CheckpointError(
                    f"{name} is in {files[stored[name].file].name} and in {files[number].name}.",
                    "Remove the file that does not belong to this checkpoint.",
                )
            if dtype not in _FLOATS:
                raise CheckpointError(
                    f"{name} is stored as {dtype}, not as floating point.", "Fetch the checkpoint again."
                )
            size = {"F64": 8, "F32": 4}.get(dtype, 2)
            stored[name] = _Stored(number, shape, dtype, shape.numel() * size)
    return stored


def _wanted(module: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of all parameters and persistent buffers: what the files must fill."""
    return {name: tensor.shape for name, tensor in module.state_dict(keep_vars=True).items()}


def _place(module: nn.Module, placement: Placement, handle: Any, device: torch.device, dtype: torch.dtype) -> None:
    parts = placement.split(handle.get_tensor(placement.source))
    for target, part in zip(placement.targets, parts, strict=True):
        owner, _, leaf = target.rpartition(".")
        parameter = nn.Parameter(part.to(device=device, dtype=dtype), requires_grad=False)
        setattr(module.get_submodule(owner), leaf, parameter)


def _audit(module: nn.Module, device: torch.device) -> int:
    """Move what no file holds (rotary tables), prove that nothing is left empty, and count the bytes."""
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, buffer.to(device))
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise CheckpointError(f"Nothing was loaded for {', '.join(empty[:8])}.", "Please report this.")
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)


def _fingerprint(folder: Path, stored: dict[str, _Stored]) -> str:
    """Return the identity of a folder: its config.json, and names, shapes and dtypes of its tensors."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name, entry in sorted(stored.items()):
        digest.update(f"\n{name} {list(entry.shape)} {entry.dtype}".encode())
    return digest.hexdigest()


def _describe(
    checkpoint: Checkpoint, options: LoadOptions, device: torch.device, dtype: torch.dtype, held: int, print_: str
) -> LoadedModel:
    return LoadedModel(
        folder=checkpoint.folder,
        family=checkpoint.family,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        quantization=options.quantization,
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
