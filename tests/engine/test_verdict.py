"""The sentence and the refusal, on machines of every size; and what a machine is asked."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlmchat.catalog.index import catalog
from vlmchat.engine import machine
from vlmchat.engine.api import LoadedModel
from vlmchat.engine.machine import Gpu, Machine, look
from vlmchat.engine.verdict import Fit, judge, refuse_too_large
from vlmchat.errors import DoesNotFit
from vlmchat.families.sizes import Sizes, sizes_of
from vlmchat.options import LoadOptions

GB = 10**9
LAPTOP = Machine(memory_free=16 * GB, memory_total=16 * GB, disk_free=100 * GB, bfloat16=True)


def sizes(name: str) -> Sizes:
    row = catalog().find(name)
    assert row is not None
    counted = sizes_of(row.config)
    assert counted is not None
    return replace(counted, context_tokens=row.context_tokens)


def with_gpus(*free: int) -> Machine:
    return replace(LAPTOP, gpus=tuple(Gpu(at, "Toy", size * GB, size * GB) for at, size in enumerate(free)))


def verdict(name: str, here: Machine) -> str:
    return judge(sizes(name), here).text


def test_what_fits_is_said_with_its_room() -> None:
    text = verdict("internvl2:2b", LAPTOP)
    assert text == "fits in bf16 in main memory (16.0 GB free), with room for 4 pictures and 19k tokens"
    assert verdict("internvl2:8b", replace(LAPTOP, memory_free=9 * GB)) == (
        "fits in 4-bit in main memory (9.0 GB free), with room for 2 pictures and 8k tokens; "
        "in bf16 it would need 7.6 GB more"
    )


def test_what_does_not_fit_is_said_with_what_is_missing() -> None:
    assert verdict("internvl2:76b", LAPTOP) == (
        "does not fit in main memory (16.0 GB free): in 4-bit it would need 43.0 GB more"
    )
    assert not judge(sizes("internvl2:76b"), LAPTOP).fits


def test_a_packed_checkpoint_stays_packed_on_a_gpu_and_is_unpacked_on_a_cpu() -> None:
    assert verdict("cogvlm2:19b-int4", with_gpus(24)).startswith("fits in its packed form on the GPU (24.0 GB free)")
    assert "in bf16, unpacked it would need" in verdict("cogvlm2:19b-int4", LAPTOP)


def test_the_place_is_the_fastest_that_has_room() -> None:
    assert "on the GPU (24.0 GB free)" in verdict("internvl2:8b", with_gpus(8, 24))
    assert "in bf16 on 2 GPUs together" in verdict("internvl2:8b", with_gpus(12, 12))
    assert verdict("internvl2:8b", with_gpus(12)).startswith("fits in 8-bit on the GPU (12.0 GB free)")
    assert verdict("internvl2:8b", with_gpus(12)).endswith("; in bf16 with a part in main memory, which is slow")
    assert verdict("internvl2:8b", with_gpus(4)).startswith("fits in bf16 with a part in main memory, which is slow")
    shared = replace(LAPTOP, unified=True, memory_free=32 * GB)
    assert "in the memory shared with the GPU (32.0 GB free)" in verdict("internvl2:8b", shared)


def test_room_ends_with_the_context_and_with_one_picture_where_that_is_all() -> None:
    roomy = replace(LAPTOP, memory_free=200 * GB)
    for name in ("internvl2:8b", "internvl2:40b", "ovis2:34b", "cogvlm2:19b", "cogvlm2-video:12b-chat"):
        room = judge(sizes(name), roomy).rooms[0]
        used = room.pictures * room.estimate.picture_tokens + room.tokens
        assert used == sizes(name).context_tokens
    assert judge(sizes("cogvlm2:19b"), roomy).rooms[0].pictures == 1
    assert "1 video and 400 tokens" in verdict("cogvlm2-video:12b-chat", roomy)


@pytest.mark.parametrize("gigabytes", range(3, 60, 4))
def test_more_memory_never_fits_less(gigabytes: int) -> None:
    def rooms(size: int) -> Fit:
        return judge(sizes("ovis2:8b"), replace(LAPTOP, memory_free=size * GB))

    for less, more in zip(rooms(gigabytes).rooms, rooms(gigabytes + 1).rooms, strict=True):
        assert more.lacks <= less.lacks
        assert more.pictures * more.estimate.picture_tokens + more.tokens >= less.tokens


def refusal(name: str, here: Machine, options: LoadOptions | None = None) -> DoesNotFit:
    with pytest.raises(DoesNotFit) as caught:
        refuse_too_large(sizes(name), here, options or LoadOptions(), name)
    return caught.value


def test_a_load_that_cannot_succeed_is_refused_with_the_setting_that_would() -> None:
    problem = refusal("internvl2:8b", replace(LAPTOP, memory_free=8 * GB))
    assert problem.exit_code == 5
    assert problem.message == "internvl2:8b needs 16.1 GB in bf16; 8.0 GB of memory is free."
    assert problem.hint == "Use --quantization 4-bit: that needs 6.2 GB."
    assert "Pick a smaller model" in refusal("internvl2:76b", LAPTOP).hint
    assert "Pick a smaller model" in refusal("cogvlm2:19b-int4", LAPTOP).hint


def test_a_load_that_can_succeed_is_not_refused() -> None:
    for name, here, options in (
        ("internvl2:2b", LAPTOP, LoadOptions()),
        ("internvl2:8b", with_gpus(4), LoadOptions()),  # split over GPU and main memory
        ("internvl2:40b", with_gpus(4), LoadOptions()),  # the rest on disk
        ("internvl2:8b", with_gpus(24), LoadOptions(device="cuda:0")),
        ("internvl2:8b", LAPTOP, LoadOptions(device="cuda:7")),  # no such GPU: not for want of memory
    ):
        refuse_too_large(sizes(name), here, options, name)
    assert "needs" in refusal("internvl2:8b", with_gpus(4), LoadOptions(device="cuda")).message


def test_the_model_in_memory_gives_its_room_back(tmp_path: Path) -> None:
    loaded = LoadedModel(tmp_path, "internvl2", "cpu", "bfloat16", "none", 4096, 10 * GB, 1000, "")
    tight = replace(LAPTOP, memory_free=8 * GB)
    refuse_too_large(sizes("internvl2:8b"), tight, LoadOptions(), "internvl2:8b", loaded)
    with pytest.raises(DoesNotFit):
        on_gpu = replace(loaded, device="cuda:0")
        refuse_too_large(sizes("internvl2:8b"), tight, LoadOptions(), "internvl2:8b", on_gpu)


def test_this_machine_is_looked_at_without_torch(tmp_path: Path) -> None:
    here = look(tmp_path / "not" / "there" / "yet")
    assert 0 < here.memory_free <= here.memory_total
    assert here.disk_free > 0


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the path, for a driver's tool of the test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def write_driver(folder: Path, *lines: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="writes a shell script")
def test_gpus_are_those_cuda_would_show(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_driver(
        driver, "echo '0, Toy A, 1000 MiB, 8192 MiB'", "echo '1, Toy B, [N/A], [N/A]'", "echo '2, Toy C, 9 MiB, 10 MiB'"
    )
    assert look(tmp_path).gpus == (
        Gpu(0, "Toy A", 1000 * 2**20, 8192 * 2**20),
        Gpu(1, "Toy C", 9 * 2**20, 10 * 2**20),
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert [gpu.name for gpu in look(tmp_path).gpus] == ["Toy C"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert look(tmp_path).gpus == ()


@pytest.mark.skipif(sys.platform == "win32", reason="writes a shell script")
@pytest.mark.parametrize("line", ["exit 9", "echo rubbish", "echo"])
def test_a_broken_driver_is_no_gpu(driver: Path, tmp_path: Path, line: str) -> None:
    write_driver(driver, line)
    assert look(tmp_path).gpus == ()


def test_a_container_limit_is_the_end_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("max", "3000"), ("current", "2500"), ("stat", "anon 100\ninactive_file 400\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    here = look(tmp_path)
    assert (here.memory_free, here.memory_total) == (900, 3000)
    (tmp_path / "memory.max").write_text("max")
    assert look(tmp_path).memory_total > 3000


def test_memory_is_known_without_the_kernels_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = look(tmp_path).memory_total
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "none")
    assert look(tmp_path).memory_total == known


def test_bfloat16_is_read_off_the_processor_as_torch_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="compared with torch")
    asked = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    monkeypatch.delitem(sys.modules, "torch")
    assert machine._computes_bfloat16() in ({asked} if sys.platform == "linux" else {False})


def test_the_figures_are_plain_numbers() -> None:
    """``show --json`` writes them as they are."""
    for room in judge(sizes("internvl2:8b"), LAPTOP).rooms:
        json.dumps([room.needs, room.lacks, room.pictures, room.tokens, room.estimate.weights])
