"""``themes/*.toml`` -> Textual themes, checked before use: the only colours of the app.

A theme file has ``name``, ``title``, ``dark``, a table ``[colors]`` (Textual's own roles) and a
table ``[variables]`` (roles of this app, see :data:`VARIABLES`). ``ansi = true`` leaves the terminal's
own sixteen colours (``ansi_cyan``, ``ansi_default``) as they are. A file that breaks a rule is left
out and reported, so that a typo never keeps the app from opening.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

from vlmchat.paths import places
from vlmchat.plaintext import one_line

DEFAULT = "lantern"
"""The theme of a first start, and the one that stands in for a missing or broken one."""
COLORS = (
    "primary",
    "secondary",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "success",
    "warning",
    "error",
)
"""Textual's roles that every theme gives."""
VARIABLES = ("question", "answer", "quiet", "chip", "chip-text", "line", "line-focus")
"""Roles of this app: the two speakers, quiet text, picture chips, and the lines around boxes."""
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Problem:
    """A theme file that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class ThemeShelf:
    """All usable themes by name, in the order of the folders, and what was wrong with the others."""

    themes: Mapping[str, Theme]
    titles: Mapping[str, str]
    problems: tuple[Problem, ...] = ()

    def after(self, name: str) -> str:
        """Return the name of the theme that follows ``name``, round and round."""
        names = list(self.themes)
        return names[(names.index(name) + 1) % len(names)] if name in names else names[0]


def folders() -> tuple[Path, ...]:
    """Return where themes are looked for: the installed package, a checkout, the user's own folder."""
    shipped = _HERE / "themes"
    if not shipped.is_dir():
        # An editable install has them at the top of the checkout; only the wheel moves them.
        shipped = _HERE.parent.parent / "themes"
    return (shipped, places().themes)


def stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    """Return what changes when a theme in ``folder`` is written, added or removed."""
    try:
        return tuple(sorted((file.name, file.stat().st_mtime_ns) for file in folder.glob("*.toml")))
    except OSError:
        return ()


def read_themes(where: Iterable[Path] | None = None) -> ThemeShelf:
    """Read every theme in ``where`` (:func:`folders` when not given); a later one replaces its namesake."""
    themes: dict[str, Theme] = {}
    titles: dict[str, str] = {}
    problems: list[Problem] = []
    for folder in folders() if where is None else where:
        for file in sorted(folder.glob("*.toml")):
            try:
                theme, title = read_theme(file)
            except (OSError, ValueError) as problem:
                problems.append(Problem(file.name, str(problem)))
                continue
            themes[theme.name], titles[theme.name] = theme, title
    return ThemeShelf(themes, titles, tuple(problems))


def read_theme(file: Path) -> tuple[Theme, str]:
    """Return the theme in ``file`` and its title.

    Raises:
        ValueError: not TOML, a missing or unknown key, or a value that is no colour.
    """
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    name, dark = data.get("name"), data.get("dark")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError("name must be one word")
    if not isinstance(dark, bool):
        raise ValueError("dark must be true or false")
    ansi = data.get("ansi") is True
    colors = _palette(data, "colors", COLORS)
    theme = Theme(
        name,
        primary=colors["primary"],
        secondary=colors["secondary"],
        accent=colors["accent"],
        foreground=colors["foreground"],
        background=colors["background"],
        surface=colors["surface"],
        panel=colors["panel"],
        success=colors["success"],
        warning=colors["warning"],
        error=colors["error"],
        dark=dark,
        ansi=ansi,
        variables=_given_by_textual(ansi) | _palette(data, "variables", VARIABLES),
    )
    # A title is shown in the palette, which reads square brackets as markup.
    title = one_line(str(data.get("title", name))).replace("[", "(").replace("]", ")")
    return theme, title


def _given_by_textual(ansi: bool) -> dict[str, str]:
    """Return the roles Textual's own styles ask for in a theme of the terminal's colours."""
    return dict(BUILTIN_THEMES["ansi-dark"].variables) if ansi else {}


def _palette(data: Mapping[str, object], table: str, keys: tuple[str, ...]) -> dict[str, str]:
    given = data.get(table)
    if not isinstance(given, dict):
        raise ValueError(f"[{table}] is missing")
    missing = [key for key in keys if key not in given]
    unknown = [key for key in given if key not in keys]
    if missing:
        raise ValueError(f"[{table}] lacks {', '.join(missing)}")
    if unknown:
        raise ValueError(f"[{table}] has no role {', '.join(unknown)}")
    return {key: _color(key, given[key]) for key in keys}


def _color(key: str, value: object) -> str:
    try:
        color = Color.parse(str(value))
        # A colour of the terminal's own has no hexadecimal form.
        return str(value) if color.ansi is not None else color.hex
    except ColorParseError as problem:
        raise ValueError(f"{key} = {value!r} is no colour") from problem
