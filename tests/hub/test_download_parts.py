"""The pieces of the download by themselves: partial files, the choice of files, licences, manifests, removal."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from vlmchat.hub.faults import disk_error, reason_of, retry_after
from vlmchat.hub.hashing import Stopped
from vlmchat.hub.layout import own_folder, repository_root
from vlmchat.hub.licences import accept, is_accepted
from vlmchat.hub.manifest import Manifest, recorded_sha256
from vlmchat.hub.partial import Part, part_done
from vlmchat.hub.plan import Wanted
from vlmchat.hub.removal import removals, remove
from vlmchat.hub.selection import needed
from vlmchat.hub.source import Listing, RemoteFile, remote_file

CONTENT = os.urandom(2500)
FILE = RemoteFile("a.safetensors", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
SMALL = RemoteFile("config.json", 2, "", hashlib.sha1(b"blob 2\0{}", usedforsecurity=False).hexdigest())


def fill(part: Part, piece: int, upto: int | None = None) -> None:
    whole = part.pieces[piece]
    end = whole.end if upto is None else whole.start + upto
    part.write(whole, memoryview(CONTENT)[whole.offset : end])


def test_pieces_in_any_order_make_the_file(tmp_path: Path) -> None:
    part = Part(tmp_path, FILE, 1000)
    for piece in (2, 0, 1):
        assert not part.whole
        fill(part, piece)
    assert part.whole
    assert part.is_right()
    assert part.sha256 == FILE.sha256
    part.move_to(tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_bytes() == CONTENT


def test_what_is_counted_is_there_after_a_kill(tmp_path: Path) -> None:
    first = Part(tmp_path, FILE, 1000)
    fill(first, 0, 300)
    fill(first, 2)
    # Nothing is closed or flushed: this is what a killed process leaves.
    again = Part(tmp_path, FILE, 77)
    assert [piece.done for piece in again.pieces] == [300, 0, 500]
    assert again.done == part_done(tmp_path, FILE) == 800
    again.catch_up(lambda _: None)
    assert again.hashed == 300
    fill(again, 0)
    fill(again, 1)
    assert again.is_right()


@pytest.mark.parametrize("damage", ["data", "count", "size"])
def test_a_count_that_cannot_be_begins_anew(tmp_path: Path, damage: str) -> None:
    part = Part(tmp_path, FILE, 1000)
    fill(part, 1)
    part.close()
    if damage == "data":
        part.path.write_bytes(b"short")
    elif damage == "count":
        part.path.with_suffix(".done").write_bytes(b"vlmpart1 and nonsense")
    else:
        part.path.with_suffix(".done").write_bytes(part.path.with_suffix(".done").read_bytes() + b"8 bytes!")
    assert Part(tmp_path, FILE, 1000).done == 0


def test_a_closed_part_takes_no_byte_from_any_thread(tmp_path: Path) -> None:
    part = Part(tmp_path, FILE, 1000)
    part.close()
    with pytest.raises(Stopped):
        fill(part, 0)
    assert part.path.stat().st_size == 0


def test_wrong_bytes_are_seen_and_dropped(tmp_path: Path) -> None:
    part = Part(tmp_path, FILE, 5000)
    part.write(part.pieces[0], memoryview(b"x" * len(CONTENT)))
    assert part.whole
    assert not part.is_right()
    assert part.restart() == len(CONTENT)
    fill(part, 0)
    assert part.is_right()


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    part = Part(tmp_path, FILE, 100)
    threads = [threading.Thread(target=fill, args=(part, piece.index)) for piece in part.pieces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    part.catch_up(lambda _: None)
    assert part.is_right()


def test_a_small_file_is_known_by_its_git_hash(tmp_path: Path) -> None:
    part = Part(tmp_path, SMALL, 100)
    part.write(part.pieces[0], memoryview(b"{}"))
    assert part.is_right()
    assert part.sha256 == hashlib.sha256(b"{}").hexdigest()


def test_an_empty_file_is_whole_at_once(tmp_path: Path) -> None:
    part = Part(tmp_path, RemoteFile("empty.json", 0, hashlib.sha256().hexdigest()), 100)
    assert part.whole
    assert part.is_right()


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (
            "config.json model.safetensors pytorch_model.bin modeling_x.py README.md tokenizer.model .gitattributes",
            "config.json tokenizer.model model.safetensors",
        ),
        (
            "model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
            "consolidated.safetensors pytorch_model.bin.index.json pytorch_model-00001-of-00002.bin",
            "model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors",
        ),
        ("pytorch_model.bin training_args.bin trainer_state.json", "pytorch_model.bin"),
        (
            "model.safetensors model.safetensors.index.json vocab.txt merges.txt",
            "merges.txt vocab.txt model.safetensors",
        ),
        ("gptq_model-4bit.safetensors quantize_config.json", "quantize_config.json gptq_model-4bit.safetensors"),
        ("model.safetensors onnx/model.safetensors ../escape.json sub\\evil.json", "model.safetensors"),
        ("config.json", "config.json"),
    ],
)
def test_only_what_a_model_needs_is_chosen(there: str, wanted: str) -> None:
    files = [RemoteFile(path, 1, "0" * 64) for path in there.split()]
    assert [file.path for file in needed(files)] == wanted.split()


@pytest.mark.parametrize(
    "said", [(None, "0" * 64, ""), (-1, "0" * 64, ""), (1, "", ""), (1, "../../etc", ""), (1, "", "x" * 40)]
)
def test_a_listing_is_not_believed_blindly(said: tuple[object, str, str]) -> None:
    with pytest.raises(ValueError, match=r"a file without|a hash"):
        remote_file("model.safetensors", *said)


def test_a_licence_is_accepted_once_for_one_model(home: Path) -> None:
    assert is_accepted("any", "")
    assert not is_accepted("internvl2:1b", "MIT")
    accept("internvl2:1b", "MIT", "https://example.org")
    assert is_accepted("InternVL2:1B", "MIT")
    assert not is_accepted("internvl2:2b", "MIT")
    assert not is_accepted("internvl2:1b", "Another")
    (home / "state" / "licences.json").write_text("broken", encoding="utf-8")
    assert not is_accepted("internvl2:1b", "MIT")


def listing() -> Listing:
    return Listing("modelscope", "Own/Model", "master", "master", (FILE,))


def test_a_manifest_knows_a_file_until_it_is_touched(tmp_path: Path) -> None:
    root = repository_root("modelscope", "Own/Model")
    path = root / "snapshots" / "master" / FILE.path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert not Manifest.of(root, listing()).sha256_of(FILE, path)
    Manifest.of(root, listing()).add(FILE, path, FILE.sha256)
    assert Manifest.of(root, listing()).sha256_of(FILE, path) == FILE.sha256
    assert recorded_sha256(path) == FILE.sha256
    os.utime(path, ns=(0, 0))
    assert not Manifest.of(root, listing()).sha256_of(FILE, path)


def test_removal_counts_what_the_disk_gets_back(tmp_path: Path) -> None:
    root = repository_root("modelscope", "Own/Model")
    path = root / "snapshots" / "master" / FILE.path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    (path.parent / "again.bin").hardlink_to(path)
    (path.parent / "config.json").write_bytes(b"{}")
    wanted = Wanted("Own/Model", "Own/Model", "Own/Model")
    (found,) = removals(wanted)
    assert (found.files, found.bytes) == (3, len(CONTENT) + 2)
    (tmp_path / "elsewhere.bin").hardlink_to(path)
    (found,) = removals(wanted)
    assert found.bytes == 2, "what has a name elsewhere frees nothing"
    remove(found)
    assert not root.exists()
    assert (tmp_path / "elsewhere.bin").read_bytes() == CONTENT
    assert removals(wanted) == ()


def test_a_download_that_never_finished_a_file_can_be_removed() -> None:
    root = repository_root("huggingface", "Own/Model")
    own_folder(root).mkdir(parents=True)
    part = Part(own_folder(root), FILE, 1000)
    fill(part, 0)
    part.close()
    (found,) = removals(Wanted("Own/Model", "Own/Model"))
    remove(found)
    assert not root.exists()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("900", 60.0), ("-5", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None)],
)
def test_a_hub_may_ask_for_a_pause(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_errors_are_told_by_what_they_are_not_by_what_they_say() -> None:
    secret = "https://cdn/x?Signature=secret"
    assert reason_of(ConnectionResetError(secret)) == "connection reset"
    assert reason_of(RuntimeError(secret)) == "connection lost"
    assert disk_error(OSError(28, "No space"), Path("/cache")).code == "disk-full"
    assert disk_error(OSError(30, "Read-only file system"), Path("/cache")).code == "cache-not-writable"
    assert disk_error(OSError(5, "Input/output error"), Path("/cache")).code == "download"
