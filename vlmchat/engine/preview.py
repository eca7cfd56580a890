"""A request as a checkpoint would see it, without its weights: config, tokenizer and pictures are read, no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vlmchat.engine.api import PromptSize, Request
from vlmchat.engine.loader import fingerprint
from vlmchat.engine.shards import open_shards, stored_tensors
from vlmchat.engine.view import Sight, sights
from vlmchat.errors import CheckpointError
from vlmchat.families.registry import open_checkpoint


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be computed."""

    family: str
    prompt: str = field(repr=False)
    """As one string, control tokens and picture placeholders written out."""
    token_ids: tuple[int, ...] = field(repr=False)
    size: PromptSize
    pictures: tuple[Sight, ...]
    answer_tokens: int
    """Tokens the answer may have: the longest that was asked for, or what the context leaves; 0 or less: none."""
    kv_elements_per_token: int
    """Numbers the KV cache holds per token."""
    fingerprint: str | None
    """As of the loaded model; None where the weights files cannot be read, which a preview does without."""


def preview(folder: Path, request: Request) -> Preview:
    """Lay ``request`` out for the checkpoint in ``folder``.

    Raises:
        CheckpointError: no family takes the folder, or its config or tokenizer cannot be used.
        InputError: a picture cannot be read, or the family cannot take the conversation.
    """
    checkpoint = open_checkpoint(folder)
    prompt = checkpoint.layout(request.messages, request.vision)
    tiles = tuple(picture.tiles for picture in prompt.pictures)
    size = PromptSize(len(prompt.ids), prompt.image_tokens, checkpoint.context_tokens, tiles)
    return Preview(
        family=checkpoint.family,
        prompt=prompt.text,
        token_ids=prompt.ids,
        size=size,
        pictures=sights(checkpoint, request.messages, request.vision, draw=False),
        answer_tokens=min(request.sampling.max_new_tokens, checkpoint.context_tokens - len(prompt.ids)),
        kv_elements_per_token=checkpoint.kv_elements_per_token,
        fingerprint=_fingerprint(folder),
    )


def _fingerprint(folder: Path) -> str | None:
    try:
        return fingerprint(folder, stored_tensors(open_shards(folder)))
    except CheckpointError:
        return None
