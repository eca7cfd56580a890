"""The files under the store: private, migrated, and refused in one sentence when they cannot be used."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from tests.conftest import png
from vlmchat.conversation import user
from vlmchat.errors import DiskFull, StoreError
from vlmchat.media.image import read_picture
from vlmchat.store import blobs, schema
from vlmchat.store.chats import ChatStore
from vlmchat.store.health import Health, check


def test_chats_are_for_the_user_alone() -> None:
    store = ChatStore()
    store.create_chat("demo")
    picture = store.keep_picture(read_picture(png()))
    assert stat.S_IMODE(store.database.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.database.parent.stat().st_mode) == 0o700
    assert picture.path is not None
    assert stat.S_IMODE(picture.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(picture.path.parent.stat().st_mode) == 0o700


def test_a_store_from_a_newer_version_is_left_alone() -> None:
    store = ChatStore()
    store.create_chat("demo")
    store.close()
    with sqlite3.connect(store.database) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="written by a newer vlmchat") as caught:
        store.chats()
    assert "Update vlmchat" in caught.value.hint
    with sqlite3.connect(store.database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)


def test_an_older_store_is_migrated_and_keeps_its_chats(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ChatStore()
    chat = store.create_chat("demo", "Old").id
    store.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE chats ADD COLUMN starred INTEGER;"))
    assert [found.id for found in store.chats()] == [chat]
    with sqlite3.connect(store.database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        assert connection.execute("SELECT starred FROM chats").fetchone() == (None,)


def test_a_migration_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ChatStore()
    store.create_chat("demo", "Old")
    store.close()
    half = "CREATE TABLE extra (x);\nALTER TABLE nothing ADD COLUMN y;"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, half))
    with pytest.raises(StoreError):
        store.chats()
    monkeypatch.undo()
    with sqlite3.connect(store.database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)


def test_two_programs_may_open_a_new_store_at_once() -> None:
    stores = [ChatStore() for _ in range(8)]
    threads = [threading.Thread(target=store.create_chat, args=("demo",)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].chats()) == 8


def test_a_damaged_store_is_named() -> None:
    store = ChatStore()
    store.database.parent.mkdir(parents=True)
    store.database.write_bytes(b"this is no database, " * 100)
    with pytest.raises(StoreError, match=r"chats\.db are damaged") as caught:
        store.chats()
    assert "Move the file away" in caught.value.hint


def test_a_locked_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    store = ChatStore()
    chat = store.create_chat("demo").id
    with sqlite3.connect(store.database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another program"):
            store.rename(chat, "no")
        assert len(store.chats()) == 1, "reading goes on beside a write"
        other.execute("ROLLBACK")
    store.rename(chat, "yes")


@pytest.mark.parametrize("path", ["/proc/vlmchat/chats.db", "/dev/null/chats.db"])
def test_a_place_that_cannot_be_written_is_named(path: str) -> None:
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        ChatStore(Path(path), Path(path).parent / "blobs").create_chat("demo")
    assert "VLMCHAT_HOME" in caught.value.hint


def test_a_database_that_is_a_folder(home: Path) -> None:
    (home / "data" / "chats.db").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be"):
        ChatStore().chats()


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("SQLITE_FULL", DiskFull, "no room on disk"),
        ("SQLITE_READONLY", StoreError, "cannot be written"),
        ("SQLITE_CANTOPEN", StoreError, "cannot be written"),
        ("SQLITE_BUSY_SNAPSHOT", StoreError, "locked"),
        ("SQLITE_CORRUPT_VTAB", StoreError, "damaged"),
        ("SQLITE_IOERR", StoreError, "cannot be used"),
    ],
)
def test_what_sqlite_says_becomes_ours(name: str, kind: type[Exception], says: str) -> None:
    problem = sqlite3.OperationalError("something")
    problem.sqlite_errorname = name
    with pytest.raises(kind, match=says), schema.typed_errors(Path("chats.db")):
        raise problem


def test_a_picture_is_kept_once_and_outlives_its_file(picture_file: Path) -> None:
    store = ChatStore()
    kept = store.keep_picture(read_picture(picture_file))
    assert (kept.data, kept.name) == (None, "red square.png")
    picture_file.unlink()
    assert kept.read() == png()
    again = store.keep_picture(read_picture(png(), "other name.png"))
    assert again.path == kept.path
    assert [path.name for path in store.pictures.iterdir()] == [kept.digest]


def test_a_half_written_picture_is_written_again() -> None:
    store = ChatStore()
    picture = read_picture(png())
    store.pictures.mkdir(parents=True)
    (store.pictures / picture.digest).write_bytes(b"half")
    assert store.keep_picture(picture).read() == png()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EACCES, StoreError)])
def test_a_picture_that_cannot_be_kept(number: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    store = ChatStore()
    with pytest.raises(kind):
        store.keep_picture(read_picture(png(), "big.png"))
    assert list(store.pictures.iterdir()) == [], "no half file is left"


def test_sweep_leaves_the_young_and_the_known(tmp_path: Path) -> None:
    for name in ("known", "old", "young"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("known", "old"):
        os.utime(tmp_path / name, (0, 0))
    assert blobs.sweep(tmp_path, {"known"}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"known", "young"}
    assert blobs.sweep(tmp_path / "nowhere", set()) == 0


def test_health_of_a_good_and_of_no_store() -> None:
    store = ChatStore()
    assert check(store.database, store.pictures) == Health()
    chat = store.create_chat("demo").id
    store.add_turn(chat, None, user("look", store.keep_picture(read_picture(png()))))
    health = check(store.database, store.pictures)
    assert (health.chats, health.turns, health.problems) == (1, 1, ())
    assert health.bytes > len(png())


def test_health_finds_missing_pictures_and_damage() -> None:
    store = ChatStore()
    chat = store.create_chat("demo").id
    picture = store.keep_picture(read_picture(png()))
    store.add_turn(chat, None, user("look", picture))
    assert picture.path is not None
    picture.path.unlink()
    assert "1 pictures of saved chats are missing" in check(store.database, store.pictures).problems[0].message
    store.close()
    for leftover in store.database.parent.glob("chats.db-*"):
        leftover.unlink()
    store.database.write_bytes(b"x" * 4096)
    assert "damaged" in check(store.database, store.pictures).problems[0].message


def test_what_cannot_be_decoded_is_an_error_of_the_store() -> None:
    store = ChatStore()
    chat = store.create_chat("demo").id
    store.add_turn(chat, None, user("hello"))
    for parts, provenance in (("{", None), ('[{"type": "smell"}]', None), ("[]", '{"colour": 1}'), ("[]", "{")):
        with sqlite3.connect(store.database) as connection:
            connection.execute("UPDATE turns SET parts = ?, provenance = ?", (parts, provenance))
        with pytest.raises(StoreError, match="cannot be read"):
            store.chat(chat)
