"""Will a model fit here: catalog rows and folders counted from their configs, beside this machine.

For ``vlmchat show``, for the app's picker, and before a load. None where a config does not say enough.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlmchat.chat.shelf import Offer
from vlmchat.engine.machine import Machine, look
from vlmchat.engine.verdict import SETTINGS, Fit, judge, refuse_too_large
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


def _sizes_of_row(found: Offer) -> Sizes | None:
    sizes = sizes_of(found.spec.config)
    return None if sizes is None else replace(sizes, context_tokens=found.spec.context_tokens)
