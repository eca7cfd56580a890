"""What is minimised: the answers' cross-entropy, and the dense labels read linearly off patches and image tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vlmchat.demo.grounding import Grounding
from vlmchat.demo.labels import BACKGROUND_SYMBOL, IGNORE, PICTURE_FIELDS, PLACES, THING_FIELDS, UNKNOWN_SYMBOL
from vlmchat.demo.network import Network, block_patches, normalise
from vlmchat.demo.rows import Batch
from vlmchat.demo.store import Store
from vlmchat.demo.world import Kind

PATCH_FIELDS: Final = ("symbol", "colour", "rank")
"""Labels read off single patches; the tokens, which the text model sees, carry all of them."""
PLACE_WEIGHT: Final = 0.5
WEIGHTS: Final = {"symbol": 4.0, "colour": 2.0, "digit1": 2.0, "digit2": 2.0, "digit3": 2.0}
"""Weights of the labels that everything else rests on; 1 for the others."""
KEPT: Final = 8
"""Image tokens (2 x 2 patches, of 16) that the seeing stage looks at, occupied ones first: twice the speed."""
GAZE_LAYER: Final = 2
GAZE_HEADS: Final = (1, 2)
"""Text layer (of four) and heads that must look at what the answer speaks of: one of each pair that shares keys. The
two layers before it find out what is asked for, the one behind it turns what was found into words. Left alone, the
lookups by place or for a place had not formed after 5,600 steps of conversations ("what is on the left?" with two
things stood at 39 %, "where is the star?" at 60 %); with gaze they had after 1,000 more (80 and 88 %)."""
_SYMBOL: Final = list(THING_FIELDS).index("symbol")
_COLOUR: Final = list(THING_FIELDS).index("colour")


@dataclass(frozen=True)
class Extras:
    """Weights of what is learnt beside the answers.

    Dense labels, words of image tokens (grounding), where answers look (gaze), and words of what they looked at.
    """

    dense: float = 0.1
    words: float = 0.0
    gaze: float = 0.0
    recall: float = 0.0
    frozen: bool = False
    """Leave the vision tower and projector as they are."""


@dataclass(frozen=True)
class DenseLabels:
    """Labels of a batch of whole pictures, one row per cell.

    ``things`` int64 [n, cells, fields] (-1 ignored), ``places`` float32 [n, cells, 4], ``occupied`` bool [n, cells].
    """

    things: Tensor
    places: Tensor
    occupied: Tensor


def dense_labels(store: Store, pictures: NDArray[np.int64], cells: NDArray[np.uint8]) -> DenseLabels:
    """Spread the labels of each thing over the cells that show it; ``cells`` uint8 [n, cells]."""
    spot = np.maximum(cells.astype(np.int64) - 1, 0)
    rows = np.arange(len(pictures))[:, None]
    things = store.things[pictures].astype(np.int64)[rows, spot]
    occupied = cells > 0
    things[~occupied] = IGNORE
    labels = store.pictures[pictures].astype(np.int64)
    unknown = labels[:, list(PICTURE_FIELDS).index("kind")] == Kind.UNKNOWN.value
    symbols = np.where(unknown[:, None], UNKNOWN_SYMBOL, BACKGROUND_SYMBOL)
    things[..., _SYMBOL] = np.where(occupied, things[..., _SYMBOL], symbols)
    ground = labels[:, list(PICTURE_FIELDS).index("background")][:, None]
    things[..., _COLOUR] = np.where(occupied, things[..., _COLOUR], ground)
    places = store.spots[pictures].astype(np.float32)[rows, spot]
    return DenseLabels(torch.from_numpy(things), torch.from_numpy(places), torch.from_numpy(occupied))


def dense_loss(network: Network, store: Store, patches: Tensor, tokens: Tensor, pictures: NDArray[np.int64]) -> Tensor:
    """Return the loss of all dense labels of ``pictures``, whose full features are given in the same order."""
    labels = (
        dense_labels(store, pictures, store.patches[pictures]),
        dense_labels(store, pictures, store.tokens[pictures]),
    )
    return _labelled_loss(network, patches, tokens, labels, torch.from_numpy(store.pictures[pictures].astype(np.int64)))


def _labelled_loss(
    network: Network, patches: Tensor, tokens: Tensor, labels: tuple[DenseLabels, DenseLabels], whole: Tensor
) -> Tensor:
    loss = _cell_loss(network.readers["patch"](patches).float(), labels[0], PATCH_FIELDS)
    read = network.readers["token"](tokens).float()
    start = sum(THING_FIELDS.values()) + len(PLACES)
    loss = loss + _cell_loss(read[..., :start], labels[1], tuple(THING_FIELDS))
    for field, (name, classes) in enumerate(PICTURE_FIELDS.items()):
        logits = read[..., start : start + classes]
        start += classes
        target = whole[:, field, None].expand(-1, logits.shape[1])
        loss = loss + _cross_entropy(logits, target) * WEIGHTS.get(name, 1.0)
    return loss


def _cell_loss(read: Tensor, labels: DenseLabels, fields: tuple[str, ...]) -> Tensor:
    loss = torch.zeros(())
    start = 0
    for field, (name, classes) in enumerate(THING_FIELDS.items()):
        if name in fields:
            loss = loss + _cross_entropy(read[..., start : start + classes], labels.things[..., field]) * WEIGHTS.get(
                name, 1.0
            )
        start += classes
    places = read[..., start : start + len(PLACES)]
    wrong = functional.smooth_l1_loss(places, labels.places, reduction="none").sum(-1)
    return loss + PLACE_WEIGHT * (wrong * labels.occupied).sum() / labels.occupied.sum().clamp_min(1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the targets that are not ignored; 0 where there are none."""
    kept = target != IGNORE
    total = functional.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / kept.sum().clamp_min(1)


