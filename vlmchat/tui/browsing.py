"""Which models the list shows, in which order and under which headings. Reads folders; never the network, never torch.

Meant for a thread, but for :func:`arrange`, which only sorts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import ModelSpec
from vlmchat.chat.shelf import Offer, offer, offers
from vlmchat.hub.local import State, inspect, look
from vlmchat.paths import user_path
from vlmchat.settings import Hub
from vlmchat.tui.text import say

if TYPE_CHECKING:
    from vlmchat.engine.machine import Machine
    from vlmchat.engine.verdict import Fit, Room

Order: TypeAlias = Literal["family", "fit", "disk", "context", "state"]
ORDERS: tuple[Order, ...] = ("family", "fit", "disk", "context", "state")
"""As one key goes through them."""
_PATH = ("/", "./", "../", "~")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./+-]+)?", re.ASCII)
_STATES: tuple[State, ...] = ("installed", "partial", "missing")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model as the list shows it."""

    reference: str
    """What is handed to the engine's opening: a catalog name, a hub id or a path."""
    spec: ModelSpec | None
    """Its catalog row; None for a folder and for a hub id outside the catalog."""
    here: bool
    """Whole and on this machine."""
    hint: str = ""
    """How to get it when it is not, and why it cannot be had."""
    state: State = "missing"
    bytes: int = 0
    """On disk."""
    fetchable: bool = False
    """A hub may have it, and this version can run it."""
    folder: Path | None = None
    fit: Fit | None = None
    """How it fits on this machine; None while nobody has looked, or where too little is known."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What the rows below have in common."""

    words: str


Line: TypeAlias = ModelRow | Heading


def catalog_rows(hub: Hub) -> tuple[ModelRow, ...]:
    """Read the catalog and look which of its models are installed."""
    return tuple(map(_row, offers(hub=hub)))


def typed_row(words: str, hub: Hub) -> ModelRow | None:
    """Return what was typed as a row of its own: the path of a folder, or ``OWNER/NAME[@revision]`` of a hub."""
    if words.startswith(_PATH):
        return _folder(words)
    if not _HUB_ID.fullmatch(words):
        return None
    repository, _, revision = words.partition("@")
    spec = catalog().find(repository)
    if spec is not None and not revision:
        return _row(offer(spec, hub))
    local = look(repository, repository, hub, revision)
    here = local.state == "installed"
    return ModelRow(words, None, here, "", local.state, local.bytes, fetchable=not here, folder=local.folder)


def recent_rows(references: Sequence[str], hub: Hub) -> tuple[ModelRow, ...]:
    """Return the models used last that the catalog does not have and that are still on this machine."""
    found = (typed_row(reference, hub) for reference in references)
    return tuple(row for row in found if row is not None and row.here)


def judged(rows: Iterable[ModelRow], machine: Machine) -> tuple[ModelRow, ...]:
    """Return ``rows`` with how each fits on ``machine``."""
    return tuple(replace(row, fit=_fit(row, machine)) for row in rows)


def matching(rows: Sequence[ModelRow], words: str) -> list[ModelRow]:
    """Return the rows with all ``words`` in them; where there are none, those with their letters in this order."""
    exact = [row for row in rows if row.spec is not None and row.spec.matches(words)]
    return exact or [row for row in rows if row.spec is not None and row.spec.resembles(words)]


def arrange(rows: Sequence[ModelRow], order: Order, recent: Sequence[str]) -> list[Line]:
    """Sort ``rows``; by family they stand under headings, those used last on top."""
    if order != "family":
        return sorted(rows, key=partial(_rank, order))
    known = {row.reference: row for row in rows}
    last = [known.pop(name) for name in recent if name in known]
    lines: list[Line] = [Heading(say("models.recent")), *last] if last else []
    family = None
    for row in known.values():
        if _family(row) != family:
            family = _family(row)
            lines.append(Heading(family))
        lines.append(row)
    return lines


def best_room(fit: Fit) -> Room | None:
    """Return the most exact setting that fits without being slow, else the most exact one that fits."""
    return None if fit.best.lacks else fit.best


def _row(found: Offer) -> ModelRow:
    spec, local = found.spec, found.local
    on_hub = spec.huggingface is not None or spec.modelscope is not None
    fetchable = found.runs and on_hub and spec.folder is None and not found.ready
    hint = found.how if found.runs else say("models.later", name=spec.title)
    return ModelRow(spec.name, spec, found.ready, hint, local.state, local.bytes, fetchable, local.folder)


def _folder(words: str) -> ModelRow | None:
    """Return the folder that was typed, if it is one."""
    try:
        path = user_path(words)
        if not path.is_dir():
            return None
    except (OSError, RuntimeError, ValueError):
        return None
    return ModelRow(str(path), None, here=True, state="installed", bytes=inspect(path).bytes, folder=path)


def _fit(row: ModelRow, machine: Machine) -> Fit | None:
    # Late: what counts memory is of no use to the first frame.
    from vlmchat.chat.capacity import fit_of, fit_of_folder

    if row.spec is not None:
        return fit_of(offer(row.spec), machine)
    return fit_of_folder(row.folder, machine) if row.folder is not None else None


def _family(row: ModelRow) -> str:
    return row.reference.partition(":")[0] if row.spec is not None else say("models.other")


def _rank(order: Order, row: ModelRow) -> tuple[float, str]:
    """Return the place of ``row`` in ``order``: what a user looks for first comes first."""
    spec = row.spec
    size = (spec.bytes if spec is not None else None) or row.bytes
    if order == "disk":
        return size, row.reference
    if order == "context":
        return -((spec.context_tokens if spec is not None else None) or 0), row.reference
    if order == "state":
        return _STATES.index(row.state), row.reference
    room = best_room(row.fit) if row.fit is not None else None
    unfit = 2.0 if row.fit is None else 1.0 if room is None or room.place.slow else 0.0
    return unfit * 1e15 - size * (1 if not unfit else -1), row.reference
