"""Chats as Markdown and as JSON."""

from __future__ import annotations

import json

from tests.conftest import png
from vlmchat.conversation import Message, Text, Video, assistant, user
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.store.export import as_markdown, as_object
from vlmchat.store.model import Chat, Provenance


def a_chat() -> Chat:
    store = ChatStore()
    chat = store.create_chat("demo", "Colours").id
    picture = store.keep_picture(read_picture(png(), "a[1].png"))
    asked = store.add_turn(chat, None, user("What colour?", picture))
    store.add_turn(chat, asked.id, assistant("an answer that was replaced"))
    made_by = Provenance("demo", "", "none", "cpu", "float32", {"seed": 7})
    answered = store.add_turn(chat, asked.id, assistant("Red."), "interrupted", made_by)
    clip = Video("d" * 64, "clip.mp4", (picture,))
    store.add_turn(chat, answered.id, Message("user", (clip, Text("And this?"))))
    return store.chat(chat)


def test_markdown_reads_like_the_chat() -> None:
    chat = a_chat()
    text = as_markdown(chat)
    assert text.startswith("# Colours\n\ndemo, ")
    assert f"![a\\[1\\].png](<{chat.turns[0].message.pictures[0].path}>)" in text
    assert "## You\n\n" in text
    assert "## demo\n\nRed.\n\n*(interrupted)*" in text
    assert "*(video: clip.mp4)*" in text
    assert "replaced" not in text, "only the branch in use"


def test_object_is_json_with_what_made_each_answer() -> None:
    chat = a_chat()
    value = json.loads(json.dumps(as_object(chat)))
    assert value["id"] == chat.summary.id
    assert [turn["role"] for turn in value["turns"]] == ["user", "assistant", "user"]
    assert value["turns"][0]["content"][0]["type"] == "image"
    assert value["turns"][1]["made_by"]["settings"] == {"seed": 7}
    assert value["turns"][1]["status"] == "interrupted"
    assert value["turns"][2]["content"][0]["name"] == "clip.mp4"
