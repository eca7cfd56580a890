"""The engine: all of the room on one thread of its own.

Importing this module costs nothing; torch and transformers are imported on the engine's thread
with the first load, so that a front end is on the screen long before.
"""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event as CancelEvent
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from vlmchat.engine.api import LoadedModel, PromptSize, Request
from vlmchat.engine.arrivals import arrivals_of
from vlmchat.engine.events import AnswerEvent, Loading, RowEvent
from vlmchat.engine.view import Sight, sights
from vlmchat.errors import ModelError
from vlmchat.options import LoadOptions
from vlmchat.paths import places

if TYPE_CHECKING:
    from vlmchat.engine.generate import Runner

EventT = TypeVar("EventT")
Stopped: TypeAlias = Callable[[], bool]


class _End:
    """Marks the end of a job's events."""


class TorchEngine:
    """Loads local folders with torch and answers with them; see :class:`vlmchat.engine.api.Engine`."""

    def __init__(self, interactive: bool = False, feature_bytes: int = 0) -> None:
        """Make an engine that does nothing yet.

        Args:
            interactive: something is drawn beside it, so leave it a core where there are enough.
            feature_bytes: of picture features kept on disk for later processes; 0 keeps none.
        """
        self._interactive = interactive
        self._feature_bytes = feature_bytes
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._runner: Runner | None = None
        self._options = LoadOptions()

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in memory, or None."""
        runner = self._runner
        return runner.model.about if runner else None

    @property
    def runner(self) -> Runner:
        """The loaded model with its caches, for tests and benchmarks.

        Raises:
            ModelError: no model is loaded.
        """
        if self._runner is None:
            raise ModelError("No model is loaded.", "Load one first.")
        return self._runner

    def holds(self, folder: Path, options: LoadOptions) -> bool:
        """Say whether just this is in memory."""
        runner = self._runner
        known = runner is not None and runner.model.checkpoint.folder == folder.expanduser().resolve()
        return known and self._options == options

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        """Bring the checkpoint in ``folder`` into memory; see the contract."""
        return self._stream(lambda stopped: self._load(folder.expanduser().resolve(), options, stopped), cancel)

    def measure(self, request: Request) -> PromptSize:
        """Return what ``request`` would cost, on the caller's thread: it computes nothing."""
        return self.runner.measure(request)

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Return the pictures of ``request`` as the model gets them, on the caller's thread."""
        return sights(self.runner.model.checkpoint, request.messages, request.vision, draw)

    def generate(self, request: Request, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Answer ``request``; see the contract."""
        return self._stream(lambda stopped: self.runner.answer(request, stopped), cancel)

    def generate_many(
        self, requests: Iterable[Request], width: int, cancel: CancelEvent | None = None
    ) -> Iterator[RowEvent]:
        """Answer ``requests``, ``width`` at a time; see the contract."""

        def job(stopped: Stopped) -> Iterator[RowEvent]:
            return self.runner.answer_many(arrivals_of(requests, width, stopped), width, stopped)

        return self._stream(job, cancel)

    def unload(self) -> None:
        """Drop the model on the engine's thread and wait for it."""
        for _ in self._stream(self._unload, None):
            pass

    def close(self) -> None:
        """Unload and end the thread."""
        if self._thread is not None:
            self.unload()
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _load(self, folder: Path, options: LoadOptions, stopped: Stopped) -> Iterator[Loading]:
        yield Loading("libraries")
        # Late on purpose: these imports take 4 CPU-seconds, and they belong to this thread.
        import torch

        from vlmchat.engine.arrange import arrange
        from vlmchat.engine.device import choose_threads
        from vlmchat.engine.feature_files import FeatureFiles
        from vlmchat.engine.fuse import compiled, fuse
        from vlmchat.engine.generate import Runner
        from vlmchat.engine.known_pictures import KnownPictures
        from vlmchat.engine.loader import load
        from vlmchat.engine.record import record

        if self.holds(folder, options):
            yield Loading("ready")
            return
        yield from self._unload(stopped)
        model = yield from load(folder, options, stopped)
        if model is not None:
            threads = choose_threads(model.about.weight_bytes, self._interactive)
            torch.set_num_threads(threads)
            fused = yield from compiled(model, stopped)
            yield from arrange(model, stopped, fused)
            if stopped():
                return
            if fused:
                fuse(model, threads)
            record(model)
            self._runner, self._options = Runner(model), options
            if self._feature_bytes:
                files = FeatureFiles(places().features, self._feature_bytes)
                self._runner.pictures.known = KnownPictures(files, model)
            # All that is alive now stays. Walking torch's and transformers' objects again with every full
            # collection was half of what the app's thread did: 15 % of a core while it drew, 7 % without.
            gc.freeze()
            yield Loading("ready")

    def _unload(self, stopped: Stopped) -> Iterator[Loading]:
        if self._runner is not None:
            from vlmchat.engine.device import release_memory

            if self._runner.pictures.known is not None:
                self._runner.pictures.known.close()
            self._runner = None
            gc.unfreeze()
            release_memory()
        yield from ()

    def _stream(self, job: Callable[[Stopped], Iterator[EventT]], cancel: CancelEvent | None) -> Iterator[EventT]:
        """Run ``job`` on the engine's thread and yield its events here; its error is raised here."""
        left = threading.Event()
        outbox: queue.SimpleQueue[EventT | BaseException | type[_End]] = queue.SimpleQueue()

        def stopped() -> bool:
            return left.is_set() or (cancel is not None and cancel.is_set())

        def work() -> None:
            try:
                for event in job(stopped):
                    outbox.put(event)
            except BaseException as problem:  # noqa: BLE001 - handed to the caller's thread, every kind
                outbox.put(problem)
            outbox.put(_End)

        self._submit(work)
        try:
            while (event := outbox.get()) is not _End:
                if isinstance(event, BaseException):
                    raise event
                yield event  # type: ignore[misc]
        finally:
            left.set()

    def _submit(self, work: Callable[[], None]) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="vlmchat-engine", daemon=True)
                self._thread.start()
        self._jobs.put(work)

    def _serve(self) -> None:
        while (work := self._jobs.get()) is not None:
            work()
