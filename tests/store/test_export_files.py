"""Chats as files: nothing else is needed to read them, and nothing in them acts."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import png
from vlmchat.conversation import assistant, user
from vlmchat.errors import StoreError, UsageError
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.store.export_files import as_html, write
from vlmchat.store.model import Chat

HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/a.png) [go](javascript:alert(1)) \x1b]52;c;AA\x07"


@pytest.fixture
def chat(picture_file: Path) -> Chat:
    store = ChatStore()
    chat = store.create_chat("demo", 'What/is "this" <b>?')
    picture = store.keep_picture(read_picture(picture_file))
    asked = store.add_turn(chat.id, None, user("Look <here> & 这里", picture))
    store.add_turn(chat.id, asked.id, assistant(f"**Red** 红色\n\n```py\nx < 1\n```\n\n{HOSTILE}"))
    found = store.chat(chat.id)
    store.close()
    return found


class Page(HTMLParser):
    """Collects tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]
        self.links += [value or "" for name, value in attrs if name == "href"]


def test_html_is_one_file_with_the_very_bytes_of_its_pictures(chat: Chat, tmp_path: Path) -> None:
    target = write(chat, "html", tmp_path / "out")
    page = Page()
    page.feed(target.read_text(encoding="utf-8"))
    assert [it.name for it in target.parent.iterdir()] == [target.name]
    assert target.name == "What-is-this-b.html"
    assert [base64.b64decode(it.removeprefix("data:image/png;base64,")) for it in page.sources] == [png()]
    assert page.links == ["http://evil.example/a.png"], "a picture of the model's is a link at most"
    assert {"strong", "pre", "code"} <= set(page.tags)


def test_html_shows_what_was_said_and_obeys_none_of_it(chat: Chat) -> None:
    text = as_html(chat)
    assert "Look &lt;here&gt; &amp; 这里" in text
    assert "红色" in text
    assert "<script" not in text
    assert "\x1b" not in text
    assert 'href="javascript' not in text
    assert "default-src 'none'" in text


def test_markdown_has_its_pictures_beside_it(chat: Chat, tmp_path: Path) -> None:
    target = write(chat, "markdown", tmp_path / "out")
    text = target.read_text(encoding="utf-8")
    (link,) = re.findall(r"!\[red square\.png\]\(<([^>]+)>\)", text)
    assert (target.parent / link).read_bytes() == png()
    assert not Path(link).is_absolute()
    assert write(chat, "md", tmp_path / "out").name == "What-is-this-b-2.md"


def test_what_cannot_be_written_or_read_is_named(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pdf"):
        write(chat, "pdf", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write(chat, "html", tmp_path / "file")
    for blob in ChatStore().pictures.iterdir():
        blob.unlink()
    with pytest.raises(StoreError, match="is gone"):
        write(chat, "html", tmp_path)
