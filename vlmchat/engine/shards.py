"""Weights files: names and shapes first, tensors one by one, nothing executed.

Safetensors files are mapped. Pickle shards (the AWQ repositories ship nothing else) are read by
torch with ``weights_only``, which builds tensors and refuses everything else a pickle can do.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlmchat.errors import CheckpointError

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
"""(index, single file) of a hub folder, the better format first."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of one file."""

    file: Path
    shape: torch.Size
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size of the tensor as stored."""
        return self.shape.numel() * self.dtype.itemsize


class Shard(Protocol):
    """One open weights file."""

    path: Path

    def tensors(self) -> dict[str, Stored]:
        """Return what it holds, by name."""

    def read(self, name: str) -> Tensor:
        """Return one tensor on the CPU, mapped where the format allows it."""


class SafetensorsShard:
    """A mapped safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: Any = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError) as problem:
            raise _damaged(path, problem) from problem

    def tensors(self) -> dict[str, Stored]:
        """Read the header."""
        names = list(self._file.keys())
        parts = {name: self._file.get_slice(name) for name in names}
        return {
            name: Stored(self.path, torch.Size(part.get_shape()), _DTYPES[part.get_dtype()])
            for name, part in parts.items()
        }

    def read(self, name: str) -> Tensor:
        """Return a view of the mapped file."""
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


class PickleShard:
    """A ``pytorch_model*.bin`` file, unpickled as tensors only, its storages mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as problem:
            raise _damaged(path, problem) from problem
        if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
            raise CheckpointError(
                f"{path.name} holds more than tensors.", "It is no weights file of this model; fetch it again."
            )
        self._loaded: dict[str, Tensor] = loaded

    def tensors(self) -> dict[str, Stored]:
        """Return names, shapes and dtypes."""
        return {name: Stored(self.path, tensor.shape, tensor.dtype) for name, tensor in self._loaded.items()}

    def read(self, name: str) -> Tensor:
        """Return a view of the mapped file."""
        return self._loaded[name]


def release_pages(tensor: Tensor) -> None:
    """Let the system take back the pages of a mapped ``tensor`` that has been copied elsewhere.

    Without this a load that converts the dtype keeps the whole file in its resident memory beside
    the result: 1.5x of the target at bf16 to fp32 instead of 1.0x. The pages are those of a file,
    so a later access reads them again. Linux only; elsewhere, and to what a GPU holds, nothing happens.
    """
    if sys.platform != "linux" or tensor.device.type != "cpu":
        return
    page = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // page) * page
    end = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // page * page
    if end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def open_shards(folder: Path) -> list[Shard]:
    """Open the weights files of ``folder``, safetensors where there are any.

    Raises:
        CheckpointError: there are none, one that the index names is missing, or one is damaged.
    """
    return [
        SafetensorsShard(path) if path.suffix == ".safetensors" else PickleShard(path) for path in weight_files(folder)
    ]


def weight_files(folder: Path) -> list[Path]:
    """Return the weights files of ``folder`` in the order of their names.

    Calibration leftovers (``*_stats.pth`` in the AWQ repositories) are never among them: only
    what the index names, or the one file of the standard name.
    """
    for index_name, single in _LAYOUTS:
        if (folder / index_name).exists():
            names = _indexed(folder / index_name)
        elif (folder / single).exists():
            names = [single]
        else:
            continue
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise CheckpointError(
                f"{folder.name} is incomplete: it lacks {', '.join(missing)}.", "Fetch the missing files."
            )
        return [folder / name for name in names]
    raise CheckpointError(f"{folder.name} is incomplete: it lacks model.safetensors.", "Fetch the missing files.")


def stored_tensors(shards: list[Shard]) -> dict[str, Stored]:
    """Return everything the files hold, by name.

    Raises:
        CheckpointError: two files hold a tensor of the same name.
    """
    stored: dict[str, Stored] = {}
    for shard in shards:
        for name, entry in shard.tensors().items():
            if name in stored:
                raise CheckpointError(
                    f"{name} is in {stored[name].file.name} and in {shard.path.name}.",
                    "Remove the file that does not belong to this checkpoint.",
                )
            stored[name] = entry
    return stored


def _indexed(index: Path) -> list[str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        # An index names files beside itself, never a path that leaves the folder.
        return sorted({Path(str(name)).name for name in weight_map.values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
        raise CheckpointError(f"{index.name} cannot be used: {problem}.", "Fetch it again.") from problem


def _damaged(path: Path, problem: Exception) -> CheckpointError:
    reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return CheckpointError(f"{path.name} is damaged, cut short or unsafe: {reason}", "Fetch the file again.")
