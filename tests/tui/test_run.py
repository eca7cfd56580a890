"""``run``: which model and theme the app begins with, and how it ends."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.fakes import ScriptedEngine
from vlmchat.errors import UsageError
from vlmchat.paths import places
from vlmchat.settings import Settings
from vlmchat.tui.app import VlmchatApp, run
from vlmchat.tui.desk import Desk
from vlmchat.tui.memory import Memory


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VlmchatApp]:
    """Return a function that calls ``run`` without a terminal and returns the app it would have shown."""

    def begin(settings: Settings, **given: str) -> VlmchatApp:
        shown: list[VlmchatApp] = []
        monkeypatch.setattr(VlmchatApp, "run", lambda app: shown.append(app))
        assert run(settings, engine=ScriptedEngine(), **given) == 0  # type: ignore[arg-type]
        return shown[0]

    return begin


def test_the_model_given_wins_over_the_one_chosen_last(begun: Callable[..., VlmchatApp]) -> None:
    assert begun(Settings()).desk.reference == "demo"
    Memory(places().state, model="internvl2:1b").write()
    assert begun(Settings()).desk.reference == "internvl2:1b"
    assert begun(Settings(model="ovis2:1b", sources={"model": "--model"})).desk.reference == "ovis2:1b"
    assert begun(Settings(), model="ovis2:2b").desk.reference == "ovis2:2b"


def test_the_theme_of_the_settings_wins(begun: Callable[..., VlmchatApp]) -> None:
    Memory(places().state, theme="fjord").write()
    assert begun(Settings()).theme == "fjord"
    assert begun(Settings(theme="paper")).theme == "paper"


def test_a_dumb_terminal_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(UsageError, match="TERM=dumb"):
        run(Settings())


def test_what_cannot_be_interrupted_does_not_keep_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(VlmchatApp, "run", lambda app: 0)
    monkeypatch.setattr(Desk, "close", lambda desk: False)
    monkeypatch.setattr(os, "_exit", left.append)
    run(Settings())
    assert left == [0]
