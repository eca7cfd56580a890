"""Which families this version runs, by name; each is imported only when a folder asks for it.

Looking the table up costs nothing: no torch, no family. ``can_run`` answers for catalog rows.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmchat.errors import CheckpointError

if TYPE_CHECKING:
    from vlmchat.families.family import Checkpoint, Family

FAMILIES: Mapping[str, str] = {
    "internvl2": "vlmchat.families.internvl2.family",
    "cogvlm2": "vlmchat.families.cogvlm2.family",
    "ovis2": "vlmchat.families.ovis2.family",
    "generic": "vlmchat.families.generic.family",
}
"""Family name -> the module whose ``FAMILY`` fills the contract of ``families/family.py``; ``generic`` takes what is
left, so it stands last."""

_RUNS: frozenset[tuple[str, str]] = frozenset(
    {
        ("internvl2", "pytorch"),
        ("internvl2", "awq"),
        ("cogvlm2", "pytorch"),
        ("cogvlm2", "bnb"),
        ("ovis2", "pytorch"),
        ("ovis2", "gptq"),
        ("generic", "pytorch"),
    }
)
"""(family, checkpoint format) pairs whose numbers are proven: against golden fixtures, and ``generic`` against
Transformers itself."""


def can_run(family: str, checkpoint_format: str) -> bool:
    """Say whether this version can load checkpoints of ``family`` stored in ``checkpoint_format``."""
    return (family, checkpoint_format) in _RUNS


def load_family(name: str) -> Family:
    """Import one family; an ImportError inside it is let through, not taken for "not supported"."""
    family: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return family


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return the parsed file ``name`` of ``folder``.

    Raises:
        CheckpointError: there is none, or it is no JSON object.
    """
    path = folder / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no {name}.", "Name a folder in the layout of the model hubs."
        ) from problem
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path} cannot be read: {problem}.", "Fetch the file again.") from problem
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object.", "Fetch the file again.")
    return config


def open_checkpoint(folder: Path) -> Checkpoint:
    """Find the family of ``folder`` and let it read config and tokenizer.

    Raises:
        CheckpointError: no family of this version takes it.
    """
    config = read_config(folder)
    for name in FAMILIES:
        family = load_family(name)
        if family.claims(config):
            return family.open(folder, config)
    architectures = ", ".join(map(str, config.get("architectures") or ["no architecture"]))
    raise CheckpointError(
        f"{folder.name} is a checkpoint of {architectures}, which this version cannot run.",
        "`vlmchat models` lists what it runs.",
    )
