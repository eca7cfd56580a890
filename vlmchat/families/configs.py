"""Reading config.json: what this program has no native code for is refused by name, before any weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError

from vlmchat.errors import CheckpointError
from vlmchat.families.family import Config

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
}  # fmt: skip
"""By the ``torch_dtype`` key."""
ValueT = TypeVar("ValueT")


@contextmanager
def reading() -> Iterator[None]:
    """Turn a missing key or a value of the wrong kind into a CheckpointError that names it."""
    try:
        yield
    except KeyError as problem:
        raise unusable(f"lacks the key {problem}") from problem
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, StrictDataclassError) as problem:
        raise unusable(f"has a value of the wrong kind: {problem}") from problem


def require(config: Config, key: str, *values: object) -> None:
    """Refuse any value of ``key`` but ``values``; a missing key counts as None."""
    if config.get(key) not in values:
        known = " or ".join(repr(value) for value in values if value is not None)
        raise unusable(f"has {key} {config.get(key)!r}; only {known} has native code")


def lookup(table: Mapping[str, ValueT], word: str, key: str) -> ValueT:
    """Return ``table[word]``, or refuse the value ``word`` of ``key``."""
    if word not in table:
        raise unusable(f"has {key} {word!r}; known are {', '.join(table)}")
    return table[word]


def unusable(what: str) -> CheckpointError:
    """Return the error for a config.json that ``what``."""
    return CheckpointError(f"The checkpoint's config.json {what}.", "Fetch config.json again, or pick another model.")
