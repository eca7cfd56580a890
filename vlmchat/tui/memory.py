"""What the app remembers between two starts: the unsent draft, the model and the theme chosen last.

One JSON file and the draft's pictures in the state folder. Losing it loses nothing else, so a file
that cannot be read counts as empty, and one that cannot be written is let go.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vlmchat.conversation import Part, Picture, Text, Video
from vlmchat.paths import write_whole

_FILE = "app.json"
_PICTURES = "draft"
_RECENT = 5
"""Models that are remembered."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question that is being written; it owns its pictures, and knows where its videos are."""

    text: str = ""
    pictures: tuple[Picture, ...] = ()
    videos: tuple[Video, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text.strip() or self.media)

    @property
    def media(self) -> tuple[Picture | Video, ...]:
        """Its pictures, then its videos."""
        return (*self.pictures, *self.videos)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The message it becomes: pictures before the text, the form in which people ask."""
        return (*self.media, Text(self.text.strip()))

    def before(self, later: Draft) -> Draft:
        """Return this draft put back in front of what was written since."""
        texts = [text for text in (self.text, later.text) if text.strip()]
        both = self.with_media(later.media)
        return Draft("\n".join(texts), both.pictures, both.videos)

    def with_media(self, media: tuple[Picture | Video, ...]) -> Draft:
        """Return this draft with ``media`` added, each of them once."""
        both = {medium.digest: medium for medium in reversed((*self.media, *media))}
        found = tuple(reversed(both.values()))
        pictures = tuple(medium for medium in found if isinstance(medium, Picture))
        return Draft(self.text, pictures, tuple(medium for medium in found if isinstance(medium, Video)))


@dataclass(slots=True)
class Memory:
    """The remembered values, and the folder they are kept in."""

    folder: Path
    model: str | None = None
    theme: str | None = None
    draft: Draft = field(default_factory=Draft)
    recent: tuple[str, ...] = ()
    """The models used last, the newest first."""

    @classmethod
    def read(cls, folder: Path) -> Memory:
        """Return what ``folder`` remembers; an unreadable file is an empty memory."""
        try:
            data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(folder)
        if not isinstance(data, dict):
            return cls(folder)
        pictures = tuple(_picture(entry, folder / _PICTURES) for entry in _dicts(data.get("pictures")))
        videos = tuple(_video(entry) for entry in _dicts(data.get("videos")))
        text, recent = data.get("text"), data.get("recent")
        return cls(
            folder, _word(data.get("model")), _word(data.get("theme")),
            Draft(text if isinstance(text, str) else "", tuple(filter(None, pictures)), tuple(filter(None, videos))),
            tuple(filter(None, map(_word, recent)))[:_RECENT] if isinstance(recent, list) else (),
        )  # fmt: skip

    def use_model(self, name: str) -> None:
        """Remember ``name`` as the model used last, and write it."""
        self.model = name
        self.recent = tuple(dict.fromkeys((name, *self.recent)))[:_RECENT]
        self.write()

    def keep(self, draft: Draft) -> None:
        """Make ``draft`` the one that comes back, and write it when it is another one."""
        if draft != self.draft:
            self.draft = draft
            self.write()

    def write(self) -> None:
        """Keep everything, the draft's pictures as copies of their own."""
        entries = [
            {"digest": it.digest, "name": it.name, "media_type": it.media_type, "size": [it.width, it.height]}
            for it in self.draft.pictures
        ]
        videos = [{"digest": it.digest, "name": it.name, "path": str(it.path)} for it in self.draft.videos if it.path]
        data = {
            "model": self.model, "theme": self.theme,
            "recent": self.recent, "text": self.draft.text, "pictures": entries, "videos": videos,
        }  # fmt: skip
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_pictures()
            write_whole(self.folder / _FILE, json.dumps(data, ensure_ascii=False))

    def _write_pictures(self) -> None:
        kept = self.folder / _PICTURES
        wanted = {picture.digest: picture for picture in self.draft.pictures}
        if wanted:
            kept.mkdir(exist_ok=True)
        for digest, picture in wanted.items():
            if not (kept / digest).exists():
                (kept / digest).write_bytes(picture.read())
        for file in kept.glob("*"):
            if file.name not in wanted:
                file.unlink()


def _dicts(value: object) -> list[dict[str, object]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _picture(entry: dict[str, object], folder: Path) -> Picture | None:
    """Return the kept picture of ``entry``, its bytes left on disk, or None when it is gone."""
    digest, name, kind, measure = (entry.get(key) for key in ("digest", "name", "media_type", "size"))
    if not (isinstance(digest, str) and isinstance(name, str) and isinstance(kind, str) and isinstance(measure, list)):
        return None
    path = folder / digest
    if not digest.isalnum() or len(measure) != 2 or not path.is_file():
        return None
    return Picture(digest, name, kind, int(measure[0]), int(measure[1]), path=path)


def _video(entry: dict[str, object]) -> Video | None:
    """Return the video of ``entry``, which is not copied, or None when it is gone."""
    digest, name, path = (entry.get(key) for key in ("digest", "name", "path"))
    if not (isinstance(digest, str) and isinstance(name, str) and isinstance(path, str)) or not Path(path).is_file():
        return None
    return Video(digest, name, path=Path(path))
