"""Messages -> prompt pieces, in the three templates of InternVL2.

Rules measured on the original code (the project's InternVL2 facts, §6): no newline after
``<|im_end|>``; the system text of the checkpoint is used unless the conversation brings its own;
one picture before a turn's text takes a line of its own, several take a line each that begins with
``Image-1: ``, frames of a video with ``Frame1: ``; a picture between texts stands where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from vlmchat.conversation import Message, Part, Picture, Role, Text, Video
from vlmchat.families.pieces import Control, Features, Piece, Plain, merged

DEFAULT_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
"""System text of every released checkpoint whose config carries no ``system_message`` of its own."""
IMAGE_START = Control("<img>")
IMAGE_END = Control("</img>")
IMAGE_CONTEXT = "<IMG_CONTEXT>"
"""Placeholder token that stands at every feature position."""


@dataclass(frozen=True, slots=True)
class Template:
    """How one conversation template writes a turn and ends it."""

    roles: dict[Role, tuple[Piece, ...]]
    end: Control
    """Closes every turn; generating it ends the answer."""


def _chatml() -> Template:
    start = Control("<|im_start|>")
    roles: dict[Role, tuple[Piece, ...]] = {
        "system": (start, Plain("system\n")),
        "user": (start, Plain("user\n")),
        "assistant": (start, Plain("assistant\n")),
    }
    return Template(roles, Control("<|im_end|>"))


def _phi3() -> Template:
    roles: dict[Role, tuple[Piece, ...]] = {
        "system": (Control("<|system|>"), Plain("\n")),
        "user": (Control("<|user|>"), Plain("\n")),
        "assistant": (Control("<|assistant|>"), Plain("\n")),
    }
    return Template(roles, Control("<|end|>"))


TEMPLATES = {"Hermes-2": _chatml(), "internlm2-chat": _chatml(), "phi3-chat": _phi3()}
"""By the ``template`` key of config.json; the first two differ in the original only in stop ids."""


def render(
    messages: Sequence[Message], template: Template, system_message: str, feature_counts: Sequence[int]
) -> tuple[Piece, ...]:
    """Lay the conversation out, ready for the answer.

    Args:
        messages: oldest first. A system message at the front replaces ``system_message``. When the
            last message is the assistant's it is left open, to be continued.
        template: one of :data:`TEMPLATES`.
        system_message: the checkpoint's own system text.
        feature_counts: feature positions of each picture and video frame, in conversation order.
    """
    turns = list(messages)
    first = system_message
    if turns and turns[0].role == "system":
        first = turns.pop(0).text
    pieces: list[Piece] = [*template.roles["system"], Plain(first), template.end]
    pictures = count()
    for turn in turns:
        pieces += template.roles[turn.role]
        pieces += _content(turn.parts, feature_counts, pictures)
        pieces.append(template.end)
    if turns and turns[-1].role == "assistant":
        pieces.pop()
    else:
        pieces += template.roles["assistant"]
    return tuple(merged(pieces))


def _content(parts: Sequence[Part], feature_counts: Sequence[int], pictures: Iterator[int]) -> Iterator[Piece]:
    """Yield one turn: pictures in front get the family's labels, the rest stays in its place."""
    leading = 0
    while leading < len(parts) and isinstance(parts[leading], Picture):
        leading += 1
    for place, part in enumerate(parts):
        if isinstance(part, Text):
            yield Plain(part.text)
        elif isinstance(part, Video):
            for frame in range(len(part.frames)):
                yield Plain(f"Frame{frame + 1}: ")
                yield from _block(next(pictures), feature_counts)
                yield Plain("\n")
        elif place < leading:
            yield Plain(f"Image-{place + 1}: " if leading > 1 else "")
            yield from _block(next(pictures), feature_counts)
            yield Plain("\n")
        else:
            yield from _block(next(pictures), feature_counts)


def _block(picture: int, feature_counts: Sequence[int]) -> tuple[Piece, ...]:
    return IMAGE_START, Features(picture, feature_counts[picture]), IMAGE_END
