"""Where a kept engine is met: its socket, who may come in, and how one is started. No torch here.

The socket lives in a folder of mode 0700 and has mode 0600. It is made by the client under a lock and
handed to the new process, so it can be connected to at once and only one of two clients starts a server. A
server takes its socket away before it stops listening; one that refuses connections was killed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import select
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import vlmchat
from vlmchat.paths import environment_of_a_child, places

PROTOCOL = 1
_PATH_BYTES = 100
"""Longest path of a socket: 107 bytes on Linux, 103 on macOS."""
_LOCK_PATIENCE_S = 20.0
_BACKLOG = 16
_LOOK_S = 0.05
_COMPUTING = ("CUDA_", "MKL_", "OMP_", "PYTORCH_", "TORCH_")
"""Variables that change what torch does, by their beginning."""


class CannotKeep(Exception):
    """Why there can be no kept engine, as one sentence."""


def socket_path() -> Path:
    """Return where the socket is; in the temporary folder where its own place has too long a name."""
    folder = places().state.absolute() / "engine"
    if len(os.fsencode(folder / "socket")) > _PATH_BYTES:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"vlmchat-{name}"
    return folder / "socket"


def log_path() -> Path:
    """Return where a kept engine writes what it has to complain about."""
    return places().state.absolute() / "engine.log"


def stamp() -> str:
    """Return a mark of the code, the libraries and the environment: equal ones compute the same."""
    root = Path(vlmchat.__file__).parent
    newest = max(path.stat().st_mtime_ns for path in root.rglob("*.py"))
    found = [importlib.util.find_spec(name) for name in ("torch", "transformers")]
    libraries = [Path(spec.origin).stat().st_mtime_ns for spec in found if spec is not None and spec.origin]
    variables = sorted(item for item in os.environ.items() if item[0].startswith(_COMPUTING))
    parts = (PROTOCOL, vlmchat.__version__, str(root), newest, sys.prefix, sys.version, libraries, variables)
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user at the other end; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def connect() -> socket.socket | None:
    """Connect to the engine that is there, or return None.

    Raises:
        CannotKeep: there may be none here.
    """
    path = socket_path()
    if not hasattr(socket, "AF_UNIX") or not path.parent.exists():
        return None
    _require_private(path.parent)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    if peer_uid(connection) not in {None, os.geteuid()}:
        connection.close()
        raise CannotKeep(f"The engine at {path} is another user's.")
    return connection


def connect_or_start(feature_bytes: int = 0) -> socket.socket:
    """Connect to the engine that is there, or to a new one, which keeps so many bytes of picture features on disk.

    Raises:
        CannotKeep: there can be none here.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise CannotKeep("This system has no Unix sockets, so no engine can be kept.")
    # Late: most clients find an engine.
    from filelock import FileLock, Timeout

    path = socket_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (connection := connect()) is not None:
            return connection
        with FileLock(path.with_name("lock"), timeout=_LOCK_PATIENCE_S):
            if (connection := connect()) is not None:
                return connection
            _start(path, feature_bytes)
            connection = connect()
    except (OSError, Timeout) as problem:
        raise CannotKeep(f"No engine can be kept in {path.parent}: {problem}.") from problem
    if connection is None:
        raise CannotKeep(f"The engine that was started is gone; {log_path()} may say why.")
    return connection


def wait_for_end(pid: int, patience_s: float) -> None:
    """Wait until the process ``pid``, which need not be a child of this one, has ended, or ``patience_s`` seconds."""
    deadline = time.monotonic() + patience_s
    with suppress(ProcessLookupError):
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(pid)
            try:
                select.select([handle], [], [], patience_s)
            finally:
                os.close(handle)
            return
        # Elsewhere nothing tells.
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(_LOOK_S)


def _require_private(folder: Path) -> None:
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise CannotKeep(f"{folder} is not this user's, so no engine can be kept there.")
    if about.st_mode & 0o077:
        folder.chmod(0o700)


def _start(path: Path, feature_bytes: int) -> None:
    """Start a server on a new socket at ``path``; the caller holds the lock, and nobody listens there."""
    path.unlink(missing_ok=True)
    log_path().parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        log = os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # -P: whatever lies in the working folder is no library.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vlmchat.engine.server",
                 str(listener.fileno()), str(path), str(feature_bytes)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment_of_a_child(),
                start_new_session=True, pass_fds=(listener.fileno(),),
            )  # fmt: skip
        finally:
            os.close(log)
    # The app may outlive it: then somebody has to take its end.
    threading.Thread(target=process.wait, name="vlmchat-reaper", daemon=True).start()
