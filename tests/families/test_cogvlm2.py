"""CogVLM2 against the numbers of the original code: pictures, fp4 and video, every case of every fixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.families.cogvlm2_cases import (
    IMAGE,
    INT4,
    ROOT,
    VIDEO,
    CogVLM2Case,
    abouts,
    cogvlm2_cases,
    computed,
    difference,
    runner_of,
)
from vlmchat.conversation import assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import PREFILL_CHUNK
from vlmchat.families.cogvlm2 import modeling
from vlmchat.families.cogvlm2.modeling import rotary_tables
from vlmchat.families.cogvlm2.vision import VisionBlock, VisionTower
from vlmchat.families.family import Prompt, Span

TOLERANCE = 5e-4
"""On fp32 features, hidden states and logits (the fixtures' README); a fault moves logits by 2.4e-3."""
CASES = cogvlm2_cases()
shared = lru_cache(runner_of)


def by_name(case: CogVLM2Case) -> str:
    return f"{case.folder.name}-{case.name}"


def case_of(folder: Path, name: str) -> CogVLM2Case:
    return next(case for case in cogvlm2_cases(folder) if case.name == name)


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_prompt(case: CogVLM2Case) -> None:
    """Text, ids, token types, rotary positions and expert branches are exact."""
    request = case.request()
    prompt = shared(case.folder).model.checkpoint.layout(request.messages, request.vision)
    types = [False] * len(prompt.ids)
    for slot in prompt.slots:
        types[slot.start : slot.start + slot.length] = [True] * slot.length
    assert list(prompt.ids) == case.about["input_ids"]
    assert types == [kind == 1 for kind in case.about["token_type_ids"]]
    assert list(prompt.positions or ()) == case.about["position_ids"]
    assert prompt.text.endswith(case.about["prompt_text"])
    assert prompt.image_tokens == case.about["num_vision_tokens"]
    if case.folder == VIDEO:
        assert prompt.experts is None
    else:
        assert prompt.experts == (*(here and after for here, after in pairwise(types)), False)


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_network(case: CogVLM2Case) -> None:
    found = computed(shared(case.folder), case)
    if found.pixels:
        expected = case.tensor("pixel_values")
        assert (torch.cat(found.pixels) - expected.reshape(-1, *expected.shape[-3:])).abs().max() < 1e-5
        assert difference(torch.cat(found.features), case.tensor("vision_features")) < TOLERANCE
    assert found.hidden.shape == case.tensor("last_hidden_state").shape
    assert difference(found.hidden, case.tensor("last_hidden_state")) < TOLERANCE
    assert difference(found.logits, case.tensor("logits_tail")) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.has("hidden_states.0")], ids=by_name)
