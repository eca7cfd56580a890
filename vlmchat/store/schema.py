"""The database file: numbered migrations, connections, and SQLite's errors as ours.

The number of the last migration that was applied stands in the file as ``PRAGMA user_version``. A
migration that was released is never changed; a new one is appended.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlmchat.errors import DiskFull, StoreError, VlmchatError

BUSY_S = 5.0
"""Seconds a connection waits for another program's write before it gives up."""
_FIRST = """
CREATE TABLE chats (
    seq      INTEGER PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,
    title    TEXT NOT NULL,
    model    TEXT NOT NULL,
    created  REAL NOT NULL,
    updated  REAL NOT NULL,
    head     TEXT,
    archived INTEGER NOT NULL DEFAULT 0,
    deleted  REAL
);
CREATE INDEX chats_by_update ON chats (deleted, updated DESC, seq DESC);
CREATE TABLE turns (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    chat_id    TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    parent     TEXT REFERENCES turns (id) ON DELETE CASCADE,
    role       TEXT NOT NULL,
    parts      TEXT NOT NULL,
    text       TEXT NOT NULL,
    status     TEXT NOT NULL,
    created    REAL NOT NULL,
    provenance TEXT
);
CREATE INDEX turns_by_chat ON turns (chat_id, seq);
CREATE INDEX turns_by_parent ON turns (parent);
CREATE TABLE pictures (
    turn_id TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    digest  TEXT NOT NULL,
    PRIMARY KEY (turn_id, digest)
) WITHOUT ROWID;
CREATE INDEX pictures_by_digest ON pictures (digest);

CREATE VIRTUAL TABLE titles_fts USING fts5 (title, content='chats', content_rowid='seq', tokenize='trigram');
CREATE TRIGGER chats_added AFTER INSERT ON chats BEGIN
    INSERT INTO titles_fts (rowid, title) VALUES (new.seq, new.title);
END;
CREATE TRIGGER chats_renamed AFTER UPDATE OF title ON chats BEGIN
    INSERT INTO titles_fts (titles_fts, rowid, title) VALUES ('delete', old.seq, old.title);
    INSERT INTO titles_fts (rowid, title) VALUES (new.seq, new.title);
END;
CREATE TRIGGER chats_removed AFTER DELETE ON chats BEGIN
    INSERT INTO titles_fts (titles_fts, rowid, title) VALUES ('delete', old.seq, old.title);
END;

CREATE VIRTUAL TABLE turns_fts USING fts5 (text, content='turns', content_rowid='seq', tokenize='trigram');
CREATE TRIGGER turns_added AFTER INSERT ON turns BEGIN
    INSERT INTO turns_fts (rowid, text) VALUES (new.seq, new.text);
END;
CREATE TRIGGER turns_changed AFTER UPDATE OF text ON turns BEGIN
    INSERT INTO turns_fts (turns_fts, rowid, text) VALUES ('delete', old.seq, old.text);
    INSERT INTO turns_fts (rowid, text) VALUES (new.seq, new.text);
END;
CREATE TRIGGER turns_removed AFTER DELETE ON turns BEGIN
    INSERT INTO turns_fts (turns_fts, rowid, text) VALUES ('delete', old.seq, old.text);
END;
"""
_SECOND = """
ALTER TABLE turns ADD COLUMN deleted REAL;
"""
MIGRATIONS: tuple[str, ...] = (_FIRST, _SECOND)
"""Migration ``n`` is the n-th entry, counted from 1. Trigrams are what finds Chinese: it has no blanks."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the database at ``path``, creating it and applying the migrations it lacks.

    The file and its folder are for the user alone: chats are private. The connection may be handed
    from thread to thread, its owner must keep them from using it at once.

    Raises:
        StoreError: it cannot be opened, is damaged, or comes from a newer version.
    """
    with typed_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block as one write that is whole or not there at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def typed_errors(path: Path) -> Iterator[None]:
    """Raise what SQLite or the file system says about ``path`` as an error with a sentence and a hint."""
    try:
        yield
    except sqlite3.Error as problem:
        raise _typed(problem, path) from problem
    except OSError as problem:
        raise StoreError(
            f"The chats in {path} cannot be opened: {problem.strerror or problem}.",
            "Check the folder's permissions, or set VLMCHAT_HOME to another one.",
        ) from problem


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        version = _version(connection)
        if version > len(MIGRATIONS):
            raise StoreError(
                f"The chats in {path} were written by a newer vlmchat (format {version}, this one knows "
                f"{len(MIGRATIONS)}).",
                "Update vlmchat, or set VLMCHAT_HOME to another folder.",
            )
        for number in range(version + 1, len(MIGRATIONS) + 1):
            for statement in _statements(MIGRATIONS[number - 1]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """Split at the semicolons that end a statement: ``executescript`` would commit the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _typed(problem: sqlite3.Error, path: Path) -> VlmchatError:
    name = str(getattr(problem, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"The chats in {path} are locked by another program.", "Wait for it to finish, or close it.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(
            f"The chats in {path} are damaged: {problem}.", "Move the file away or restore a backup of it."
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreError(
            f"The chats in {path} cannot be written: {problem}.",
            "Check its permissions, or set VLMCHAT_HOME to another folder.",
        )
    if name.startswith("SQLITE_FULL"):
        return DiskFull(f"There is no room on disk for {path}.", "Free some space and try again.")
    return StoreError(f"The chats in {path} cannot be used: {problem}.", "`vlmchat doctor` checks the file.")
