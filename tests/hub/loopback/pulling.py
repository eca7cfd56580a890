"""Downloading from loopback hubs and judging what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as CancelEvent
from typing import Any, TypeVar

from tests.hub.loopback import MIB, HubFile, Hubs, noise
from tests.hub.loopback.clients import huggingface_snapshot, modelscope_snapshot
from vlmchat.errors import VlmchatError
from vlmchat.hub.download import Limits, download, make_plan
from vlmchat.hub.events import Done, DownloadEvent, Paused, Retrying
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.hub.plan import Wanted
from vlmchat.settings import Hub as HubChoice

REPOSITORY = "Own/Model-1B"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
SHARD = SHARDS[1]
"""The one that faults strike."""
INDEX = "model.safetensors.index.json"
QUICK = Limits(connect_s=2.0, read_s=0.5, attempts=4, backoff_s=0.02, floor_rate=100_000, floor_s=0.8)
E = TypeVar("E")


def checkpoint(shard_bytes: int = 3 * MIB) -> dict[str, bytes]:
    """Return the files of a model of three shards: all that a download takes, and nothing else."""
    weights = {name: noise(name, shard_bytes + position) for position, name in enumerate(SHARDS)}
    places = ", ".join(f'"layer{n}": "{name}"' for n, name in enumerate(SHARDS))
    return {
        "config.json": b'{"architectures": ["InternVLChatModel"], "padding": "%b"}' % (b"x" * 4000),
        "tokenizer.json": b'{"model": {}}' + b" " * 20_000,
        INDEX: b'{"weight_map": {%b}}' % places.encode(),
        **weights,
    }


@dataclass
class Pulled:
    """How one download went."""

    events: list[DownloadEvent] = field(default_factory=list)
    error: VlmchatError | None = None

    @property
    def done(self) -> Done:
        """The last event, of a download that succeeded."""
        assert self.error is None, f"{type(self.error).__name__}: {self.error}"
        last = self.events[-1]
        assert isinstance(last, Done), last
        return last

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def interruptions(self) -> int:
        return len(self.of(Retrying))


def wanted(repository: str = REPOSITORY, revision: str = "") -> Wanted:
    """Want a repository that both hubs have under one name."""
    return Wanted(repository, repository, repository, revision)


def pull(
    hub: HubChoice = "auto",
    limits: Limits = QUICK,
    cancel: CancelEvent | None = None,
    seen: Callable[[DownloadEvent], Any] = lambda event: None,
    **what: Any,
) -> Pulled:
    """Plan and download; ``seen`` is shown every event. An error of ours is an outcome, any other one is raised."""
    pulled = Pulled()
    try:
        plan = make_plan(wanted(**what), hub, cancel=cancel, limits=limits)
        for event in download(plan, cancel, limits):
            pulled.events.append(event)
            seen(event)
    except VlmchatError as error:
        assert error.message.endswith("."), error.message
        assert error.hint, error.message
        assert "Signature" not in error.message + error.hint
        pulled.error = error
    return pulled


def paused(cancel_after: int, hubs: Hubs, hub: HubChoice = "auto", limits: Limits = QUICK) -> Pulled:
    """Download until the hubs have sent ``cancel_after`` bytes, then cancel."""
    cancel = CancelEvent()
    pulled = pull(hub, limits, cancel, lambda event: cancel.set() if hubs.bytes >= cancel_after else None)
    assert isinstance(pulled.events[-1], Paused), pulled
    return pulled


def adopted() -> Iterator[tuple[str, Path]]:
    """Yield every file that either official client would take for a whole one, by its path in the repository."""
    for snapshots in (*huggingface_cache().glob("models--*/snapshots"), *modelscope_cache().glob("models/*/snapshots")):
        for revision in snapshots.iterdir():
            for path in revision.rglob("*"):
                if path.is_file() and not path.name.endswith((".incomplete", ".lock", ".part")):
                    yield path.relative_to(revision).as_posix(), path


def assert_nothing_corrupt(*versions: Mapping[str, HubFile]) -> None:
    """See that what is in place is one of ``versions`` to the last bit, and each blob what its name says."""
    for name, path in adopted():
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        assert found in {files[name].sha256 for files in versions if name in files}, f"{path} is not what was published"
    for blob in huggingface_cache().glob("models--*/blobs/*"):
        data = blob.read_bytes()
        names = {hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
        assert blob.name in names or not blob.name.isalnum(), f"{blob} is not what its name says"


def assert_whole(hubs: Hubs, pulled: Pulled, files: Mapping[str, HubFile], **client: Any) -> None:
    """See that a download is complete, right, and taken by the hub's own client without another byte."""
    done = pulled.done
    for name, file in files.items():
        assert hashlib.sha256((done.folder / name).read_bytes()).hexdigest() == file.sha256, name
    assert_nothing_corrupt(files)
    assert done.bytes == sum(file.size for file in files.values())
    before = hubs.bytes
    hub, snapshot = {
        "huggingface": (hubs.huggingface, huggingface_snapshot),
        "modelscope": (hubs.modelscope, modelscope_snapshot),
    }[done.hub]
    hub.faults.clear()
    assert snapshot(hub, REPOSITORY, **client).resolve() == done.folder.resolve()
    assert hubs.bytes == before, "the official client fetched something again"


def assert_cost(hubs: Hubs, files: Mapping[str, HubFile], interruptions: int) -> None:
    """See that no more than 1 MiB was fetched twice for each stream that was interrupted."""
    extra = hubs.bytes - sum(file.size for file in files.values())
    assert extra <= interruptions * MIB, f"{extra} bytes more than needed after {interruptions} interruptions"
