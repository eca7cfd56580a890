"""Pictures of the next requests are encoded while the present ones are decoded, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.engine.asking import ends, failures
from tests.reference_cases import QWEN2
from vlmchat.conversation import user
from vlmchat.engine import device
from vlmchat.engine.api import Request
from vlmchat.engine.arrivals import Listed
from vlmchat.engine.events import Delta, RowEvent
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import load_now
from vlmchat.errors import ImageError
from vlmchat.families.family import PictureInput, Span
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions, Sampling, VisionOptions

_LONG_S = 60


@pytest.fixture(scope="module")
def loaded() -> Runner:
    return Runner(load_now(QWEN2 / "checkpoint", LoadOptions(dtype="float32")))


@pytest.fixture
def runner(loaded: Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """The shared model with empty caches, on a machine with a core to spare; no thread is left behind."""
    monkeypatch.setattr(device, "_cores", lambda: 2)
    loaded.forget()
    yield loaded
    assert "vlmchat-ahead" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def requests(tmp_path: Path) -> list[Request]:
    """Six questions, each on a picture of its own, with answers of several lengths."""
    found = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (60, 40), (40 * number, 90, 200)).save(path)
        sampling = Sampling(max_new_tokens=3 + number % 3)
        found.append(Request((user("What is it?", read_picture(path)),), sampling, VisionOptions(max_tiles=1)))
    return found


def answered(runner: Runner, requests: list[Request], width: int) -> list[RowEvent]:
    return list(runner.answer_many(Listed(requests), width, lambda: False))


def alone(runner: Runner, requests: list[Request]) -> list[tuple[int, ...]]:
    """Return the ids of each answer, computed one by one, nothing ahead and nothing remembered."""
    found = []
    for request in requests:
        runner.forget()
        found.append(ends(answered(runner, [request], 1))[0].token_ids)
    runner.forget()
    return found


def test_the_next_picture_is_encoded_before_the_present_answer_ends(
    runner: Runner, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = runner.model.network
    encode, compute = network.encode, network.hidden_states
    second_began, passes = threading.Event(), 0
    encoders: list[str] = []

    def tower(pixels: Tensor) -> Tensor:
        encoders.append(threading.current_thread().name)
        if len(encoders) == 2:
            second_began.set()
        return encode(pixels)

    def decoder(span: Span, cache: object) -> Tensor:
        nonlocal passes
        passes += 1
        # The prompt and the first token are through; the answer has no end before the other picture has begun.
        assert passes != 3 or second_began.wait(_LONG_S), "nothing is encoded ahead"
        return compute(span, cache)

    monkeypatch.setattr(network, "encode", tower)
    monkeypatch.setattr(network, "hidden_states", decoder)
    found = answered(runner, requests[:2], 1)
    assert sorted(ends(found)) == [0, 1]
    # Which of the two begins first is left to the system.
    assert sorted(encoders) == sorted([threading.current_thread().name, "vlmchat-ahead"])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_answers_are_those_of_single_runs(runner: Runner, requests: list[Request], width: int) -> None:
    expected = alone(runner, requests)
    before = runner.pictures.encoded_tiles
    found = ends(answered(runner, requests, width))
    assert [found[number].token_ids for number in range(6)] == expected
    assert runner.pictures.encoded_tiles - before == 6, "each picture once"
    assert all(0 < end.timing.first_token_s <= end.timing.total_s for end in found.values())


@pytest.mark.parametrize("width", [1, 3])
def test_a_picture_of_many_questions_is_encoded_once(runner: Runner, requests: list[Request], width: int) -> None:
    before = runner.pictures.encoded_tiles
    found = answered(runner, [replace(requests[0], sampling=request.sampling) for request in requests], width)
    assert sorted(ends(found)) == list(range(6))
    assert runner.pictures.encoded_tiles - before == 1


def test_what_goes_wrong_ahead_is_told_by_its_own_answer_only(
    runner: Runner, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(runner, requests)
    bad = runner.model.checkpoint.layout(requests[2].messages, requests[2].vision).pictures[0].key
    pixels = runner.model.checkpoint.pixels

    def unreadable(picture: PictureInput) -> Tensor:
        if picture.key == bad:
            raise ImageError("2.png cannot be read any more.")
        return pixels(picture)

    monkeypatch.setattr(runner.model.checkpoint, "pixels", unreadable)
    found = answered(runner, requests, 1)
    assert [problem.message for problem in failures(found).values()] == ["2.png cannot be read any more."]
    assert {number: end.token_ids for number, end in ends(found).items()} == {
        number: ids for number, ids in enumerate(expected) if number != 2
    }


def test_memory_that_ends_ahead_costs_nothing(
    runner: Runner, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(runner, requests)
    encode = runner.model.network.encode

    def tower(pixels: Tensor) -> Tensor:
        if threading.current_thread().name == "vlmchat-ahead":
            raise MemoryError
        return encode(pixels)

    monkeypatch.setattr(runner.model.network, "encode", tower)
    found = ends(answered(runner, requests, 2))
    assert [found[number].token_ids for number in range(6)] == expected


def test_a_stop_gives_those_without_a_place_no_event(runner: Runner, requests: list[Request]) -> None:
    stop = threading.Event()
    found: list[RowEvent] = []
    for number, event in runner.answer_many(Listed(requests), 2, stop.is_set):
        found.append((number, event))
        if isinstance(event, Delta):
            stop.set()
    assert {number: end.reason for number, end in ends(found).items()} == {0: "interrupted", 1: "interrupted"}
    assert {number for number, _ in found} == {0, 1}


def test_who_has_a_core_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = device.SMALL_MODEL - 1, device.SMALL_MODEL
    cpu, cuda, mps = (torch.device(name) for name in ("cpu", "cuda", "mps"))
    monkeypatch.setattr(device, "_cores", lambda: 2)
    assert device.spare_for_pictures(cpu, small)
    assert not device.spare_for_pictures(cpu, large)
    assert device.spare_for_pictures(cuda, large)
    assert not device.spare_for_pictures(mps, small)
    monkeypatch.setattr(device, "_cores", lambda: 1)
    assert not device.spare_for_pictures(cpu, small)
