"""The first frame comes before anything heavy: looked at in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "numpy", "PIL", "modelscope", "huggingface_hub", "safetensors", "markdown_it")

PROBE = """
import json, resource, sys
from textual.app import App

def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

def watch(app, seen):
    display = app._display
    def shown(screen, renderable):
        display(screen, renderable)
        if renderable is not None and not seen:
            seen["cpu"] = spent()
            seen["heavy"] = [name for name in HEAVY if name in sys.modules]
            seen["text"] = "\\n".join(strip.text for strip in screen._compositor.render_strips())
            seen["focus"] = str(app.focused)
            app.call_later(app.exit)
    app._display = shown

HEAVY = json.loads(sys.argv[1])
seen = {}
if sys.argv[2] == "bare":
    from textual.widgets import Static
    class Bare(App):
        def compose(self):
            yield Static("bare")
    app = Bare()
else:
    from vlmchat.paths import places
    from vlmchat.settings import load_settings
    from vlmchat.store.chats import ChatStore
    from vlmchat.tui.app import VlmchatApp
    from vlmchat.tui.desk import Desk
    from vlmchat.tui.memory import Memory
    settings = load_settings()
    app = VlmchatApp(Desk(settings, ChatStore(), settings.model), Memory.read(places().state))
watch(app, seen)
app.run(headless=True, size=(120, 40))
print(json.dumps(seen))
sys.stdout.flush()
import os; os._exit(0)
"""


def first_frame(kind: str, home: Path) -> dict[str, object]:
    """Start an app in a fresh interpreter and return what its first frame was and cost."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(HEAVY), kind],
        env={**os.environ, "VLMCHAT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(result, dict)
    return result


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module counts CPU-seconds on POSIX only")
def test_first_frame_is_complete_before_anything_heavy(tmp_path: Path) -> None:
    """What it costs is printed, not asserted; ``tests.bench.bench_app`` measures it beside its peers."""
    frame, bare = first_frame("ours", tmp_path), first_frame("bare", tmp_path)
    print(f"  first frame: {frame['cpu']:.3f} CPU-s, of a bare Textual app {bare['cpu']:.3f}")
    assert frame["heavy"] == []
    assert "demo" in str(frame["text"])
    assert "loading" in str(frame["text"])
    assert "Ask about a picture" in str(frame["text"])
    assert "PromptArea" in str(frame["focus"])
