"""A checkpoint that is here -> what there is to say for it: hashes, load audit, comparison, as one stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as CancelEvent
from typing import TypeAlias

from vlmchat.engine.events import Loading
from vlmchat.engine.findings import Finding, Refusal
from vlmchat.errors import CheckpointError, InputError
from vlmchat.hub.digests import FileCheck, Hashing, check_files
from vlmchat.options import LoadOptions

Verification: TypeAlias = Hashing | FileCheck | Finding
"""In this order: ``Hashing`` and ``FileCheck``, then ``Audit`` or ``Refusal``; with a reference folder and
without a refusal also ``Computing`` and, case by case, ``Comparing`` and ``Compared``."""


def verify(
    folder: Path, options: LoadOptions, reference: Path | None = None, cancel: CancelEvent | None = None
) -> Iterator[Verification]:
    """Check the checkpoint in ``folder``; ends early when ``cancel`` is set.

    Args:
        folder: in the layout of the hubs; nothing in it is executed.
        options: for the comparison. Dtype ``auto`` stands for float32, in which references are made.
        reference: a folder of numbers that the original code computed, to compare with.
        cancel: seen within a block of a file, a tensor or a token.

    Raises:
        CheckpointError: a file cannot be read. A checkpoint that is refused is a ``Refusal``.
        InputError: the reference folder is none.
        OutOfMemory: the comparison does not fit.
    """

    def stopped() -> bool:
        return cancel is not None and cancel.is_set()

    if reference is not None and not (reference / "cases.json").is_file():
        raise InputError(
            f"{reference} is no reference folder: it has no cases.json.",
            "Name a folder with cases.json, expected.safetensors and pictures.",
        )
    yield from check_files(folder, stopped)
    if stopped():
        return
    yield Loading("libraries")
    # Late: torch takes seconds, and hashes do not need it.
    from vlmchat.engine.reference import read_cases
    from vlmchat.engine.verify import audit, compare

    try:
        yield audit(folder)
        if reference is not None and not stopped():
            exact = replace(options, dtype="float32") if options.dtype == "auto" else options
            yield from compare(folder, exact, read_cases(reference), stopped)
    except CheckpointError as problem:
        yield Refusal(problem.message, problem.hint)
