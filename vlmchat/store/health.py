"""What ``vlmchat doctor`` says about the saved chats: how many, how large, and whether they are whole."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from vlmchat.errors import StoreError, VlmchatError
from vlmchat.plaintext import one_line
from vlmchat.store.schema import connect, typed_errors

_SAVE = "Restore a backup, or save what still opens with `vlmchat chats export`."


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one database and its pictures."""

    chats: int = 0
    turns: int = 0
    bytes: int = 0
    """Of the database and the pictures together."""
    problems: tuple[VlmchatError, ...] = ()
    """What is wrong, each with its remedy; empty when all is well."""


def check(database: Path, pictures: Path) -> Health:
    """Examine the store without changing it; a store that cannot be opened is a problem, not an error."""
    if not database.exists():
        return Health()
    try:
        connection = connect(database)
    except VlmchatError as problem:
        return Health(problems=(problem,))
    try:
        with typed_errors(database):
            return _examine(connection, database, pictures)
    except VlmchatError as problem:
        return Health(problems=(problem,))
    finally:
        connection.close()


def _examine(connection: sqlite3.Connection, database: Path, pictures: Path) -> Health:
    problems: list[VlmchatError] = [
        StoreError(f"The chats in {database} are damaged: {one_line(str(row[0]))}.", _SAVE)
        for row in connection.execute("PRAGMA quick_check(3)")
        if row[0] != "ok"
    ]
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        problems.append(StoreError(f"{database} holds turns without a chat.", _SAVE))
    wanted = {str(row[0]) for row in connection.execute("SELECT DISTINCT digest FROM pictures")}
    here = {path.name: path.stat().st_size for path in pictures.iterdir()} if pictures.is_dir() else {}
    if wanted - here.keys():
        problems.append(
            StoreError(
                f"{len(wanted - here.keys())} pictures of saved chats are missing in {pictures}.",
                "Put them back from a backup; the texts of the chats are whole.",
            )
        )
    return Health(
        chats=_count(connection, "SELECT count(*) FROM chats WHERE deleted IS NULL"),
        turns=_count(connection, "SELECT count(*) FROM turns"),
        bytes=database.stat().st_size + sum(here.values()),
        problems=tuple(problems),
    )


def _count(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])
