"""``ask --dry-run``: the prompt and its cost, from the embedded model's own tokenizer and layout, nothing loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.harness import call
from tests.conftest import png
from vlmchat.chat import opening, shelf
from vlmchat.chat.session import Session
from vlmchat.conversation import Text
from vlmchat.options import LoadOptions
from vlmchat.store.chats import ChatStore

KEYS = {
    "model", "revision", "family", "prompt", "token_ids", "usage", "pictures", "context_tokens", "answer_tokens",
    "fits", "settings",
}  # fmt: skip


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    path = tmp_path / "wide.png"
    path.write_bytes(png(size=(480, 320)))
    return path


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """See that no engine is asked to load."""

    def loaded(*given: object, **more: object) -> object:
        raise AssertionError("something was loaded")

    monkeypatch.setattr(opening, "open_model", loaded)


@pytest.mark.usefixtures("unloadable")
def test_the_prompt_and_its_cost(wide: Path, home: Path) -> None:
    value = call("ask", "--dry-run", "--json", "-i", str(wide), "What?", "-s", "Be brief.", "--max-tiles", "2").json
    assert set(value) == KEYS
    assert "Be brief." in value["prompt"]
    assert value["prompt"].count("<IMG_CONTEXT>") == value["usage"]["image_tokens"] == 48
    assert len(value["token_ids"]) == value["usage"]["prompt_tokens"]
    (picture,) = value["pictures"]
    assert (picture["name"], picture["tiles"], picture["thumbnail"]) == ("wide.png", 3, "last")
    assert (picture["columns"], picture["rows"], picture["tokens"]) == (2, 1, 48)
    assert value["fits"]
    assert value["answer_tokens"] == value["context_tokens"] - value["usage"]["prompt_tokens"]
    assert not home.exists(), "nothing is kept"
    text = call("ask", "--dry-run", "-i", str(wide)).out
    assert "picture   wide.png, 480 x 320 pixels: 3 tiles (2 x 1 and a thumbnail), 48 tokens" in text
    assert "<img><IMG_CONTEXT> x 48</img>\nDescribe the picture." in text


@pytest.mark.usefixtures("unloadable")
def test_what_does_not_fit_is_shown_and_refused() -> None:
    result = call("ask", "--dry-run", "--json", "word " * 2000)
    assert result.code == 4
    assert result.json["fits"] is False
    assert result.json["answer_tokens"] == 0
    assert "demo reads at most 1,024" in result.err


def test_it_is_what_the_loaded_model_would_be_asked(wide: Path) -> None:
    """The same ids as in an answer to the same chat, history included; the chat does not grow."""
    assert call("ask", "-i", str(wide), "One?", "--max-new-tokens", "4", "--dtype", "float32").code == 0
    value = call("ask", "-c", "--dry-run", "--json", "Two?").json
    engine = opening.create_engine()
    for _ in engine.load(shelf.demo_folder(), LoadOptions(dtype="float32")):
        pass
    latest = ChatStore().latest()
    assert latest is not None
    session = Session(engine, ChatStore(), "demo", chat_id=latest.id)
    assert session.measure([Text("Two?")]).prompt_tokens == value["usage"]["prompt_tokens"]
    assert latest.turns == 2
    engine.close()
