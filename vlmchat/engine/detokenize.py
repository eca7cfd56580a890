"""Ids of one answer -> its text, piece by piece, equal in sum to the text decoded at once.

The original implementations decode the whole answer and strip it. A stream has to do that without
knowing the end: white space in front is dropped, white space behind is held back until something
follows it, and the family's decoder never lets half a character go.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlmchat.families.family import Tokenizer


class AnswerText:
    """The text of an answer while it grows."""

    def __init__(self, tokenizer: Tokenizer, continued: bool = False, already: Sequence[int] = ()) -> None:
        """Begin an answer.

        Args:
            tokenizer: whose decoder to use.
            continued: the answer goes on behind text that is already there, so white space in
                front belongs to it.
            already: ids of that text where they are known; their characters are not said again.
        """
        self._decoder = tokenizer.decoder()
        self._held = ""
        self._begun = continued
        self._said: list[str] = []
        if already:
            self._begun = False
            for token_id in already:
                self.push(token_id)
            self._said.clear()

    @property
    def text(self) -> str:
        """Everything said so far."""
        return "".join(self._said)

    def push(self, token_id: int) -> str:
        """Return the text that became certain with ``token_id``."""
        return self._say(self._decoder.push(token_id))

    def finish(self) -> str:
        """Return what an incomplete last character leaves; white space at the end is dropped."""
        return self._say(self._decoder.finish())

    def _say(self, piece: str) -> str:
        piece = self._held + piece
        if not self._begun:
            piece = piece.lstrip()
        certain = piece.rstrip()
        self._held = piece[len(certain) :]
        self._begun = self._begun or bool(certain)
        if certain:
            self._said.append(certain)
        return certain
