"""A batch gives each row what it gets alone: every family, every fixture folder, tokens and logits in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from tests.families.batching_cases import Row, answered, off
from tests.families.generic_cases import TINY, Tiny, write
from tests.reference_cases import REFERENCE
from vlmchat.conversation import Message, Picture, Text, assistant, user
from vlmchat.demo import CHECKPOINT as DEMO
from vlmchat.engine import pictures as engine_pictures
from vlmchat.engine.api import Request
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import PREFILL_CHUNK
from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import load_now
from vlmchat.engine.reference import read_cases
from vlmchat.engine.turn import Turn
from vlmchat.families import native
from vlmchat.families.cogvlm2 import modeling as cogvlm2
from vlmchat.families.cogvlm2.modeling import routes_of
from vlmchat.families.generic import modeling as generic
from vlmchat.families.internvl2.modeling import WholePromptRotary
from vlmchat.families.masks import Order
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions, Sampling

FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/*/cases.json") if (path.parent / "checkpoint").exists())
TOLERANCE = 3e-5
"""On fp32 logits, in units of their spread (1 to 14); measured are at most 1.3e-5. A wrong place, mask or table
moves them by more than 1e-2: :func:`test_a_changed_rule_is_seen`."""


@lru_cache
def of_folder(folder: Path) -> tuple[Runner, list[Request], list[Row]]:
    """Return a fixture's model, its cases as requests, and what each gets alone."""
    runner = Runner(load_now(folder / "checkpoint", LoadOptions(dtype="float32")))
    cases = read_cases(folder)
    requests = [case.request() for case in cases]
    alone = answered(runner, requests, 1)
    assert [row.tokens for row in alone] == [list(case.said("tokens")) for case in cases]
    return runner, requests, alone


def check(runner: Runner, requests: list[Request], alone: list[Row], width: int) -> None:
    together = answered(runner, requests, width)
    for row, other in zip(together, alone, strict=True):
        assert row.tokens == other.tokens[: len(row.tokens)]
    assert off(together, alone) < TOLERANCE


def of_different_lengths(requests: list[Request]) -> list[Request]:
    """Return ``requests`` with one to sixteen tokens to answer."""
    limits = [1 + number * 7 % 16 for number in range(len(requests))]
    return [replace(request, sampling=Sampling(max_new_tokens=limits.pop(0))) for request in requests]


def check_all_ways(runner: Runner, requests: list[Request], alone: list[Row]) -> None:
    """All at once; three at a time, one taking another's place, prompts in chunks, tiles of several pictures joined."""
    check(runner, requests, alone, len(requests))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PREFILL_CHUNK, "cpu", 7)
        patch.setattr(engine_pictures, "SMALL_TILE_BATCH", 3)
        check(runner, of_different_lengths(requests), alone, 3)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_cases_of_a_fixture(folder: Path) -> None:
    check_all_ways(*of_folder(folder))


def _windowed(kind: str, **text: object) -> Tiny:
    """Return a checkpoint whose text model attends to its last ten places only, in one layer or in all."""
    tiny = next(tiny for tiny in TINY if tiny.kind == kind)

    def config(tokenizer: Tokenizer) -> dict[str, Any]:
        made = tiny.config(tokenizer)
        return {**made, "text_config": {**made["text_config"], "sliding_window": 10, **text}}

    return replace(tiny, config=config)


GENERIC = {
    **{tiny.kind: tiny for tiny in TINY},
    "mistral, windows": _windowed("llava_next"),
    "qwen3, a window": _windowed("internvl", use_sliding_window=True, max_window_layers=1),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Picture, Picture]:
    folder, made = tmp_path_factory.mktemp("pictures"), []
    for name, size in {"wide": (50, 21), "high": (17, 40)}.items():
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"{name}.png")
        made.append(read_picture(folder / f"{name}.png"))
    return made[0], made[1]


