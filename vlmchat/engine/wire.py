"""What a kept engine and its clients say to each other, and how it stands on the socket. No torch, never pickle.

A frame is two lengths (big-endian, 4 bytes each), JSON, and the bytes the JSON points into. The JSON is
``[number of the call, message]``; messages are frozen values of a fixed list of classes and nothing else.
"""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from vlmchat import errors
from vlmchat.conversation import Message, Picture, Text, Video
from vlmchat.engine.api import LoadedModel, PromptSize, Request
from vlmchat.engine.events import Delta, Encoding, Failed, Finished, Loading, Prefill, Timing, Usage
from vlmchat.engine.view import Sight
from vlmchat.errors import VlmchatError
from vlmchat.options import LoadOptions, Sampling, VisionOptions

_HEAD = struct.Struct("!II")
_KIND = "is"


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's first word."""

    stamp: str
    """Of its code; another one than the server's ends the server."""
    keep_s: float
    """Seconds the engine stays after this client has left."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's answer to :class:`Hello`."""

    pid: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will not do it."""

    reason: Literal["outdated", "user", "busy"]
    message: str


@dataclass(frozen=True, slots=True)
class Load:
    """Call: bring a checkpoint into memory."""

    folder: Path
    options: LoadOptions


@dataclass(frozen=True, slots=True)
class Measure:
    """Call: what a request would cost."""

    request: Request


@dataclass(frozen=True, slots=True)
class View:
    """Call: a request's pictures as the model gets them."""

    request: Request
    draw: bool


@dataclass(frozen=True, slots=True)
class Generate:
    """Call: answer one request."""

    request: Request


@dataclass(frozen=True, slots=True)
class GenerateMany:
    """Call: answer requests that come one by one as :class:`More`, whenever the server says :class:`Next`."""

    width: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Call: what the server is and does; in place of :class:`Hello`, so that asking keeps nothing alive."""

    leave: bool = False
    """It should end as soon as nobody uses it."""
    folder: Path | None = None
    options: LoadOptions | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A kept engine, as it says itself."""

    pid: int
    loaded: LoadedModel | None
    clients: int
    """Programs that use it now."""
    left_s: float
    """Seconds until it leaves, while nobody uses it."""
    holds: bool = False
    """It has just the model that was asked about."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """From the client: end the call with this number."""


@dataclass(frozen=True, slots=True)
class Next:
    """From the server: send another request."""


@dataclass(frozen=True, slots=True)
class More:
    """From the client: another request; None after the last, and ``broke`` where reading them failed."""

    request: Request | None
    broke: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """An event of one of several answers."""

    number: int
    event: Any


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a call that went well."""

    result: Any = None
    broke: bool = False
    """The client's own requests ended with an error."""


_VALUES: tuple[type, ...] = (
    Hello, Welcome, Refused, Load, Measure, View, Generate, GenerateMany, Ask, Running, Cancel, Next, More, Row, Done,
    Message, Picture, Text, Video, LoadedModel, PromptSize, Request, LoadOptions, Sampling, VisionOptions, Sight,
    Delta, Encoding, Failed, Finished, Loading, Prefill, Timing, Usage,
)  # fmt: skip
_BY_NAME: dict[str, type] = {kind.__name__: kind for kind in _VALUES}
_ERRORS: dict[str, type[VlmchatError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, VlmchatError)
}


class Line:
    """One end of a connection: frames out, from any thread, and frames in, from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")
        self._writing = Lock()

    def send(self, number: int, message: object) -> None:
        """Send ``message`` of call ``number``.

        Raises:
            OSError: the other side is gone.
        """
        frame = pack(number, message)
        with self._writing:
            self._socket.sendall(frame)

    def receive(self) -> tuple[int, object]:
        """Wait for a frame.

        Raises:
            EOFError: the other side is gone.
            ValueError: what came is no frame.
        """
        try:
            words, blob = _HEAD.unpack(self._exactly(_HEAD.size))
            return unpack(self._exactly(words), self._exactly(blob))
        except OSError as problem:
            raise EOFError from problem

    def close(self) -> None:
        """End it; whoever waits in :meth:`receive`, on either side, gets an EOFError."""
        with suppress(OSError):  # the other side may be faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = self._reader.read(count)
        if len(data) < count:
            raise EOFError
        return data


def pack(number: int, message: object) -> bytes:
    """Return one frame."""
    blob = bytearray()
    words = json.dumps([number, _to_wire(message, blob)], separators=(",", ":")).encode("ascii")
    return _HEAD.pack(len(words), len(blob)) + words + blob


def unpack(words: bytes, blob: bytes) -> tuple[int, object]:
    """Return the number and the message of a frame.

    Raises:
        ValueError: it names what nobody sends.
    """
    try:
        number, message = json.loads(words)
        return int(number), _from_wire(message, blob)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"not a frame: {problem!r}") from problem


def _to_wire(value: object, blob: bytearray) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple):
        return [_to_wire(item, blob) for item in value]
    if isinstance(value, bytes):
        blob += value
        return {_KIND: "bytes", "end": len(blob), "size": len(value)}
    if isinstance(value, Path):
        # The server works in another folder.
        return {_KIND: "path", "path": str(value.absolute())}
    if isinstance(value, VlmchatError):
        return {_KIND: "error", "name": type(value).__name__, "message": value.message, "hint": value.hint}
    if is_dataclass(value) and type(value) in _VALUES:
        return {
            _KIND: type(value).__name__,
            **{field.name: _to_wire(getattr(value, field.name), blob) for field in fields(value)},
        }
    if type(value).__module__.startswith("PIL."):
        image: Any = value
        return {_KIND: "image", "mode": image.mode, "size": image.size, "data": _to_wire(image.tobytes(), blob)}
    raise TypeError(f"{type(value).__name__} does not go over the socket")


def _from_wire(value: Any, blob: bytes) -> Any:
    if isinstance(value, list):
        return tuple(_from_wire(item, blob) for item in value)
    if not isinstance(value, dict):
        return value
    match value.pop(_KIND):
        case "bytes":
            return blob[value["end"] - value["size"] : value["end"]]
        case "path":
            return Path(value["path"])
        case "error":
            return _ERRORS[value["name"]](value["message"], value["hint"])
        case "image":
            # Late: only drawn tiles need it.
            from PIL import Image

            return Image.frombytes(value["mode"], tuple(value["size"]), _from_wire(value["data"], blob))
        case name:
            return _BY_NAME[name](**{key: _from_wire(item, blob) for key, item in value.items()})
