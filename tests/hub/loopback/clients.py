"""The official clients, pointed at a loopback hub and at the caches of this test."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hub.loopback.hub import Hub
from vlmchat.hub.local import huggingface_cache, modelscope_cache


def huggingface_snapshot(hub: Hub, repository: str, revision: str | None = None, token: str = "") -> Path:
    """Fetch a repository with huggingface_hub into the cache of this test; what is there is not fetched."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        repository, revision=revision, endpoint=hub.endpoint, cache_dir=huggingface_cache(), token=token or False
    )
    return Path(str(folder))


def modelscope_snapshot(hub: Hub, repository: str, revision: str | None = None, token: str = "") -> Path:
    """Fetch a repository with modelscope-hub into the cache of this test; what is there is hashed, not fetched."""
    from modelscope_hub import HubApi
    from modelscope_hub.config import HubConfig

    home = Path(os.environ["VLMCHAT_HOME"]) / "modelscope-home"
    config = HubConfig(endpoint=hub.endpoint, cache_dir=modelscope_cache(), config_dir=home, token=token)
    return HubApi(config=config).download_repo(repository, "model", revision=revision)
