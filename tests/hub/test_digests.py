"""Hashes of a checkpoint's files beside what the hubs' own clients left on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.test_local import COMMIT, fill
from vlmchat.errors import CheckpointError
from vlmchat.hub import digests
from vlmchat.hub.digests import FileCheck, Hashing, check_files, recorded_hash, unread_files
from vlmchat.hub.local import huggingface_cache

LARGE, SMALL = "weights of many bytes", '{"a": 1}'
EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""The id git gives to an empty file, everywhere."""


def checks(folder: Path) -> dict[str, FileCheck]:
    return {found.name: found for found in check_files(folder, lambda: False) if isinstance(found, FileCheck)}


def snapshot(blobs: dict[str, tuple[str, str]]) -> Path:
    """Lay out a snapshot as huggingface_hub does, each file a link to the blob of the given name."""
    root = huggingface_cache() / "models--Own--Model-1B"
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (root / "blobs").mkdir()
    for name, (blob, text) in blobs.items():
        (root / "blobs" / blob).write_text(text, encoding="utf-8")
        (folder / name).symlink_to(Path("../../blobs") / blob)
    return folder


def git_blob(text: str) -> str:
    return hashlib.sha1(b"blob %d\0" % len(text) + text.encode()).hexdigest()


def test_both_kinds_of_blob_names_are_checked() -> None:
    sha256 = hashlib.sha256(LARGE.encode()).hexdigest()
    files = {
        "model.safetensors": (sha256, LARGE),
        "config.json": (git_blob(SMALL), SMALL),
        "vocab.json": (EMPTY_BLOB, ""),
    }
    found = checks(snapshot(files))
    assert {name: check.verdict for name, check in found.items()} == dict.fromkeys(files, "same")
    assert found["model.safetensors"] == FileCheck("model.safetensors", len(LARGE), sha256, sha256, "same")
    assert found["config.json"].sha256 == hashlib.sha256(SMALL.encode()).hexdigest()
    assert found["config.json"].recorded == git_blob(SMALL)


@pytest.mark.parametrize("recorded", [hashlib.sha256(LARGE.encode()).hexdigest(), git_blob(LARGE)])
def test_one_altered_byte_differs(recorded: str) -> None:
    found = checks(snapshot({"model.safetensors": (recorded, LARGE.replace("m", "n"))}))
    assert found["model.safetensors"].verdict == "differs"


@pytest.mark.parametrize("name", ["abc", "f" * 63, "F" * 64, "0123-config.json"])
def test_a_blob_of_another_name_says_nothing(name: str) -> None:
    assert checks(snapshot({"config.json": (name, SMALL)}))["config.json"].verdict == "unknown"


def test_a_link_to_anywhere_else_says_nothing(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", {})
    (tmp_path / git_blob(SMALL)).write_text(SMALL, encoding="utf-8")
    (folder / "config.json").symlink_to(tmp_path / git_blob(SMALL))
    assert recorded_hash(folder / "config.json") == ""


def test_a_cache_without_links_has_a_listing() -> None:
    """As on Windows, where links need a privilege."""
    folder = fill(huggingface_cache() / "models--Own--Model-1B" / "snapshots" / COMMIT, {
        "model.safetensors": LARGE, "config.json": SMALL, "vocab.json": SMALL, "merges.txt": SMALL,
    })  # fmt: skip
    sha256 = hashlib.sha256(LARGE.encode()).hexdigest()
    files = {
        "model.safetensors": {"blob_id": EMPTY_BLOB, "lfs_sha256": sha256},
        "config.json": {"blob_id": git_blob(SMALL)},
        "vocab.json": {"blob_id": EMPTY_BLOB},
    }
    listing = fill(folder.parents[1] / "trees", {f"{COMMIT}.json": json.dumps({"files": files})})
    verdicts = {name: check.verdict for name, check in checks(folder).items()}
    assert verdicts == {
        "config.json": "same", "merges.txt": "unknown", "model.safetensors": "same", "vocab.json": "differs",
    }  # fmt: skip
    (listing / f"{COMMIT}.json").write_text("[]", encoding="utf-8")
    assert {check.verdict for check in checks(folder).values()} == {"unknown"}


def test_a_folder_filled_by_the_client_has_its_notes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", {"config.json": SMALL, "vocab.json": SMALL, "merges.txt": SMALL})
    notes = fill(folder / ".cache" / "huggingface" / "download", {})
    (notes / "config.json.metadata").write_text(f"{COMMIT}\n{git_blob(SMALL)}\n1.0\n", encoding="utf-8")
    (notes / "vocab.json.metadata").write_text(f"{COMMIT}\n{EMPTY_BLOB}\n1.0\n", encoding="utf-8")
    (notes / "merges.txt.metadata").write_bytes(b"\xff\xfe")
    verdicts = {name: check.verdict for name, check in checks(folder).items()}
    assert verdicts == {"config.json": "same", "vocab.json": "differs", "merges.txt": "unknown"}


def test_only_weights_tokenizer_and_config_are_hashed(tmp_path: Path) -> None:
    read = ["config.json", "merges.txt", "model-1.safetensors", "pytorch_model.bin", "tokenizer.model"]
    unread = [".msc", "README.md", "configuration.py", "outputs_stats.pth"]
    folder = fill(tmp_path / "mine", dict.fromkeys([*read, *unread], ""))
    (folder / "folder.json").mkdir()
    assert list(checks(folder)) == read
    assert unread_files(folder) == tuple(unread)


def test_progress_counts_all_bytes_and_stops_within_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_BLOCK", 4)
    folder = fill(tmp_path / "mine", {"a.json": "x" * 10, "b.json": "y" * 6})
    done = [event.done for event in check_files(folder, lambda: False) if isinstance(event, Hashing)]
    assert done == [4, 8, 10, 14, 16]
    answers: Iterator[bool] = iter([False, False, True])
    seen = list(check_files(folder, lambda: next(answers)))
    assert [type(event) for event in seen] == [Hashing, Hashing]
    assert isinstance(seen[0], Hashing)
    assert (seen[0].name, seen[0].total) == ("a.json", 16)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing-here cannot be read"):
        checks(tmp_path / "nothing-here")


def test_a_file_that_vanishes_or_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "mine", {"config.json": SMALL})

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: Permission denied"):
        checks(folder)
