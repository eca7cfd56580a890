"""Verification: what agrees is said to agree, and each fault is named by the step it sits in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.reference_cases import QWEN2, REFERENCE, Tensors, rewrite_weights
from vlmchat.conversation import Picture, Text, Video
from vlmchat.engine import verify
from vlmchat.engine.events import Loading
from vlmchat.engine.findings import STEPS, Compared, Comparing, Computing, Leftover, Step, StoredAs
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import Model
from vlmchat.engine.reference import Case, read_cases
from vlmchat.errors import CheckpointError, InputError
from vlmchat.families.internvl2 import processing
from vlmchat.options import LoadOptions

OVIS2, COGVLM2 = REFERENCE / "ovis2" / "ovis2_tied", REFERENCE / "cogvlm2" / "cogvlm2-image"
VIDEO = REFERENCE / "cogvlm2" / "cogvlm2-video"
INT4, AWQ = REFERENCE / "ovis2" / "ovis2_gptq_int4", REFERENCE / "internvl2" / "internlm2-vit300m-awq"
FLOAT32 = LoadOptions(device="cpu", dtype="float32")
HEAD = "language_model.lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied(QWEN2, tmp_path)


def copied(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference / "checkpoint", tmp_path / "copy", copy_function=shutil.copyfile))


def case_of(reference: Path, name: str) -> Case:
    return next(case for case in read_cases(reference) if case.name == name)


def rows_of(folder: Path, *cases: Case) -> dict[Step, Compared]:
    found = list(verify.compare(folder, FLOAT32, cases, lambda: False))
    return {row.step: row for row in found if isinstance(row, Compared)}


def wrong_steps(folder: Path, *cases: Case) -> list[Step]:
    rows = rows_of(folder, *cases)
    return [step for step in STEPS if step in rows and not rows[step].ok]


@pytest.mark.parametrize(
    ("reference", "name", "steps"),
    [
        (QWEN2, "wide_thumb", "prompt ids pixels vision logits tokens text"),
        (QWEN2, "video", "prompt ids pixels vision logits tokens text"),
        (QWEN2, "text_zh", "prompt ids logits tokens text"),
        (OVIS2, "one_image", "prompt ids pixels vision embeddings logits tokens text"),
        (OVIS2, "video", "prompt ids vision logits tokens text"),
        (INT4, "wide_image", "prompt ids pixels vision embeddings logits tokens text"),
        (COGVLM2, "image_single", "prompt ids positions pixels vision embeddings logits tokens text"),
        (VIDEO, "video_chat_12frames", "prompt ids positions pixels vision logits tokens text"),
    ],
)
def test_every_layout_is_compared_step_by_step(reference: Path, name: str, steps: str) -> None:
    rows = rows_of(reference / "checkpoint", case_of(reference, name))
    missing = set(steps.split()) - set(rows)
    assert not missing
    assert all(row.ok for row in rows.values()), rows
    assert [step for step in STEPS if step in rows] == list(rows), "in the order in which one feeds the next"


def test_events_come_in_order_and_a_stop_ends_them() -> None:
    cases = [case_of(QWEN2, "text_en"), case_of(QWEN2, "text_zh")]
    events = list(verify.compare(QWEN2 / "checkpoint", FLOAT32, cases, lambda: False))
    told = [event for event in events if isinstance(event, Computing | Comparing)]
    assert told == [Computing("cpu", "float32", 2), Comparing("text_en", 1, 2), Comparing("text_zh", 2, 2)]
    stopped_at_once = verify.compare(QWEN2 / "checkpoint", FLOAT32, cases, lambda: True)
    assert {type(event) for event in stopped_at_once} == {Loading}
    stopping = False

    def stopped() -> bool:
        return stopping

    seen = verify.compare(QWEN2 / "checkpoint", FLOAT32, cases, stopped)
    rest = []
    for event in seen:
        stopping = stopping or isinstance(event, Comparing)
        rest.append(event)
    assert not [event for event in rest if isinstance(event, Compared)], "no rows of half a case"


def test_a_wrong_mean_is_named_by_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "MEAN", (0.48145466, 0.4578275, 0.40821073))
    wrong = wrong_steps(QWEN2 / "checkpoint", case_of(QWEN2, "wide_thumb"))
    assert wrong[:3] == ["pixels", "vision", "logits"]


@pytest.mark.parametrize("name", ["wide_thumb", "one_tile"])
def test_tiles_in_another_order_are_named_by_the_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = processing.to_pixels
    monkeypatch.setattr(processing, "to_pixels", lambda tiles: make(tiles).flip(0))
    wrong = wrong_steps(QWEN2 / "checkpoint", case_of(QWEN2, name))
    assert wrong[:1] == (["pixels"] if name == "wide_thumb" else [])


def change_one_number(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[name].view(-1)[7].add_(0.05)


@pytest.mark.parametrize(
    ("tensor", "first"),
    [
        ("vision_model.encoder.layers.0.mlp.fc1.bias", "vision"),
        ("mlp1.3.bias", "vision"),
        ("language_model.model.norm.weight", "logits"),
        (HEAD, "logits"),
    ],
)
def test_one_weight_changed_slightly_is_named_by_its_step(folder: Path, tensor: str, first: Step) -> None:
    rewrite_weights(folder, change_one_number(tensor))
    row = rows_of(folder, case_of(QWEN2, "wide_thumb"))[first]
    assert row.difference is not None
    assert row.difference > row.tolerance
    assert wrong_steps(folder, case_of(QWEN2, "wide_thumb"))[0] == first


@pytest.mark.parametrize(
    ("tensor", "first"), [("visual_tokenizer.head.1.weight", "vision"), ("vte.weight", "embeddings")]
)
def test_ovis2s_visual_words_are_told_from_their_table(tmp_path: Path, tensor: str, first: Step) -> None:
    folder = copied(OVIS2, tmp_path)
    rewrite_weights(folder, lambda t: t[tensor].mul_(1.1))
    assert wrong_steps(folder, case_of(OVIS2, "one_image"))[0] == first


def test_an_altered_tokenizer_is_named_by_the_ids(folder: Path) -> None:
    merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    (folder / "merges.txt").write_text("\n".join(merges[:40]), encoding="utf-8")
    row = rows_of(folder, case_of(QWEN2, "text_en"))["ids"]
    assert row.difference
    assert "at place " in row.detail
    assert wrong_steps(folder, case_of(QWEN2, "text_en"))[0] == "ids"


def test_another_system_text_is_named_by_the_prompt(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["system_message"] = "Be brief."
    (folder / "config.json").write_text(json.dumps(config))
    rows = rows_of(folder, case_of(QWEN2, "text_zh"))
    assert "at character 19: 'Be brief.<|im_end|><|im_" in rows["prompt"].detail
    assert rows["logits"].difference is None
    assert rows["logits"].detail.startswith("the prompt has ")


def test_an_end_token_more_is_named_by_the_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(QWEN2, "text_en")
    begun = Runner.__init__

    def begin(self: Runner, model: Model) -> None:
        begun(self, model)
        self.model.checkpoint.stop_ids = frozenset({case.said("tokens")[3]})

    monkeypatch.setattr(Runner, "__init__", begin)
    row = rows_of(folder, case)["tokens"]
    assert row.difference == 12
    assert row.detail.startswith("at place 4: the end instead of ")


def test_a_model_of_another_shape_is_no_crash() -> None:
    """The checkpoint of one reference beside the numbers of another."""
    other = case_of(REFERENCE / "internvl2" / "phi3-vit300m", "wide_thumb")
    rows = rows_of(QWEN2 / "checkpoint", other)
    assert not rows["logits"].ok
    assert rows["pixels"].ok


def test_a_conversation_the_model_refuses_is_a_row(tmp_path: Path) -> None:
    (row,) = rows_of(COGVLM2 / "checkpoint", case_of(VIDEO, "video_chat")).values()
    assert (row.step, row.difference, row.ok) == ("prompt", None, False)
    assert "reads pictures, not videos" in row.detail


def test_numbers_that_are_none_never_pass(folder: Path) -> None:
    rewrite_weights(folder, lambda t: t["language_model.model.norm.weight"].view(-1)[0].fill_(float("nan")))
    row = rows_of(folder, case_of(QWEN2, "text_en"))["logits"]
    assert (row.difference, row.detail, row.ok) == (None, "not a number", False)


def test_tf32_is_off_for_the_comparison_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    real = verify._case

    def spy(*arguments: object) -> object:
        seen.append(torch.backends.cudnn.allow_tf32)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(verify, "_case", spy)
    before = torch.backends.cudnn.allow_tf32
    rows_of(QWEN2 / "checkpoint", case_of(QWEN2, "text_en"))
    assert (before, seen, torch.backends.cudnn.allow_tf32) == (True, [False], True)


def test_no_case_starts_from_the_caches_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    answer = Runner.answer

    def spy(self: Runner, *arguments: Any) -> Any:
        held.append(self.cache.lengths[0])
        return answer(self, *arguments)

    monkeypatch.setattr(Runner, "answer", spy)
    rows_of(QWEN2 / "checkpoint", case_of(QWEN2, "text_en"), case_of(QWEN2, "text_en"))
    assert held == [0, 0]


def test_the_audit_counts_and_names_leftovers() -> None:
    found = verify.audit(OVIS2 / "checkpoint")
    stored = load_file(OVIS2 / "checkpoint" / "model.safetensors")
    assert (found.family, found.tensors) == ("ovis2", len(stored))
    assert found.stored == (StoredAs("float32", len(stored), sum(t.nbytes for t in stored.values())),)
    tied, norm = found.leftovers
    assert tied == Leftover("llm.lm_head.weight", tied.reason)
    assert "tied" in tied.reason
    assert norm.name.endswith("post_trunk_norm.weight")
    assert norm.reason


@pytest.mark.parametrize("reference", [INT4, AWQ, REFERENCE / "cogvlm2" / "cogvlm2-image-int4"])
def test_packed_checkpoints_are_audited_as_stored(reference: Path) -> None:
    if not reference.exists():
        pytest.skip("not among the fixtures of this checkout")
    found = verify.audit(reference / "checkpoint")
    assert len(found.stored) > 1
    assert sum(entry.tensors for entry in found.stored) == found.tensors


CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "dropped": (lambda t: t.pop(HEAD), r"lacks.*lm_head\.weight"),
    "renamed": (lambda t: t.update({HEAD + "s": t.pop(HEAD)}), r"does not know.*lm_head\.weights"),
    "truncated": (lambda t: t.update({HEAD: t[HEAD][:-3]}), r"lm_head\.weight \[569, 64\] instead of \[572, 64\]"),
    "as integers": (lambda t: t.update({HEAD: t[HEAD].int()}), r"lm_head\.weight is stored as int32"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_audit_names_a_wrong_tensor(folder: Path, name: str) -> None:
    change, named = CHANGES[name]
    rewrite_weights(folder, change)
    with pytest.raises(CheckpointError, match=named):
        verify.audit(folder)


def test_the_audit_looks_into_packed_layers(tmp_path: Path) -> None:
    folder = copied(INT4, tmp_path)
    name = "llm.model.layers.0.mlp.down_proj.g_idx"
    rewrite_weights(folder, lambda t: t[name].fill_(999))
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.down_proj cannot be used: its g_idx names groups 999"):
        verify.audit(folder)


def test_bfloat16_cases_are_no_reference() -> None:
    assert {case.name for case in read_cases(COGVLM2)}.isdisjoint({"bf16/image_single"})
    entries = json.loads((COGVLM2 / "cases.json").read_text())["cases"]
    assert len(read_cases(COGVLM2)) == len(entries) - 1


def with_cases(tmp_path: Path, *cases: object) -> Path:
    (tmp_path / "cases.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    save_file({"a": torch.zeros(1)}, tmp_path / "expected.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("cases", "named"),
    [
        ([], "holds no case"),
        ([{"name": "one"}], "in no layout this version reads"),
        ([{"nom": "one"}], "KeyError: 'name'"),
        ([1], "TypeError"),
    ],
)
def test_a_folder_that_is_no_reference_is_named(tmp_path: Path, cases: list[object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_cases(with_cases(tmp_path, *cases))


def test_a_reference_cut_short_is_named(tmp_path: Path) -> None:
    folder = with_cases(tmp_path, {"name": "one", "greedy_tokens": [1]})
    with pytest.raises(InputError, match="no reference folder: KeyError: 'images'"):
        read_cases(folder)[0].request()
    with pytest.raises(InputError, match="KeyError: 'response'"):
        read_cases(folder)[0].said("text")
    (folder / "other").mkdir()
    (folder / "other" / "cases.json").write_bytes((folder / "cases.json").read_bytes())
    (folder / "other" / "expected.safetensors").write_bytes(b"1234")
    with pytest.raises(InputError, match="SafetensorError"):
        read_cases(folder / "other")


def parts(case: Case) -> list[list[str]]:
    """Return each turn as words: a picture's name, ``clip of N``, or the text in brackets."""

    def word(part: object) -> str:
        if isinstance(part, Video):
            return f"clip of {len(part.frames)}"
        return part.name if isinstance(part, Picture) else f"({part.text})" if isinstance(part, Text) else "?"

    return [[word(part) for part in message.parts] for message in case.request().messages]


def test_marks_become_pictures_where_they_stand() -> None:
    about = {
        "name": "x", "images": ["wide.png", "tall.png", "gray.png"], "max_num": 6, "greedy_tokens": [],
        "history": [["Image-1: <image>\nImage-2: <image>\nCompare.", "Alike."]], "question": "And <image> now?",
    }  # fmt: skip
    assert parts(Case(QWEN2, about)) == [
        ["wide.png", "tall.png", "(Compare.)"], ["(Alike.)"], ["(And )", "gray.png", "( now?)"],
    ]  # fmt: skip
    unmarked = {**about, "images": ["wide.png"], "history": [], "question": "What?"}
    assert parts(Case(QWEN2, unmarked)) == [["wide.png", "(What?)"]]
    frames = {**unmarked, "images": ["f1.png", "f2.png"], "question": "Frame1: <image>\nFrame2: <image>\nWhat?"}
    assert parts(Case(QWEN2, frames)) == [["clip of 2", "(What?)"]]
    with pytest.raises(InputError, match="more marks than there are pictures"):
        parts(Case(QWEN2, {**frames, "images": ["f1.png"]}))
