"""``vlmchat show`` from outside: the verdict, its JSON, and checkpoints outside the catalog."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.harness import call
from tests.cli.test_models import KEYS
from tests.hub.test_local import WHOLE, fill
from tests.reference_cases import QWEN2
from vlmchat.chat import capacity
from vlmchat.engine.machine import Gpu, Machine
from vlmchat.hub.local import huggingface_cache

GB = 10**9
SMALL = Machine(memory_free=9 * GB, memory_total=16 * GB, disk_free=10 * GB, bfloat16=True)
FIT_KEYS = {
    "verdict", "fits", "medium", "settings", "download_bytes", "disk_free_bytes", "memory_free_bytes", "gpus",
}  # fmt: skip
SETTING_KEYS = {
    "quantization", "dtype", "device", "partly_in_main_memory", "weights_bytes", "vision_bytes",
    "kv_bytes_per_1000_tokens", "working_bytes", "picture_tokens", "needs_bytes", "lacks_bytes", "pictures", "tokens",
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of 9 GB free memory and 10 GB of disk."""
    monkeypatch.setattr(capacity, "look", lambda downloads: SMALL)
    return SMALL


def test_the_verdict_is_a_sentence_with_numbers_below_it(small: Machine) -> None:
    lines = call("show", "internvl2:8b").out.splitlines()
    facts = {line[:14].strip(): line[14:] for line in lines}
    assert facts["will it fit"].startswith("fits in 4-bit in main memory (9.0 GB free), with room for ")
    assert facts["will it fit"].endswith("; in bf16 it would need 7.6 GB more")
    assert facts["memory"] == "bf16 16.1 GB, 8-bit 8.7 GB, 4-bit 6.2 GB"
    assert facts["of that"] == (
        "675 MB visual part, 131 MB of cache per 1,000 tokens, 3,330 tokens for the largest picture"
    )
    assert facts["disk"] == "16.1 GB to download, 10.0 GB free: 6.2 GB too little"
    assert "pytorch (16.1 GB in 4 files)" in facts["format"]


def test_the_keys_of_the_json_are_a_contract(small: Machine) -> None:
    value = call("show", "internvl2:8b", "--json").json
    assert set(value) == KEYS | {"config", "sources", "fit"}
    fit = value["fit"]
    assert set(fit) == FIT_KEYS
    assert [setting["quantization"] for setting in fit["settings"]] == ["none", "8-bit", "4-bit"]
    assert all(set(setting) == SETTING_KEYS for setting in fit["settings"])
    none, _, four = fit["settings"]
    assert (none["kv_bytes_per_1000_tokens"], none["picture_tokens"]) == (131_072_000, 3_330)
    assert none["needs_bytes"] - none["lacks_bytes"] == four["lacks_bytes"] + 8_500_000_000
    assert (fit["fits"], fit["download_bytes"], fit["disk_free_bytes"]) == (True, 16_150_000_000, 10 * GB)
    assert value["sources"]["bytes"].startswith("InternVL2 facts §1")
    assert value["config"]["llm_config"]["num_key_value_heads"] == 8


def test_gpus_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu = replace(SMALL, gpus=(Gpu(0, "Toy", 20 * GB, 24 * GB),))
    monkeypatch.setattr(capacity, "look", lambda downloads: with_gpu)
    fit = call("show", "internvl2:8b", "--json").json["fit"]
    assert fit["gpus"] == [{"name": "Toy", "free_bytes": 20 * GB, "total_bytes": 24 * GB}]
    assert fit["verdict"].startswith("fits in bf16 on the GPU (20.0 GB free)")


def test_a_folder_is_counted_by_its_own_config(small: Machine, tmp_path: Path) -> None:
    value = call("show", str(QWEN2 / "checkpoint"), "--json").json
    assert value["fit"]["verdict"].startswith("fits in fp32 in main memory")
    assert value["fit"]["settings"][0]["weights_bytes"] == pytest.approx(1_090_368, rel=0.001)
    assert "will it fit   fits in fp32" in call("show", str(QWEN2 / "checkpoint")).out
    shutil.copy(QWEN2 / "checkpoint" / "config.json", tmp_path)
    assert call("show", str(tmp_path), "--json").json["fit"]["fits"] is True, "before any weights are there"


def test_a_row_that_is_here_is_counted_by_its_own_config(small: Machine) -> None:
    snapshot = fill(huggingface_cache() / "models--OpenGVLab--InternVL2-8B" / "snapshots" / "c", WHOLE)
    assert call("show", "internvl2:8b", "--json").json["fit"]["settings"][0]["weights_bytes"] > 16 * GB
    shutil.copy(QWEN2 / "checkpoint" / "config.json", snapshot)
    value = call("show", "internvl2:8b", "--json").json
    assert value["fit"]["settings"][0]["weights_bytes"] < 2_000_000
    assert value["fit"]["download_bytes"] is None, "it is installed"


def test_what_nobody_knows_is_left_out(small: Machine, tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", WHOLE)
    fit = call("show", str(folder), "--json").json["fit"]
    assert (fit["verdict"], fit["fits"], fit["settings"]) == (None, None, [])
    assert "will it fit" not in call("show", str(folder)).out
