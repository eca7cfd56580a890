"""Messages -> ids, feature slots and positions, through the checkpoint's own chat template.

The template sees the user's text as it is, except for names of control tokens in it: these come wrapped in
Transformers' private-use markers (U+F0000, U+F0001), and are then encoded as plain characters. The limits: a
template that acts on such a name in a text finds it all the same but between markers, one that cuts a text apart
inside a name leaves its halves, as text, and a marker that a user types is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import encode_marked_chat, mark_control_tokens

from vlmchat.conversation import Message, Part, Picture, Text, Video
from vlmchat.errors import CheckpointError, InputError
from vlmchat.families.family import PictureInput, Position, Slot
from vlmchat.families.generic.processing import Expansion, PictureProcessor
from vlmchat.families.generic.tokenizer import GenericTokenizer

_MARKER = "\U000f0000"
"""What Transformers puts in front of a control token's name that a user typed."""


def render(messages: Sequence[Message], processor: PictureProcessor) -> list[str]:
    """Return the chat as the template writes it, cut where a picture stands; user text is marked.

    Raises:
        InputError: the template does not take this conversation.
        CheckpointError: it leaves pictures out.
    """
    native = processor.native
    chat: list[dict[str, Any]] = [
        {"role": message.role, "content": list(_content(message.parts))} for message in messages
    ]
    marked = mark_control_tokens(chat, _control_names(native.tokenizer, native.chat_template))
    open_end = messages[-1].role == "assistant"
    try:
        written: str = native.tokenizer.apply_chat_template(
            marked,
            chat_template=native.chat_template,
            tokenize=False,
            add_generation_prompt=not open_end,
            continue_final_message=open_end,
        )
    except (TemplateError, ValueError, TypeError, KeyError) as problem:
        raise InputError(
            f"The chat template of this model does not take this conversation: {problem}.",
            "Many templates want turns to alternate, and some know no system prompt.",
        ) from problem
    pieces = re.split(f"(?<!{_MARKER}){re.escape(processor.image_token)}", written)
    pictures = sum(part["type"] == "image" for message in chat for part in message["content"])
    if len(pieces) - 1 != pictures:
        raise CheckpointError(
            f"The chat template writes {len(pieces) - 1} pictures where the conversation has {pictures}.",
            "This model cannot be shown pictures this way; fetch its template again or pick another.",
        )
    return pieces


def _content(parts: Sequence[Part]) -> Iterator[dict[str, str]]:
    """Yield the template's parts: neighbouring texts as one, so that no control token can be put together."""
    for is_text, run in groupby(parts, lambda part: isinstance(part, Text)):
        together = list(run)
        if is_text:
            yield {"type": "text", "text": "".join(part.text for part in together if isinstance(part, Text))}
        for part in together:
            shown = len(part.frames) if isinstance(part, Video) else isinstance(part, Picture)
            yield from ({"type": "image"},) * shown


def _control_names(tokenizer: Any, template: str) -> re.Pattern[str]:
    """Return what matches the names a user may only type as text: special tokens, and what the template writes."""
    names = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content in template and not token.content.isspace())
    ]
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    return re.compile("|".join(longest_first) or "(?!)")


def encode(pieces: Sequence[str], expansions: Sequence[Expansion], tokenizer: GenericTokenizer) -> list[int]:
    """Return the ids of the whole prompt, each picture expanded.

    Raises:
        InputError: a control token's name cannot be kept as plain text.
    """
    written = pieces[0] + "".join(
        expansion.text + piece for expansion, piece in zip(expansions, pieces[1:], strict=True)
    )
    native = tokenizer.native
    opening = [] if native.bos_token and written.startswith(native.bos_token) else tokenizer.begin("")
    try:
        return opening + list(encode_marked_chat(native, written))
    except ValueError as problem:
        raise InputError(f"The text cannot be given to this model: {problem}.", "Write it differently.") from problem


def slots(ids: Sequence[int], placeholder_id: int, pictures: Sequence[PictureInput]) -> tuple[Slot, ...]:
    """Return where features stand: runs of ``placeholder_id``, cut where the next picture begins.

    Raises:
        CheckpointError: the placeholders are not as many as the features.
    """
    found: list[Slot] = []
    places = [place for place, id_ in enumerate(ids) if id_ == placeholder_id]
    if len(places) != sum(picture.features for picture in pictures):
        raise CheckpointError("The tokenizer loses the placeholder tokens of pictures.", "Fetch its files again.")
    owners = [(number, offset) for number, picture in enumerate(pictures) for offset in range(picture.features)]
    for place, (number, offset) in zip(places, owners, strict=True):
        last = found[-1] if found else None
        if last and last.picture == number and last.start + last.length == place:
            found[-1] = Slot(last.start, last.length + 1, number, last.offset)
        else:
            found.append(Slot(place, 1, number, offset))
    return tuple(found)


def featured(length: int, slots: Sequence[Slot]) -> tuple[bool, ...]:
    """Say of each of ``length`` positions whether it holds a feature."""
    places = {slot.start + place for slot in slots for place in range(slot.length)}
    return tuple(place in places for place in range(length))


def grid_positions(
    length: int, slots: Sequence[Slot], grids: Sequence[tuple[int, int]], merge: int
) -> tuple[Position, ...]:
    """Return rotary positions on three axes (M-RoPE): text counts on all, a picture's features by row and column.

    Text behind a picture goes on behind its longer side.

    Args:
        length: of the prompt.
        slots: one for each picture.
        grids: patch rows and columns of each picture.
        merge: patches along each side that become one feature.
    """
    positions: list[Position] = []
    following = 0
    for slot, grid in zip(slots, grids, strict=True):
        gap = slot.start - len(positions)
        positions += [(place, place, place) for place in range(following, following + gap)]
        following += gap
        rows, columns = (side // merge for side in grid)
        cells = [(row, column) for row in range(rows) for column in range(columns)]
        positions += [(following, following + row, following + column) for row, column in cells]
        following += max(rows, columns)
    rest = length - len(positions)
    return (*positions, *((place, place, place) for place in range(following, following + rest)))
