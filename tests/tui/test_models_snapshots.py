"""How the list of models, the plan of a download and the queue look, in two sizes and two languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.helpers import Driven, build
from tests.tui.test_models import MACHINE, models_of
from tests.tui.test_snapshots import Look, Size, language, look, pytestmark, ready
from vlmchat.catalog.index import catalog
from vlmchat.errors import HubUnreachable
from vlmchat.hub.events import FileProgress, Progress, Retrying
from vlmchat.hub.local import State
from vlmchat.hub.plan import DownloadPlan, Licence, PlannedFile, Wanted
from vlmchat.hub.source import Listing, RemoteFile
from vlmchat.tui.browsing import ModelRow
from vlmchat.tui.downloads import Download, Downloads
from vlmchat.tui.screens import models
from vlmchat.tui.screens.models import ModelsScreen

__all__ = ["language", "look", "pytestmark"]
NAME = "internvl2:1b"
SHARDS = [RemoteFile(f"model-0000{at}-of-00002.safetensors", 940_000_000, "0" * 64) for at in (1, 2)]
PLAN = DownloadPlan(
    Wanted(NAME, "OpenGVLab/InternVL2-1B", "OpenGVLab/InternVL2-1B"),
    Listing("huggingface", "OpenGVLab/InternVL2-1B", "main", "a1b2c3d4e5f6a7b8", tuple(SHARDS)),
    Path("/home/me/.cache/huggingface/hub/models--OpenGVLab--InternVL2-1B/snapshots/a1b2c3d4e5f6a7b8"),
    (PlannedFile(SHARDS[0], "partial", 400_000_000), PlannedFile(SHARDS[1], "missing", 0)),
    Licence("MIT", "https://huggingface.co/OpenGVLab/InternVL2-1B", accepted=False),
    50_000_000_000,
)
AT_WORK = tuple(
    FileProgress(file.path, done, file.bytes, "huggingface")
    for file, done in zip(SHARDS, (800_000_000, 90_000_000), strict=True)
)
QUEUE = (
    Download(
        NAME, "auto", "running", PLAN, Progress(AT_WORK, 890_000_000, 1_880_000_000, 490_000_000, 12_000_000, 82.5),
        Retrying(SHARDS[1].path, "huggingface", "connection reset", 1.0),
    ),
    Download("internvl2:2b", "auto", "waiting", PLAN),
    Download("ovis2:1b", "auto", "failed", PLAN, error=HubUnreachable("No hub answers.", "Try again later.")),
    Download("Some/Model", "auto", "done", PLAN),
)  # fmt: skip


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One machine, the same models on it, and hubs that are never asked."""

    def rows(_hub: str) -> tuple[ModelRow, ...]:
        states: dict[str, State] = {"demo": "installed", NAME: "installed", "internvl2:2b": "partial"}
        return tuple(
            ModelRow(
                spec.name, spec, states.get(spec.name) == "installed",
                state=states.get(spec.name, "missing"), bytes=400_000_000, fetchable=spec.name not in states,
            )
            for spec in catalog().rows
        )  # fmt: skip

    monkeypatch.setattr(models, "_rows", rows)
    monkeypatch.setattr(models, "_machine", lambda _hub: MACHINE)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(Downloads, "plan", lambda *_: None)
    monkeypatch.setattr(Downloads, "all", QUEUE)
    monkeypatch.setattr(Downloads, "get", lambda *_: Download(NAME, "auto", "planned", PLAN))


async def opened(run: Driven) -> ModelsScreen:
    """Open the list and wait for what fits."""
    await ready(run)
    run.app.memory.recent = ("internvl2:1b", "demo")
    await run.pilot.press("ctrl+l")
    await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and run.app.screen._machine is not None)
    screen = run.app.screen
    assert isinstance(screen, ModelsScreen)
    await run.until(lambda: models_of(screen) and models_of(screen)[0].fit is not None)
    return screen


def test_models(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await opened(run)
        await run.pilot.press("down")

    look(build(), size, steps)


def test_models_sorted_and_filtered(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        screen = await opened(run)
        await run.pilot.press("f5", *"int4")
        await run.until(lambda: all("int4" in row.reference for row in models_of(screen)))

    look(build(), size, steps)


def test_plan(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        run.chat.fetch_model(
            NAME, "fits in bf16 in main memory (20.0 GB free), with room for 5 pictures and 16k tokens"
        )
        await run.until(lambda: getattr(run.app.screen, "_shown", None))

    look(build(), size, steps)


@pytest.mark.parametrize("marked", [0, 2], ids=["running", "failed"])
def test_downloads(look: Look, size: Size, marked: int) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("f10")
        await run.until(lambda: getattr(run.app.screen, "_shown", None))
        await run.pilot.press(*["down"] * marked)

    look(build(), size, steps)
