"""Messages -> prompt pieces, for every family that writes turns between control tokens.

A family says how a turn begins and ends and what it calls its pictures (:class:`Template`); the
order of things is the same everywhere: system text, the turns as they were, an open answer.
Pictures in front of a turn's text get the family's labels, all others stand where the user put them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

from vlmchat.conversation import Message, Part, Picture, Role, Text, Video
from vlmchat.families.pieces import Control, Piece, Plain, merged

Block: TypeAlias = Callable[[int], Sequence[Piece]]
"""From the number of a picture or video frame of the conversation to the pieces that stand for it."""


@dataclass(frozen=True, slots=True)
class Template:
    """How a family writes a turn and ends it."""

    roles: Mapping[Role, tuple[Piece, ...]]
    end: Control
    """Closes every turn; generating it ends the answer."""
    between: str
    """Stands between the end of a turn and the next one."""
    image_label: str
    """In front of each of several leading pictures of a turn; ``{}`` counts them from 1."""
    frame_label: str
    """In front of each frame of a video."""


def chatml(between: str, image_label: str, frame_label: str) -> Template:
    """Return the template of ``<|im_start|>role`` turns."""
    roles: tuple[Role, ...] = ("system", "user", "assistant")
    start = Control("<|im_start|>")
    turns: dict[Role, tuple[Piece, ...]] = {role: (start, Plain(f"{role}\n")) for role in roles}
    return Template(turns, Control("<|im_end|>"), between, image_label, frame_label)


def render(messages: Sequence[Message], template: Template, system_message: str, block: Block) -> tuple[Piece, ...]:
    """Lay the conversation out, ready for the answer.

    Args:
        messages: oldest first. A system message at the front replaces ``system_message``. When the
            last message is the assistant's it is left open, to be continued.
        template: the family's.
        system_message: the system text of a conversation that has none.
        block: what stands for a picture; asked once for each, in conversation order.
    """
    turns = list(messages)
    first = system_message
    if turns and turns[0].role == "system":
        first = turns.pop(0).text
    end = (template.end, Plain(template.between))
    pieces: list[Piece] = [*template.roles["system"], Plain(first), *end]
    pictures = count()
    for turn in turns:
        pieces += template.roles[turn.role]
        pieces += _content(turn.parts, template, block, pictures)
        pieces += end
    if turns and turns[-1].role == "assistant":
        del pieces[-len(end) :]
    else:
        pieces += template.roles["assistant"]
    return tuple(merged(pieces))


def _content(parts: Sequence[Part], template: Template, block: Block, pictures: Iterator[int]) -> Iterator[Piece]:
    """Yield one turn: pictures in front get the family's labels, the rest stays in its place."""
    leading = 0
    while leading < len(parts) and isinstance(parts[leading], Picture):
        leading += 1
    for place, part in enumerate(parts):
        if isinstance(part, Text):
            yield Plain(part.text)
        elif isinstance(part, Video):
            for frame in range(len(part.frames)):
                yield Plain(template.frame_label.format(frame + 1))
                yield from block(next(pictures))
                yield Plain("\n")
        elif place < leading:
            yield Plain(template.image_label.format(place + 1) if leading > 1 else "")
            yield from block(next(pictures))
            yield Plain("\n")
        else:
            yield from block(next(pictures))


def pictures_of(message: Message) -> Iterator[tuple[Picture, bool]]:
    """Yield the pictures and video frames of one turn in order, each with whether it is a frame.

    Video files must have become frames before (:func:`vlmchat.media.video.with_frames`).
    """
    for part in message.parts:
        if isinstance(part, Picture):
            yield part, False
        elif isinstance(part, Video):
            yield from ((frame, True) for frame in part.frames)
