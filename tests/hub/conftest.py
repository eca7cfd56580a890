"""A pair of loopback hubs for the tests of this room, and an environment that leads to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.loopback import HubFile, Hubs


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hubs]:
    """Both hubs, running and empty; this process and its children use them."""
    from huggingface_hub import constants
    from modelscope_hub import _legacy_api

    with Hubs(tmp_path / "on-the-hubs") as pair:
        for name, value in pair.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "modelscope-home"))
        # The client reads its environment once, on import, and any test may have imported it.
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        # ModelScope's asks four times for a list, 15 s each, with seconds between: a test need not wait as long.
        monkeypatch.setattr(_legacy_api, "API_CONNECT_TIMEOUT", 1)
        monkeypatch.setattr(_legacy_api, "REPO_TREE_PAGE_TIMEOUT_SECONDS", 1)
        monkeypatch.setattr(_legacy_api, "REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS", 0)
        yield pair


@pytest.fixture
def files(hubs: Hubs) -> dict[str, HubFile]:
    """The files of a model of three shards of 3 MiB, published on both hubs."""
    from tests.hub.loopback.pulling import REPOSITORY, checkpoint

    return hubs.publish(REPOSITORY, checkpoint())
