"""The whole journey in a real terminal: tmux, the embedded model, and the bytes an old terminal sends.

Nothing here knows the inside of the app: bytes go in, and what stands on the screen is looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux on this machine")
PATIENCE_S = 300.0
"""How long something may take to stand on the screen: torch comes up slowly on a busy machine."""
ENTER, ESC, CTRL_O, CTRL_Q, CTRL_R, CTRL_L, F7, F9 = (
    "0d",
    "1b",
    "0f",
    "11",
    "12",
    "0c",
    "1b 5b 31 38 7e",
    "1b 5b 32 30 7e",
)
DOWN = "1b 5b 42"


@dataclass
class Terminal:
    """One tmux server with one window in it."""

    socket: str
    home: Path
    size: tuple[int, int]

    def tmux(self, *words: str) -> str:
        """Run a tmux command and return what it prints."""
        done = subprocess.run(
            ["tmux", "-L", self.socket, "-f", os.devnull, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def start(self, *variables: str) -> None:
        """Open the app in a fresh window, with more environment ``variables``."""
        width, height = map(str, self.size)
        told = [f"VLMCHAT_HOME={self.home / 'home'}", "LANG=C.UTF-8", f"PYTHONPATH={ROOT}", "HF_HUB_OFFLINE=1"]
        # With this seed the hot answer is longer than 600 tokens; with others it may end before it is stopped.
        command = ["env", *told, "VLMCHAT_SEED=2", *variables, sys.executable, "-m", "vlmchat"]
        self.tmux("new-session", "-d", "-x", width, "-y", height, "-c", str(self.home), *command)
        self.tmux("set-option", "-g", "escape-time", "0")

    def screen(self) -> str:
        """Return what stands on the screen."""
        return self.tmux("capture-pane", "-p")

    def type(self, text: str) -> None:
        """Type ``text``."""
        self.tmux("send-keys", "-l", text)

    def press(self, *codes: str) -> None:
        """Send the bytes of each key, given in hexadecimal."""
        for code in codes:
            self.tmux("send-keys", "-H", *code.split())
            time.sleep(0.2)

    def see(self, words: str, count: int = 1) -> str:
        """Wait until ``words`` stand on the screen ``count`` times."""
        until = time.monotonic() + PATIENCE_S
        while (screen := self.screen()).count(words) < count:
            assert time.monotonic() < until, f"{words!r} never came:\n{screen}"
            time.sleep(0.1)
        return screen

    def gone(self, words: str) -> None:
        """Wait until ``words`` are no longer on the screen."""
        until = time.monotonic() + PATIENCE_S
        while words in (screen := self.screen()):
            assert time.monotonic() < until, f"{words!r} never went:\n{screen}"
            time.sleep(0.1)

    def ask(self, text: str) -> None:
        """Type a question and send it, the Enter once the text stands in the box."""
        self.type(text)
        self.see(text[-20:])
        self.press(ENTER)

    def ended(self) -> None:
        """Wait until the app has left."""
        until = time.monotonic() + PATIENCE_S
        while self.tmux("list-sessions"):
            assert time.monotonic() < until, f"the app is still there:\n{self.screen()}"
            time.sleep(0.1)


@pytest.fixture(params=[(80, 24), (120, 40)], ids=["80x24", "120x40"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(f"vlmchat-{os.getpid()}-{request.param[0]}", tmp_path, request.param)
    yield terminal
    terminal.tmux("kill-server")


def pick(terminal: Terminal) -> None:
    """Pick the embedded model from the list, by a part of its name; it is loaded again."""
    terminal.press(CTRL_L)
    terminal.see("in use")
    terminal.type("demo")
    terminal.gone("internvl2:1b")
    terminal.press(ENTER)
    terminal.gone("in use")
    terminal.see("ready")


def stop_and_go_on(terminal: Terminal) -> None:
    """Stop an answer, go on with it, and stop it again."""
    # Sampled as hot as it goes, the little model does not find its end, so that it can be stopped.
    terminal.press(F9)
    terminal.see("Temperature")
    terminal.press(DOWN, "7f", "7f", "7f")
    terminal.type("100")
    terminal.press(ENTER)
    terminal.see("new settings")
    terminal.ask("Go on for a while.")
    terminal.see("answering")
    terminal.press(ESC)
    terminal.see("· stopped")
    terminal.press(CTRL_R)
    terminal.gone("· stopped")
    terminal.see("answering")
    terminal.press(ESC)
    terminal.see("· stopped")
    terminal.see("ready")


def test_the_journey(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copy(ROOT / "screenshots" / "example.png", tmp_path / "shapes.png")
    terminal.start()
    assert "demo" in terminal.see("Ask about a picture")
    terminal.type("./shapes.png ")
    terminal.see("▣ shapes.png")
    terminal.ask("What is in this picture?")
    assert "tok/s" in terminal.see("finished")
    pick(terminal)
    terminal.ask("What colour is the star?")
    terminal.see("The star is yellow.")
    terminal.see("ready")
    stop_and_go_on(terminal)
    terminal.press(F7)
    terminal.see("Copy")
    terminal.press(ESC)
    terminal.ask("/export html")
    terminal.see("Written to")
    exported = next(tmp_path.glob("*.html")).read_text(encoding="utf-8")
    assert "data:image/png;base64," in exported
    assert "What colour is the star?" in exported
    terminal.press(CTRL_O)
    terminal.type("colour star")
    terminal.see("What is in this picture?")
    terminal.press(ESC)
    terminal.press(CTRL_Q)
    terminal.ended()
    terminal.start()
    terminal.see("Ask about a picture")
    terminal.press(CTRL_O)
    terminal.see("What is in this picture?")
    terminal.press(ENTER)
    terminal.see("· stopped")
    terminal.press(CTRL_Q)
    terminal.ended()
