"""The generic family against Transformers' own forward and generate: tiny random checkpoints, every architecture."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, ProcessorMixin

from tests.families.generic_cases import TINY, Tiny, write
from tests.reference_cases import rewrite_weights
from vlmchat.conversation import Message, Picture, Text, Video, assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.generate import PREFILL_CHUNK, Runner, _chunk_end
from vlmchat.engine.loader import load_now
from vlmchat.engine.quantize import Int8Linear
from vlmchat.errors import CheckpointError, InputError
from vlmchat.families.generic.config import SUPPORTED
from vlmchat.families.registry import can_run
from vlmchat.media.image import load_rgb, read_picture
from vlmchat.options import LoadOptions, Sampling

TOLERANCE = 2e-4
"""On fp32 logits of size 1 to 100; see :func:`test_a_changed_rule_is_seen` for what a wrong rule does."""


KINDS = [tiny.kind for tiny in TINY]


@dataclass
class Case:
    """One architecture: this program's model and Transformers', from the same files."""

    tiny: Tiny
    folder: Path
    runner: Runner
    native: Any
    """Transformers' model."""
    processor: Any

    def inputs(self, messages: tuple[Message, ...]) -> Any:
        """Return what Transformers' processor makes of a conversation."""
        chat = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part.text} if isinstance(part, Text) else {"type": "image"}
                    for part in message.parts
                ],
            }
            for message in messages
        ]
        images = [load_rgb(picture) for message in messages for picture in message.pictures]
        written = ProcessorMixin.apply_chat_template(self.processor, chat, tokenize=False, add_generation_prompt=True)
        bos = self.processor.tokenizer.bos_token
        return self.processor(
            text=[written],
            images=images or None,
            return_tensors="pt",
            add_special_tokens=not (bos and written.startswith(bos)),
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generic")


@lru_cache
def opened(tiny_number: int, root: Path) -> Case:
    tiny = TINY[tiny_number]
    folder = root / tiny.kind
    write(tiny, folder)
    runner = Runner(load_now(folder, LoadOptions(dtype="float32")))
    native = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    checkpoint: Any = runner.model.checkpoint
    return Case(tiny, folder, runner, native, checkpoint._processor.native)


@pytest.fixture(params=range(len(TINY)), ids=KINDS)
def case(request: pytest.FixtureRequest, root: Path) -> Case:
    case = opened(request.param, root)
    case.runner.forget()
    return case


@pytest.fixture(scope="module")
def pictures(root: Path) -> tuple[Picture, Picture]:
    torch.manual_seed(3)
    made = []
    for name, (width, height) in {"wide": (50, 21), "high": (17, 40)}.items():
        noise = torch.randint(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(root / f"{name}.png")
        made.append(read_picture(root / f"{name}.png"))
    return made[0], made[1]


@pytest.fixture
def question(pictures: tuple[Picture, Picture]) -> tuple[Message, ...]:
    wide, high = pictures
    first = Message("user", (wide, Text("What is this thing?\n\nAnd is the other one in it: "), high, Text("? ☃ 你好")))
    return first, assistant("That is the sea."), user("Is it?")


def engine_logits(runner: Runner, messages: tuple[Message, ...]) -> Iterator[Tensor]:
    """Yield fp32 logits of every prompt position, computed by the engine's own steps in its chunks."""
    seen: list[Tensor] = []
    compute = runner.model.network.hidden_states
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():

        def spy(span: Any, cache: Any) -> Tensor:
            hidden = compute(span, cache)
            seen.append(runner.model.network.logits(hidden)[0])
            return hidden

        patch.setattr(runner.model.network, "hidden_states", spy)
        for _ in runner.answer(Request(messages, Sampling(max_new_tokens=1)), lambda: False):
            pass
    yield from seen


def answer(runner: Runner, messages: tuple[Message, ...], tokens: int) -> Finished:
    *_, finished = runner.answer(Request(messages, Sampling(max_new_tokens=tokens)), lambda: False)
    assert isinstance(finished, Finished)
    return finished


def native_logits(case: Case, messages: tuple[Message, ...]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = case.native(**case.inputs(messages)).logits[0]
    return logits


def test_every_supported_architecture_is_here() -> None:
    assert sorted(KINDS) == sorted(SUPPORTED)


def test_ids_are_those_of_the_processor(case: Case, question: tuple[Message, ...]) -> None:
    for messages in (question, question[:1], (user("Only text. \n Is it?"),)):
        prompt = case.runner.model.checkpoint.layout(messages, Request(messages).vision)
        assert list(prompt.ids) == case.inputs(messages)["input_ids"][0].tolist()


def test_prefill_logits_in_chunks(case: Case, question: tuple[Message, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = native_logits(case, question)
    for chunk in (1000, 7):
        monkeypatch.setitem(PREFILL_CHUNK, "cpu", chunk)
        case.runner.forget()
        parts = list(engine_logits(case.runner, question))
        assert len(parts) == 1 if chunk == 1000 else len(parts) > 3
        assert (torch.cat(parts) - expected).abs().max() < TOLERANCE


def test_greedy_tokens_over_two_turns(case: Case, pictures: tuple[Picture, Picture]) -> None:
    messages: tuple[Message, ...] = (user("What is this?", pictures[0]),)
    for follow_up in (user("And the other?", pictures[1]), None):
        inputs = case.inputs(messages)
        generated = case.native.generate(**inputs, max_new_tokens=12, do_sample=False)[
            0, inputs["input_ids"].shape[1] :
        ]
        finished = answer(case.runner, messages, 12)
        assert list(finished.token_ids) == generated.tolist()
        text = case.processor.tokenizer.decode(generated, skip_special_tokens=True).strip()
        assert finished.text == text
        if follow_up:
            computed, before = case.runner.forward_tokens, len(inputs["input_ids"][0])
            messages = (*messages, assistant("Some thing."), follow_up)
            expected = native_logits(case, messages)
            last = list(engine_logits(case.runner, messages))
            # Behind the caches only what is new was computed, and computed right.
            assert case.runner.forward_tokens - computed <= len(expected) - before + 1
            assert (torch.cat(last) - expected[-len(torch.cat(last)) :]).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_5_vl"])
def test_a_changed_rule_is_seen(
    kind: str, root: Path, question: tuple[Message, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention in both directions, and positions by row and column: without them the logits are elsewhere."""
    case = opened(KINDS.index(kind), root)
    expected = native_logits(case, question)
    layout = case.runner.model.checkpoint.layout
    case.runner.forget()
    monkeypatch.setattr(
        case.runner.model.checkpoint, "layout", lambda *given: replace(layout(*given), experts=None, positions=None)
    )
    assert (torch.cat(list(engine_logits(case.runner, question))) - expected).abs().max() > 100 * TOLERANCE


def test_pictures_are_not_cut_between_chunks(root: Path, question: tuple[Message, ...]) -> None:
    case = opened(KINDS.index("gemma3"), root)
    prompt = case.runner.model.checkpoint.layout(question, Request(question).vision)
    ends = {slot.start + slot.length for slot in prompt.slots}
    for end in range(1, len(prompt.ids) + 5):
        cut = _chunk_end(prompt, end)
        assert cut in {min(end, len(prompt.ids)), *ends}
        assert not any(slot.start < cut < slot.start + slot.length for slot in prompt.slots)


def test_names_of_control_tokens_stay_text(case: Case, pictures: tuple[Picture, Picture]) -> None:
    tokenizer = case.processor.tokenizer
    names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    typed = " ".join(names) + " " + "".join(names[::-1]) + " \U000f0000<"
    layout = case.runner.model.checkpoint.layout
    plain = layout((user("Look:", pictures[0]),), Request(()).vision)
    cut = len(names[-1]) // 2
    parts = (pictures[0], Text(f"Look: {typed} {names[-1][:cut]}"), Text(names[-1][cut:]))
    prompt = layout((Message("user", parts),), Request(()).vision)
    controls = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    assert [id_ for id_ in prompt.ids if id_ in controls] == [id_ for id_ in plain.ids if id_ in controls]
    assert prompt.image_tokens == plain.image_tokens
    text = tokenizer.decode(prompt.ids, skip_special_tokens=False)
    assert text.count(names[-1]) == 3 + tokenizer.decode(plain.ids, skip_special_tokens=False).count(names[-1])


def test_an_answer_is_continued_where_it_stopped(case: Case, pictures: tuple[Picture, Picture]) -> None:
    messages = (user("What is this?", pictures[0]),)
    whole = answer(case.runner, messages, 8)
    begun = answer(case.runner, messages, 4)
    rest = answer(case.runner, (*messages, assistant(begun.text)), 4)
    assert (*begun.token_ids, *rest.token_ids) == whole.token_ids
    layout = case.runner.model.checkpoint.layout
    opened_again = layout((*messages, assistant("It is")), Request(messages).vision)
    tail = case.processor.tokenizer.decode(opened_again.ids[-12:])
    assert tail.endswith("It is")


def test_a_turn_the_template_refuses(root: Path) -> None:
    case = opened(KINDS.index("gemma3"), root)
    with pytest.raises(InputError, match="Conversation roles must alternate"):
        case.runner.model.checkpoint.layout((user("One."), user("Two.")), Request(()).vision)


def test_frames_of_a_video_are_pictures_in_their_place(case: Case, pictures: tuple[Picture, Picture]) -> None:
    layout = case.runner.model.checkpoint.layout
    film = layout((user("What?", Video("v", "v.mp4", pictures)),), Request(()).vision)
    assert film.ids == layout((user("What?", *pictures),), Request(()).vision).ids


@pytest.mark.parametrize("kind", ["smolvlm", "llava", "gemma3"])
def test_text_comes_as_it_is_decoded_at_once(kind: str, root: Path) -> None:
    """Byte-level, and SentencePiece with and without a blank in front: half a character never leaves."""
    tokenizer: Any = opened(KINDS.index(kind), root).runner.model.checkpoint.tokenizer
    text = "The thing: 你好 ☃☃ 👨‍👩‍👧, isn't it?\n\n  in  the é"
    ids = tokenizer.encode(text)
    for end in range(len(ids) + 1):
        decoder = tokenizer.decoder()
        pieces = [decoder.push(id_) for id_ in (*ids[:end], tokenizer.native.eos_token_id)]
        assert not any("\ufffd" in piece for piece in pieces)
        whole = tokenizer.native.decode(ids[:end])
        assert "".join(pieces) + decoder.finish() == whole
    assert len([piece for piece in pieces if piece]) > len(text) / 3


def test_figures_of_a_checkpoint(root: Path) -> None:
    case = opened(KINDS.index("qwen2_vl"), root)
    checkpoint, about = case.runner.model.checkpoint, case.runner.model.about
    assert (checkpoint.context_tokens, checkpoint.kv_elements_per_token) == (4096, 2 * 2 * 2 * 8)
    assert checkpoint.stop_ids == {case.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    stored = load_file(case.folder / "model.safetensors")
    assert "lm_head.weight" not in stored
    assert about.weight_bytes >= sum(tensor.numel() * 4 for tensor in stored.values())
    assert can_run("generic", "pytorch")


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny LLaVA checkpoint, to be spoilt."""
    return Path(shutil.copytree(opened(KINDS.index("llava"), root).folder, tmp_path / "copy"))


NORM = "language_model.model.norm.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop(NORM), r"lacks.*model\.language_model\.norm\.weight"),
        (lambda t: t.update({NORM + "s": t[NORM].clone()}), r"no place for.*norm\.weights"),
        (lambda t: t.update({"model." + NORM: t[NORM].clone()}), r"(more than once|no place for).*norm\.weight"),
        (lambda t: t.update({NORM: t[NORM][:-1]}), r"norm\.weight \[31\] instead of \[32\]"),
        (lambda t: t.update({NORM: t[NORM].int()}), r"norm\.weight is stored as int32"),
    ],
)
def test_one_wrong_tensor_is_named(copied: Path, change: Any, named: str) -> None:
    rewrite_weights(copied, change)
    with pytest.raises(CheckpointError, match=named):
        load_now(copied)


def test_tables_of_older_versions_are_left_out(copied: Path) -> None:
    rewrite_weights(
        copied,
        lambda t: t.update(
            {
                "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
                "vision_tower.vision_model.embeddings.position_ids": torch.arange(17)[None],
            }
        ),
    )
    assert load_now(copied).about.family == "generic"


def test_a_tied_head_that_is_stored_all_the_same_is_used(root: Path, tmp_path: Path) -> None:
    """As Transformers does: where both are stored, the checkpoint decides, not its config."""
    folder = Path(shutil.copytree(opened(KINDS.index("qwen2_vl"), root).folder, tmp_path / "copy"))
    rewrite_weights(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2}))
    module = load_now(folder).network.module
    weights = module.state_dict()
    assert torch.equal(weights["lm_head.weight"], weights["model.language_model.embed_tokens.weight"] * 2)


CONFIGS: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"]},
        "MllamaForConditionalGeneration is",
    ),
    ({"model_type": "paligemma", "architectures": None}, "PaliGemmaForConditionalGeneration is native to Transformers"),
    (
        {"model_type": "own", "architectures": ["Own"], "auto_map": {"AutoModel": "modeling_own.Own"}},
        "Own runs only with Python code from its own repository, which is never executed here",
    ),
    ({"model_type": "own", "architectures": ["Own"]}, "Own, which this version cannot run"),
    ({"architectures": ["LlavaLlamaForCausalLM"]}, "LlavaLlamaForCausalLM is no architecture that Transformers runs"),
    ({"quantization_config": {"quant_method": "awq"}}, "is stored quantized"),
    ({"text_config": {"model_type": "mamba"}}, "has a mamba text model"),
    (
        {"text_config": {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}},
        "dynamic rotary",
    ),
    ({"text_config": 3}, "config.json"),
)


@pytest.mark.parametrize(("change", "said"), CONFIGS)
def test_what_is_not_proven_is_refused_in_a_sentence(copied: Path, change: dict[str, Any], said: str) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=said):
        load_now(copied)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("preprocessor_config.json", None, "The processor files of copy cannot be used"),
        ("preprocessor_config.json", "{", "The processor files of copy cannot be used"),
        ("tokenizer.json", "{", "The processor files of copy cannot be used"),
        ("chat_template.json", None, "has no chat template"),
        (
            "chat_template.json",
            json.dumps({"chat_template": "Nothing."}),
            "writes 0 pictures where the conversation has 1",
        ),
        (
            "processor_config.json",
            json.dumps({"patch_size": 8}),
            "announces 4 features of a picture, the model makes 16",
        ),
        ("model.safetensors", None, "has no safetensors files"),
        ("model.safetensors", "short", "damaged"),
    ],
)
def test_spoilt_files_are_named(
    copied: Path, pictures: tuple[Picture, Picture], name: str, content: str | None, said: str
) -> None:
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_text(content)
    with pytest.raises(CheckpointError, match=said):
        answer(Runner(load_now(copied)), (user("What?", pictures[0]),), 1)


