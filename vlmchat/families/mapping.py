"""Names and shapes of a checkpoint's files -> parameters of a native network, every tensor accounted for.

A rule turns one original tensor into one or several parameters. The plan made from the rules is
checked before a byte of weights is read: each tensor is used exactly once or is a known leftover,
no parameter is left without a tensor, every shape agrees. What a file holds and no rule knows, or
what the network needs and no file has, is an error that names it, never a random initialisation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vlmchat.errors import CheckpointError

Split: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]
"""From one stored tensor to the parameters it holds; must also work on the meta device."""
_OTHER_SHAPE = "has tensors of another shape than its config says"
_NAMED = 8
"""Tensors that an error names before it counts the rest."""


def whole(tensor: Tensor) -> tuple[Tensor, ...]:
    """Keep the tensor as it is."""
    return (tensor,)


def thirds(tensor: Tensor) -> tuple[Tensor, ...]:
    """Cut a fused q/k/v projection [3 * hidden, …] into its three equal parts."""
    return tensor.chunk(3, dim=0)


@dataclass(frozen=True, slots=True)
class Rule:
    """Where the tensors whose name matches ``pattern`` belong."""

    pattern: str
    """Regular expression over the whole original name."""
    targets: tuple[str, ...]
    """Parameter names, with ``\\1`` … for the groups; none for a leftover that is not needed."""
    split: Split = whole
    as_stored: bool = False
    """Keep the stored dtype: packed integers, their scales, tables whose rounding matters."""
    reason: str = ""
    """Why a leftover is not needed; only for rules without targets."""
    shape: tuple[int, ...] | None = None
    """Shape that a leftover must have all the same; None for any."""
    needed: bool = False
    """A leftover that every complete checkpoint holds, so that its absence tells of missing files."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One stored tensor and the parameters it becomes."""

    source: str
    targets: tuple[str, ...]
    split: Split = whole
    as_stored: bool = False


def plan(stored: Mapping[str, torch.Size], rules: Sequence[Rule], wanted: Mapping[str, torch.Size]) -> list[Placement]:
    """Match every stored tensor with the parameters it becomes, in the order of ``stored``.

    Args:
        stored: shapes of the tensors in the files, by original name.
        rules: the family's rules; exactly one must match each stored name.
        wanted: shapes of the network's parameters and persistent buffers, by native name.

    Raises:
        CheckpointError: a tensor without a rule, a parameter without a tensor or with two, or a
            shape that differs; the message names the tensors.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    placements: list[Placement] = []
    unknown: list[str] = []
    leftovers: dict[str, Rule] = {}
    for name in stored:
        found = [(match, rule) for pattern, rule in compiled if (match := pattern.fullmatch(name))]
        if len(found) != 1:
            unknown.append(name)
            continue
        match, rule = found[0]
        targets = tuple(match.expand(target) for target in rule.targets)
        placements.append(Placement(name, targets, rule.split, rule.as_stored))
        if not targets:
            leftovers[name] = rule
    if unknown:
        raise _refused("has tensors this program does not know", unknown)
    _check_leftovers(leftovers, stored, rules)
    _check_coverage(placements, wanted)
    _check_shapes(placements, stored, wanted)
    return placements


def _check_leftovers(leftovers: Mapping[str, Rule], stored: Mapping[str, torch.Size], rules: Sequence[Rule]) -> None:
    if absent := [rule.pattern for rule in rules if rule.needed and rule not in leftovers.values()]:
        raise _refused("lacks tensors its config asks for", [pattern.replace("\\", "") for pattern in absent])
    wrong = [
        f"{name} {list(stored[name])} instead of {list(rule.shape)}"
        for name, rule in leftovers.items()
        if rule.shape is not None and stored[name] != rule.shape
    ]
    if wrong:
        raise _refused(_OTHER_SHAPE, wrong)


def _check_coverage(placements: Sequence[Placement], wanted: Mapping[str, torch.Size]) -> None:
    sources: dict[str, list[str]] = {}
    for placement in placements:
        for target in placement.targets:
            sources.setdefault(target, []).append(placement.source)
    if spare := [names[0] for target, names in sources.items() if target not in wanted]:
        raise _refused("has tensors its own config has no place for", spare)
    if twice := [name for names in sources.values() if len(names) > 1 for name in names]:
        raise _refused("holds the same parameter more than once", twice)
    if missing := [name for name in wanted if name not in sources]:
        raise _refused("lacks tensors its config asks for", missing)


def _check_shapes(
    placements: Sequence[Placement], stored: Mapping[str, torch.Size], wanted: Mapping[str, torch.Size]
) -> None:
    wrong: list[str] = []
    for placement in placements:
        parts = placement.split(torch.empty(stored[placement.source], device="meta"))
        shapes = [part.shape for part in parts]
        if placement.targets and shapes != [wanted[target] for target in placement.targets]:
            expected = " + ".join(str(list(wanted[target])) for target in placement.targets)
            wrong.append(f"{placement.source} {list(stored[placement.source])} instead of {expected}")
    if wrong:
        raise _refused(_OTHER_SHAPE, wrong)


def _refused(what: str, names: Sequence[str]) -> CheckpointError:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return CheckpointError(
        f"The checkpoint {what}: {', '.join(names[:_NAMED])}{more}.",
        "The files may be incomplete, altered or of another model; fetch them again.",
    )
