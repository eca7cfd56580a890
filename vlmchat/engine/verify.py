"""Proof that a checkpoint is what its config says and computes what the original computed.

Nothing here prints, and nothing is decided: rows come out (:mod:`vlmchat.engine.findings`), the
comparison in the order in which one step feeds the next, through the very steps an answer takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vlmchat.engine.device import memory_guard
from vlmchat.engine.events import Finished
from vlmchat.engine.findings import Audit, Compared, Comparing, Computing, Finding, Leftover, Step, StoredAs
from vlmchat.engine.generate import Runner
from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import Blueprint, check_packed_layers, draw_up, load
from vlmchat.engine.reference import Case
from vlmchat.errors import InputError
from vlmchat.families.family import Prompt
from vlmchat.options import LoadOptions

_SHOWN = 24
"""Characters of a text that a row quotes."""


@runtime_checkable
class _HasWords(Protocol):
    """A network whose features are a mixture of visual words: Ovis2's."""

    def patch_features(self, pixels: Tensor) -> Tensor:
        """Return features [tiles, tokens, width] before the mixture."""

    def visual_tokens(self, patches: Tensor) -> Tensor:
        """Return how probable each word is [tiles, tokens, words]."""


def audit(folder: Path) -> Audit:
    """Prove that every tensor of ``folder`` has its place; weights stay on disk.

    Raises:
        CheckpointError: it has not; the message names the tensors or the file.
    """
    drawn = draw_up(folder)
    check_packed_layers(drawn)
    sizes: dict[str, tuple[int, int]] = {}
    for entry in drawn.stored.values():
        dtype = str(entry.dtype).removeprefix("torch.")
        tensors, held = sizes.get(dtype, (0, 0))
        sizes[dtype] = tensors + 1, held + entry.bytes
    return Audit(
        family=drawn.checkpoint.family,
        tensors=len(drawn.stored),
        parameters=sum(len(placement.targets) for placement in drawn.placements),
        leftovers=tuple(_leftovers(drawn)),
        stored=tuple(StoredAs(dtype, *counts) for dtype, counts in sorted(sizes.items())),
    )


def _leftovers(drawn: Blueprint) -> Iterator[Leftover]:
    rules = drawn.checkpoint.rules()
    for placement in drawn.placements:
        if not placement.targets:
            reasons = (rule.reason for rule in rules if re.fullmatch(rule.pattern, placement.source))
            yield Leftover(placement.source, next(reasons, ""))


def compare(
    folder: Path, options: LoadOptions, cases: Sequence[Case], stopped: Callable[[], bool]
) -> Iterator[Finding]:
    """Load ``folder`` and compare it with ``cases``; ends early when ``stopped`` says so.

    Raises:
        CheckpointError: the folder cannot be loaded.
        InputError: the reference folder lacks something.
        OutOfMemory: it does not fit.
    """
    model = yield from load(folder, options, stopped)
    if model is None:
        return
    runner = Runner(model)
    yield Computing(model.about.device, model.about.dtype, len(cases))
    for number, case in enumerate(cases, 1):
        yield Comparing(case.name, number, len(cases))
        # One case at a time, so that no row of a case comes without the others.
        with memory_guard("comparing"), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            rows = list(_case(runner, case, stopped))
        if stopped():
            return
        yield from rows


def _case(runner: Runner, case: Case, stopped: Callable[[], bool]) -> Iterator[Compared]:
    """Yield the rows of one case; a conversation that the model refuses is one row with its sentence."""
    request = case.request()
    runner.forget()
    try:
        prompt = runner.model.checkpoint.layout(request.messages, request.vision)
    except InputError as problem:
        yield Compared(case.name, "prompt", None, 0.0, problem.message)
        return
    yield from _prompt_rows(case, prompt)
    yield from _number_rows(runner, case, prompt)
    *_, finished = runner.answer(request, stopped)
    if isinstance(finished, Finished):
        yield _places(case, "tokens", list(finished.token_ids), case.said("tokens"))
        yield _texts(case, "text", finished.text, case.said("text").strip())


def _prompt_rows(case: Case, prompt: Prompt) -> Iterator[Compared]:
    said = case.said("prompt")
    # CogVLM2's picture stands before all text and is no part of the stored one.
    yield _texts(case, "prompt", prompt.text[-len(said) :] if prompt.text.endswith(said) else prompt.text, said)
    found = {"ids": prompt.ids, "positions": prompt.positions or range(len(prompt.ids))}
    steps: tuple[Step, ...] = ("ids", "positions")
    for step in steps:
        expected = case.expected(step)
        if expected is not None:
            yield _places(case, step, list(found[step]), expected.tolist())


