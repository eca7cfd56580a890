"""The list of models: what is here, what is not and how to get it, folders by path, switching."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, driven, plain
from vlmchat.catalog.index import catalog
from vlmchat.errors import CheckpointError
from vlmchat.paths import places
from vlmchat.tui.memory import Memory
from vlmchat.tui.screens import models
from vlmchat.tui.screens.models import ModelRow, ModelsScreen
from vlmchat.tui.screens.panel import ChoicePanel, Panel
from vlmchat.tui.widgets.status import StatusLine


@pytest.fixture(autouse=True)
def two_rows_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two models of the catalog be installed, whatever this machine has."""

    def rows(_hub: str) -> tuple[ModelRow, ...]:
        here = {"demo", "internvl2:1b"}
        return tuple(
            ModelRow(spec.name, spec, spec.name in here, "" if spec.name in here else f"Get it with: hf {spec.name}")
            for spec in catalog().rows
        )

    monkeypatch.setattr(models, "_rows", rows)


async def opened(run: Driven) -> ModelsScreen:
    """Open the list and wait for its rows."""
    await run.pilot.press("ctrl+l")
    await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and run.app.screen.rows)
    screen = run.app.screen
    assert isinstance(screen, ModelsScreen)
    await run.pilot.pause()
    return screen


async def test_lists_the_catalog_with_sizes_and_states() -> None:
    async with driven(build(), (120, 40)) as run:
        screen = await opened(run)
        assert [row.reference for row in screen.rows] == [spec.name for spec in catalog().rows]
        shown = plain(screen).splitlines()
        row = next(line for line in shown if "internvl2:1b" in line)
        assert "1.9 GB" in row
        assert "installed" in row
        assert "vision" in row
        assert "not here" in next(line for line in shown if "internvl2:2b " in line)


async def test_typing_filters_and_arrows_move() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        await run.write("ovis2:4b")
        await run.until(lambda: len(screen.rows) == 2)
        await run.pilot.press("down")
        assert screen.marked == screen.rows[1]
        await run.pilot.press("up", "up")
        assert screen.marked == screen.rows[0]
        screen.query_one(Input).value = "nothing like it"
        await run.until(lambda: not screen.rows)
        await run.pilot.pause()
        assert "No model is called that" in plain(screen)
        await run.pilot.press("enter")
        assert run.app.screen is screen


async def test_missing_model_says_how_to_get_it() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        screen.query_one(Input).value = "internvl2:76b-awq"
        await run.until(lambda: len(screen.rows) == 1)
        await run.pilot.press("enter")
        await run.until(lambda: isinstance(run.app.screen, Panel))
        await run.pilot.pause()
        assert "Get it with: hf internvl2:76b-awq" in plain(run.app.screen)
        await run.pilot.press("enter")
        assert run.app.screen is screen


async def test_a_typed_folder_is_loaded_and_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "my [model]"
    folder.mkdir()
    engine = ScriptedEngine()
    async with driven(build(engine)) as run:
        await run.ready()
        screen = await opened(run)
        screen.query_one(Input).value = str(folder)
        await run.until(lambda: [row.reference for row in screen.rows] == [str(folder)])
        await run.pilot.press("enter")
        await run.until(lambda: run.desk.model is not None and run.desk.model.name == str(folder))
        await run.until(lambda: "my [model]" in run.text_of(StatusLine))
        await run.asked("Who?")
        assert "my [model]" in plain(run.answers[0])
    assert engine.loads[-1][0] == folder.resolve()
    assert Memory.read(places().state).model == str(folder)


async def test_switching_keeps_the_chat_and_names_each_answerer(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.asked("First.")
        run.chat.switch_model(str(tmp_path))
        assert run.desk.model is None
        await run.ready()
        await run.asked("Second.")
        made_by = [
            turn.provenance.model for turn in run.desk.store.chat(run.desk.chat.id or "").turns if turn.provenance
        ]
        assert len(run.desk.store.chats()) == 1
        assert made_by[1] == str(tmp_path)
        assert made_by[0] != made_by[1]
    assert [message.text for message in engine.requests[1].messages][:2] == ["First.", "A red circle."]


async def test_a_newer_choice_wins_over_a_load_under_way(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with driven(build(engine)) as run:
        await run.until(lambda: run.desk.bridge._works)
        run.chat.switch_model(str(tmp_path))
        engine.may_load.set()
        await run.ready()
        assert run.desk.model is not None
        assert run.desk.model.name == str(tmp_path)


async def test_failed_switch_goes_back_to_the_model_in_memory(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    async with driven(build(engine)) as run:
        await run.ready()
        before = run.desk.model
        run.chat.switch_model(str(tmp_path / "missing"))
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        assert run.desk.model == before
        await run.pilot.press("enter")
        await run.asked("Still there?")
        engine.load_error = CheckpointError("Broken.")
        engine.loaded = None
        run.chat.switch_model(str(tmp_path))
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        assert run.desk.model is None


async def test_escape_leaves_the_model_alone() -> None:
    engine = ScriptedEngine()
    async with driven(build(engine)) as run:
        await run.ready()
        await opened(run)
        await run.pilot.press("escape")
        assert run.app.screen is run.chat
    assert len(engine.loads) == 1


def test_real_rows_come_from_the_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rows = models._rows("auto")
    assert {row.reference for row in rows} == {spec.name for spec in catalog().rows}
    assert all(row.here or row.hint for row in rows)
