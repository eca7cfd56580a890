"""``verify``: the table, the JSON, the exit codes; and folders that would like to be executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.harness import call, command, on_terminal
from tests.hub.test_digests import git_blob
from tests.hub.test_local import COMMIT
from tests.reference_cases import QWEN2, rewrite_weights
from vlmchat.hub.local import huggingface_cache

HEAD = "language_model.lm_head.weight"
CASES = ("text_en", "one_tile")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute where the reference was computed, whatever this machine has."""
    monkeypatch.setenv("VLMCHAT_DEVICE", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(QWEN2 / "checkpoint", tmp_path / "copy", copy_function=shutil.copyfile))


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """The numbers of two cases, so that each test is quick."""
    target = tmp_path / "reference"
    shutil.copytree(QWEN2, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("checkpoint"))
    about = json.loads((target / "cases.json").read_text(encoding="utf-8"))
    about["cases"] = [case for case in about["cases"] if case["name"] in CASES]
    (target / "cases.json").write_text(json.dumps(about), encoding="utf-8")
    return target


@pytest.fixture
def snapshot(folder: Path) -> Path:
    """The checkpoint as huggingface_hub keeps it: large files by sha256, small ones by git's sha1."""
    root = huggingface_cache() / "models--Own--Model-1B"
    target = root / "snapshots" / COMMIT
    target.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for path in folder.iterdir():
        data = path.read_bytes()
        small = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        blob = hashlib.sha256(data).hexdigest() if path.suffix == ".safetensors" else small
        (root / "blobs" / blob).write_bytes(data)
        (target / path.name).symlink_to(Path("../../blobs") / blob)
    return target


def table(out: str, title: str) -> dict[str, list[str]]:
    """Return the rows of the table that begins with ``title``, by their first word."""
    lines = out[out.index(f"\n{title}") :].lstrip("\n").split("\n\n")[0].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[1:]}


def test_a_good_checkpoint_in_one_table(folder: Path) -> None:
    result = call("verify", str(folder))
    assert (result.code, result.err) == (0, "")
    facts = {line[:14].strip(): line[14:] for line in result.out.splitlines()}
    assert facts["model"] == str(folder)
    assert "torch 2." in facts["versions"]
    assert "transformers 5." in facts["versions"]
    assert facts["audit"] == "ok"
    assert facts["family"] == "internvl2"
    assert facts["tensors"] == "65 in the files: 65 used once, 0 known leftovers"
    assert facts["parameters"].endswith("all from the files, none newly initialised")
    assert facts["stored as"] == "float32 (65 tensors, 1.1 MB)"
    files = table(result.out, "FILE")
    assert sorted(files) == sorted(path.name for path in folder.iterdir())
    weights = (folder / "model.safetensors").read_bytes()
    assert files["model.safetensors"] == [str(len(weights)), "not", "recorded", hashlib.sha256(weights).hexdigest()]
    assert "STEP" not in result.out
    assert result.out.endswith("\nresult        all is well\n")


def test_the_comparison_names_every_step(folder: Path, reference: Path) -> None:
    result = call("verify", str(folder), "--reference", str(reference))
    assert (result.code, result.err) == (0, "")
    assert "\ncomputed      in float32 on cpu\n" in result.out
    steps = table(result.out, "STEP")
    assert list(steps) == ["prompt", "ids", "pixels", "vision", "logits", "tokens", "text"]
    assert [row[0] for row in steps.values()] == ["2", "2", "1", "1", "2", "2", "2"]
    assert {row[-1] for row in steps.values()} == {"ok"}
    assert steps["logits"][2] == "0.0001"


def test_json_is_one_object_with_every_row(folder: Path, reference: Path) -> None:
    found = call("verify", str(folder), "--reference", str(reference), "--json").json
    assert (found["ok"], found["device"], found["dtype"]) == (True, "cpu", "float32")
    assert found["audit"]["ok"]
    assert found["audit"]["tensors"] == 65
    assert found["parity"]["first_difference"] is None
    rows = found["parity"]["rows"]
    assert len(rows) == 12
    assert all(row["ok"] for row in rows)
    assert rows[-1].keys() == {"case", "step", "difference", "tolerance", "detail", "ok"}
    assert [file["verdict"] for file in found["files"]] == ["unknown"] * 9
    assert call("verify", str(folder), "--json").json["parity"] is None


