"""Stand-ins that are shipped with the tests: a scripted engine for everything above ``engine``."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as CancelEvent

from vlmchat.engine.api import LoadedModel, PromptSize, Request
from vlmchat.engine.arrivals import arrivals_of
from vlmchat.engine.events import (
    AnswerEvent,
    Delta,
    Encoding,
    Failed,
    Finished,
    FinishReason,
    Loading,
    Prefill,
    RowEvent,
    Timing,
    Usage,
)
from vlmchat.engine.view import Sight
from vlmchat.errors import VlmchatError
from vlmchat.media.image import load_rgb
from vlmchat.options import LoadOptions


@dataclass
class ScriptedEngine:
    """An engine that answers from a script, one piece per ``delay`` seconds, and records what it was asked.

    Each entry of ``answers`` serves one request: a list of pieces, or an error to raise. When the
    script is used up the last entry is repeated.
    """

    answers: Sequence[Sequence[str] | VlmchatError] = (("A ", "red ", "circle."),)
    delay: float = 0.0
    load_delay: float = 0.0
    context_tokens: int = 1000
    tiles: int = 1
    """Of each picture, unless a request has a lower limit."""
    load_error: VlmchatError | None = None
    requests: list[Request] = field(default_factory=list)
    loads: list[tuple[Path, LoadOptions]] = field(default_factory=list)
    closed: bool = False
    loaded: LoadedModel | None = None
    at_piece: threading.Event = field(default_factory=threading.Event)
    """Set as soon as the first piece of an answer is out: tests wait on it instead of sleeping."""

    def holds(self, folder: Path, options: LoadOptions) -> bool:
        """Say whether this was loaded last."""
        return self.loaded is not None and self.loads[-1] == (folder, options)

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        """Pretend to load: three stages and ``ready``."""
        self.loads.append((folder, options))
        for stage in ("libraries", "config"):
            yield Loading(stage)
        time.sleep(self.load_delay)
        if self.load_error is not None:
            raise self.load_error
        if cancel is not None and cancel.is_set():
            return
        yield Loading("weights", done=1000, total=1000, shard=1, shards=1)
        self.loaded = LoadedModel(
            folder=folder,
            family="scripted",
            device="cpu",
            dtype="float32",
            quantization=options.quantization,
            context_tokens=self.context_tokens,
            weight_bytes=1000,
            kv_bytes_per_token=8,
            fingerprint="f" * 64,
        )
        yield Loading("ready")

    def measure(self, request: Request) -> PromptSize:
        """Count a word as a token and a tile as 16."""
        words = sum(len(message.text.split()) for message in request.messages)
        pictures = sum(len(message.pictures) for message in request.messages)
        tiles = min(self.tiles, request.vision.max_tiles or self.tiles)
        image_tokens = 16 * tiles * pictures
        return PromptSize(words + image_tokens, image_tokens, self.context_tokens, (tiles,) * pictures)

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Show each picture whole, in one tile of 16 tokens."""
        pictures = [picture for message in request.messages for picture in message.pictures]
        return tuple(Sight(it, 16, 1, images=(load_rgb(it),) if draw else ()) for it in pictures)

    def generate(self, request: Request, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Yield the next scripted answer as a whole event stream."""
        self.requests.append(request)
        script = self.answers[min(len(self.requests), len(self.answers)) - 1]
        size = self.measure(request)
        for tiles in size.tiles[-1:]:
            yield Encoding(1, 1, tiles, tiles)
        yield Prefill(size.prompt_tokens, size.prompt_tokens, 0)
        if isinstance(script, VlmchatError):
            raise script
        said: list[str] = []
        reason: FinishReason = "stop"
        for piece in script[: request.sampling.max_new_tokens]:
            if self.delay:
                time.sleep(self.delay)
            if cancel is not None and cancel.is_set():
                reason = "interrupted"
                break
            said.append(piece)
            yield Delta(piece, (len(said),))
            self.at_piece.set()
        if reason == "stop" and len(said) < len(script):
            reason = "length"
        yield Finished(
            reason,
            "".join(said).strip(),
            tuple(range(1, len(said) + 1)),
            Usage(size.prompt_tokens, size.image_tokens, len(said)),
            Timing(0.0, 0.0, 0.01, 0.02, 0.1, 25.0),
        )

    def generate_many(
        self, requests: Iterable[Request], width: int, cancel: CancelEvent | None = None
    ) -> Iterator[RowEvent]:
        """Answer ``width`` requests at a time, an event of each in turn; they are read as the real engine does."""
        arrivals = arrivals_of(requests, width, lambda: cancel is not None and cancel.is_set())
        rows: deque[tuple[int, Iterator[AnswerEvent]]] = deque()
        while True:
            while len(rows) < width and (arrival := arrivals.take(wait=not rows)) is not None:
                rows.append((arrival[0], self.generate(arrival[1], cancel)))
            if not rows:
                break
            number, events = rows.popleft()
            try:
                yield number, next(events)
            except VlmchatError as problem:
                yield number, Failed(problem)
            except StopIteration:
                continue
            else:
                rows.append((number, events))
        arrivals.close()

    def unload(self) -> None:
        """Forget the model."""
        self.loaded = None

    def close(self) -> None:
        """Unload and say so."""
        self.unload()
        self.closed = True