def conversations(pictures: tuple[Picture, Picture]) -> list[Request]:
    """Return conversations of many lengths, with no picture, one, the same again, and two."""
    wide, high = pictures
    first = Message("user", (wide, Text("What is this thing? And is the other one in it: "), high, Text("? 你好")))
    told = (
        (user("Hi"),),
        (user("What is this?", wide),),
        (user("What is this? Say it in a few words, and say where it stands.", wide),),
        (first,),
        (user("Tell me of the sea, of the ships on it and of the fish in it. " * 4),),
        (first, assistant("That is the sea."), user("Is it?")),
        (user("And this?", high),),
    )
    return [Request(messages, Sampling(max_new_tokens=16)) for messages in told]


@lru_cache
def of_kind(kind: str, root: Path, pictures: tuple[Picture, Picture]) -> tuple[Runner, list[Request], list[Row]]:
    """Return a tiny checkpoint of the generic family and what each conversation gets alone."""
    write(GENERIC[kind], root / kind)
    runner = Runner(load_now(root / kind, LoadOptions(dtype="float32")))
    requests = conversations(pictures)
    return runner, requests, answered(runner, requests, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generic")


@pytest.mark.parametrize("kind", GENERIC)
def test_conversations_of_the_generic_family(kind: str, root: Path, pictures: tuple[Picture, Picture]) -> None:
    check_all_ways(*of_kind(kind, root, pictures))


def test_the_demo(pictures: tuple[Picture, Picture]) -> None:
    runner = Runner(load_now(DEMO, LoadOptions(dtype="float32")))
    requests = conversations(pictures)
    check_all_ways(runner, requests, answered(runner, requests, 1))


class Blind(Order):
    """Hides nothing: neither what is to come nor what lies behind a row's end."""

    def before(self) -> Tensor:
        return torch.ones(len(self.places), 1, self.places.shape[1], len(self.keys), dtype=torch.bool)


class Apart(Order):
    """Joins no picture."""

    def together(self, joined: Tensor) -> Tensor:
        return torch.zeros((), dtype=torch.bool)


class Far(Order):
    """Has no window."""

    def within(self, window: int) -> Tensor:
        return torch.ones((), dtype=torch.bool)


def blind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(native, "Order", Blind)
    patch.setattr(cogvlm2, "Order", Blind)
    patch.setattr(generic, "Order", Blind)


def unshifted(patch: pytest.MonkeyPatch) -> None:
    """Give every row the positions of a batch whose rows are equally long."""
    patch.setattr(Turn, "position", lambda turn: 100 + turn.run)


def unequal(patch: pytest.MonkeyPatch) -> None:
    """Keep from the network that rows are unequally far."""
    patch.setattr(RowCache, "starts", ())


def one_table(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WholePromptRotary, "_table", lambda rotary, total: None)


def one_expert(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cogvlm2, "routes_of", lambda experts: routes_of(experts[:1].expand_as(experts)))


def apart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(generic, "Order", Apart)


def far(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(native, "Order", Far)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("qwen2-vit300m", blind),
        ("qwen2-vit300m", unshifted),
        ("qwen2-vit300m", unequal),
        ("internlm2-vit300m", one_table),
        ("phi3-vit300m", one_table),
        ("ovis2_tied", blind),
        ("cogvlm2-image", blind),
        ("cogvlm2-image", unshifted),
        ("cogvlm2-image", one_expert),
        ("smolvlm", blind),
        ("gemma3", apart),
        ("mistral, windows", far),
        ("qwen3, a window", far),
    ],
)
def test_a_changed_rule_is_seen(
    name: str,
    change: Callable[[pytest.MonkeyPatch], None],
    root: Path,
    pictures: tuple[Picture, Picture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = next((folder for folder in FOLDERS if folder.name == name), None)
    runner, requests, alone = of_folder(folder) if folder else of_kind(name, root, pictures)
    change(monkeypatch)
    assert off(answered(runner, requests, len(requests)), alone) > 300 * TOLERANCE
