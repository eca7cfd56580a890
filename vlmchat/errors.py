"""Every error a user can meet, in one tree; each knows its exit code and its remedy.

::

    VlmchatError            1    an error nobody foresaw, or a parent of the ones below
    ├── UsageError          2    wrong option, wrong combination of options
    ├── ModelError          3
    │   ├── UnknownModel         the name is in no catalog and is no folder
    │   ├── NotInstalled         known, but its files are not on this machine
    │   ├── RepositoryMissing    no hub has a repository or revision of that name, or it is private
    │   ├── GatedModel           the hub wants a token or an accepted licence
    │   ├── TokenRefused         the hub does not know the token, or it may not read this
    │   └── LicenceNotAccepted   nobody was there to accept the licence, or it was declined
    ├── InputError          4    a request that cannot be understood
    │   ├── ImageError           a picture that cannot be read, or is hostile
    │   ├── VideoError           a video that cannot be read
    │   └── ContextOverflow      prompt and answer do not fit the model's context
    ├── DoesNotFit          5
    │   ├── OutOfMemory          host or device memory ran out
    │   └── DiskFull             no room for what had to be written
    ├── DownloadError       6    the network or the hub failed
    │   ├── HubUnreachable       no answer, or only errors, after all retries
    │   └── CacheNotWritable     the hub's cache folder may not be written
    ├── CheckpointError     7    incomplete, altered, unsafe, or not what its config says
    │   └── AlteredDownload      a file came with other bytes than the hub lists, from everywhere
    ├── SchemaError         9    an answer that has not the shape that was asked for
    ├── EngineLost          1    the engine in a process of its own has ended in the middle
    └── StoreError          1    the chat database cannot be read or written

``message`` is one plain sentence of what happened, ``hint`` one of what to do. ``code`` is the
stable word that scripts see in ``{"error": {"code": …}}``. The numbers are those of the
interface contract (README, "Exit codes"); 8, 130 and 141 are outcomes of a command, not errors.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit status of the ``vlmchat`` process."""

    OK = 0
    UNFORESEEN = 1
    USAGE = 2
    MODEL = 3
    INPUT = 4
    DOES_NOT_FIT = 5
    DOWNLOAD = 6
    CHECKPOINT = 7
    SOME_LINES_FAILED = 8
    SCHEMA = 9
    INTERRUPTED = 130
    CLOSED_PIPE = 141


class VlmchatError(Exception):
    """An error with a sentence for the user, a remedy, and an exit code."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNFORESEEN
    code: ClassVar[str] = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        """One plain sentence: what happened."""
        self.hint = hint
        """One plain sentence: what to do about it; empty when nothing can be done."""


class UsageError(VlmchatError):
    """An option or a combination of options that makes no sense."""

    exit_code = ExitCode.USAGE
    code = "usage"


class ModelError(VlmchatError):
    """The model that was asked for is not to be had."""

    exit_code = ExitCode.MODEL
    code = "model"


class UnknownModel(ModelError):
    """A name that is in no catalog, is no hub id and no folder."""

    code = "unknown-model"


class NotInstalled(ModelError):
    """A known model whose files are not on this machine."""

    code = "not-installed"


class GatedModel(ModelError):
    """The hub wants a token or an accepted licence first."""

    code = "gated-model"


class RepositoryMissing(ModelError):
    """No hub has a repository or revision of that name, or it is private and there is no token."""

    code = "repository-missing"


class TokenRefused(ModelError):
    """The hub does not know the token that was sent, or the token may not read this repository."""

    code = "token-refused"


class LicenceNotAccepted(ModelError):
    """The licence was not accepted: declined, or nobody there to ask."""

    code = "licence-not-accepted"


class InputError(VlmchatError):
    """A request that cannot be understood."""

    exit_code = ExitCode.INPUT
    code = "bad-input"


class ImageError(InputError):
    """A picture that cannot be read, is truncated, or is hostile."""

    code = "bad-image"


class VideoError(InputError):
    """A video that cannot be read or that this model does not take."""

    code = "bad-video"


class ContextOverflow(InputError):
    """Prompt and answer together are longer than the model's context."""

    code = "context-overflow"


class DoesNotFit(VlmchatError):
    """Something is larger than this machine."""

    exit_code = ExitCode.DOES_NOT_FIT
    code = "does-not-fit"


class OutOfMemory(DoesNotFit):
    """Host or device memory ran out; the process and the loaded model live on."""

    code = "out-of-memory"


class DiskFull(DoesNotFit):
    """No room on disk for what had to be written."""

    code = "disk-full"


class DownloadError(VlmchatError):
    """The network or the hub failed."""

    exit_code = ExitCode.DOWNLOAD
    code = "download"


class HubUnreachable(DownloadError):
    """A hub gave no answer, or only errors, after all retries; what came is kept."""

    code = "hub-unreachable"


class CacheNotWritable(DownloadError):
    """The folder a hub's files go to may not be written by this user."""

    code = "cache-not-writable"


class CheckpointError(VlmchatError):
    """A checkpoint that is incomplete, altered, unsafe, or not what its config says."""

    exit_code = ExitCode.CHECKPOINT
    code = "bad-checkpoint"


class AlteredDownload(CheckpointError):
    """A file came with other bytes than the hub lists, from every hub that was asked."""

    code = "altered-download"


class SchemaError(VlmchatError):
    """An answer that has not the shape that was asked for."""

    exit_code = ExitCode.SCHEMA
    code = "schema"


class EngineLost(VlmchatError):
    """The engine that runs in a process of its own has ended in the middle of its work."""

    code = "engine-lost"


class StoreError(VlmchatError):
    """The chat database cannot be read or written."""

    code = "store"
