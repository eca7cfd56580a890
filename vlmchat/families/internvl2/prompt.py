"""The three conversation templates of InternVL2, as :mod:`vlmchat.families.turns` writes them.

Rules measured on the original code (the project's InternVL2 facts, §6): no newline after
``<|im_end|>``; the system text of the checkpoint is used unless the conversation brings its own;
one picture before a turn's text takes a line of its own, several take a line each that begins with
``Image-1: ``, frames of a video with ``Frame1: ``; a picture between texts stands where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlmchat.conversation import Message
from vlmchat.families import turns
from vlmchat.families.pieces import Control, Features, Piece, Plain
from vlmchat.families.turns import Template, chatml

DEFAULT_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
"""System text of every released checkpoint whose config carries no ``system_message`` of its own."""
IMAGE_START = Control("<img>")
IMAGE_END = Control("</img>")
IMAGE_CONTEXT = "<IMG_CONTEXT>"
"""Placeholder token that stands at every feature position."""
_LABELS = ("Image-{}: ", "Frame{}: ")


def _phi3() -> Template:
    return Template(
        roles={
            "system": (Control("<|system|>"), Plain("\n")),
            "user": (Control("<|user|>"), Plain("\n")),
            "assistant": (Control("<|assistant|>"), Plain("\n")),
        },
        end=Control("<|end|>"),
        between="",
        image_label=_LABELS[0],
        frame_label=_LABELS[1],
    )


TEMPLATES = {"Hermes-2": chatml("", *_LABELS), "internlm2-chat": chatml("", *_LABELS), "phi3-chat": _phi3()}
"""By the ``template`` key of config.json; the first two differ in the original only in stop ids."""


def render(
    messages: Sequence[Message], template: Template, system_message: str, feature_counts: Sequence[int]
) -> tuple[Piece, ...]:
    """Lay the conversation out, ready for the answer.

    Args:
        messages: oldest first; see :func:`vlmchat.families.turns.render`.
        template: one of :data:`TEMPLATES`.
        system_message: the checkpoint's own system text.
        feature_counts: feature positions of each picture and video frame, in conversation order.
    """

    def block(picture: int) -> tuple[Piece, ...]:
        return IMAGE_START, Features(picture, feature_counts[picture]), IMAGE_END

    return turns.render(messages, template, system_message, block)
