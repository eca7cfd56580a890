"""``chats backup``, ``path`` and ``export``: copies that are whole, and open as what they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import call, on_terminal
from tests.conftest import png
from tests.store.test_chats import with_turns
from vlmchat.conversation import user
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore


def with_picture(store: ChatStore) -> str:
    chat = store.create_chat("demo", "Colours")
    kept = store.keep_picture(read_picture(png(), "a.png"))
    store.add_turn(chat.id, None, user("What <b>colour</b>?", kept))
    return chat.id


def test_a_backup_opens_as_a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = with_picture(ChatStore())
    target = tmp_path / "copy"
    assert call("chats", "backup", str(target)).code == 0
    assert (target.stat().st_mode & 0o777, (target / "data" / "chats.db").stat().st_mode & 0o777) == (0o700, 0o600)
    shown = call("chats", "show", chat).out
    monkeypatch.setenv("VLMCHAT_HOME", str(target))
    assert call("chats", "show", chat).out == shown.replace(str(tmp_path / "home"), str(target))
    assert ChatStore().chat(chat).turns[0].message.pictures[0].read() == png()
    assert call("chats", "path").out == f"{target / 'data' / 'chats.db'}\n"


def test_a_backup_while_another_process_writes(tmp_path: Path) -> None:
    """Every copy is whole: each chat in it has both of its turns, though they come one by one."""
    with_picture(ChatStore())
    code = (
        "from vlmchat.store.chats import ChatStore\nfrom vlmchat.conversation import user\nstore = ChatStore()\n"
        "print('ready', flush=True)\n"
        "while True:\n    chat = store.create_chat('demo', 'x')\n    store.add_turn(chat.id, None, user('one ' * 99))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for number in range(3):
            assert call("chats", "backup", str(tmp_path / f"copy{number}")).code == 0
        writer.kill()
    for number in range(3):
        data = tmp_path / f"copy{number}" / "data"
        copy = ChatStore(data / "chats.db", data / "blobs")
        assert len(copy.chats(limit=-1)) >= 1
        assert copy.chats("colour")
        assert not list(tmp_path.glob("*.part"))


def test_what_cannot_be_backed_up(tmp_path: Path) -> None:
    assert call("chats", "backup", str(tmp_path / "copy")).err.startswith("There are no chats yet.\nhint: ")
    store = ChatStore()
    chat = with_picture(store)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert call("chats", "backup", str(tmp_path / "full")).code == 2
    assert call("chats", "backup", str(tmp_path / "full" / "x" / "y")).code == 4
    next(iter(store.pictures.iterdir())).unlink()
    assert "Not on disk: 1 picture that chats name" in call("chats", "backup", str(tmp_path / "copy")).err
    assert "1 chat, 0 pictures" in on_terminal(None, "chats", "backup", str(tmp_path / "copy2"))[1]
    assert ChatStore().chat(chat).summary.title == "Colours"


def test_a_chat_as_one_html_file(tmp_path: Path) -> None:
    chat = with_picture(ChatStore())
    call("chats", "export", chat, "-o", str(tmp_path / "a.html"))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page == call("chats", "export", chat, "--format", "html").out
    assert "data:image/png;base64," in page
    assert "What &lt;b&gt;colour&lt;/b&gt;?" in page


def test_searching_marks_nothing_and_finds_snippets() -> None:
    with_turns(ChatStore(), "a receipt of 12.50 in the shop")
    assert "a receipt of 12.50 in the shop" in call("chats", "search", "receipt").out
