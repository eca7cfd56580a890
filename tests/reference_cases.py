"""The golden fixtures of InternVL2, and checkpoints with altered weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from safetensors.torch import load_file, save_file
from torch import Tensor

from vlmchat.engine.reference import Case as Case
from vlmchat.engine.reference import read_cases

REFERENCE = Path(__file__).parent / "reference"
QWEN2 = REFERENCE / "internvl2" / "qwen2-vit300m"
INTERNVL2 = sorted(path.parent for path in (REFERENCE / "internvl2").glob("*/cases.json"))
"""One folder per language model, vision tower and weights format of the family."""

Tensors: TypeAlias = dict[str, Tensor]


def internvl2_cases(*folders: Path) -> list[Case]:
    """Return all cases of these InternVL2 fixtures; of the Qwen2 one when none is named."""
    return [case for folder in folders or (QWEN2,) for case in read_cases(folder)]


def rewrite_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Let ``change`` alter the tensors of a copied checkpoint's weights file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
