"""The list of models: what is here, what is not and how to get it, folders by path, switching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, driven, plain
from vlmchat.catalog.index import catalog
from vlmchat.engine.machine import Machine
from vlmchat.errors import CheckpointError
from vlmchat.paths import places
from vlmchat.tui.memory import Memory
from vlmchat.tui.screens import models
from vlmchat.tui.screens.models import Heading, ModelRow, ModelsScreen
from vlmchat.tui.screens.panel import ChoicePanel, Panel
from vlmchat.tui.widgets.status import StatusLine

MACHINE = Machine(memory_free=20_000_000_000, memory_total=32_000_000_000, disk_free=100_000_000_000, bfloat16=True)


@pytest.fixture(autouse=True)
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine be the same everywhere."""
    monkeypatch.setattr(models, "_machine", lambda _hub: MACHINE)


@pytest.fixture(autouse=True)
def two_rows_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two models of the catalog be installed, whatever this machine has."""

    def rows(_hub: str) -> tuple[ModelRow, ...]:
        here = {"demo", "internvl2:1b"}
        return tuple(
            ModelRow(spec.name, spec, True, state="installed")
            if spec.name in here
            else ModelRow(spec.name, spec, False, f"Get it with: hf {spec.name}")
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


def models_of(screen: ModelsScreen) -> list[ModelRow]:
    """Return the models of the list, without its headings."""
    return [row for row in screen.rows if isinstance(row, ModelRow)]


async def test_lists_the_catalog_with_sizes_and_states() -> None:
    async with driven(build(), (120, 40)) as run:
        screen = await opened(run)
        assert [row.reference for row in models_of(screen)] == [spec.name for spec in catalog().rows]
        shown = plain(screen).splitlines()
        row = next(line for line in shown if "internvl2:1b" in line)
        assert "1.9 GB" in row
        assert "installed" in row
        assert "16 8 4 32k  en zh cp" in row
        assert "not here" in next(line for line in shown if "internvl2:2b " in line)


async def test_typing_filters_and_arrows_move() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        await run.write("ovis2:4b")
        await run.until(lambda: [row.reference for row in models_of(screen)] == ["ovis2:4b", "ovis2:4b-gptq-int4"])
        await run.pilot.press("down")
        assert screen.row == models_of(screen)[1]
        await run.pilot.press("up", "up")
        assert screen.row == models_of(screen)[0]
        screen.query_one(Input).value = "nothing like it"
        await run.until(lambda: not screen.rows)
        await run.pilot.pause()
        assert "No model is called that" in plain(screen)
        await run.pilot.press("enter")
        assert run.app.screen is screen


async def test_families_stand_under_headings_that_cannot_be_marked() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        assert [row.words for row in screen.rows if isinstance(row, Heading)] == [
            "demo", "internvl2", "ovis2", "cogvlm2", "cogvlm2-video",
        ]  # fmt: skip
        seen = []
        for _ in catalog().rows:
            seen.append(screen.row.reference if screen.row else None)
            await run.pilot.press("down")
        assert seen == [spec.name for spec in catalog().rows]


async def test_what_fits_is_said_once_it_is_counted() -> None:
    async with driven(build(), (120, 40)) as run:
        screen = await opened(run)
        await run.until(lambda: all(row.fit for row in models_of(screen) if row.spec and row.spec.config))
        await run.pilot.pause()
        shown = {line[4:26].strip(): line for line in plain(screen).splitlines()}
        assert " yes " in shown["ovis2:8b"]
        assert " 8-bit " in shown["ovis2:16b"]
        assert " no " in shown["ovis2:34b"]
        screen.query_one(Input).value = "ovis2:16b"
        await run.until(lambda: len(models_of(screen)) == 2)
        await run.pilot.pause()
        assert "fits in 8-bit in main memory (20.0 GB free)" in " ".join(plain(screen.query_one(".detail")).split())


async def test_one_key_sorts_and_the_bar_stays_on_its_model() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        await run.until(lambda: all(row.fit for row in models_of(screen) if row.spec and row.spec.config))
        await run.pilot.press("down")
        first = {}
        for order in ("fit", "disk", "context", "state", "family"):
            await run.pilot.press("f5")
            await run.until(lambda: screen._order == order)  # noqa: B023 - awaited in the loop
            await run.until(lambda: not screen.workers._workers)
            assert screen.row is not None
            assert screen.row.reference == "internvl2:1b"
            first[order] = models_of(screen)[0].reference
        assert first["disk"] == "demo"
        assert first["fit"] == "cogvlm2:19b"
        assert first["context"] == "internvl2:4b"
        assert [row.reference for row in models_of(screen)] == [spec.name for spec in catalog().rows]


async def test_models_used_last_stand_on_top(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    async with driven(build()) as run:
        await run.ready()
        for name in ("internvl2:1b", str(folder), str(tmp_path / "gone"), "ovis2:1b"):
            run.app.memory.use_model(name)
        screen = await opened(run)
        await run.until(lambda: str(folder) in [row.reference for row in models_of(screen)])
        assert screen.rows[0] == Heading("used last")
        shown = [row.reference for row in models_of(screen)]
        assert shown[:3] == ["ovis2:1b", str(folder), "internvl2:1b"]
        assert shown.count("ovis2:1b") == 1
        assert str(tmp_path / "gone") not in shown


async def test_a_hub_id_is_a_row_and_one_of_the_catalog_is_its_row() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        screen.query_one(Input).value = "Some/Model@v1.0"
        await run.until(lambda: [row.reference for row in models_of(screen)] == ["Some/Model@v1.0"])
        assert screen.row is not None
        assert screen.row.fetchable
        screen.query_one(Input).value = "opengvlab/internvl2-1b"
        await run.until(lambda: [row.reference for row in models_of(screen)] == ["internvl2:1b"])


async def test_letters_in_order_find_a_model() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        await run.write("cog19zh")
        await run.until(lambda: [r.reference for r in models_of(screen)] == ["cogvlm2:19b-zh", "cogvlm2:19b-zh-int4"])


async def test_details_of_the_marked_model_are_one_key_away() -> None:
    async with driven(build(), (80, 50)) as run:
        screen = await opened(run)
        screen.query_one(Input).value = "cogvlm2:19b-zh"
        await run.until(lambda: len(models_of(screen)) == 2)
        await run.pilot.press("f3")
        await run.until(lambda: isinstance(run.app.screen, Panel))
        await run.pilot.pause()
        page = " ".join(plain(run.app.screen).split())
        for words in ("CogVLM2 License", "8,192 tokens of context", "TextVQA", "THUDM/"):
            assert words in page
        await run.pilot.press("enter")
        assert run.app.screen is screen


async def test_a_hostile_row_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(catalog().rows[1], title="[b]Bold\x1b]0;gone\x07", description="[link=x]y[/link]\x9b31m")
    monkeypatch.setattr(models, "_rows", lambda _hub: (ModelRow("a:b", spec, False),))
    async with driven(build(), (120, 40)) as run:
        screen = await opened(run)
        page = plain(screen)
        assert "[b]Bold" in page
        assert "[link=x]y[/link]" in page
        assert "\x1b" not in page


async def test_missing_model_says_how_to_get_it() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        screen.query_one(Input).value = "internvl2:76b-awq"
        await run.until(lambda: len(models_of(screen)) == 1)
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
        await run.until(lambda: [row.reference for row in models_of(screen)] == [str(folder)])
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
        await run.pilot.press("escape")
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