def test_what_differs_first_is_named_in_the_sentence(folder: Path, reference: Path) -> None:
    rewrite_weights(folder, lambda t: t["language_model.model.norm.weight"].mul_(1.01))
    result = call("verify", str(folder), "--reference", str(reference))
    assert result.code == 7
    steps = table(result.out, "STEP")
    assert steps["vision"][-1] == "ok"
    assert result.out.endswith(f"\nresult        {result.err.splitlines()[0]}\n")
    assert steps["logits"][3:6] == ["DIFFERS", "in", "text_en,"]
    message, hint = result.err.splitlines()
    assert "the first step that differs is logits, in case text_en: " in message
    assert message.endswith(" where 0.0001 is allowed.")
    assert hint.startswith("hint: ")
    found = call("verify", str(folder), "--reference", str(reference), "--json")
    assert (found.code, found.json["ok"], found.json["parity"]["first_difference"]) == (7, False, "logits")


def test_a_step_that_must_be_exact_says_where(folder: Path, reference: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    result = call("verify", str(folder), "--reference", str(reference))
    assert result.code == 7
    assert "the first step that differs is ids, in case text_en: at place " in result.err
    assert "at place " in " ".join(table(result.out, "STEP")["ids"])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_refused_checkpoint_names_the_tensor(folder: Path, reference: Path, options: tuple[str, ...]) -> None:
    rewrite_weights(folder, lambda t: t.pop(HEAD))
    result = call("verify", str(folder), "--reference", str(reference), *options)
    assert result.code == 7
    assert result.err.startswith(f"The checkpoint lacks tensors its config asks for: {'lm_head.weight'}")
    if options:
        assert not result.json["audit"]["ok"]
        assert "lm_head.weight" in result.json["audit"]["message"]
        assert result.json["parity"] == {
            "reference": str(reference), "ok": False, "first_difference": None, "rows": [],
        }  # fmt: skip
    else:
        assert "\nrefused       The checkpoint lacks" in result.out
        assert "model.safetensors" in table(result.out, "FILE"), "hashes are told all the same"


def test_the_hubs_cache_says_what_the_files_should_be(snapshot: Path) -> None:
    result = call("verify", "Own/Model-1B")
    assert result.code == 0
    assert f"\nrevision      {COMMIT}\n" in result.out
    assert {" ".join(row[1:4]) for row in table(result.out, "FILE").values()} == {"as on the"}
    blob = (snapshot / "generation_config.json").resolve()
    assert blob.name == git_blob(blob.read_text())
    blob.write_text(blob.read_text() + "\n", encoding="utf-8")
    result = call("verify", "Own/Model-1B")
    assert result.code == 7
    assert result.err.startswith("Not as the hub has it: generation_config.json.\n")
    assert table(result.out, "FILE")["generation_config.json"][1] == "DIFFERS"
    assert table(result.out, "FILE")["model.safetensors"][1] == "as"
    altered = {
        file["name"] for file in call("verify", "Own/Model-1B", "--json").json["files"] if file["verdict"] != "same"
    }
    assert altered == {"generation_config.json"}


def test_dtype_is_float32_unless_it_is_typed(folder: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMCHAT_DTYPE", "bfloat16")
    arguments = ("verify", str(folder), "--reference", str(reference), "--json")
    assert call(*arguments).json["dtype"] == "float32"
    typed = call(*arguments, "--dtype", "bfloat16")
    assert (typed.code, typed.json["dtype"]) == (7, "bfloat16")


def test_without_a_name_the_model_in_force_is_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMCHAT_MODEL", str(folder))
    assert call("verify", "--json").json["model"] == str(folder)


@pytest.mark.parametrize(("named", "code"), [("internvl2:9b", 3), ("internvl2:8b", 3), ("./nothing", 3)])
def test_what_is_not_here_is_not_verified(named: str, code: int) -> None:
    result = call("verify", named)
    assert (result.code, result.out) == (code, "")


def test_a_reference_that_is_none_is_told_before_anything_is_hashed(folder: Path, tmp_path: Path) -> None:
    result = call("verify", str(folder), "--reference", str(tmp_path))
    assert (result.code, result.out) == (4, "")
    assert "it has no cases.json" in result.err


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_ends_it_while_it_hashes(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(64 * 1024**3)
    words = command(None, "verify", str(folder))
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        wait_for_open(running.pid, "model.safetensors")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
        assert running.stdout.read() == b""


def wait_for_open(pid: int, name: str) -> None:
    """Wait until a process has a file of this name open."""
    for _ in range(2000):
        try:
            if any(name in str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()):
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"{name} was never opened")


@pytest.mark.parametrize("room", ["vlmchat.cli.verification", "vlmchat.chat.verifying", "vlmchat.cli.showing"])
def test_the_command_alone_costs_no_torch(room: str) -> None:
    code = f"import {room}, sys; print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_names_of_files_do_not_steer_the_terminal(folder: Path) -> None:
    (folder / "a\x1b[31m\nb.json").write_text("{}", encoding="utf-8")
    (folder / "c\x1b[31m\nd.py").write_text("", encoding="utf-8")
    status, seen = on_terminal(None, "verify", str(folder))
    assert status == 0
    assert "\x1b[31m" not in seen
    assert "Hashing a" in seen
    (line,) = (line for line in seen.splitlines() if line.startswith("not read"))
    assert line.rstrip().endswith("d.py")


class Trap:
    """A pickle of it runs a shell command when it is loaded the ordinary way."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.sprung}",)


def set_traps(folder: Path, sprung: Path) -> None:
    """Put code beside the weights in every way a hub folder can carry it."""
    code = f"import pathlib; pathlib.Path({str(sprung)!r}).touch()\n"
    classes = "class InternVLChatModel: pass\nclass InternVLChatConfig: pass\nclass Tokenizer: pass\n"
    for name in ("modeling_internvl_chat", "configuration_internvl_chat", "tokenization", "__init__", "conversation"):
        (folder / f"{name}.py").write_text(code + classes, encoding="utf-8")
    for name, keys in (
        ("config.json", {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
                         "AutoModel": "modeling_internvl_chat.InternVLChatModel"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["tokenization.Tokenizer", "tokenization.Tokenizer"]}),
        ("preprocessor_config.json", {"AutoProcessor": "modeling_internvl_chat.InternVLChatModel"}),
    ):  # fmt: skip
        config = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**config, "auto_map": keys, "trust_remote_code": True}))
    for name in ("outputs_stats.pth", "inputs_stats.pth", "training_args.bin"):
        as_torch_writes(folder / name, sprung)
    (folder / ".msc").write_bytes(pickle.dumps(Trap(sprung)))


def as_torch_writes(path: Path, sprung: Path) -> None:
    """Write the trap in the format of real pickle shards, a zip that torch maps and unpickles."""
    torch.save({HEAD: Trap(sprung)}, path)


def as_torch_wrote(path: Path, sprung: Path) -> None:
    """Write the trap in the format of torch before 1.6, a row of bare pickles."""
    torch.save({HEAD: Trap(sprung)}, path, _use_new_zipfile_serialization=False)


WRITERS = pytest.mark.parametrize("write", [as_torch_writes, as_torch_wrote], ids=["zip", "legacy"])


@WRITERS
def test_the_trap_is_a_trap(tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    write(tmp_path / "trap.bin", tmp_path / "sprung")
    torch.load(tmp_path / "trap.bin", weights_only=False)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a pickle"])
def test_code_in_a_folder_is_never_executed(folder: Path, tmp_path: Path, beside: bool) -> None:
    """Good weights amid traps: the answer and the audit are as without them."""
    sprung = tmp_path / "sprung"
    plain = call("ask", "-m", str(folder), "--no-save", "--max-new-tokens", "4", "Hello?").out
    set_traps(folder, sprung)
    if beside:
        as_torch_writes(folder / "pytorch_model.bin", sprung)
    verified = call("verify", str(folder))
    asked = call("ask", "-m", str(folder), "--no-save", "--max-new-tokens", "4", "Hello?")
    assert (verified.code, asked.code, asked.out) == (0, 0, plain)
    not_read = next(line for line in verified.out.splitlines() if line.startswith("not read"))
    assert "modeling_internvl_chat.py" in not_read
    assert "outputs_stats.pth" in not_read
    assert not sprung.exists()


@WRITERS
def test_a_pickle_that_is_more_than_tensors_is_refused_by_name(
    folder: Path, tmp_path: Path, write: Callable[[Path, Path], None]
) -> None:
    sprung = tmp_path / "sprung"
    set_traps(folder, sprung)
    (folder / "model.safetensors").unlink()
    write(folder / "pytorch_model.bin", sprung)
    for arguments in (("verify", str(folder)), ("ask", "-m", str(folder), "--no-save", "Hello?")):
        result = call(*arguments)
        assert result.code == 7
        assert result.err.startswith("pytorch_model.bin is damaged, cut short or unsafe")
        assert "hint: " in result.err
    assert not sprung.exists()
