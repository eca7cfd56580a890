"""From a model reference to a loaded model: catalog row -> local folder -> engine, as one event stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as CancelEvent

from vlmchat.catalog.index import catalog
from vlmchat.chat.shelf import Offer, fetch_command, offer
from vlmchat.engine.api import Engine
from vlmchat.engine.events import Loading
from vlmchat.errors import ModelError, NotInstalled, UnknownModel
from vlmchat.hub.events import DownloadEvent
from vlmchat.hub.local import look
from vlmchat.hub.plan import Wanted
from vlmchat.options import LoadOptions, Template, VisionOptions
from vlmchat.paths import user_path
from vlmchat.settings import Hub, Settings


@dataclass(frozen=True, slots=True)
class Target:
    """A model reference that was found on this machine."""

    name: str
    """As the user should see it: ``internvl2:1b``, ``demo``, or the folder's path."""
    folder: Path
    revision: str
    """Commit of a hub snapshot; empty for a plain folder."""
    template: Template | None = None
    """The prompt form its publisher runs it with, where its own config names another."""

    def vision(self, chosen: VisionOptions) -> VisionOptions:
        """Return what the user chose, and the publisher's prompt form where the user chose none."""
        return chosen if chosen.template is not None else replace(chosen, template=self.template)


def find(reference: str, hub: Hub = "auto") -> Target:
    """Resolve ``family:tag``, ``OWNER/NAME[@revision]`` or a folder to files on this machine.

    A name of the catalog comes first, then a folder, then the hubs' caches.

    Args:
        reference: what the user typed.
        hub: whose cache to look in; ``auto`` looks in both.

    Raises:
        UnknownModel: nothing of that name; the nearest names are in the hint.
        NotInstalled: known, but not here; the hint says how to get it.
        ModelError: known, but this version cannot run it.
    """
    name, at, revision = reference.strip().partition("@")
    spec = catalog().find(name)
    if spec is not None:
        return _from_offer(offer(spec, hub, revision), name + at + revision if revision else spec.name)
    folder = user_path(reference)
    if _is_folder(folder):
        return Target(str(folder), folder.resolve(), "")
    if _looks_like_path(reference):
        raise UnknownModel(f"There is no folder {reference}.", "Name a folder that holds a checkpoint.")
    if name.count("/") == 1:
        return _from_cache(name, revision, hub)
    raise _unknown(reference)


def wanted(reference: str, to_run: bool = True) -> Wanted:
    """Say what ``family:tag`` or ``OWNER/NAME[@revision]`` is on the hubs, whether it is here or not.

    Args:
        reference: what the user typed.
        to_run: refuse what this version could not run once it is here.

    Raises:
        UnknownModel: nothing of that name, or nothing that a hub has.
        ModelError: known, but this version cannot run it.
    """
    name, _, revision = reference.strip().partition("@")
    spec = catalog().find(name)
    if spec is None:
        if _looks_like_path(reference) or name.count("/") != 1:
            raise _unknown(reference)
        return Wanted(name, name, name, revision)
    if spec.huggingface is None and spec.modelscope is None:
        raise UnknownModel(f"{spec.name} is on no hub.", "There is nothing to download.")
    if to_run:
        _require_runnable(offer(spec))
    return Wanted.of(spec, revision)


def fetch(
    model: Wanted, hub: Hub = "auto", offline: bool = False, cancel: CancelEvent | None = None
) -> Iterator[DownloadEvent]:
    """Plan and download a model as one stream, for every front end.

    The first event is :class:`~vlmchat.hub.events.Planned`, and no byte of a file is asked for before the
    next one is: who wants the licence accepted, or a yes to the size, asks in between or closes the
    stream. The last event is ``Done``, or ``Paused`` once ``cancel`` was set.

    Raises:
        KeyboardInterrupt: ``cancel`` was set before there was a plan.
        VlmchatError: as :mod:`vlmchat.hub.download`.
    """
    # Late: the hubs' clients and their connections cost 0.3 CPU-seconds that no list needs.
    from vlmchat.hub.download import download, make_plan

    yield from download(make_plan(model, hub, offline, cancel), cancel)


def open_model(
    engine: Engine,
    target: Target,
    options: LoadOptions,
    cancel: CancelEvent | None = None,
    notice: Callable[[str], None] = lambda words: None,
) -> Iterator[Loading]:
    """Load ``target`` into ``engine``; as :meth:`vlmchat.engine.api.Engine.load`.

    Where the memory that it needs is held by a kept engine nobody uses, that one is ended first, and ``notice`` is
    told so in one sentence.

    Raises:
        DoesNotFit: it cannot fit on this machine, known before a byte of it is read.
    """
    # Late: lists and help never load anything.
    from vlmchat.chat.capacity import make_room

    if not engine.holds(target.folder, options):
        make_room(target.folder, target.name, options, engine.loaded, notice)
    yield from engine.load(target.folder, options, cancel)


def create_engine(interactive: bool = False, feature_cache: int = 0) -> Engine:
    """Return the real engine. Costs nothing until its first load: torch comes up on its own thread.

    Args:
        interactive: something is drawn beside it, so it should leave a core free.
        feature_cache: megabytes of picture features kept on disk; 0 keeps none.
    """
    # Late, so that lists and help never pay for the engine's imports.
    from vlmchat.engine.torch_engine import TorchEngine

    return TorchEngine(interactive, feature_cache * 10**6)


def engine_for(settings: Settings, notice: Callable[[str], None], interactive: bool = False) -> Engine:
    """Return the engine a user has chosen: in this process, or one that stays for a while (``keep``).

    Args:
        settings: ``keep`` and ``cold`` count.
        notice: told in one sentence where an engine should be kept and cannot.
        interactive: something is drawn beside it.
    """
    if not settings.keep_s:
        return create_engine(interactive=interactive, feature_cache=settings.feature_cache)
    # Late: most commands keep none.
    from vlmchat.engine.remote import KeptEngine

    features = settings.feature_cache
    return KeptEngine(settings.keep_s, features * 10**6, lambda: create_engine(interactive, features), notice)


def _from_offer(found: Offer, name: str) -> Target:
    local, title = found.local, found.spec.title
    _require_runnable(found)
    if local.state == "partial":
        raise NotInstalled(f"{title} is only partly on this machine: {', '.join(local.missing)} missing.", found.how)
    if local.folder is None:
        raise NotInstalled(f"{title} is not on this machine.", found.how)
    return Target(name, local.folder, local.revision, found.spec.template)


def _from_cache(repository: str, revision: str, hub: Hub) -> Target:
    local = look(repository, repository, hub, revision)
    if local.folder is None or local.state != "installed":
        raise NotInstalled(
            f"{repository} is not in the catalog and not on this machine.",
            f"Get it with: {fetch_command(f'{repository}@{revision}' if revision else repository)}",
        )
    return Target(f"{repository}@{revision}" if revision else repository, local.folder, local.revision)


def _require_runnable(found: Offer) -> None:
    if not found.runs:
        raise ModelError(
            f"This version of vlmchat cannot run {found.spec.title} yet.", "`vlmchat models` shows which ones it can."
        )


def _unknown(reference: str) -> UnknownModel:
    nearest = catalog().nearest(reference.partition("@")[0])
    return UnknownModel(
        f"There is no model {reference!r}.",
        f"Did you mean {' or '.join(nearest)}?" if nearest else "`vlmchat models` lists them.",
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _looks_like_path(reference: str) -> bool:
    return reference.startswith((".", "~", os.sep)) or reference.endswith(os.sep) or reference.count("/") > 1
