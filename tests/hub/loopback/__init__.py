"""Two hubs on 127.0.0.1 that speak Hugging Face's and ModelScope's protocols to the real clients, with faults to order.

Each hub has a CDN under another host name (``localhost``), to which it sends clients with signed links,
and a record of every request and of every byte that arrived. :class:`Hubs` is the pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hub.loopback.contents import MIB, HubFile, Repository, hub_file, noise
from tests.hub.loopback.faults import FOREVER, Fault, Faults, sign_in_page, status
from tests.hub.loopback.hub import Hub
from tests.hub.loopback.huggingface import huggingface
from tests.hub.loopback.modelscope import modelscope
from tests.hub.loopback.record import Exchange, Record
from vlmchat.hub.source import HubName

__all__ = [
    "FOREVER",
    "MIB",
    "Exchange",
    "Fault",
    "Faults",
    "Hub",
    "HubFile",
    "Hubs",
    "Record",
    "Repository",
    "hub_file",
    "huggingface",
    "modelscope",
    "noise",
    "sign_in_page",
    "status",
]


@dataclass
class Hubs:
    """Both hubs, and a folder where their files lie."""

    folder: Path
    huggingface: Hub = field(default_factory=huggingface)
    modelscope: Hub = field(default_factory=modelscope)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.huggingface.__enter__()
        self.modelscope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.huggingface.stop()
        self.modelscope.stop()

    @property
    def both(self) -> tuple[Hub, Hub]:
        return self.huggingface, self.modelscope

    def named(self, name: HubName) -> Hub:
        """Return one of them by the name vlmchat knows it by."""
        return self.huggingface if name == "huggingface" else self.modelscope

    def store(self, path: str, data: bytes, lfs: bool | None = None) -> HubFile:
        """Put one file where both hubs can send it from."""
        kept = self.folder / f"{len(list(self.folder.iterdir()))}-{path.replace('/', '-')}"
        kept.write_bytes(data)
        return hub_file(path, kept, lfs)

    def publish(self, repository: str, data: Mapping[str, bytes]) -> dict[str, HubFile]:
        """Publish the same files on both hubs."""
        files = {path: self.store(path, content) for path, content in data.items()}
        for hub in self.both:
            hub.publish(repository, files)
        return files

    @property
    def bytes(self) -> int:
        """Bytes of files that either hub sent."""
        return sum(hub.record.bytes() for hub in self.both)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be told to use these hubs and no others."""
        return {
            "HF_ENDPOINT": self.huggingface.endpoint,
            "MODELSCOPE_ENDPOINT": self.modelscope.endpoint,
            "HF_HUB_OFFLINE": "0",
        }
