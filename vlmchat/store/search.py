"""How a list of chats is selected, by words or whole, and how a hit is shown.

Every word has to occur somewhere in the chat, in its title or in any of its messages. Words of three
letters and more go through the trigram index, which finds them inside longer words and in text
without blanks (Chinese); shorter ones have no trigram and are looked for one by one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

_SHORTEST_INDEXED = 3
_AROUND = 40
"""Characters of a snippet on either side of the first match."""
_LIST = """
SELECT id, title, model, created, updated, archived,
       (SELECT count(*) FROM turns WHERE turns.chat_id = chats.id AND deleted IS NULL) AS turns
FROM chats WHERE deleted IS NULL AND archived = ?{words}
ORDER BY updated DESC, seq DESC LIMIT ? OFFSET ?
"""
_INDEXED = """
AND (seq IN (SELECT rowid FROM titles_fts WHERE titles_fts MATCH ?)
     OR id IN (SELECT chat_id FROM turns
               WHERE deleted IS NULL AND seq IN (SELECT rowid FROM turns_fts WHERE turns_fts MATCH ?)))
"""
_SCANNED = """
AND (title LIKE ? ESCAPE '\\' OR id IN (SELECT chat_id FROM turns WHERE deleted IS NULL AND text LIKE ? ESCAPE '\\'))
"""


def select(
    connection: sqlite3.Connection, words: Sequence[str], archived: bool, limit: int, offset: int
) -> list[sqlite3.Row]:
    """Return the rows of chats that hold all ``words``, latest first; ``limit`` -1 is all of them."""
    clauses, values = "", list[object]()
    for word in words:
        if len(word) >= _SHORTEST_INDEXED:
            clauses += _INDEXED
            values += 2 * ['"' + word.replace('"', '""') + '"']
        else:
            clauses += _SCANNED
            values += 2 * [_pattern(word)]
    statement = _LIST.format(words=clauses)
    return connection.execute(statement, (int(archived), *values, limit, offset)).fetchall()


def snippet(connection: sqlite3.Connection, chat_id: str, words: Sequence[str]) -> str:
    """Return the place of the latest message that holds a word, matches between STX and ETX (2 and 3).

    Empty when only the title holds them.
    """
    for word in words:
        row = connection.execute(
            "SELECT text FROM turns WHERE chat_id = ? AND deleted IS NULL AND text LIKE ? ESCAPE '\\' "
            "ORDER BY seq DESC LIMIT 1",
            (chat_id, _pattern(word)),
        ).fetchone()
        if row is not None:
            return _cut(str(row["text"]), words)
    return ""


def _pattern(word: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", word) + "%"


def _cut(text: str, words: Sequence[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    marks = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
    clean = re.sub(r"[\x02\x03]", "", text)
    first = marks.search(clean)
    if first is None:
        return ""
    start, end = max(0, first.start() - _AROUND), first.end() + _AROUND
    piece = " ".join(marks.sub("\x02\\g<0>\x03", clean[start:end]).split())
    return ("…" if start else "") + piece + ("…" if end < len(clean) else "")
