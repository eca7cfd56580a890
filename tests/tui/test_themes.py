"""Themes: every shipped one is complete and readable, a broken one is left out with a notice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from textual.color import Color

import vlmchat.tui
from tests.tui.helpers import build, driven
from vlmchat.paths import places
from vlmchat.settings import Settings
from vlmchat.tui.memory import Memory
from vlmchat.tui.themes import DEFAULT, VARIABLES, folders, read_theme, read_themes

SHIPPED = sorted(folders()[0].glob("*.toml"))
ROOM = Path(vlmchat.tui.__file__).parent


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours by WCAG 2.1, 1 to 21."""

    def luminance(color: Color) -> float:
        parts = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in (color.r / 255, color.g / 255, color.b / 255)
        )
        red, green, blue = parts
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(Color.parse(one)), luminance(Color.parse(other))), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_there_is_something_for_everyone() -> None:
    shelf = read_themes([folders()[0]])
    assert DEFAULT in shelf.themes
    assert not shelf.problems
    assert sum(theme.dark for theme in shelf.themes.values()) >= 2
    assert sum(not theme.dark for theme in shelf.themes.values()) >= 2
    assert any("contrast" in title for title in shelf.titles.values())
    assert any(theme.ansi for theme in shelf.themes.values())
    assert len(shelf.themes) >= 6


@pytest.mark.parametrize("file", [file for file in SHIPPED if file.stem != "terminal"], ids=lambda file: str(file.stem))
def test_shipped_theme_is_readable(file: Path) -> None:
    theme, title = read_theme(file)
    assert theme.name == file.stem
    assert title
    least = 7.0 if "contrast" in title else 4.5
    grounds = [theme.background or "", theme.surface or ""]
    inks = [theme.foreground, theme.primary, theme.success, theme.warning, theme.error]
    inks += [theme.variables["quiet"], theme.variables["question"], theme.variables["answer"]]
    for ink in inks:
        for ground in grounds:
            assert contrast(ink or "", ground) >= least, (ink, ground)
    assert contrast(theme.variables["chip-text"], theme.variables["chip"]) >= least
    assert set(theme.variables) == set(VARIABLES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('name = "lantern"', 'name = "two words"'), "name must be one word"),
        (("dark = true", 'dark = "yes"'), "dark must be true or false"),
        (('primary = "#e0a458"', 'primary = "reddish"'), "is no colour"),
        (('primary = "#e0a458"', ""), "lacks primary"),
        (('quiet = "#918b80"', 'quiet = "#918b80"\nloud = "#fff"'), "no role loud"),
        (("[colors]", "[colours]"), "[colors] is missing"),
        (("[colors]", "[colors"), "at line"),
    ],
)
def test_broken_theme_is_reported(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    good = (folders()[0] / "lantern.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(good.replace(*change), encoding="utf-8")
    shelf = read_themes([tmp_path])
    assert not shelf.themes
    assert shelf.problems[0].file == "mine.toml"
    assert reason in shelf.problems[0].reason


async def test_bad_user_theme_falls_back_with_a_notice() -> None:
    places().themes.mkdir(parents=True)
    (places().themes / "mine.toml").write_text("name = 'mine'\ndark = true\n", encoding="utf-8")
    async with driven(build(settings=Settings(theme="mine"))) as run:
        assert run.app.theme == DEFAULT
        assert "mine.toml: [colors] is missing" in run.toasts
        assert "There is no theme mine" in run.toasts


async def test_user_theme_replaces_its_namesake_and_is_remembered() -> None:
    places().themes.mkdir(parents=True)
    text = (folders()[0] / "fjord.toml").read_text(encoding="utf-8")
    own = text.replace("#0f1720", "#000011").replace('title = "Fjord"', 'title = "My [b]Fjord[/b]"')
    (places().themes / "fjord.toml").write_text(own, encoding="utf-8")
    async with driven(build()) as run:
        assert run.app.shelf.titles["fjord"] == "My (b)Fjord(/b)"
        run.app.use_theme("fjord")
        assert run.app.current_theme.background == "#000011"
    assert Memory.read(places().state).theme == "fjord"
    async with driven(build()) as run:
        assert run.app.theme == "fjord"


async def test_next_theme_goes_round() -> None:
    async with driven(build()) as run:
        seen = [run.app.theme]
        for _ in range(len(run.app.shelf.themes)):
            await run.pilot.press("ctrl+t")
            seen.append(run.app.theme)
        assert seen[0] == seen[-1]
        assert len(set(seen)) == len(run.app.shelf.themes)


async def test_a_user_theme_is_reloaded_when_it_is_written_and_a_bad_one_changes_nothing() -> None:
    places().themes.mkdir(parents=True)
    mine = places().themes / "mine.toml"
    text = (folders()[0] / "fjord.toml").read_text(encoding="utf-8").replace('"fjord"', '"mine"')
    mine.write_text(text, encoding="utf-8")
    async with driven(build(settings=Settings(theme="mine"))) as run:
        assert run.app.theme == "mine"
        mine.write_text(text.replace("#0f1720", "#000022"), encoding="utf-8")
        run.app._look_at_themes()
        await run.pilot.pause()
        assert run.app.current_theme.background == "#000022"
        assert run.chat.styles.background == Color.parse("#000022")
        mine.write_text("broken", encoding="utf-8")
        run.app._look_at_themes()
        await run.pilot.pause()
        assert "mine.toml" in run.toasts
        assert run.chat.styles.background == Color.parse("#000022")


async def test_the_terminal_theme_uses_only_the_terminals_colours() -> None:
    async with driven(build(settings=Settings(theme="terminal"))) as run:
        await run.ready()
        await run.pilot.press("f1")
        await run.pilot.pause()
        styles = [segment.style for strip in run.app.screen._compositor.render_strips() for segment in strip]
        used = {color for style in styles if style for color in (style.color, style.bgcolor) if color is not None}
        assert used
        assert not [color for color in used if color.triplet is not None]


def test_colours_stand_nowhere_else() -> None:
    literal = re.compile(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsl\(")
    named = re.compile(r"^\s*(?:[a-z-]*color|background|border[a-z-]*):.*\b(?:red|green|blue|black|white)\b", re.M)
    for file in [*ROOM.rglob("*.tcss"), *ROOM.rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".tcss":
            text = re.sub(r"#--\w+", "", text)
        assert not literal.search(text), file
        assert not named.search(text), file
