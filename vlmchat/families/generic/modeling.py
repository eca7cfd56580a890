"""A native image-text class behind the engine's contract, pictures taken by its own processor."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from vlmchat.errors import CheckpointError
from vlmchat.families.family import Position, Span
from vlmchat.families.generic.config import GenericConfig
from vlmchat.families.generic.processing import PictureProcessor, as_image
from vlmchat.families.generic.weights import HEAD, renamed
from vlmchat.families.masks import Order
from vlmchat.families.native import Masks, NativeNetwork


class GenericNetwork(NativeNetwork):
    """One model of a class that Transformers has, weights still on the meta device when built."""

    joins_tiles = False
    runs_lean = False

    def __init__(self, config: GenericConfig, processor: PictureProcessor, names: Collection[str]) -> None:
        """Build it.

        Args:
            config: of the checkpoint.
            processor: of the checkpoint.
            names: of the tensors in its files.

        Raises:
            CheckpointError: as in :func:`~vlmchat.families.generic.weights.renamed`.
        """
        super().__init__(config.architecture, config.native)
        module: Any = self.module
        self.stored_as = renamed(module, names)
        """Stored name -> parameter."""
        # Natively not every tower declares its layers as whole; all of them add what two of their parts computed.
        module._no_split_modules = sorted({type(block).__name__ for block in _stacked(module)})
        self._processor = processor
        self._placeholder_id = config.placeholder_id
        self._joined = config.traits.joined_pictures
        self._accepted = set(inspect.signature(self._inner.get_image_features).parameters)
        if HEAD in module.all_tied_weights_keys and HEAD not in self.stored_as.values():
            self.tie_head()

    def encode(self, pixels: Tensor) -> Tensor:
        """Return projected features [1, tokens, hidden] of one picture [1, 3, height, width], values 0 to 255.

        Raises:
            CheckpointError: its processor announces another number of features than the model makes.
        """
        made, expansion = self._processor.inputs(as_image(pixels))
        given = {name: _moved(value, pixels) for name, value in made.items() if name in self._accepted}
        found = self._inner.get_image_features(**given, return_dict=True).pooler_output
        found = torch.cat(list(found)) if isinstance(found, (list, tuple)) else found
        features: Tensor = found.flatten(0, -2)
        if len(features) != expansion.features:
            raise CheckpointError(
                f"The processor announces {expansion.features} features of a picture, the model makes {len(features)}.",
                "Its processor files are of another model; fetch them again.",
            )
        return features[None]

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [rows, length, hidden] of ``ids`` [rows, length]; placeholders may have none."""
        return super().embed(ids.masked_fill(ids == self._placeholder_id, 0))

    def hidden_states(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache``; return the last hidden states [rows, length, hidden]."""
        if span.positions.ndim == 3:
            span = replace(span, positions=span.positions.permute(2, 0, 1))
        return super().hidden_states(span, cache)

    def next_logits(
        self, ids: Sequence[int], positions: Sequence[Position], totals: tuple[int, ...], cache: Cache
    ) -> Tensor | None:
        """Return float32 logits [rows, vocab] behind a new token of each row; None where no compiled code runs."""
        return super().next_logits([0 if id_ == self._placeholder_id else id_ for id_ in ids], positions, totals, cache)

    def masks(self, span: Span, cache: Cache) -> Masks:
        """Return what each position attends to: everything before it, and its own picture where these are joined."""
        if not self._joined or span.experts is None:
            return super().masks(span, cache)
        order = Order.of(span, cache)
        return self.narrowed(order, order.before() | order.together(span.experts))


def _stacked(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of the text model and of the vision tower."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            yield from part


def _moved(value: Any, like: Tensor) -> Any:
    """Put floating inputs of the vision tower into its dtype, and all tensors on its device."""
    if not isinstance(value, Tensor):
        return value
    return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
