"""The app's tests run in a home of their own, with a cursor that does not blink."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from vlmchat.tui.widgets.prompt import PromptArea


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the developer's own chats, settings and drafts out, and the terminal's colours."""
    home = tmp_path / "home"
    monkeypatch.setenv("VLMCHAT_HOME", str(home))
    for name in ("NO_COLOR", "TEXTUAL_ANIMATIONS", "COLORTERM", "LC_ALL", "LC_MESSAGES", "LANG", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(PromptArea, "cursor_blink", False)
    monkeypatch.setattr(Input, "cursor_blink", False)
    return home
