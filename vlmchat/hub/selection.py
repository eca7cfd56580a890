"""Which files of a repository a model needs: the weights once, its configs, its tokenizer. Never code.

Only the top of the repository is looked at: that is all the loader reads. Of two formats of the same
weights safetensors is taken, and of a sharded and a single file the one that an index speaks of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vlmchat.hub.source import RemoteFile

_CONFIGS = frozenset({".json", ".model", ".jinja", ".tiktoken"})
_VOCABULARIES = frozenset({"merges.txt", "vocab.txt"})
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.(safetensors|bin)")
_TRAINING = re.compile(r"(training_args|optimizer|scheduler|trainer_state|rng_state.*|global_step.*)\.(bin|json)")
"""What a Trainer leaves beside the weights."""


def needed(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files to fetch, configs first, then weights by name; empty of weights where there are none."""
    tops = [file for file in files if _is_plain(file.path) and not _TRAINING.fullmatch(file.path)]
    weights = _weights(tops)
    indexes = {_index_of(file.path) for file in weights}
    configs = [file for file in tops if _is_config(file.path, indexes)]
    return (*sorted(configs, key=lambda file: file.path), *weights)


def has_weights(files: Iterable[RemoteFile]) -> bool:
    """Say whether any of ``files`` holds weights."""
    return any(file.path.endswith((".safetensors", ".bin")) for file in files)


def _weights(files: list[RemoteFile]) -> list[RemoteFile]:
    for suffix in (".safetensors", ".bin"):
        of_format = sorted((file for file in files if file.path.endswith(suffix)), key=lambda file: file.path)
        names = {file.path for file in files}
        indexed = [file for file in of_format if _index_of(file.path) in names and _SHARD.fullmatch(file.path)]
        single = [file for file in of_format if file.path in {"model.safetensors", "pytorch_model.bin"}]
        if chosen := indexed or single or of_format:
            return chosen
    return []


def _index_of(name: str) -> str:
    shard = _SHARD.fullmatch(name)
    return f"{shard[1]}.{shard[2]}.index.json" if shard else ""


def _is_config(name: str, indexes: set[str]) -> bool:
    if name.endswith(".index.json"):
        return name in indexes
    return name in _VOCABULARIES or any(name.endswith(suffix) for suffix in _CONFIGS)


def _is_plain(path: str) -> bool:
    """Say whether a path of a hub is a mere file name: nothing a hub says may lead out of its folder."""
    return not path.startswith(".") and not set(path) & set("/\\:\0") and path.isprintable()
