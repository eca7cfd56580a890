"""Prompt pieces -> token ids and feature slots, the same way for every family."""

from __future__ import annotations

from collections.abc import Sequence

from vlmchat.families.family import PictureInput, Prompt, Slot, Tokenizer
from vlmchat.families.pieces import Control, Features, Piece, Plain, as_text


def assemble(
    pieces: Sequence[Piece], tokenizer: Tokenizer, placeholder: str, pictures: Sequence[PictureInput]
) -> Prompt:
    """Tokenize each stretch of plain text by itself and put control tokens and feature slots between.

    Args:
        pieces: the rendered conversation, neighbouring plain texts merged.
        tokenizer: of the checkpoint.
        placeholder: name of the control token that stands at feature positions.
        pictures: what the ``Features`` pieces count in.
    """
    first = pieces[0] if pieces else Plain("")
    opening = first.text if isinstance(first, Plain) else ""
    rest = pieces[1:] if isinstance(first, Plain) else pieces
    following = rest[0].token if rest and isinstance(rest[0], Control) else ""
    ids = tokenizer.begin(opening, following)
    slots: list[Slot] = []
    after = ""
    for piece in rest:
        if isinstance(piece, Plain):
            ids += tokenizer.encode(piece.text, after)
        elif isinstance(piece, Control):
            ids.append(tokenizer.control(piece.token))
        elif isinstance(piece, Features):
            slots.append(Slot(len(ids), piece.length, piece.picture, piece.offset))
            ids += [tokenizer.control(placeholder)] * piece.length
        after = piece.token if isinstance(piece, Control) else ""
    return Prompt(tuple(ids), tuple(slots), tuple(pictures), as_text(pieces, placeholder))
