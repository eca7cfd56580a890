"""Several requests at once: events, stop, places, failures, memory, sampling, and where requests come from."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.engine.asking import asked, ends, failures
from tests.reference_cases import QWEN2, internvl2_cases
from vlmchat.conversation import Picture, assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.arrivals import Listed
from vlmchat.engine.events import Delta, Encoding, Finished, Prefill, RowEvent
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import PREFILL_CHUNK
from vlmchat.engine.loader import load_now
from vlmchat.errors import ContextOverflow, ImageError, OutOfMemory
from vlmchat.families.family import Span
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions, Sampling, VisionOptions

CHECKPOINT = QWEN2 / "checkpoint"
CASES = internvl2_cases()


@pytest.fixture(scope="module")
def loaded() -> Runner:
    return Runner(load_now(CHECKPOINT, LoadOptions(dtype="float32")))


@pytest.fixture
def runner(loaded: Runner) -> Runner:
    """The shared model with empty caches."""
    loaded.forget()
    return loaded


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    Image.effect_noise((200, 90), 60).convert("RGB").save(tmp_path / "noise.png")
    return read_picture(tmp_path / "noise.png")


def events(
    runner: Runner, requests: list[Request], width: int, stopped: Callable[[], bool] = lambda: False
) -> list[RowEvent]:
    return list(runner.answer_many(Listed(requests), width, stopped))


def passes_of(runner: Runner, work: Callable[[], object]) -> list[tuple[int, int]]:
    """Return (rows, length) of every pass of the language model during ``work``."""
    seen: list[tuple[int, int]] = []
    compute = runner.model.network.hidden_states

    def spy(span: Span, cache: object) -> Tensor:
        seen.append((span.embeddings.shape[0], span.embeddings.shape[1]))
        return compute(span, cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.model.network, "hidden_states", spy)
        work()
    return seen


def test_events_of_each_request_come_in_their_order(runner: Runner, picture: Picture) -> None:
    requests = asked("Hello", "Who are you?", "What is this?")
    requests[2] = replace(requests[2], messages=(user("What is this?", picture),))
    found = events(runner, requests, 3)
    order = [Encoding, Prefill, Delta, Finished]
    for number in range(3):
        own = [event for owner, event in found if owner == number]
        kinds = [type(event) for event in own]
        assert sorted(kinds, key=order.index) == kinds
        assert kinds.count(Finished) == 1
        finished = ends(found)[number]
        deltas = [event for event in own if isinstance(event, Delta)]
        assert "".join(delta.text for delta in deltas) == finished.text
        assert tuple(id_ for delta in deltas for id_ in delta.token_ids) == finished.token_ids
        assert finished.usage.completion_tokens == len(finished.token_ids) == 12
        assert finished.timing.total_s >= finished.timing.first_token_s > 0
    assert [owner for owner, event in found if isinstance(event, Delta)][:6] == [0, 1, 2, 0, 1, 2]
    assert ends(found)[2].usage.image_tokens == 12


def test_rows_share_their_passes(runner: Runner) -> None:
    requests = asked("Hello", "Who are you?", "What is this place?", tokens=6)
    seen = passes_of(runner, lambda: events(runner, requests, 3))
    assert [rows for rows, _ in seen] == [3] * 6
    assert [length for _, length in seen[1:]] == [1] * 5


def test_a_place_is_taken_as_soon_as_it_is_free(runner: Runner) -> None:
    requests = [
        replace(request, sampling=Sampling(max_new_tokens=tokens))
        for request, tokens in zip(
            asked(*("How far is it to " + it for it in "abcdef")), (2, 9, 3, 3, 2, 1), strict=True
        )
    ]
    seen = passes_of(runner, lambda: events(runner, requests, 2))
    # The second row takes eight steps; meanwhile the others take six, one after the other.
    assert Counter(rows for rows, length in seen if length == 1) == {2: 6, 1: 2}


def test_what_prompts_have_in_common_is_computed_once(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", 64)  # too few for two whole prompts in one pass
    requests = asked(*("The same long question about the sea, the ships and the wind. " + word for word in "abcde"))
    totals = [runner.measure(request).prompt_tokens for request in requests]
    before = runner.passes.forward_tokens
    found = events(runner, [replace(request, sampling=Sampling(max_new_tokens=1)) for request in requests], 5)
    assert len(ends(found)) == 5
    assert runner.passes.forward_tokens - before < totals[0] + 4 * 20


def test_a_picture_in_two_rows_is_encoded_once_and_tiles_share_passes(
    runner: Runner, picture: Picture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", 1000)
    Image.effect_noise((60, 60), 60).convert("RGB").save(tmp_path / "other.png")
    other = read_picture(tmp_path / "other.png")
    sizes: list[int] = []
    encode = runner.model.network.encode

    def spy(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(runner.model.network, "encode", spy)
    shown = ((picture,), (picture,), (other,), (other, picture))
    requests = [
        Request((user("What?", *pictures),), Sampling(max_new_tokens=1), VisionOptions(max_tiles=4))
        for pictures in shown
    ]
    found = events(runner, requests, 4)
    assert sorted(ends(found)) == [0, 1, 2, 3]
    assert sizes == [4]  # three tiles of the first picture, one of the other
    told = [(owner, event.tile, event.tiles) for owner, event in found if isinstance(event, Encoding)]
    assert told == [(0, 3, 3), (2, 1, 1)]


def test_a_bad_request_takes_no_other_down(runner: Runner, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: object) -> Tensor:
        raise ImageError("noise.png cannot be read any more.")

    monkeypatch.setattr(runner.model.checkpoint, "pixels", unreadable)
    requests = asked("Hello", "word " * 33000, "What is this?", "Who are you?", "Where?")
    requests[2] = replace(requests[2], messages=(user("What is this?", picture),))
    alone = [ends(events(runner, [requests[number]], 1))[0].token_ids for number in (0, 3, 4)]
    for width in (2, 5):
        found = events(runner, requests, width)
        assert [ends(found)[number].token_ids for number in (0, 3, 4)] == alone
        problems = {number: type(problem) for number, problem in failures(found).items()}
        assert problems == {1: ContextOverflow, 2: ImageError}


@pytest.mark.parametrize("after", [Encoding, Prefill, Delta])
def test_a_stop_ends_all_rows_that_were_begun(
    runner: Runner, picture: Picture, after: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", 16)
    requests = asked("Hello", "Who are you?", "What is this?", "Not begun")
    requests[0] = replace(requests[0], messages=(user("What is this?", picture),))
    stop = threading.Event()
    found: list[RowEvent] = []
    late = 0
    for number, event in runner.answer_many(Listed(requests), 3, stop.is_set):
        late += stop.is_set() and not isinstance(event, Finished)
        found.append((number, event))
        if isinstance(event, after):
            stop.set()
    assert {number: end.reason for number, end in ends(found).items()} == dict.fromkeys(range(3), "interrupted")
    assert late <= 3  # what one pass gave the other rows
    for number, end in ends(found).items():
        said = "".join(event.text for owner, event in found if owner == number and isinstance(event, Delta))
        assert said == end.text
    assert len(ends(events(runner, requests, 4))) == 4


def test_a_question_stopped_before_it_began_has_its_end(runner: Runner) -> None:
    (only,) = runner.answer(asked("Hello")[0], lambda: True)
    assert isinstance(only, Finished)
    assert (only.reason, only.text, only.token_ids) == ("interrupted", "", ())


def full_beyond(rows: int) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return what makes a network run out of memory with more than ``rows`` rows."""

    def wrapped(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def limited(span: Span, cache: object) -> Tensor:
            if len(span.embeddings) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return compute(span, cache)

        return limited

    return wrapped


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    fits: int, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [case.request() for case in CASES]
    network = runner.model.network
    monkeypatch.setattr(network, "hidden_states", full_beyond(fits)(network.hidden_states))
    found = events(runner, requests, len(requests))
    for number, case in enumerate(CASES):
        own = [event for owner, event in found if owner == number]
        assert list(ends(found)[number].token_ids) == case.about["greedy_tokens"]
        assert [type(event) for event in own].count(Finished) == 1
        kinds = [type(event) for event in own if not isinstance(event, Encoding)]
        assert sorted(kinds, key=[Prefill, Delta, Finished].index) == kinds


def test_memory_that_ends_while_decoding_costs_no_token(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were put off run their ids again; none is said twice, and seeds go on where they were."""
    requests = asked("Hello", "Who are you?", "What is this place?", "Why?", temperature=1.2, seed=5)
    alone = [ends(events(runner, [request], 1))[0] for request in requests]
    network, steps = runner.model.network, 0
    compute = network.hidden_states

    def limited(span: Span, cache: object) -> Tensor:
        nonlocal steps
        steps += 1
        if steps in (5, 9):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(span, cache)

    monkeypatch.setattr(network, "hidden_states", limited)
    found = events(runner, requests, 4)
    assert steps > 9
    for number, expected in enumerate(alone):
        assert ends(found)[number].token_ids == expected.token_ids
        said = [event for owner, event in found if owner == number and isinstance(event, Delta)]
        assert "".join(delta.text for delta in said) == expected.text
        assert sum(len(delta.token_ids) for delta in said) == len(expected.token_ids)


def test_a_row_that_does_not_fit_alone_fails_and_the_next_goes_on(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = runner.model.network
    compute = network.hidden_states

    def limited(span: Span, cache: object) -> Tensor:
        if sum(span.totals) > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(span, cache)

    monkeypatch.setattr(network, "hidden_states", limited)
    found = events(runner, asked("Hello", "word " * 300, "Who are you?", tokens=4), 3)
    assert sorted(ends(found)) == [0, 2]
    assert [type(problem) for problem in failures(found).values()] == [OutOfMemory]


def test_memory_is_given_back(runner: Runner) -> None:
    one = asked("Hello", tokens=4)
    events(runner, one, 1)
    single = runner.cache.bytes()
    events(runner, asked(*["Hello, who are you?"] * 8, tokens=4), 8)
    assert len(runner.cache) == 1
    assert runner.cache.bytes() == single


def test_each_row_has_its_own_sampling(runner: Runner) -> None:
    ways: tuple[dict[str, object], ...] = (
        {},
        {"temperature": 1.5, "seed": 7},
        {"temperature": 1.5, "seed": 8},
        {"repetition_penalty": 5.0},
        {"temperature": 0.8, "seed": 1, "top_k": 5, "top_p": 0.9},
    )
    requests = [request for way in ways for request in asked("Hello, who are you?", tokens=24, **way)]
    alone = [ends(events(runner, [request], 1))[0].token_ids for request in requests]
    together = ends(events(runner, requests, len(requests)))
    assert [together[number].token_ids for number in range(len(requests))] == alone
    assert len(set(alone)) == len(ways)


def test_a_conversation_goes_on_from_the_row_that_is_kept(runner: Runner) -> None:
    other, question = asked("Hello", tokens=4)[0], user("Who are you?")
    last = ends(events(runner, [other, Request((question,), Sampling(max_new_tokens=5))], 2))[1]
    before = runner.passes.forward_tokens
    rest = Request((question, assistant(last.text)), Sampling(max_new_tokens=3))
    whole = ends(events(runner, [rest], 1))[0]
    assert runner.passes.forward_tokens - before == 3
    runner.forget()
    straight = ends(events(runner, [Request((question,), Sampling(max_new_tokens=8))], 1))[0]
    assert (*last.token_ids, *whole.token_ids) == straight.token_ids
