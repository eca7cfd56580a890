"""Messages -> prompt pieces, positions and expert branches (facts §4, §6, §7).

There is one picture, or one clip, per conversation. It stands right behind the beginning token,
before all history, wherever the user put it: the model was trained on nothing else. There is no
system prompt and no token that ends a turn; a history is text in the form of questions and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from vlmchat.conversation import Message, Picture, Video
from vlmchat.errors import InputError
from vlmchat.families.pieces import Features, Piece, Plain
from vlmchat.options import Template

_ANSWER = {"chat": "Answer:", "vqa": "Short answer:"}
"""What stands before every answer."""


def render(
    messages: Sequence[Message], template: Template, frames: Sequence[tuple[int, int]], video: bool
) -> tuple[Piece, ...]:
    """Lay the conversation out, ready for the answer.

    Args:
        messages: oldest first, without a system message. When the last message is the assistant's
            it is left open, to be continued.
        template: ``chat`` and ``vqa`` write the history as questions and answers, ``base`` the last
            text alone, to be continued.
        frames: (number, features) of the picture or of each frame of the clip, empty for text only.
        video: the checkpoint reads clips; ``chat`` then puts each frame's index behind it.
    """
    pieces: list[Piece] = []
    for index, (number, features) in enumerate(frames):
        pieces.append(Features(number, features))
        if video and template == "chat":
            # A stretch of its own: the original tokenizes each index by itself.
            pieces.append(Plain(str(index)))
    return (*pieces, Plain(text(messages, template)))


def text(messages: Sequence[Message], template: Template) -> str:
    """Return the conversation behind its picture as text."""
    *history, (question, answer) = _exchanges(messages)
    if template == "base":
        return question if answer is None else f"{question} {answer}"
    sign = _ANSWER[template]
    told = "".join(f"Question: {asked} {sign} {answered or ''}\n" for asked, answered in history)
    last = f"{told}Question: {question} {sign}"
    return last if answer is None else f"{last} {answer}"


def one_medium(messages: Sequence[Message], video: bool) -> Picture | Video | None:
    """Return the conversation's picture or clip.

    Raises:
        InputError: there is more than one, a clip for a model without video, or a system message.
    """
    if any(message.role == "system" for message in messages):
        raise InputError("CogVLM2 has no system prompt.", "Remove it, or say it in your question.")
    media = [part for message in messages for part in message.parts if isinstance(part, Picture | Video)]
    what = "video" if video else "picture"
    if len(media) > 1:
        raise InputError(
            f"CogVLM2 reads one {what} per conversation; this one has {len(media)}: "
            f"{', '.join(medium.name for medium in media)}.",
            f"Start a new chat for the other {what}, or put it in the place of the first.",
        )
    medium = media[0] if media else None
    if isinstance(medium, Video) and not video:
        raise InputError(
            f"This CogVLM2 reads pictures, not videos such as {medium.name}.",
            "Use cogvlm2-video, or give one frame as a picture.",
        )
    return medium


def positions(types: Sequence[bool]) -> tuple[int, ...]:
    """Return rotary positions for ``types`` (True where features stand).

    Each place counts one on, except that the patches inside a stretch of features, all but its
    first and last place, share one number.
    """
    inner = [_at(types, place - 1) and kind and _at(types, place + 1) for place, kind in enumerate(types)]
    counted = [0]
    for before, here in pairwise(inner):
        counted.append(counted[-1] + (0 if before and here else 1))
    return tuple(counted)


def vision_experts(types: Sequence[bool]) -> tuple[bool, ...]:
    """Return where the vision expert works: at features that are followed by a feature.

    So the last place of a stretch, its end mark, takes the language expert.
    """
    return tuple(kind and _at(types, place + 1) for place, kind in enumerate(types))


def _at(types: Sequence[bool], place: int) -> bool:
    return 0 <= place < len(types) and types[place]


def _exchanges(messages: Sequence[Message]) -> list[tuple[str, str | None]]:
    """Pair questions with answers; None where a question got none."""
    pairs: list[tuple[str, str | None]] = []
    for message in messages:
        if message.role == "user":
            pairs.append((message.text, None))
        elif pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], message.text)
        else:
            pairs.append(("", message.text))
    return pairs or [("", None)]
