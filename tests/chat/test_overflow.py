"""Before a chat overflows: the ways out, measured; and what needs less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import png
from tests.fakes import ScriptedEngine
from vlmchat.chat.overflow import ROOM_TOKENS, remedies, require_room
from vlmchat.chat.session import Session
from vlmchat.chat.smaller import smaller
from vlmchat.conversation import Picture, Text
from vlmchat.engine.api import PromptSize
from vlmchat.errors import ContextOverflow
from vlmchat.options import LoadOptions


def picture(name: str) -> Picture:
    return Picture(name * 8, name, "image/png", 8, 6, png())


@pytest.fixture
def session(engine: ScriptedEngine) -> Session:
    engine.tiles = 12
    engine.context_tokens = 16 * 12 * 2 + 100
    return Session(engine, None, "scripted")


def test_what_fits_is_let_through(session: Session) -> None:
    require_room(session, (picture("a"), Text("What is it?")))


def test_each_way_out_fits_and_says_what_it_takes(session: Session) -> None:
    list(session.ask((picture("a"), Text("one"))))
    list(session.ask((picture("b"), Text("two"))))
    question = (picture("c"), Text("three"))
    with pytest.raises(ContextOverflow, match="585 tokens, 576 of them pictures"):
        require_room(session, question)
    found = {remedy.kind: remedy for remedy in remedies(session, question)}
    assert set(found) == {"tiles", "turns", "fresh"}
    assert all(it.size.prompt_tokens + ROOM_TOKENS <= it.size.context_tokens for it in found.values())
    assert found["tiles"].amount == 6
    assert (found["turns"].amount, found["turns"].pictures) == (2, 1)
    assert found["fresh"].size.prompt_tokens == 16 * 12 + 1
    for kind in ("tiles", "turns"):
        session.choices = found[kind].choices
        require_room(session, question)
        session.choices = replace(session.choices, max_tiles=None, since=None)


def test_a_question_that_is_too_long_alone_has_no_way_out(session: Session) -> None:
    assert remedies(session, (Text("word " * 1000),)) == ()


def test_what_needs_less_memory_is_listed_mildest_first(engine: ScriptedEngine) -> None:
    loaded = engine.loaded
    assert loaded is not None
    on_gpu = replace(loaded, device="cuda:0", dtype="bfloat16", weight_bytes=16_000)
    sizes = ((None, PromptSize(3000, 2800, 8192, (13,))), (6, PromptSize(1700, 1500, 8192, (7,))))
    found = list(smaller(LoadOptions(), on_gpu, sizes))
    assert [(it.kind, it.before, it.after) for it in found] == [
        ("tiles", 2800, 1500),
        ("quantization", 16_000, 8_000),
        ("quantization", 16_000, 4_000),
        ("cpu", 16_000, 16_000),
    ]
    assert [it.kind for it in smaller(LoadOptions(device="cpu", quantization="4-bit"), loaded)] == []