def seeing_loss(
    network: Network, store: Store, pictures: NDArray[np.int64], dtype: torch.dtype, rng: np.random.Generator
) -> Tensor:
    """Return the dense loss of a batch of whole pictures, each seen in ``KEPT`` of its 16 tokens."""
    cells = store.tokens[pictures]
    order = np.argsort(rng.random(cells.shape) - (cells > 0), axis=1)[:, :KEPT]
    blocks = torch.from_numpy(np.sort(order, axis=1))
    pixels = normalise(torch.from_numpy(store.whole[pictures]), dtype)
    patches, tokens = network.see_part(pixels, blocks)
    kept = block_patches(network.sizes.grid)[blocks].flatten(1).numpy()
    labels = (
        dense_labels(store, pictures, np.take_along_axis(store.patches[pictures], kept, 1)),
        dense_labels(store, pictures, np.take_along_axis(cells, blocks.numpy(), 1)),
    )
    return _labelled_loss(network, patches, tokens, labels, torch.from_numpy(store.pictures[pictures].astype(np.int64)))


def gaze_loss(attention: Tensor, gazing: tuple[Tensor, Tensor], gazed: Tensor) -> Tensor:
    """Return minus the mean logarithm of the attention on the image tokens of what is spoken of.

    ``attention`` [rows, heads, length, length] of layer ``GAZE_LAYER``; for the rest see :class:`Batch`.
    """
    line, place = gazing
    looks = attention[:, GAZE_HEADS][line, :, place].float()
    return -((looks * gazed[:, None]).sum(-1) + 1e-5).log().mean()


def talking_loss(
    network: Network, store: Store, batch: Batch, dtype: torch.dtype, extras: Extras, grounding: Grounding
) -> tuple[Tensor, Tensor]:
    """Return the answers' loss plus the weighted extras, and the answers' loss alone."""
    extra = torch.zeros(())
    tokens = torch.zeros(0, network.sizes.width, dtype=dtype)
    if len(batch.tiles):
        with torch.set_grad_enabled(not extras.frozen):
            patches, seen = network.see(normalise(torch.from_numpy(batch.tiles), dtype))
        tokens = seen.flatten(0, 1)
        tiles = [tile for tile, _ in batch.labelled]
        pictures = np.asarray([picture for _, picture in batch.labelled])
        if extras.dense:
            extra = extras.dense * dense_loss(network, store, patches[tiles], seen[tiles], pictures)
        if extras.words:
            labels = dense_labels(store, pictures, store.tokens[pictures])
            embedding = network.language_model.model.embed_tokens.weight
            extra = extra + extras.words * grounding.loss(embedding, seen[tiles], labels.things, labels.occupied)
    hidden, layers = network.read(batch.ids, tokens, batch.features, batch.positions, batch.allowed)
    if extras.gaze and len(batch.gazed):
        states, attention = layers[GAZE_LAYER]
        extra = extra + extras.gaze * gaze_loss(attention, batch.gazing, batch.gazed)
        things = torch.from_numpy(store.things[batch.single[:, 0].numpy(), batch.single[:, 1].numpy()].astype(np.int64))
        embedding = network.language_model.model.embed_tokens.weight
        recalled = grounding.loss(embedding, states[batch.gazing], things, batch.single[:, 0] >= 0)
        extra = extra + extras.recall * recalled
    logits = network.language_model.lm_head(hidden[batch.where]).float()
    answers = functional.cross_entropy(logits, batch.answers)
    return answers + extra, answers.detach()
