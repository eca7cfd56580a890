"""Where things live."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmchat.paths import places, user_path


def test_home_moves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMCHAT_HOME", str(tmp_path))
    here = places()
    for path in (here.chats, here.blobs, here.settings, here.themes, here.catalog, here.cache, here.state):
        assert path.is_relative_to(tmp_path)


def test_without_it_the_platform_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLMCHAT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert "vlmchat" in str(places().chats)


def test_a_typed_path() -> None:
    assert user_path("~/x") == Path.home() / "x"
    assert user_path("~no-such-user/x") == Path("~no-such-user/x")
    assert user_path("a b") == Path("a b")