@torch.inference_mode()
def _number_rows(runner: Runner, case: Case, prompt: Prompt) -> list[Compared]:
    """Run towers and decoder over the whole prompt and compare each step that the case has numbers of."""
    checkpoint, network = runner.model.checkpoint, runner.model.network
    pixels = [checkpoint.pixels(picture) for picture in prompt.pictures]
    placed = [tiles.to(runner.model.device, runner.model.dtype) for tiles in pixels]
    # A frame that is shown twice is encoded once.
    shown = [slot.picture for slot in prompt.slots if slot.offset == 0]
    rows: list[Compared | None] = []
    if shown:
        rows.append(_numbers(case, "pixels", torch.cat([pixels[number] for number in shown])))
    encoded = [network.encode(tiles) for tiles in placed]
    if shown:
        rows.append(_numbers(case, "vision", torch.cat([_seen(network, placed[n], encoded[n]) for n in shown])))
    features = {number: tiles.flatten(0, 1) for number, tiles in enumerate(encoded)}
    span = runner.passes.span(prompt, features, 0, len(prompt.ids))
    rows.append(_numbers(case, "embeddings", span.embeddings[0]))
    hidden = network.hidden_states(span, RowCache(network.decoder_layers()).native)
    rows.append(_logits(case, network.logits(hidden)[0]))
    return [row for row in rows if row is not None]


def _seen(network: object, pixels: Tensor, encoded: Tensor) -> Tensor:
    """Return what reference folders keep of the vision tower: its features, or Ovis2's visual words."""
    return network.visual_tokens(network.patch_features(pixels)) if isinstance(network, _HasWords) else encoded


def _logits(case: Case, logits: Tensor) -> Compared | None:
    expected = case.expected("logits")
    if expected is None:
        return None
    rows = case.logit_rows(len(logits), len(expected))
    if min(rows) < 0 or max(rows) >= len(logits):
        return Compared(case.name, "logits", None, case.tolerance("logits"), f"the prompt has {len(logits)} tokens")
    return _numbers(case, "logits", logits[list(rows)])


def _numbers(case: Case, step: Step, found: Tensor) -> Compared | None:
    """Compare numbers; of a long clip only the features of the last frame are kept. None: nothing to compare with."""
    expected = case.expected(step)
    if expected is None:
        return None
    tolerance = case.tolerance(step)
    if step == "vision" and case.layout.family == "cogvlm2":
        found = found[-len(expected) :]
    if found.shape != expected.shape:
        detail = f"shape {list(found.shape)} instead of {list(expected.shape)}"
        return Compared(case.name, step, None, tolerance, detail)
    worst = float((found.float().cpu() - expected.float()).abs().max())
    if worst != worst or worst == float("inf"):
        return Compared(case.name, step, None, tolerance, "not a number")
    return Compared(case.name, step, worst, tolerance)


def _places(case: Case, step: Step, found: Sequence[object], expected: Sequence[object]) -> Compared:
    """Compare ids place by place; what one has and the other has not counts too."""
    pairs = zip(found, expected, strict=False)
    wrong = [place for place, (ours, theirs) in enumerate(pairs) if ours != theirs]
    short = min(len(found), len(expected))
    count = len(wrong) + abs(len(found) - len(expected))
    if not count:
        return Compared(case.name, step, 0.0, 0.0)
    first = wrong[0] if wrong else short
    ours, theirs = (str(ids[first]) if first < len(ids) else "the end" for ids in (found, expected))
    return Compared(case.name, step, float(count), 0.0, f"at place {first}: {ours} instead of {theirs}")


def _texts(case: Case, step: Step, found: str, expected: str) -> Compared:
    row = _places(case, step, found, expected)
    if row.ok:
        return row
    first = next((place for place, pair in enumerate(zip(found, expected, strict=False)) if len(set(pair)) > 1), None)
    start = min(len(found), len(expected)) if first is None else first
    ours, theirs = (text[start : start + _SHOWN] for text in (found, expected))
    return Compared(case.name, step, row.difference, 0.0, f"at character {start}: {ours!r} instead of {theirs!r}")
