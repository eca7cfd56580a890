"""One model over several devices: which part goes where, and what carries data between the parts.

Used when ``--device auto`` finds a model larger than the free memory of one GPU. Accelerate decides
the split (whole blocks only: a residual must not cross devices inside one) and its hooks move the
data. What fits on no GPU stays on the CPU, mapped from its file where the dtype allows it, and is
brought to the GPU layer by layer; what does not fit there either goes to disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_max_memory
from torch import nn

HEADROOM = 0.9
"""Share of a device's free memory that weights may take; the rest is for the KV cache and activations."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where each part of a model lives: module name -> device number, ``cpu`` or ``disk``."""

    parts: Mapping[str, int | str]

    @property
    def main(self) -> torch.device:
        """The device of the inputs: the first GPU, or the CPU where none is used."""
        numbers = [place for place in self.parts.values() if isinstance(place, int)]
        return torch.device("cuda", min(numbers)) if numbers else torch.device("cpu")

    def device_of(self, parameter: str) -> torch.device:
        """Return where the weights of ``parameter`` are put while loading: its GPU, or the CPU."""
        name = parameter
        while name and name not in self.parts:
            name = name.rpartition(".")[0]
        place = self.parts.get(name, "cpu")
        return torch.device("cuda", place) if isinstance(place, int) else torch.device("cpu")

    def connect(self, module: nn.Module, cache: Path) -> TemporaryDirectory[str] | None:
        """Install the hooks that move data between the parts.

        Returns the folder in ``cache`` that holds the parts on ``disk``, one for each load, because
        Accelerate would take an index it finds there for its own; it goes with its last reference.
        None when nothing is on disk.
        """
        folder: TemporaryDirectory[str] | None = None
        if "disk" in self.parts.values():
            cache.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(prefix="offload-", dir=cache, ignore_cleanup_errors=True)
        dispatch_model(
            module,
            dict(self.parts),
            main_device=self.main,
            offload_dir=folder.name if folder else None,
            skip_keys="past_key_values",
            force_hooks=True,
        )
        return folder


def plan_spread(module: nn.Module, dtype: torch.dtype, memory: Mapping[int | str, int] | None = None) -> Spread | None:
    """Split ``module`` (on the meta device) over the devices, None when it fits on one.

    Args:
        module: the network; its classes name the blocks that stay whole (``_no_split_modules``).
        dtype: of the weights once loaded.
        memory: bytes per device number, and of ``cpu``; the free memory of this machine by default.
    """
    budget = {
        place: int(size * HEADROOM) if place != "cpu" else size for place, size in (memory or get_max_memory()).items()
    }
    parts = infer_auto_device_map(
        module, max_memory=dict(budget), no_split_module_classes=sorted(whole_blocks(module)), dtype=dtype
    )
    places = {str(place) for place in parts.values()}
    return Spread(parts) if len(places) > 1 or "disk" in places else None


def whole_blocks(module: nn.Module) -> set[str]:
    """Return the class names of blocks that hold a residual, as the classes themselves declare them."""
    names: set[str] = set()
    for part in module.modules():
        names |= set(getattr(part, "_no_split_modules", None) or ())
    return names
