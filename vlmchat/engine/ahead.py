"""Pictures encoded ahead: those of the next requests go through the vision tower while rows are decoded.

A thread of its own, which lives as long as the batch it works for. What goes wrong on it is forgotten: the
engine's thread meets it again when it needs the picture, and tells.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import nullcontext

import torch

from vlmchat.engine.events import RowEvent
from vlmchat.engine.turn import Turn
from vlmchat.errors import VlmchatError

_PATIENCE = 0.1
"""Seconds between two looks at the stop, while a picture is being encoded."""
_Encode = Callable[[Sequence[Turn], Callable[[], bool]], Generator[RowEvent, None, dict[Turn, VlmchatError] | None]]


class Ahead:
    """Gives turns that wait their features."""

    def __init__(self, encode: _Encode, device: torch.device, stopped: Callable[[], bool]) -> None:
        """Make an encoder that does nothing yet.

        Args:
            encode: :meth:`vlmchat.engine.pictures.Pictures.encode`.
            device: of the vision tower; on CUDA the work goes to a stream of its own, beside that of the decoder.
            stopped: ends the work within one pass of the tower.
        """
        self._encode, self._device, self._stopped = encode, device, stopped
        self._changed = threading.Condition()
        self._waiting: list[Turn] = []
        self._busy: list[Turn] = []
        self._held: frozenset[str] = frozenset()
        """Pictures that the engine's thread encodes now: a turn that shows one of them waits, and finds it known."""
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, turn: Turn) -> None:
        """Have the pictures of ``turn`` encoded, together with all that wait then; returns at once."""
        if not turn.prompt.pictures:
            return
        with self._changed:
            self._waiting.append(turn)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="vlmchat-ahead", daemon=True)
                self._thread.start()

    def collect(self, turns: Sequence[Turn]) -> None:
        """Wait for the pictures of ``turns`` that are under way, and take back the others until :meth:`release`."""
        with self._changed:
            self._held = _keys(turns)
            self._waiting = [turn for turn in self._waiting if turn not in turns]
            while self._held & _keys(self._busy) and not self._stopped():
                self._changed.wait(_PATIENCE)

    def release(self) -> None:
        """Go on with turns that show what was collected: its features are known now."""
        with self._changed:
            self._held = frozenset()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and wait for it: the tower is free afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            # A stream belongs to a thread's context, inference mode too.
            with torch.inference_mode(), _side_stream(self._device):
                while self._take():
                    for _ in self._encode(self._busy, self._ended):
                        pass
        except (VlmchatError, RuntimeError, MemoryError):
            pass  # out of memory, say: from here on the engine's thread encodes alone
        finally:
            with self._changed:
                self._closed, self._busy, self._waiting = True, [], []
                self._changed.notify_all()

    def _take(self) -> bool:
        """Wait for turns, and hold them as busy; False at the end."""
        with self._changed:
            self._busy = []
            self._changed.notify_all()
            while not (ready := self._ready()) and not self._ended():
                self._changed.wait(_PATIENCE)
            self._busy = ready
            self._waiting = [turn for turn in self._waiting if turn not in ready]
            return not self._ended()

    def _ready(self) -> list[Turn]:
        return [turn for turn in self._waiting if not self._held & _keys([turn])]

    def _ended(self) -> bool:
        return self._closed or self._stopped()


def _keys(turns: Iterable[Turn]) -> frozenset[str]:
    return frozenset(picture.key for turn in turns for picture in turn.prompt.pictures)


def _side_stream(device: torch.device) -> torch.cuda.StreamContext | nullcontext[None]:
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def hand_over(features: torch.Tensor) -> None:
    """Make ``features``, computed on a side stream, safe for every other one; nothing to do elsewhere.

    Their memory is not given away while the default stream still reads them, whoever lets go of them when.
    """
    if features.device.type == "cuda":
        stream, default = torch.cuda.current_stream(features.device), torch.cuda.default_stream(features.device)
        if stream != default:
            stream.synchronize()
            features.record_stream(default)
