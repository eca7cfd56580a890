"""Downloads in the app, over loopback hubs: licence, plan, bars, pause, other hub, queue, errors, quitting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.widgets import Input

from tests.hub.conftest import hubs as hubs
from tests.hub.loopback import Fault, Hubs, noise
from tests.tui.helpers import Driven, build, driven, plain
from vlmchat.hub import licences
from vlmchat.hub.local import look
from vlmchat.paths import places
from vlmchat.tui.queue_file import read_queue, write_queue
from vlmchat.tui.screens.downloads import DownloadsScreen, PlanScreen
from vlmchat.tui.screens.models import ModelsScreen
from vlmchat.tui.screens.panel import Panel

NAME, REPOSITORY = "internvl2:1b", "OpenGVLab/InternVL2-1B"
CONTENTS = {
    "config.json": b"{}",
    "tokenizer.json": noise("tokenizer", 3000),
    "model.safetensors": noise("weights", 1_000_000),
}
SIZE = sum(map(len, CONTENTS.values()))


@pytest.fixture
def model(hubs: Hubs) -> Iterator[Hubs]:
    """One model of the catalog on both hubs."""
    hubs.publish(REPOSITORY, CONTENTS)
    yield hubs


def slowly(hubs: Hubs) -> None:
    """Let the weights come in drips, so that a test can see them coming."""
    for hub in hubs.both:
        hub.faults.add("content", "model.safetensors", Fault("drip", after=200_000, rate=150_000))


async def planned(run: Driven, name: str = NAME) -> PlanScreen:
    """Pick a model that is not here, and wait for its plan."""
    await run.pilot.press("ctrl+l")
    await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and run.app.screen.rows)
    screen = run.app.screen
    assert isinstance(screen, ModelsScreen)
    screen.query_one(Input).value = name
    await run.until(lambda: screen.row is not None and screen.row.reference == name and len(screen.rows) <= 2)
    await run.pilot.press("enter")
    await run.until(lambda: isinstance(run.app.screen, PlanScreen))
    await run.until(lambda: stands(run, name, "planned"))
    plan = run.app.screen
    assert isinstance(plan, PlanScreen)
    await run.until(lambda: plan._shown is not None and plan._shown.plan is not None)
    await run.pilot.pause()
    return plan


def stands(run: Driven, name: str, *states: str) -> bool:
    """Say whether the download of ``name`` stands at one of ``states``."""
    found = run.desk.downloads.get(name)
    return found is not None and found.state in states


async def begun(run: Driven, name: str = NAME) -> DownloadsScreen:
    """Agree to the plan and wait until bytes come."""
    await planned(run, name)
    await run.pilot.press("enter")
    await run.until(lambda: isinstance(run.app.screen, DownloadsScreen))
    await run.until(lambda: stands(run, name, "done") or running(run, name) > 0)
    screen = run.app.screen
    assert isinstance(screen, DownloadsScreen)
    await run.until(lambda: screen.marked is not None and screen.marked.state == state_of(run, name))
    return screen


def state_of(run: Driven, name: str) -> str:
    found = run.desk.downloads.get(name)
    return found.state if found is not None else ""


def running(run: Driven, name: str) -> int:
    """Return the bytes on disk, as the bars say."""
    found = run.desk.downloads.get(name)
    return found.progress.done if found is not None and found.progress is not None else 0


async def test_nothing_comes_before_the_licence_is_accepted(model: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with driven(build(), (100, 30)) as run:
        plan = await planned(run)
        page = plain(plan)
        for words in ("3 files, 1.0 MB", "Hugging Face (127.0.0.1:", "MIT;", "Enter accepts this licence", "free on"):
            assert words in page
        assert "https://huggingface.co/OpenGVLab/InternVL2-1B" in page
        opened: list[str] = []
        monkeypatch.setattr(run.app, "open_url", opened.append)
        await run.pilot.press("o")
        assert opened == ["https://huggingface.co/OpenGVLab/InternVL2-1B"]
        await run.pilot.press("escape")
        assert isinstance(run.app.screen, ModelsScreen)
        assert run.desk.downloads.all == ()
    assert model.bytes == 0


async def test_a_model_comes_while_one_chats_and_is_offered(model: Hubs) -> None:
    async with driven(build(), (100, 30)) as run:
        await run.ready()
        slowly(model)
        screen = await begun(run)
        await run.until(lambda: "━" in plain(screen))
        page = plain(screen)
        assert "model.safetensors" in page
        assert "to go" in page
        await run.pilot.press("escape")
        await run.pilot.press("escape")
        assert run.app.screen is run.chat
        await run.until(lambda: "↓" in plain(run.chat.status))
        await run.asked("Meanwhile?")
        assert len(run.answers) == 1
        model.huggingface.faults.clear()
        await run.until(lambda: stands(run, NAME, "done"))
        await run.until(lambda: f"{NAME} is here. /use talks to it" in run.toasts)
        await run.until(lambda: "↓" not in plain(run.chat.status))
        await run.ask("/use")
        await run.until(lambda: run.desk.model is not None and run.desk.model.name == NAME)
        assert len(run.answers) == 1
    assert look(REPOSITORY, REPOSITORY).state == "installed"
    assert licences.is_accepted(NAME, "MIT; the language model's own licence besides")


async def test_pause_keeps_every_byte_and_goes_on(model: Hubs) -> None:
    slowly(model)
    async with driven(build(), (100, 30)) as run:
        await begun(run)
        await run.pilot.press("p")
        await run.until(lambda: stands(run, NAME, "paused"))
        await run.until(lambda: "to go" not in plain(run.app.screen) and "/s" not in plain(run.app.screen))
        model.huggingface.faults.clear()
        await run.pilot.pause(0.3)
        await run.pilot.press("p")
        await run.until(lambda: stands(run, NAME, "done"))
        await run.until(lambda: "Enter talks to it" in plain(run.app.screen))
        await run.pilot.press("enter")
        await run.until(lambda: run.app.screen is run.chat)
        await run.until(lambda: run.desk.model is not None and run.desk.model.name == NAME)
    assert model.bytes <= SIZE + 300_000


async def test_the_other_hub_goes_on(model: Hubs) -> None:
    slowly(model)
    model.modelscope.faults.clear()
    async with driven(build(), (100, 30)) as run:
        await begun(run)
        await run.pilot.press("s")
        await run.until(lambda: stands(run, NAME, "done"))
        found = run.desk.downloads.get(NAME)
        assert found is not None
        assert found.plan is not None
        assert found.plan.hub == "modelscope"
    assert model.modelscope.record.bytes() > 0


async def test_a_queue_takes_one_after_the_other_and_cancel_takes_out(model: Hubs) -> None:
    second = "OpenGVLab/InternVL2-2B"
    model.publish(second, CONTENTS | {"model.safetensors": noise("other", 1_000_000)})
    slowly(model)
    async with driven(build(), (100, 30)) as run:
        await begun(run)
        run.desk.downloads.plan("internvl2:2b")
        run.desk.downloads.agree("internvl2:2b")
        await run.until(lambda: stands(run, "internvl2:2b", "waiting"))
        assert stands(run, NAME, "running")
        await run.pilot.press("x")
        for hub in model.both:
            hub.faults.clear()
        await run.until(lambda: stands(run, "internvl2:2b", "done"))
        assert [it.reference for it in run.desk.downloads.all] == ["internvl2:2b"]
    assert look(REPOSITORY, REPOSITORY).state == "partial"


async def test_an_error_is_a_panel_with_its_hint(model: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(model)
    async with driven(build(), (100, 30)) as run:
        monkeypatch.setattr("vlmchat.hub.download.free_bytes", lambda _root: 10)
        await planned(run)
        await run.pilot.press("enter")
        await run.until(lambda: isinstance(run.app.screen, Panel))
        await run.pilot.pause()
        page = " ".join(plain(run.app.screen).split())
        assert f"{NAME} was not downloaded" in page
        assert "Make room, or put the cache on another disk" in page
        monkeypatch.undo()
        await run.pilot.press("enter")
        assert stands(run, NAME, "failed")


async def test_a_hub_without_the_model_says_so_in_the_plan(hubs: Hubs) -> None:
    async with driven(build(), (100, 30)) as run:
        run.chat.fetch_model("Nobody/Has-[b]This[/b]")
        await run.until(lambda: run.desk.downloads.all and run.desk.downloads.all[0].state == "failed")
        await run.until(lambda: "There is no model" in plain(run.app.screen))
        assert plain(run.app.screen).count("[b]This[/b]") >= 2
        await run.pilot.press("enter")
        assert isinstance(run.app.screen, PlanScreen)
        await run.pilot.press("escape")
        assert run.desk.downloads.all == ()


async def test_quitting_keeps_what_came(model: Hubs) -> None:
    slowly(model)
    async with driven(build(), (100, 30)) as run:
        await begun(run)
        await run.until(lambda: running(run, NAME) > 100_000)
    found = look(REPOSITORY, REPOSITORY)
    assert found.state == "partial"
    assert found.bytes > 0


async def test_the_queue_comes_back_paused_at_the_next_start_and_goes_on(model: Hubs) -> None:
    slowly(model)
    async with driven(build(), (100, 30)) as run:
        await begun(run)
        await run.until(lambda: running(run, NAME) > 100_000)
        run.desk.downloads.plan("internvl2:2b")
        assert read_queue(places().state) == ((NAME, "auto"),)  # nobody said yes to the other one
    for hub in model.both:
        hub.faults.clear()
    asked = [len(hub.record.exchanges) for hub in model.both]
    async with driven(build(), (100, 30)) as run:
        await run.until(lambda: f"Not whole yet, paused: {NAME}." in run.toasts)
        assert [(it.reference, it.state) for it in run.desk.downloads.all] == [(NAME, "paused")]
        assert [len(hub.record.exchanges) for hub in model.both] == asked
        await run.pilot.press("f10")
        await run.until(lambda: isinstance(run.app.screen, DownloadsScreen) and run.app.screen.marked)
        await run.pilot.press("p")
        await run.until(lambda: stands(run, NAME, "done"))
    assert look(REPOSITORY, REPOSITORY).state == "installed"
    assert read_queue(places().state) == ()
    async with driven(build()) as run:
        assert run.desk.downloads.all == ()


async def test_what_was_cancelled_does_not_come_back(model: Hubs) -> None:
    write_queue(places().state, ((NAME, "modelscope"), ("A/B", "auto")))
    async with driven(build(), (100, 30)) as run:
        assert [(it.reference, it.hub) for it in run.desk.downloads.all] == [(NAME, "modelscope"), ("A/B", "auto")]
        run.desk.downloads.cancel(NAME)
    assert read_queue(places().state) == (("A/B", "auto"),)
    assert model.bytes == 0


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "3", "[3, null]", '[{"reference": 3, "hub": "auto"}]', '[{"reference": "A/B", "hub": []}]']
)
def test_a_damaged_queue_is_an_empty_one(text: str) -> None:
    write_queue(places().state, (("A/B", "auto"),))
    (places().state / "downloads.json").write_text(text, encoding="utf-8")
    assert read_queue(places().state) == ()


async def test_an_empty_queue_says_what_to_do() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.pilot.press("f10")
        await run.until(lambda: isinstance(run.app.screen, DownloadsScreen))
        await run.pilot.pause()
        assert "Ctrl+L picks a model" in plain(run.app.screen)
        await run.pilot.press("p", "s", "x", "enter", "f10")
        assert run.app.screen is run.chat
        await run.ask("/use")
        await run.until(lambda: "Nothing was downloaded yet" in run.toasts)
