"""Files of features: whole or absent, bounded, private, shared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlmchat.engine import feature_files
from vlmchat.engine.feature_files import FeatureFiles, held_bytes

NAME, OTHER = "a1" * 32, "b2" * 32
CHECKSUM = 32


def only_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@pytest.fixture
def files(tmp_path: Path) -> FeatureFiles:
    return FeatureFiles(tmp_path / "cache" / "features", 10_000)


def test_what_was_written_is_read_by_another(files: FeatureFiles) -> None:
    assert files.read(NAME) is None
    assert files.write(NAME, b"one")
    assert files.write(NAME, b"two")
    assert FeatureFiles(files.folder, 10_000).read(NAME) == b"two"
    assert files.read(OTHER) is None
    assert held_bytes(files.folder) == CHECKSUM + 3


def test_only_the_owner_may_look(files: FeatureFiles) -> None:
    files.write(NAME, b"one")
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert only_file(files.folder).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("length", [0, 5, CHECKSUM, CHECKSUM + 2])
def test_a_file_cut_short_is_removed(files: FeatureFiles, length: int) -> None:
    files.write(NAME, b"content")
    os.truncate(only_file(files.folder), length)
    assert files.read(NAME) is None
    assert not list(files.folder.iterdir())


@pytest.mark.parametrize("place", [0, CHECKSUM, -1])
def test_an_altered_file_is_removed(files: FeatureFiles, place: int) -> None:
    files.write(NAME, b"content")
    path = only_file(files.folder)
    altered = bytearray(path.read_bytes())
    altered[place] ^= 1
    path.write_bytes(altered)
    assert files.read(NAME) is None
    assert not path.exists()


def test_a_file_under_another_name_is_not_taken_for_that_one(files: FeatureFiles) -> None:
    files.write(NAME, b"content")
    path = only_file(files.folder)
    path.rename(path.with_stem(OTHER))
    assert files.read(OTHER) is None


def test_the_bound_is_kept_and_the_longest_unused_leave_first(files: FeatureFiles) -> None:
    names = [f"{number:02x}" * 32 for number in range(4)]
    for age, name in enumerate(names[:3]):
        files.write(name, bytes(3000 - CHECKSUM))
        os.utime(files.folder / f"{name}.features", (age, age))
    files.read(names[1], touch=False)
    files.read(names[0])
    assert files.write(names[3], bytes(3000 - CHECKSUM))
    assert [files.read(name) is not None for name in names] == [True, False, True, True]
    assert held_bytes(files.folder) == 9000
    assert not files.write(OTHER, bytes(10_000))
    assert held_bytes(files.folder) == 9000


def test_many_files_are_looked_at_now_and_then_and_the_bound_is_kept(
    files: FeatureFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    list_files = feature_files._files

    def counted(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
        found = list(list_files(folder))
        looks.append(len(found))
        return iter(found)

    monkeypatch.setattr(feature_files, "_files", counted)
    for number in range(1000):
        assert files.write(f"{number:064x}", b"")
        assert sum(path.stat().st_size for path in files.folder.iterdir()) <= 10_000
    assert sum(looks) < 1000 * 2 * feature_files.FILES_A_LOOK
    assert looks[-1] > 250, "it is nearly full"
    assert files.read(f"{999:064x}") is not None


def test_what_a_killed_process_left_unfinished_leaves_too(files: FeatureFiles) -> None:
    files.write(NAME, b"")
    (files.folder / "tmpkilled.part").write_bytes(bytes(9_999))
    os.utime(files.folder / "tmpkilled.part", (1, 1))
    files.write(OTHER, b"one")
    assert held_bytes(files.folder) == 2 * CHECKSUM + 3


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    files = FeatureFiles(tmp_path / "file" / "features", 10_000)
    assert not files.write(NAME, b"one")
    assert files.read(NAME) is None
    assert held_bytes(files.folder) == 0

    # As root every folder can be written, so the refusal is put in by hand.
    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    files = FeatureFiles(tmp_path / "features", 10_000)
    assert files.write(NAME, b"one")
    monkeypatch.setattr(feature_files, "mkstemp", read_only)
    monkeypatch.setattr(os, "utime", read_only)
    assert not files.write(OTHER, b"two")
    assert files.read(NAME) == b"one"


def test_a_disk_that_fills_up_leaves_nothing_behind(files: FeatureFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert not files.write(NAME, b"one")
    assert not list(files.folder.iterdir())
    monkeypatch.setattr(feature_files, "LEAST_FREE", 1 << 62)
    assert not files.write(NAME, b"one")


def test_two_processes_share_the_folder(files: FeatureFiles) -> None:
    """Both write the same names, read them and push each other's out: nobody sees half a file."""
    script = (
        "import sys; from pathlib import Path; from vlmchat.engine.feature_files import FeatureFiles\n"
        "files = FeatureFiles(Path(sys.argv[1]), 10_000)\n"
        "for turn in range(300):\n"
        "    name = f'{turn % 7:02x}' * 32\n"
        "    files.write(name, bytes([turn % 7]) * 2000)\n"
        "    found = files.read(f'{(turn + 3) % 7:02x}' * 32)\n"
        "    assert found in (None, bytes([(turn + 3) % 7]) * 2000), found\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(files.folder)]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert 0 < held_bytes(files.folder) <= 10_000
    assert {path.suffix for path in files.folder.iterdir()} == {".features"}
