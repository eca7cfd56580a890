"""The engine on a tiny checkpoint: events, caches, stop, sampling, limits, threads."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.reference_cases import QWEN2, internvl2_cases
from vlmchat.conversation import Message, Picture, assistant, user
from vlmchat.engine import pictures
from vlmchat.engine.api import Request
from vlmchat.engine.events import AnswerEvent, Delta, Encoding, Finished, Loading, Prefill
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import PREFILL_CHUNK, PREFILL_REST
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.errors import CheckpointError, ContextOverflow, InputError, ModelError, OutOfMemory, UsageError
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions, Sampling, VisionOptions

CHECKPOINT = QWEN2 / "checkpoint"
LONG = next(case for case in internvl2_cases() if case.name == "long_12tiles")


@pytest.fixture(scope="module")
def shared() -> Iterator[TorchEngine]:
    engine = TorchEngine()
    list(engine.load(CHECKPOINT, LoadOptions()))
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: TorchEngine) -> TorchEngine:
    """The shared engine with empty caches."""
    shared.runner.forget()
    return shared


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    Image.effect_noise((200, 90), 60).convert("RGB").save(tmp_path / "noise.png")
    return read_picture(tmp_path / "noise.png")


def ask(engine: TorchEngine, *messages: Message, **sampling: object) -> list[AnswerEvent]:
    options = {"max_new_tokens": 12} | sampling
    return list(engine.generate(Request(messages, Sampling(**options), VisionOptions(max_tiles=4))))  # type: ignore[arg-type]


def end(events: list[AnswerEvent]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_loading_tells_its_stages() -> None:
    engine = TorchEngine()
    events = list(engine.load(CHECKPOINT, LoadOptions()))
    assert [event.stage for event in events] == ["libraries", "config", "weights", "weights", "audit", "ready"]
    assert events[3] == Loading("weights", events[3].total, events[3].total, 1, 1)
    about = engine.loaded
    assert about is not None
    parameters = engine.runner.model.network.module.state_dict()
    rotary = 2 * 8 * 4  # inv_freq and its copy, 8 frequencies in float32
    assert about.weight_bytes == sum(tensor.numel() * 4 for tensor in parameters.values()) + rotary
    assert about.kv_bytes_per_token == 2 * 2 * 2 * 16 * 4  # layers x (k, v) x kv heads x head size x fp32
    assert [event.stage for event in engine.load(CHECKPOINT, LoadOptions())] == ["libraries", "ready"]
    engine.unload()
    assert engine.loaded is None
    with pytest.raises(ModelError):
        list(engine.generate(Request((user("hi"),))))
    engine.close()


def test_events_come_in_order(engine: TorchEngine, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SMALL_TILE_BATCH", 1)
    events = ask(engine, user("What is this?", picture))
    kinds = [type(event) for event in events]
    order = [Encoding, Prefill, Delta, Finished]
    assert sorted(kinds, key=order.index) == kinds
    encoding = [event for event in events if isinstance(event, Encoding)]
    assert [event.tile for event in encoding] == [1, 2, 3]
    assert {event.tiles for event in encoding} == {3}
    deltas = [event for event in events if isinstance(event, Delta)]
    finished = end(events)
    assert "".join(delta.text for delta in deltas) == finished.text
    assert tuple(id_ for delta in deltas for id_ in delta.token_ids) == finished.token_ids
    assert finished.usage.image_tokens == 12
    assert finished.timing.total_s >= finished.timing.first_token_s >= finished.timing.image_s > 0


def test_measure_says_what_generate_uses(engine: TorchEngine, picture: Picture) -> None:
    request = Request((user("What is this?", picture),), Sampling(max_new_tokens=1), VisionOptions(max_tiles=4))
    size = engine.measure(request)
    finished = end(list(engine.generate(request)))
    assert (size.prompt_tokens, size.image_tokens) == (finished.usage.prompt_tokens, finished.usage.image_tokens)
    assert size.tiles == (3,)
    assert size.context_tokens == 32768


def last_logits(runner: Runner, request: Request) -> torch.Tensor:
    """Return the logits behind the whole prompt of ``request``, through whatever the caches hold."""
    seen: list[torch.Tensor] = []
    compute = runner.model.network.logits

    def spy(hidden: torch.Tensor) -> torch.Tensor:
        seen.append(compute(hidden))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.model.network, "logits", spy)
        for _ in runner.answer(replace(request, sampling=Sampling(max_new_tokens=1)), lambda: False):
            pass
    return seen[-1]


def test_next_turn_computes_only_its_own_tokens(engine: TorchEngine, picture: Picture) -> None:
    runner = engine.runner
    first = user("What is this?", picture)
    answered = end(ask(engine, first))
    before, tiles = runner.passes.forward_tokens, runner.pictures.encoded_tiles
    # A canonical answer in place of the random one: its tokens are what tokenizing it gives back.
    follow_up = Request((first, assistant(answered.text), user("And now?")), vision=VisionOptions(max_tiles=4))
    prompt = runner.model.checkpoint.layout(follow_up.messages, follow_up.vision)
    question = runner.model.checkpoint.layout([first], follow_up.vision)
    warm = last_logits(runner, follow_up)
    assert runner.pictures.encoded_tiles == tiles
    assert runner.passes.forward_tokens - before <= len(prompt.ids) - len(question.ids)
    runner.forget()
    cold = last_logits(runner, follow_up)
    assert (warm - cold).abs().max() < 1e-4


def test_an_edit_recomputes_from_the_edit_only(engine: TorchEngine, picture: Picture) -> None:
    runner = engine.runner
    history = (user("Look.", picture), assistant("A grey field."))
    ask(engine, *history, user("Is it a field of snow?"))
    before, tiles = runner.passes.forward_tokens, runner.pictures.encoded_tiles
    edited = Request((*history, user("Is it a field of sand?")), vision=VisionOptions(max_tiles=4))
    kept = runner.model.checkpoint.layout(history, edited.vision)
    total = len(runner.model.checkpoint.layout(edited.messages, edited.vision).ids)
    warm = last_logits(runner, edited)
    assert runner.passes.forward_tokens - before < total - len(kept.ids)
    assert runner.pictures.encoded_tiles == tiles
    runner.forget()
    assert (warm - last_logits(runner, edited)).abs().max() < 1e-4


def test_regenerate_recomputes_one_token(engine: TorchEngine, picture: Picture) -> None:
    question = user("What is this?", picture)
    ask(engine, question)
    before = engine.runner.passes.forward_tokens
    ask(engine, question, max_new_tokens=1)
    assert engine.runner.passes.forward_tokens - before == 1


def test_another_picture_under_the_same_name_is_not_taken_for_the_old_one(engine: TorchEngine, tmp_path: Path) -> None:
    answers = []
    for colour in ("red", "blue"):
        Image.new("RGB", (60, 60), colour).save(tmp_path / "same.png")
        request = Request((user("What?", read_picture(tmp_path / "same.png")),), Sampling(max_new_tokens=1))
        answers.append(last_logits(engine.runner, request))
    assert (answers[0] - answers[1]).abs().max() > 1e-3


def test_chunked_prefill_equals_whole(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = last_logits(engine.runner, LONG.request())
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", 7)
    engine.runner.forget()
    events = list(engine.runner.answer(LONG.request(), lambda: False))
    steps = [event.done for event in events if isinstance(event, Prefill)]
    assert steps == [*range(0, steps[-1] - 7 // PREFILL_REST, 7), steps[-1]]
    assert list(end(events).token_ids) == LONG.about["greedy_tokens"]
    engine.runner.forget()
    assert (last_logits(engine.runner, LONG.request()) - whole).abs().max() < 1e-4


def test_a_short_rest_goes_along_with_the_last_chunk(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    length = engine.measure(LONG.request()).prompt_tokens
    chunk = -(-length * 4 // 5)
    for size, passes in ((chunk, [0, length]), (length * 3 // 5, [0, length * 3 // 5, length])):
        monkeypatch.setitem(PREFILL_CHUNK, "cpu", size)
        engine.runner.forget()
        events = list(engine.runner.answer(LONG.request(), lambda: False))
        assert [event.done for event in events if isinstance(event, Prefill)] == passes
        assert list(end(events).token_ids) == LONG.about["greedy_tokens"]


@pytest.mark.parametrize("after", [Encoding, Prefill, Delta])
def test_stop_is_seen_within_one_step(engine: TorchEngine, after: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", 16)
    stop = threading.Event()
    steps = 0

    def until() -> bool:
        return stop.is_set()

    events = []
    for event in engine.runner.answer(LONG.request(), until):
        events.append(event)
        steps += stop.is_set()
        if isinstance(event, after):
            stop.set()
    assert end(events).reason == "interrupted"
    assert steps <= 2  # at most the rest of a held-back character, and Finished
    # What was computed before the stop is still right.
    again = list(engine.runner.answer(LONG.request(), lambda: False))
    assert list(end(again).token_ids) == LONG.about["greedy_tokens"]


def test_cancel_event_and_closing_both_stop_the_thread(engine: TorchEngine) -> None:
    cancel = threading.Event()
    events = engine.generate(Request((user("Tell me."),), Sampling(max_new_tokens=20000)), cancel)
    for event in events:
        if isinstance(event, Delta):
            cancel.set()
    assert isinstance(event, Finished)
    assert event.reason == "interrupted"
    closing = engine.generate(Request((user("Tell me."),), Sampling(max_new_tokens=20000)))
    next(closing)
    closing.close()  # type: ignore[attr-defined]
    assert end(ask(engine, user("hi"), max_new_tokens=2)).usage.completion_tokens <= 2


def test_a_stopped_answer_goes_on_as_if_never_stopped(engine: TorchEngine) -> None:
    whole = end(ask(engine, user("Hello, who are you?"), max_new_tokens=12))
    assert whole.reason == "length"
    for cut in range(1, 11):
        engine.runner.forget()
        part = end(ask(engine, user("Hello, who are you?"), max_new_tokens=cut))
        before = engine.runner.passes.forward_tokens
        rest = end(ask(engine, user("Hello, who are you?"), assistant(part.text), max_new_tokens=12 - cut))
        if not part.text:
            continue
        assert part.token_ids + rest.token_ids == whole.token_ids
        assert part.text + rest.text == whole.text or "\ufffd" in part.text
        assert engine.runner.passes.forward_tokens - before == 12 - cut


def test_same_seed_same_text_and_another_seed_another(engine: TorchEngine) -> None:
    def sampled(seed: int) -> tuple[int, ...]:
        return end(ask(engine, user("Hello"), temperature=1.5, seed=seed, max_new_tokens=24)).token_ids

    assert sampled(7) == sampled(7)
    assert sampled(7) != sampled(8)


def test_a_continued_sampled_answer_draws_on(engine: TorchEngine) -> None:
    options = {"temperature": 0.7, "seed": 3}
    whole = end(ask(engine, user("Hello"), max_new_tokens=10, **options))
    part = end(ask(engine, user("Hello"), max_new_tokens=6, **options))
    rest = end(ask(engine, user("Hello"), assistant(part.text), max_new_tokens=4, **options))
    assert part.token_ids + rest.token_ids == whole.token_ids


def test_prompt_longer_than_the_context_is_refused_with_numbers(engine: TorchEngine) -> None:
    with pytest.raises(ContextOverflow, match=r"\d\d,\d\d\d tokens.*32,768"):
        ask(engine, user("word " * 33000))


def test_an_answer_ends_at_the_context_limit(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    size = engine.measure(Request((user("Hello"),))).prompt_tokens
    monkeypatch.setattr(engine.runner.model.checkpoint, "context_tokens", size + 3)
    finished = end(ask(engine, user("Hello"), max_new_tokens=100))
    assert (finished.reason, len(finished.token_ids)) == ("length", 3)


def test_out_of_memory_is_typed_and_the_model_lives(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    network = engine.runner.model.network

    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(network, "hidden_states", full)
        with pytest.raises(OutOfMemory, match="answering"):
            ask(engine, user("Hello"))
    assert engine.loaded is not None
    assert end(ask(engine, user("Hello"))).text


def test_a_real_allocation_failure_is_recognised(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(*_: object) -> torch.Tensor:
        return torch.empty(1 << 50)

    monkeypatch.setattr(engine.runner.model.network, "hidden_states", huge)
    with pytest.raises(OutOfMemory):
        ask(engine, user("Hello"))


def test_no_question_is_refused(engine: TorchEngine) -> None:
    with pytest.raises(InputError, match="no question"):
        ask(engine)


def test_unload_lets_go_of_the_weights() -> None:
    engine = TorchEngine()
    list(engine.load(CHECKPOINT, LoadOptions()))
    list(engine.generate(Request((user("Hello"),), Sampling(max_new_tokens=2))))
    weights = weakref.ref(engine.runner.model.network.module.get_parameter("lm_head.weight"))
    assert weights() is not None
    engine.unload()
    assert weights() is None
    engine.close()


def test_everything_runs_on_one_thread_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine()
    list(engine.load(CHECKPOINT, LoadOptions()))
    seen: set[str] = set()
    embed = engine.runner.model.network.embed

    def spy(ids: torch.Tensor) -> torch.Tensor:
        seen.add(threading.current_thread().name)
        return embed(ids)

    monkeypatch.setattr(engine.runner.model.network, "embed", spy)
    askers = [
        threading.Thread(target=lambda: list(engine.generate(Request((user("Hi"),), Sampling(max_new_tokens=3)))))
        for _ in range(3)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert seen == {"vlmchat-engine"}
    engine.close()


def test_unknown_devices_are_refused() -> None:
    engine = TorchEngine()
    for device in ("cuda:99", "tpu", "cuda:x"):
        with pytest.raises(UsageError, match=device):
            list(engine.load(CHECKPOINT, LoadOptions(device=device)))
    engine.close()


def test_loading_can_be_cancelled() -> None:
    engine = TorchEngine()
    cancel = threading.Event()
    cancel.set()
    stages = [event.stage for event in engine.load(CHECKPOINT, LoadOptions(), cancel)]
    assert "ready" not in stages
    assert engine.loaded is None
    engine.close()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    engine = TorchEngine()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        list(engine.load(tmp_path, LoadOptions()))
    engine.close()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes_stay_close(dtype: str, engine: TorchEngine) -> None:
    """16-bit runs agree with fp32 to the format's precision: rms over rms, the facts name 0.025 for bf16."""
    other = TorchEngine()
    list(other.load(CHECKPOINT, LoadOptions(dtype=dtype)))  # type: ignore[arg-type]
    exact = last_logits(engine.runner, LONG.request())
    rough = last_logits(other.runner, LONG.request())
    assert 0 < (rough - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt() < 0.03
    other.close()
