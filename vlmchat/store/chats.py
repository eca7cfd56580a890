"""Saved chats: listed, searched, read, and written turn by turn.

One :class:`ChatStore` serves any number of threads: it reads over one connection and writes over
another, so a list is never kept waiting by a write (SQLite's WAL), and other programs may have the
same file open. Nothing is created on disk before the first write.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import RLock

from vlmchat.conversation import Message, Picture, Video
from vlmchat.errors import InputError
from vlmchat.paths import places
from vlmchat.store import blobs, codec, search
from vlmchat.store.model import Chat, ChatSummary, Provenance, Turn, TurnStatus
from vlmchat.store.schema import connect, transaction, typed_errors

_UNDO_S = 24 * 3600
"""How long a deleted chat can be restored before its rows and pictures go."""
_ONE = """
SELECT *, (SELECT count(*) FROM turns WHERE chat_id = chats.id AND deleted IS NULL) AS turns
FROM chats WHERE id = ?
"""
_TURNS = "SELECT * FROM turns WHERE chat_id = ? AND deleted IS NULL ORDER BY seq"
_PICTURES_OF = "SELECT DISTINCT digest FROM pictures JOIN turns ON turns.id = turn_id WHERE chat_id = ?"


class ChatStore:
    """The chats of one user, in one database and one folder of pictures."""

    def __init__(self, database: Path | None = None, pictures: Path | None = None) -> None:
        """Name the files; without names those of :func:`vlmchat.paths.places`. Nothing is opened yet."""
        self.database = database or places().chats
        self.pictures = pictures or places().blobs
        self._reader = _Connection(self.database)
        self._writer = _Connection(self.database)

    def close(self) -> None:
        """Close both connections; the store opens them again when it is used again."""
        self._reader.close()
        self._writer.close()

    def chats(self, query: str = "", limit: int = 50, offset: int = 0, archived: bool = False) -> list[ChatSummary]:
        """Return one page of chats, the one changed last first.

        Args:
            query: words that must all occur in the chat; a hit comes with a snippet.
            limit: rows of a page; -1 for all.
            offset: rows to leave out.
            archived: list the archived chats in place of the others.
        """
        words = query.replace("\0", " ").split()
        with self._read() as connection:
            if connection is None:
                return []
            rows = search.select(connection, words, archived, limit, offset)
            return [_summary(row, search.snippet(connection, row["id"], words)) for row in rows]

    def latest(self) -> ChatSummary | None:
        """Return the chat that was changed last, or None when there is none."""
        return next(iter(self.chats(limit=1)), None)

    def chat(self, reference: str) -> Chat:
        """Return the chat with this id, or the only one whose id begins with it.

        Raises:
            InputError: there is none, or more than one.
        """
        with self._read() as connection:
            chat_id = _resolve(connection, reference)
            assert connection is not None
            row = connection.execute(_ONE, (chat_id,)).fetchone()
            turns = connection.execute(_TURNS, (chat_id,))
            return Chat(_summary(row), tuple(self._turn(turn) for turn in turns), row["head"])

    def create_chat(self, model: str, title: str = "") -> ChatSummary:
        """Add an empty chat and return its row."""
        now = time.time()
        chat_id = _new_id()
        with self._write() as connection:
            connection.execute(
                "INSERT INTO chats (id, title, model, created, updated) VALUES (?, ?, ?, ?, ?)",
                (chat_id, title, model, now, now),
            )
        return ChatSummary(chat_id, title, model, now, now, 0)

    def add_turn(
        self,
        chat_id: str,
        parent: str | None,
        message: Message,
        status: TurnStatus = "complete",
        provenance: Provenance | None = None,
    ) -> Turn:
        """Append a turn after ``parent`` (None: as a first turn) and make it the chat's head.

        Its pictures must have been kept (:meth:`keep_picture`): only their digests are written.
        """
        turn = Turn(_new_id(), chat_id, parent, message, status, time.time(), provenance)
        with self._write() as connection:
            connection.execute(
                "INSERT INTO turns (id, chat_id, parent, role, parts, text, status, created, provenance) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    turn.id,
                    chat_id,
                    parent,
                    message.role,
                    codec.encode_parts(message),
                    codec.search_text(message),
                    status,
                    turn.created,
                    codec.encode_provenance(provenance),
                ),
            )
            _name_pictures(connection, turn.id, message)
            _touch(connection, chat_id, turn.id, provenance)
        return turn

    def update_turn(
        self,
        turn_id: str,
        message: Message | None = None,
        status: TurnStatus | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        """Replace what is given of a turn and leave the rest: an answer that grew, or ended."""
        with self._write() as connection:
            row = connection.execute("SELECT chat_id FROM turns WHERE id = ?", (turn_id,)).fetchone()
            if row is None:
                return
            if message is not None:
                connection.execute(
                    "UPDATE turns SET parts = ?, text = ? WHERE id = ?",
                    (codec.encode_parts(message), codec.search_text(message), turn_id),
                )
                _name_pictures(connection, turn_id, message)
            connection.execute(
                "UPDATE turns SET status = coalesce(?, status), provenance = coalesce(?, provenance) WHERE id = ?",
                (status, codec.encode_provenance(provenance), turn_id),
            )
            _touch(connection, row["chat_id"], None, provenance)

    def set_head(self, chat_id: str, turn_id: str | None) -> None:
        """Make the branch that ends with ``turn_id`` the one in use."""
        with self._write() as connection:
            connection.execute("UPDATE chats SET head = ? WHERE id = ?", (turn_id, chat_id))

    def delete_turns(self, chat_id: str, turn_ids: Sequence[str], head: str | None) -> None:
        """Hide turns with all that follow them and make ``head`` the end of the branch in use.

        :meth:`restore_turns` brings them back for a day, then they are erased.
        """
        self._mark_turns(chat_id, turn_ids, time.time(), head)

    def restore_turns(self, chat_id: str, turn_ids: Sequence[str], head: str | None) -> None:
        """Undo :meth:`delete_turns`."""
        self._mark_turns(chat_id, turn_ids, None, head)

    def _mark_turns(self, chat_id: str, turn_ids: Sequence[str], deleted: float | None, head: str | None) -> None:
        with self._write() as connection:
            connection.executemany(
                "UPDATE turns SET deleted = ? WHERE id = ? AND chat_id = ?",
                [(deleted, turn_id, chat_id) for turn_id in turn_ids],
            )
            connection.execute("UPDATE chats SET head = ? WHERE id = ?", (head, chat_id))

    def rename(self, chat_id: str, title: str) -> None:
        """Give a chat another title; its place in the list stays."""
        with self._write() as connection:
            connection.execute("UPDATE chats SET title = ? WHERE id = ?", (title, chat_id))

    def archive(self, chat_id: str, archived: bool = True) -> None:
        """Take a chat out of the list, or put it back."""
        with self._write() as connection:
            connection.execute("UPDATE chats SET archived = ? WHERE id = ?", (int(archived), chat_id))

    def delete(self, chat_id: str) -> None:
        """Hide a chat; :meth:`restore` brings it back for a day, then it is erased."""
        with self._write() as connection:
            connection.execute("UPDATE chats SET deleted = ? WHERE id = ?", (time.time(), chat_id))

    def restore(self, chat_id: str) -> None:
        """Undo :meth:`delete`."""
        with self._write() as connection:
            connection.execute("UPDATE chats SET deleted = NULL WHERE id = ?", (chat_id,))

    def erase(self, chat_id: str) -> None:
        """Remove a chat for good, with the pictures that no other chat shows."""
        with self._write() as connection:
            own = connection.execute(_PICTURES_OF, (chat_id,)).fetchall()
            connection.execute("DELETE FROM chats WHERE id = ?", (chat_id,))
            left = _digests(connection)
            for row in own:
                if row["digest"] not in left:
                    (self.pictures / row["digest"]).unlink(missing_ok=True)

    def keep_picture(self, picture: Picture) -> Picture:
        """Copy a picture into the store, so that its file may be moved or changed afterwards.

        Raises:
            DiskFull, StoreError, ImageError: as :func:`vlmchat.store.blobs.keep`.
        """
        return blobs.keep(self.pictures, picture)

    def keep_video(self, video: Video) -> Video:
        """Copy a video file, up to a size, and every frame of one given frame by frame into the store.

        Raises:
            DiskFull, StoreError, ImageError: as :func:`vlmchat.store.blobs.keep`.
        """
        kept = blobs.keep_video(self.pictures, video)
        return replace(kept, frames=tuple(map(self.keep_picture, video.frames)))

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection | None]:
        """Yield the reading connection, or None while there is no database."""
        with self._reader.lock, typed_errors(self.database):
            yield self._reader.open() if self._reader.is_open or self.database.exists() else None

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._writer.lock, typed_errors(self.database):
            fresh = not self._writer.is_open
            connection = self._writer.open()
            if fresh:
                self._forget_deleted(connection)
            with transaction(connection):
                yield connection

    def _forget_deleted(self, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            oldest = time.time() - _UNDO_S
            gone = [
                connection.execute(f"DELETE FROM {table} WHERE deleted < ?", (oldest,)).rowcount
                for table in ("chats", "turns")
            ]
            if any(gone):
                blobs.sweep(self.pictures, _digests(connection))

    def _turn(self, row: sqlite3.Row) -> Turn:
        return Turn(
            id=row["id"],
            chat_id=row["chat_id"],
            parent=row["parent"],
            message=codec.decode_message(row["role"], row["parts"], self.pictures),
            status=row["status"],
            created=row["created"],
            provenance=codec.decode_provenance(row["provenance"]),
        )


class _Connection:
    """A connection that opens on first use, and the lock that keeps threads from using it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self.lock = RLock()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path)
        return self._connection

    def close(self) -> None:
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _new_id() -> str:
    return os.urandom(8).hex()


