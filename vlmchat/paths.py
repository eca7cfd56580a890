"""Where config, data, cache and state live: the only place that names a folder. How a small file is written whole.

``VLMCHAT_HOME`` moves all four under one folder (``$VLMCHAT_HOME/{config,data,cache,state}``).
Weights of hub checkpoints are not here: they stay in the hubs' own caches, shared with other tools.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The four folders of one user; none is created before something is written there."""

    config: Path
    """``config.toml``, user catalog rows, user themes, kept prompts."""
    data: Path
    """``chats.db`` and the pictures of saved chats (``blobs/``)."""
    cache: Path
    """Anything that can be deleted without loss."""
    state: Path
    """Logs, the model chosen last, the prompt history."""

    @property
    def chats(self) -> Path:
        """The SQLite database of saved conversations."""
        return self.data / "chats.db"

    @property
    def blobs(self) -> Path:
        """Pictures of saved chats, each named by the sha256 of its bytes."""
        return self.data / "blobs"

    @property
    def features(self) -> Path:
        """Features of pictures seen before (:mod:`vlmchat.engine.feature_files`)."""
        return self.cache / "features"

    @property
    def settings(self) -> Path:
        """The user's ``config.toml``."""
        return self.config / "config.toml"

    @property
    def themes(self) -> Path:
        """The user's own themes, one TOML each."""
        return self.config / "themes"

    @property
    def prompts(self) -> Path:
        """The user's kept prompts, one TOML each."""
        return self.config / "prompts"

    @property
    def catalog(self) -> Path:
        """The user's own catalog rows, one TOML file per family."""
        return self.config / "models"


def places() -> Places:
    """Return the folders in force now; ``VLMCHAT_HOME`` is read on every call."""
    home = os.environ.get("VLMCHAT_HOME")
    if home:
        root = Path(home).expanduser()
        return Places(root / "config", root / "data", root / "cache", root / "state")
    # Late: it brings tempfile and random, 7 ms of CPU, and --help asks for no folder.
    from platformdirs import PlatformDirs

    dirs = PlatformDirs("vlmchat", appauthor=False)
    return Places(dirs.user_config_path, dirs.user_data_path, dirs.user_cache_path, dirs.user_state_path)


def environment_of_a_child() -> dict[str, str]:
    """Return this process's environment, in which another Python finds the same vlmchat."""
    root = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def existing(path: Path) -> Path:
    """Return ``path``, or the nearest thing above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def write_whole(path: Path, text: str) -> None:
    """Put ``text`` in the place of what ``path`` holds, in one step; its folder is made where it is not there.

    Raises:
        OSError: the disk refused; ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def user_path(text: str) -> Path:
    """Return a path a user typed, ``~`` expanded; a user nobody knows (``~nobody``) is left as typed."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
