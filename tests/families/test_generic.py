"""The generic family against Transformers' own forward and generate: tiny random checkpoints, every architecture."""

from __future__ import annotations

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
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin

from tests.families.generic_cases import TINY, Tiny, write
from tests.reference_cases import REFERENCE, rewrite_weights
from vlmchat.conversation import Message, Picture, Text, Video, assistant, user
from vlmchat.engine import loader
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import PREFILL_CHUNK
from vlmchat.engine.loader import load_now
from vlmchat.engine.passes import chunk_end
from vlmchat.engine.spread import Spread, plan_spread, whole_blocks
from vlmchat.errors import ImageError, InputError
from vlmchat.families.generic.config import SUPPORTED
from vlmchat.families.generic.processing import as_image, as_pixels
from vlmchat.families.generic.sampling import middles
from vlmchat.families.registry import can_run
from vlmchat.media.image import load_rgb, read_picture
from vlmchat.media.video import read_clip, read_frames
from vlmchat.options import LoadOptions, Sampling

TOLERANCE = 5e-5
"""On fp32 logits with a spread of 1 to 2; measured are at most 2e-5, in chunks. A wrong rule moves them by more than
5e-3: :func:`test_a_changed_rule_is_seen`."""


FILM = REFERENCE / "cogvlm2" / "video_sampling" / "s25_5s.mp4"
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
            computed, before = case.runner.passes.forward_tokens, len(inputs["input_ids"][0])
            messages = (*messages, assistant("Some thing."), follow_up)
            expected = native_logits(case, messages)
            last = list(engine_logits(case.runner, messages))
            # Behind the caches only what is new was computed, and computed right.
            assert case.runner.passes.forward_tokens - computed <= len(expected) - before + 1
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
        cut = chunk_end(prompt, end)
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


@pytest.mark.parametrize("size", [(1, 1), (9, 300), (300, 9), (640, 480), (33, 1000), (1400, 28)])
def test_the_place_of_a_picture_is_known_by_its_size(case: Case, size: tuple[int, int]) -> None:
    """What is said before a picture is read is what its processor says with it."""
    processor = case.runner.model.checkpoint._processor  # type: ignore[attr-defined]
    try:
        _, expansion = processor.inputs(Image.effect_noise(size, 90).convert("RGB"))
    except ValueError:
        with pytest.raises(ImageError, match="does not take a picture of"):
            processor.expansion(*size)
    else:
        assert processor.expansion(*size) == expansion


def test_pixels_are_exact_in_every_dtype() -> None:
    image = Image.effect_noise((31, 17), 90).convert("RGB")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert as_image(as_pixels(image).to(dtype)).tobytes() == image.tobytes()


def test_a_turn_the_template_refuses(root: Path) -> None:
    case = opened(KINDS.index("gemma3"), root)
    with pytest.raises(InputError, match="Conversation roles must alternate"):
        case.runner.model.checkpoint.layout((user("One."), user("Two.")), Request(()).vision)


def test_frames_of_a_video_are_pictures_in_their_place(case: Case, pictures: tuple[Picture, Picture]) -> None:
    layout = case.runner.model.checkpoint.layout
    film = layout((user("What?", Video("v", "v.mp4", pictures)),), Request(()).vision)
    assert film.ids == layout((user("What?", *pictures),), Request(()).vision).ids


def test_a_video_file_becomes_eight_pictures(root: Path) -> None:
    case = opened(KINDS.index("smolvlm"), root)
    prompt = case.runner.model.checkpoint.layout((user("What?", Video("v", FILM.name, path=FILM)),), Request(()).vision)
    clip = read_clip(FILM)
    assert middles(clip) == [7, 23, 39, 54, 70, 85, 101, 117]
    assert [picture.picture for picture in prompt.pictures] == list(read_frames(clip, tuple(middles(clip))))
    assert middles(replace(clip, ticks=(0, 1, 2))) == [0, 1, 2]


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


def test_a_tied_head_that_is_stored_all_the_same_is_used(root: Path, tmp_path: Path) -> None:
    """As Transformers does: where both are stored, the checkpoint decides, not its config."""
    folder = Path(shutil.copytree(opened(KINDS.index("qwen2_vl"), root).folder, tmp_path / "copy"))
    rewrite_weights(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2}))
    module = load_now(folder).network.module
    weights = module.state_dict()
    assert torch.equal(weights["lm_head.weight"], weights["model.language_model.embed_tokens.weight"] * 2)


def test_places_get_whole_layers_and_the_same_answer(
    case: Case, pictures: tuple[Picture, Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Split over CPU and disk, every other part on disk, embedding and tied head among them."""
    module = case.runner.model.network.module
    layers = [part for part in module.modules() if isinstance(part, torch.nn.ModuleList)]
    assert {type(layer).__name__ for stack in layers for layer in stack} <= whole_blocks(module)
    spread = plan_spread(module, torch.float32, {0: 10**5, 1: 10**5, "cpu": 10**9})
    assert spread is not None
    halves = Spread({part: ("cpu", "disk")[place % 2] for place, part in enumerate(spread.parts)})
    monkeypatch.setattr(loader, "_spread", lambda *_: halves)
    again = Runner(load_now(case.folder, LoadOptions(dtype="float32")))
    assert any(parameter.is_meta for parameter in again.model.network.module.parameters())
    messages = (user("What is this?", pictures[0]),)
    assert answer(again, messages, 6).token_ids == answer(case.runner, messages, 6).token_ids


@pytest.mark.parametrize("kind", ["idefics3", "llava", "gemma3"])
def test_a_checkpoint_that_transformers_saved_today_is_the_same(kind: str, root: Path, tmp_path: Path) -> None:
    """Other names of tensors, and the processor's settings in one file."""
    case = opened(KINDS.index(kind), root)
    case.native.save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(case.folder).save_pretrained(tmp_path)
    again = load_now(tmp_path)
    first, second = case.runner.model.network.module.state_dict(), again.network.module.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    checkpoint: Any = again.checkpoint
    assert checkpoint._processor.native.image_processor.to_dict() == case.processor.image_processor.to_dict()
