"""Names in the files -> parameters of the native class, by Transformers' own renaming.

Repositories written by older versions of Transformers carry older names. The renaming is Transformers' (the
mappings ``from_pretrained`` uses); placing, shapes, dtypes and the audit are the engine's, as for every family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from vlmchat.errors import CheckpointError
from vlmchat.families.mapping import Rule

HEAD = "lm_head.weight"
"""The output head; a checkpoint that ties it to the token embedding does not store it."""
_COMPUTED = re.compile(r"(?:^|\.)(?:rotary_emb\.inv_freq|position_ids)$")
"""Tables that older versions stored and that follow from the config."""


def stored_names(folder: Path) -> frozenset[str]:
    """Return the names of all tensors in the safetensors files of ``folder``.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    try:
        if index.exists():
            return frozenset(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        with safe_open(single, framework="pt") as file:
            return frozenset(file.keys())
    except FileNotFoundError as problem:
        raise CheckpointError(
            f"{folder.name} has no safetensors files.",
            "Fetch them, or convert its pickle files with Transformers' save_pretrained.",
        ) from problem
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as problem:
        raise CheckpointError(f"The weights of {folder.name} are damaged: {problem}.", "Fetch them again.") from problem


def renamed(module: Any, names: Collection[str]) -> dict[str, str]:
    """Return the parameter of ``module`` that each of ``names`` means, by the renaming of ``from_pretrained``.

    Args:
        module: the native model, on the meta device.
        names: of the tensors in the files.

    Raises:
        CheckpointError: the architecture converts tensors instead of renaming them.
    """
    conversions = get_model_conversion_mapping(module)
    if any(not isinstance(conversion, WeightRenaming) for conversion in conversions):
        raise CheckpointError("This architecture stores its weights in a layout that is not proven here.")
    wanted = module.state_dict()
    return {name: rename_source_key(name, conversions, [], module.base_model_prefix, wanted)[0] for name in names}


def rules(targets: Mapping[str, str], wanted: Collection[str]) -> Iterator[Rule]:
    """Yield one rule for each stored name.

    Args:
        targets: of :func:`renamed`.
        wanted: the network's parameters and persistent buffers.
    """
    for name, target in targets.items():
        if target not in wanted and _COMPUTED.search(target):
            yield Rule(re.escape(name), (), reason="a table that follows from the config")
        else:
            yield Rule(re.escape(name), (target,))
