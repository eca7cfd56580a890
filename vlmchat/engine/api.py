"""The engine's door: what ``chat``, the front ends and the scripted fake share. No torch here.

An engine owns one thread and at most one loaded model. Its iterators may be consumed from any
thread; closing one early, or setting its cancel event, ends the work within one weights file, one
tile, one prefill chunk or one token, and the iterator then ends normally (an answer still ends
with :class:`Finished`, reason ``interrupted``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as CancelEvent
from typing import Protocol

from vlmchat.conversation import Message
from vlmchat.engine.events import AnswerEvent, Loading, RowEvent
from vlmchat.engine.view import Sight
from vlmchat.options import LoadOptions, Sampling, VisionOptions


@dataclass(frozen=True, slots=True)
class Request:
    """One question with its whole history, oldest first; the last message is the user's.

    A last message of the assistant is continued where it stopped.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    vision: VisionOptions = field(default_factory=VisionOptions)
    schema: str | None = None
    """The JSON Schema, as JSON, that the answer is held to while it is written; None: any text."""
    private: bool = False
    """It is not to leave anything on disk: features of its pictures neither."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """What a request would cost, known before anything is computed."""

    prompt_tokens: int
    image_tokens: int
    context_tokens: int
    """The model's limit for prompt and answer together."""
    tiles: tuple[int, ...]
    """Tiles (or frames) of each picture in order, thumbnail included."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What is in memory now."""

    folder: Path
    family: str
    device: str
    dtype: str
    quantization: str
    """``none``, ``8-bit``, ``4-bit``; ``packed`` or ``unpacked`` for a checkpoint that came quantized."""
    context_tokens: int
    weight_bytes: int
    """Bytes of parameters and buffers as held."""
    kv_bytes_per_token: int
    fingerprint: str
    """sha256 over the names, shapes and dtypes of the weights files and config: the revision of a local folder."""


class Engine(Protocol):
    """A local folder in, tokens out."""

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in memory, or None."""

    def holds(self, folder: Path, options: LoadOptions) -> bool:
        """Say whether :meth:`load` of the same would have nothing to do."""

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        """Bring the checkpoint in ``folder`` into memory; a model already loaded is dropped first.

        The last event has stage ``ready`` unless ``cancel`` was set. Nothing is reloaded when the
        same folder and options are in memory already.

        Raises:
            CheckpointError: the folder is no checkpoint this program can prove it loads right.
            DoesNotFit: it is larger than the memory of the device.
        """

    def measure(self, request: Request) -> PromptSize:
        """Return what ``request`` would cost with the loaded model, without computing it.

        Raises:
            InputError: a picture cannot be read, or the family cannot lay the messages out.
        """

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Return each picture and video frame of ``request`` as the model gets it; nothing is computed with it.

        Args:
            request: as for :meth:`measure`.
            draw: cut the tiles too, which decodes the pictures.

        Raises:
            InputError: as in :meth:`measure`.
        """

    def generate(self, request: Request, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Answer ``request``.

        Raises:
            ContextOverflow: the prompt leaves no room for an answer; the numbers are in the message.
            InputError: as in :meth:`measure`.
            OutOfMemory: the device ran out; the model stays loaded, its caches are emptied.
        """

    def generate_many(
        self, requests: Iterable[Request], width: int, cancel: CancelEvent | None = None
    ) -> Iterator[RowEvent]:
        """Answer ``requests``, up to ``width`` of them at a time, in one stream of numbered events.

        :meth:`generate` is the same with one request. The events of one request come in their order
        and end with its own :class:`Finished` or :class:`~vlmchat.engine.events.Failed`; those of
        different requests come in any order. A request takes the place of whichever ended first. What
        is no sequence is read on a thread of its own, at most ``width`` requests ahead, and never
        waited for while there is work. Where the device has room for it, the pictures of ``width`` more
        go through the vision tower while the present rows are decoded. Cancelled, every request that was
        begun ends with ``interrupted`` and the others get no event. Out of memory, half of the rows are put
        off and computed later; only a row that does not fit alone fails.

        Raises:
            ModelError: no model is loaded.
            Exception: what iterating over ``requests`` raised, after the answers to those before it.
        """

    def unload(self) -> None:
        """Drop the model and free its memory."""

    def close(self) -> None:
        """Unload and end the engine's thread; the engine cannot be used afterwards."""
