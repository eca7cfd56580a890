"""Will a model fit here: catalog rows and folders counted from their configs, beside this machine.

For ``vlmchat show``, for the app's picker, and before a load. None where a config does not say enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlmchat.chat.shelf import Offer
from vlmchat.engine.machine import Machine, look
from vlmchat.engine.remote import end_kept, running
from vlmchat.engine.verdict import SETTINGS, Fit, judge, refuse_too_large
from vlmchat.errors import DoesNotFit
from vlmchat.families.sizes import Sizes, sizes_of, sizes_of_folder
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.options import LoadOptions
from vlmchat.settings import Hub

if TYPE_CHECKING:
    from vlmchat.engine.api import LoadedModel


def machine_now(hub: Hub = "auto") -> Machine:
    """Look at this machine, and at the disk that ``hub`` downloads to."""
    return look(modelscope_cache() if hub == "modelscope" else huggingface_cache())


def fit_of(found: Offer, machine: Machine) -> Fit | None:
    """Say how one row fits on ``machine``: by its own files where they are here, else by what the catalog knows."""
    folder = found.local.folder
    sizes = sizes_of_folder(folder) if folder is not None else None
    sizes = sizes or _sizes_of_row(found)
    if sizes is None:
        return None
    settings = [setting for setting in SETTINGS if setting in found.spec.quantizations]
    return judge(sizes, machine, settings or SETTINGS)


def fit_of_folder(folder: Path, machine: Machine) -> Fit | None:
    """Say how a checkpoint outside the catalog fits on ``machine``."""
    sizes = sizes_of_folder(folder)
    return None if sizes is None else judge(sizes, machine)


def refuse(folder: Path, name: str, options: LoadOptions, loaded: LoadedModel | None) -> None:
    """Refuse to load ``folder`` where that cannot succeed; ``loaded`` is in memory now and goes first.

    Raises:
        DoesNotFit: with the numbers, and the smaller setting that would fit.
    """
    sizes = sizes_of_folder(folder)
    if sizes is not None:
        refuse_too_large(sizes, machine_now(), options, name, loaded)


def make_room(
    folder: Path, name: str, options: LoadOptions, loaded: LoadedModel | None, notice: Callable[[str], None]
) -> None:
    """End the kept engine where only that lets ``folder`` be loaded, and nobody uses it; else as :func:`refuse`.

    Raises:
        DoesNotFit: it would not fit then either, or not even with the memory that came back.
    """
    try:
        refuse(folder, name, options, loaded)
    except DoesNotFit:
        idle = running()
        if idle is None or idle.loaded is None or idle.loaded == loaded or idle.clients:
            raise
        if not _fits(folder, name, options, idle.loaded):
            raise
        notice(f"The kept engine is ended: {name} needs its memory.")
        end_kept()
        refuse(folder, name, options, loaded)


def _fits(folder: Path, name: str, options: LoadOptions, given_back: LoadedModel) -> bool:
    try:
        refuse(folder, name, options, given_back)
    except DoesNotFit:
        return False
    return True


def _sizes_of_row(found: Offer) -> Sizes | None:
    sizes = sizes_of(found.spec.config)
    return None if sizes is None else replace(sizes, context_tokens=found.spec.context_tokens)
