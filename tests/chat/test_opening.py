"""From what a user types to a folder on this machine, or to a sentence that helps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.hub.test_local import COMMIT, WHOLE, fill, huggingface
from vlmchat.chat import opening, shelf
from vlmchat.engine.events import Loading
from vlmchat.errors import ModelError, NotInstalled, UnknownModel
from vlmchat.hub.local import huggingface_cache
from vlmchat.options import LoadOptions


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedded model that is whole, wherever its training stands."""
    folder = fill(tmp_path / "embedded", WHOLE)
    monkeypatch.setattr(shelf, "demo_folder", lambda: folder)
    return folder


def install(row_folder: str, files: dict[str, str] = WHOLE) -> Path:
    return fill(huggingface_cache() / row_folder / "snapshots" / COMMIT, files)


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one family run, whichever ones this version knows."""
    monkeypatch.setattr(shelf, "can_run", lambda family, form: (family, form) == ("internvl2", "pytorch"))


@pytest.mark.parametrize("reference", ["demo", "DEMO", " demo "])
def test_demo_is_the_packaged_folder(demo: Path, reference: str) -> None:
    assert opening.find(reference) == opening.Target("demo", demo, "")


def test_demo_lies_in_the_package() -> None:
    assert shelf.demo_folder().parts[-3:] == ("vlmchat", "demo", "checkpoint")


def test_a_broken_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "demo_folder", lambda: tmp_path / "nothing")
    with pytest.raises(NotInstalled) as caught:
        opening.find("demo")
    assert caught.value.hint == "Install vlmchat again: its files are not complete."


@pytest.mark.parametrize("reference", ["internvl2:1b", "InternVL2:1B", "OpenGVLab/InternVL2-1B"])
def test_an_installed_row_is_found_by_all_its_names(reference: str) -> None:
    folder = install("models--OpenGVLab--InternVL2-1B")
    assert opening.find(reference) == opening.Target("internvl2:1b", folder, COMMIT)


def test_a_revision_stays_in_the_name() -> None:
    folder = install("models--OpenGVLab--InternVL2-1B")
    target = opening.find(f"OpenGVLab/InternVL2-1B@{COMMIT}")
    assert target == opening.Target(f"OpenGVLab/InternVL2-1B@{COMMIT}", folder, COMMIT)


def test_a_row_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(NotInstalled, match="InternVL2-1B is not on this machine") as caught:
        opening.find("internvl2:1b")
    assert caught.value.exit_code == 3
    assert "vlmchat pull internvl2:1b" in caught.value.hint


def test_a_row_that_is_partly_here_says_what_is_missing() -> None:
    install("models--OpenGVLab--InternVL2-1B", {"config.json": "{}", "vocab.json": "{}"})
    with pytest.raises(NotInstalled, match="only partly on this machine: the weights missing"):
        opening.find("internvl2:1b")


def test_a_family_that_cannot_run_yet_says_so() -> None:
    install("models--AIDC-AI--Ovis2-1B")
    with pytest.raises(ModelError, match="cannot run Ovis2-1B yet") as caught:
        opening.find("ovis2:1b")
    assert caught.value.exit_code == 3


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "some" / "model", WHOLE)
    assert opening.find(str(folder)) == opening.Target(str(folder), folder, "")
    monkeypatch.chdir(tmp_path)
    assert opening.find("some/model").folder == folder
    assert opening.find("./some/model").folder == folder


@pytest.mark.parametrize(
    "reference", ["./nothing", "/no/such/folder", "~/nothing", "~no-such-user/x", "a/b/c", "/" + "x" * 5000]
)
def test_a_folder_that_is_not_there(reference: str) -> None:
    with pytest.raises(UnknownModel, match="There is no folder"):
        opening.find(reference)


def test_a_hub_id_outside_the_catalog() -> None:
    with pytest.raises(NotInstalled) as caught:
        opening.find("Own/Model-1B")
    assert caught.value.hint == "Get it with: vlmchat pull Own/Model-1B"
    folder = huggingface(WHOLE)
    assert opening.find("Own/Model-1B") == opening.Target("Own/Model-1B", folder, COMMIT)
    assert opening.find("Own/Model-1B@main").name == "Own/Model-1B@main"
    with pytest.raises(NotInstalled):
        opening.find("Own/Model-1B", "modelscope")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownModel, match="There is no model 'internvl2:9b'") as caught:
        opening.find("internvl2:9b")
    assert "internvl2:8b" in caught.value.hint
    with pytest.raises(UnknownModel) as caught:
        opening.find("qqqqqqqqqqq")
    assert caught.value.hint == "`vlmchat models` lists them."


def test_open_model_yields_what_the_engine_says(demo: Path) -> None:
    engine = ScriptedEngine()
    options = LoadOptions(device="cpu")
    events = list(opening.open_model(engine, opening.find("demo"), options))
    assert events[-1] == Loading("ready")
    assert engine.loads == [(demo, options)]


def test_the_shelf_shows_every_row_with_its_state(demo: Path) -> None:
    install("models--OpenGVLab--InternVL2-1B")
    by_name = {offer.spec.name: offer for offer in shelf.offers()}
    assert len(by_name) == 31
    assert by_name["demo"].ready
    assert by_name["demo"].how == ""
    assert by_name["internvl2:1b"].ready
    assert not by_name["internvl2:2b"].ready
    assert not by_name["ovis2:1b"].runs
    assert "vlmchat pull internvl2:2b" in by_name["internvl2:2b"].how
    assert [offer.spec.name for offer in shelf.offers("int8")] == ["ovis2:34b-gptq-int8"]


def test_the_real_engine_costs_nothing_to_create() -> None:
    code = (
        "import sys; from vlmchat.chat.opening import create_engine; engine = create_engine(interactive=True)\n"
        "assert engine.loaded is None; engine.close(); print('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "False\n"