def test_nothing_in_a_folder_is_executed_or_asked(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Remote code beside a native architecture, named in every file that can name it."""
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("asked on stdin"))
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Own: pass\n"
    for name in ("modeling_own.py", "configuration_own.py", "processing_own.py", "tokenization_own.py"):
        (copied / name).write_text(trap)
    own = {
        "AutoConfig": "configuration_own.Own",
        "AutoModelForImageTextToText": "modeling_own.Own",
        "AutoProcessor": "processing_own.Own",
        "AutoImageProcessor": "processing_own.Own",
        "AutoTokenizer": ["tokenization_own.Own", None],
    }
    files = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
    for name in files:
        (copied / name).write_text(json.dumps(json.loads((copied / name).read_text()) | {"auto_map": own}))
    assert load_now(copied).about.family == "generic"
    preprocessor = json.loads((copied / "preprocessor_config.json").read_text())
    (copied / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"image_processor_type": "Own"}))
    with contextlib.suppress(CheckpointError):
        load_now(copied)
    assert not (tmp_path / "sprung").exists()


def test_quantization_leaves_pictures_and_head_alone(copied: Path) -> None:
    """Quantization on the fly reaches the decoder layers of this family as of every other, and only them."""
    model = load_now(copied, LoadOptions(dtype="float32", quantization="8-bit"))
    layers = [name for name, layer in model.network.module.named_modules() if isinstance(layer, Int8Linear)]
    # Six of seven in each: down_proj's 48 inputs are no multiple of the kernel's 32.
    assert len(layers) == 2 * 6
    assert all(name.startswith("model.language_model.layers.") for name in layers)
