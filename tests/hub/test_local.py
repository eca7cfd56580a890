"""Finding checkpoints in the hubs' own caches, by their layouts on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmchat.hub.local import huggingface_cache, inspect, look, modelscope_cache

WHOLE = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def huggingface(files: dict[str, str], commit: str = COMMIT, ref: str | None = "main") -> Path:
    """Lay out a repository as huggingface_hub does: files are links into ``blobs``."""
    root = huggingface_cache() / "models--Own--Model-1B"
    if ref is not None:
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / ref).write_text(commit, encoding="utf-8")
    blobs, snapshot = root / "blobs", root / "snapshots" / commit
    blobs.mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    for name, text in files.items():
        (blobs / f"{commit[:4]}-{name}").write_text(text, encoding="utf-8")
        (snapshot / name).symlink_to(blobs / f"{commit[:4]}-{name}")
    return snapshot


def find(hub: str = "auto", revision: str = "") -> tuple[str, str, str]:
    local = look("Own/Model-1B", "Own/Model-1B", hub, revision)
    return local.state, local.hub, local.revision


def test_nothing_anywhere() -> None:
    assert find() == ("missing", "", "")
    assert look(None, None).state == "missing"


def test_a_whole_snapshot_is_installed() -> None:
    snapshot = huggingface(WHOLE)
    local = look("Own/Model-1B", None)
    assert (local.state, local.hub, local.revision, local.folder) == ("installed", "huggingface", COMMIT, snapshot)
    assert local.bytes == sum(map(len, WHOLE.values()))
    assert local.missing == ()


@pytest.mark.parametrize(
    ("gone", "named"),
    [("config.json", "config.json"), ("tokenizer.json", "a tokenizer"), ("model.safetensors", "the weights")],
)
def test_a_missing_file_makes_it_partial(gone: str, named: str) -> None:
    huggingface({name: text for name, text in WHOLE.items() if name != gone})
    assert look("Own/Model-1B", None).missing == (named,)
    assert find()[0] == "partial"


def test_a_link_into_nothing_is_a_missing_file() -> None:
    snapshot = huggingface(WHOLE)
    (snapshot / "model.safetensors").resolve().unlink()
    assert look("Own/Model-1B", None).missing == ("the weights",)


def test_every_shard_of_the_index_is_wanted() -> None:
    shards = {f"model-0000{at}-of-00002.safetensors": "x" for at in (1, 2)}
    index = json.dumps({"weight_map": {f"tensor{at}": name for at, name in enumerate(shards)}})
    files = {"config.json": "{}", "vocab.json": "{}", "model.safetensors.index.json": index, **shards}
    snapshot = huggingface(files)
    assert find()[0] == "installed"
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    assert look("Own/Model-1B", None).missing == ("model-00002-of-00002.safetensors",)


def test_shards_tell_of_their_siblings_before_the_index_is_there() -> None:
    huggingface({"config.json": "{}", "tokenizer.model": "x", "pytorch_model-00001-of-00002.bin": "x"})
    assert look("Own/Model-1B", None).missing == ("pytorch_model-00002-of-00002.bin",)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', "{}"])
def test_an_index_that_cannot_be_read_has_to_be_fetched_again(text: str) -> None:
    huggingface({**WHOLE, "model.safetensors.index.json": text})
    assert look("Own/Model-1B", None).missing == ("a readable model.safetensors.index.json",)


def test_a_revision_is_found_by_branch_and_by_commit() -> None:
    other = "f" * 40
    huggingface(WHOLE)
    huggingface(WHOLE, commit=other, ref="v2")
    assert find()[2] == COMMIT
    assert find(revision="v2")[2] == other
    assert find(revision=other)[2] == other
    assert find(revision="v3") == ("missing", "", "")


def test_a_whole_copy_wins_over_a_partial_one() -> None:
    huggingface({"config.json": "{}"})
    older = "e" * 40
    huggingface(WHOLE, commit=older, ref=None)
    assert find() == ("installed", "huggingface", older)


def test_both_hubs_are_looked_at_in_order() -> None:
    fill(modelscope_cache() / "models" / "Own--Model-1B" / "snapshots" / "master", WHOLE)
    assert find() == ("installed", "modelscope", "master")
    assert find("huggingface")[0] == "missing"
    assert find(revision="master") == ("installed", "modelscope", "master")
    huggingface(WHOLE)
    assert find()[1] == "huggingface"
    assert find("modelscope")[1] == "modelscope"


@pytest.mark.parametrize("below", ["models", "hub/models"])
def test_the_old_layout_of_modelscope(below: str) -> None:
    folder = fill(modelscope_cache() / below / "Own" / "Model-1___5B", WHOLE)
    assert look(None, "Own/Model-1.5B").folder == folder


def test_caches_follow_the_hubs_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert huggingface_cache() == tmp_path / "huggingface" / "hub"
    assert modelscope_cache() == tmp_path / "modelscope"
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    assert huggingface_cache() == Path("/elsewhere")
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert huggingface_cache() == Path("/xdg/huggingface/hub")


def test_inspect_of_what_is_no_folder(tmp_path: Path) -> None:
    assert inspect(tmp_path / "nothing").state == "missing"
    (tmp_path / "empty").mkdir()
    assert inspect(tmp_path / "empty").state == "missing"