def test_every_layer(case: CogVLM2Case) -> None:
    seen: list[Tensor] = []
    runner = shared(case.folder)
    model: Any = runner.model.network.module
    hooks = [layer.register_forward_hook(lambda _m, _i, hidden: seen.append(hidden[0])) for layer in model.layers]
    first = model.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0][0]))
    found = computed(runner, case)
    for hook in (*hooks, first):
        hook.remove()
    for number, hidden in enumerate([*seen[:-1], found.hidden]):
        assert difference(hidden, case.tensor(f"hidden_states.{number}")) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_answer(case: CogVLM2Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own steps behind its cache: tokens, text, positions and logits of every step."""
    runner = shared(case.folder)
    network = runner.model.network
    logits: list[Tensor] = []
    spans: list[Span] = []
    spied_logits, spied_states = network.logits, network.hidden_states
    monkeypatch.setattr(network, "logits", lambda hidden: logits.append(spied_logits(hidden)) or logits[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(
        network,
        "hidden_states",
        lambda span, cache: spans.append(span) or spied_states(span, cache),  # type: ignore[func-returns-value]
    )
    runner.forget()
    finished = finish(runner, case.request())
    assert list(finished.token_ids) == case.about["generated_ids"]
    assert finished.text == case.about["generated_text"].strip()
    steps = [span for span in spans if span.embeddings.shape[1] == 1]
    assert [int(span.positions) for span in steps] == case.about["decode_position_ids"]
    assert not any(span.experts is not None and span.experts.any() for span in steps)
    expected = case.tensor("step_logits")
    assert (torch.cat(logits[-len(expected) :]) - expected).abs().max() < TOLERANCE


def finish(runner: Runner, request: Request) -> Finished:
    *_, finished = runner.answer(request, lambda: False)
    assert isinstance(finished, Finished)
    return finished


def bfloat16_cases(folder: Path) -> tuple[CogVLM2Case, CogVLM2Case]:
    """Return the case that a fixture also has in bfloat16, in float32 and in bfloat16."""
    about = next(about for about in abouts(folder) if about["name"].startswith("bf16/"))
    case = case_of(folder, about["same_inputs_as"])
    return case, CogVLM2Case(folder, {**case.about, **about})


@pytest.mark.parametrize("folder", [IMAGE, VIDEO], ids=lambda folder: folder.name)
def test_bfloat16(folder: Path) -> None:
    """As far from float32 as the original's own bfloat16, and the same first tokens."""
    case, rounded = bfloat16_cases(folder)
    runner = runner_of(folder, "bfloat16")
    hidden = computed(runner, case).hidden.float()
    exact = case.tensor("last_hidden_state")
    original = rounded.tensor("last_hidden_state").float()
    assert (hidden - exact).abs().mean() < 1.02 * (original - exact).abs().mean()
    assert (hidden - original).abs().mean() < 2e-3
    first = rounded.about["compare_first_n"]
    assert list(finish(runner, case.request()).token_ids[:first]) == rounded.about["generated_ids"][:first]


def rounded_before_the_weight(self: Any, hidden: Tensor) -> Tensor:
    """RMSNorm as Transformers' Llama computes it."""
    wide = hidden.float()
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
    normed: Tensor = self.weight * scaled.to(hidden.dtype)
    return normed


def exact_tables(inv_freq: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary tables computed in float32 and rounded at the end."""
    cos, sin = rotary_tables(inv_freq.float(), positions)
    return cos.to(inv_freq.dtype), sin.to(inv_freq.dtype)


@pytest.mark.parametrize("fault", ["norm", "rope"])
@pytest.mark.parametrize("folder", [IMAGE, VIDEO], ids=lambda folder: folder.name)
def test_bfloat16_bites(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding at another place than the original does shows in bfloat16."""
    if fault == "norm":
        monkeypatch.setattr(modeling.RmsNorm, "forward", rounded_before_the_weight)
    else:
        monkeypatch.setattr(modeling, "rotary_tables", exact_tables)
    case, rounded = bfloat16_cases(folder)
    hidden = computed(runner_of(folder, "bfloat16"), case).hidden.float()
    assert (hidden - rounded.tensor("last_hidden_state").float()).abs().mean() > 2e-3


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_rotary_tables(dtype: str) -> None:
    tables = load_file(ROOT / "rope_tables" / "rope_tables.safetensors")
    cos, sin = rotary_tables(tables[f"{dtype}/inv_freq"], tables["positions"])
    assert torch.equal(cos, tables[f"{dtype}/cos"])
    assert torch.equal(sin, tables[f"{dtype}/sin"])


@pytest.mark.parametrize("chunk", [1, 5, 7, 100])
@pytest.mark.parametrize(("folder", "name"), [(IMAGE, "image_history2"), (VIDEO, "video_chat")])
def test_chunked_prefill_equals_whole(folder: Path, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks may end inside a picture, before its end mark, behind it."""
    case, runner = case_of(folder, name), shared(folder)
    seen: list[Tensor] = []
    spied = runner.model.network.logits
    monkeypatch.setattr(runner.model.network, "logits", lambda hidden: seen.append(spied(hidden)) or seen[-1])  # type: ignore[func-returns-value]
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", chunk)
    runner.forget()
    finished = finish(runner, case.request())
    assert list(finished.token_ids) == case.about["generated_ids"]
    expected = case.tensor("step_logits")
    assert (torch.cat(seen[-len(expected) :]) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(("folder", "name"), [(IMAGE, "image_single"), (INT4, "image_single"), (VIDEO, "video_chat")])
def test_a_follow_up_turn_from_the_cache_equals_one_without(folder: Path, name: str) -> None:
    case, runner = case_of(folder, name), shared(folder)
    runner.forget()
    finish(runner, case.request())
    tiles, tokens = runner.pictures.encoded_tiles, runner.passes.forward_tokens
    first = case.request()
    messages = (*first.messages, assistant("The box."), user("And now?"))
    follow_up = replace(first, messages=messages)
    warm = finish(runner, follow_up)
    total = warm.usage.prompt_tokens + warm.usage.completion_tokens - 1
    assert runner.pictures.encoded_tiles == tiles
    assert runner.passes.forward_tokens - tokens <= total - len(case.about["input_ids"])
    runner.forget()
    assert finish(runner, follow_up).token_ids == warm.token_ids


def test_a_continued_answer_goes_on_where_it_stopped() -> None:
    case, runner = case_of(IMAGE, "image_single"), shared(IMAGE)
    runner.forget()
    request = case.request()
    half = finish(runner, replace(request, sampling=replace(request.sampling, max_new_tokens=6)))
    more = replace(request, messages=(*request.messages, assistant(half.text)))
    rest = finish(runner, replace(more, sampling=replace(request.sampling, max_new_tokens=10)))
    assert [*half.token_ids, *rest.token_ids] == case.about["generated_ids"]


def without_the_next(prompt: Prompt) -> Prompt:
    """The vision expert at every feature, the end mark included."""
    types = [
        any(slot.start <= place < slot.start + slot.length for slot in prompt.slots) for place in range(len(prompt.ids))
    ]
    return replace(prompt, experts=tuple(types))


def exact_frequencies(model: Any) -> None:
    """Rotary frequencies computed in float32 instead of the stored ones, which bfloat16 rounded."""
    for layer in model.layers:
        size = len(layer.attention.inv_freq)
        layer.attention.inv_freq = 500000.0 ** (-torch.arange(size) / size)


def set_everywhere(kind: str, name: str, value: object) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for part in model.modules():
            if type(part).__name__ == kind:
                setattr(part, name, value)

    return change


def no_branch_bias(model: Any) -> None:
    for layer in model.layers:
        layer.attention.vision.qkv.bias.data.zero_()


def only_vision(model: Any) -> None:
    for layer in model.layers:
        layer.mlp.language = layer.mlp.vision


MUTATIONS: dict[str, Callable[[Any], object]] = {
    "rms norm epsilon": set_everywhere("RmsNorm", "eps", 1e-6),
    "tower norm epsilon": lambda m: set_everywhere("LayerNorm", "eps", 1e-5)(m.vision.blocks),
    "adapter norm epsilon": lambda m: setattr(m.vision.adapter.norm, "eps", 1e-6),
    "tower activation": set_everywhere("VisionBlock", "activation", torch.nn.GELU(approximate="tanh")),
    "recomputed rope": exact_frequencies,
    "no bias in the vision branch": no_branch_bias,
    "only the vision branch": only_vision,
    "no end mark": lambda m: m.vision.eoi.data.zero_(),
}


def shift(folder: Path, name: str, mutate: Callable[[Any], object]) -> float:
    runner, case = runner_of(folder), case_of(folder, name)
    with torch.no_grad():
        mutate(runner.model.network.module)
    return difference(computed(runner, case).logits, case.tensor("logits_tail"))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_fixture_bites(mutation: str) -> None:
    """A small fault moves the logits beyond the tolerance, so agreement means something."""
    assert shift(IMAGE, "image_single", MUTATIONS[mutation]) > TOLERANCE


PROMPT_MUTATIONS: dict[str, Callable[[Prompt], Prompt]] = {
    "expert mask without the next place": without_the_next,
    "only one expert": lambda prompt: replace(prompt, experts=None),
    "counting positions": lambda prompt: replace(prompt, positions=tuple(range(len(prompt.ids)))),
}


@pytest.mark.parametrize("mutation", PROMPT_MUTATIONS)
def test_the_fixture_bites_prompts(mutation: str) -> None:
    case = case_of(IMAGE, "image_single")
    found = computed(shared(IMAGE), case, PROMPT_MUTATIONS[mutation])
    assert difference(found.logits, case.tensor("logits_tail")) > TOLERANCE


def test_the_fixture_bites_norms_before_instead_of_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def pre_norm(self: Any, hidden: Tensor) -> Tensor:
        hidden = hidden + self._attend(self.attention_norm(hidden))
        mapped: Tensor = hidden + self.fc2(self.activation(self.fc1(self.mlp_norm(hidden))))
        return mapped

    monkeypatch.setattr(VisionBlock, "forward", pre_norm)
    assert shift(IMAGE, "image_single", lambda model: None) > TOLERANCE


def test_an_odd_grid_loses_its_last_row_and_column() -> None:
    """The fixtures' grids are even; facts §4 say what becomes of an odd one."""
    config: Any = shared(IMAGE).model.checkpoint._config  # type: ignore[attr-defined]
    vision = replace(config.vision, side=config.vision.patch * 5, positions=26)
    torch.manual_seed(0)
    tower = VisionTower(replace(config, vision=vision)).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pixels = torch.randn(1, 3, vision.side, vision.side)
    with torch.inference_mode():
        features = tower(pixels)
    assert features.shape == (1, vision.features, config.hidden) == (1, 6, config.hidden)