def _summary(row: sqlite3.Row, snippet: str = "") -> ChatSummary:
    return ChatSummary(
        id=row["id"],
        title=row["title"],
        model=row["model"],
        created=row["created"],
        updated=row["updated"],
        turns=row["turns"],
        archived=bool(row["archived"]),
        snippet=snippet,
    )


def _resolve(connection: sqlite3.Connection | None, reference: str) -> str:
    found = (
        []
        if connection is None or not reference
        else connection.execute(
            "SELECT id FROM chats WHERE deleted IS NULL AND substr(id, 1, ?) = ? ORDER BY id LIMIT 3",
            (len(reference), reference.lower()),
        ).fetchall()
    )
    if not found:
        raise InputError(f"There is no chat {reference!r}.", "`vlmchat chats` lists them with their ids.")
    if len(found) > 1:
        ids = ", ".join(row["id"] for row in found)
        raise InputError(f"More than one chat begins with {reference!r}: {ids}.", "Give more of the id.")
    return str(found[0]["id"])


def _touch(connection: sqlite3.Connection, chat_id: str, head: str | None, provenance: Provenance | None) -> None:
    connection.execute(
        "UPDATE chats SET updated = ?, head = coalesce(?, head), model = coalesce(?, model) WHERE id = ?",
        (time.time(), head, None if provenance is None else provenance.model, chat_id),
    )


def _name_pictures(connection: sqlite3.Connection, turn_id: str, message: Message) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO pictures (turn_id, digest) VALUES (?, ?)",
        [(turn_id, digest) for digest in codec.digests_in(message)],
    )


def _digests(connection: sqlite3.Connection) -> set[str]:
    return {row["digest"] for row in connection.execute("SELECT DISTINCT digest FROM pictures")}
