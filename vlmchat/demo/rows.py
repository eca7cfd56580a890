"""Training rows: several conversations packed behind one picture, and the tensors of a batch.

Every conversation is rendered by the InternVL2 prompt code itself. Those that open with the picture share its tokens
(computed once) and see nothing of each other; the rest carry their own prompt and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vlmchat.conversation import Message, Picture, Text
from vlmchat.demo.dialogue import Asker
from vlmchat.demo.dice import Dice
from vlmchat.demo.store import Store
from vlmchat.demo.talk import Talk, chain, sample_hard, sample_lookup, sample_talk
from vlmchat.demo.vocabulary import SYSTEM_MESSAGE, Vocabulary
from vlmchat.demo.world import Kind
from vlmchat.families.internvl2.prompt import DEFAULT_SYSTEM, TEMPLATES, render
from vlmchat.families.pieces import Control, Features, Plain

TOKENS_PER_TILE: Final = 16
SYSTEMS: Final = (
    DEFAULT_SYSTEM,
    "You are a helpful assistant.",
    "",
    "Answer briefly.",
    "Be kind and exact.",
    "你是一个有用的助手。",
)
"""System prompts of others, in one row out of eight."""
IGNORE: Final = -100


@dataclass(frozen=True)
class Encoded:
    """One conversation: ids, targets (-100 none), and at each position its feature (picture, offset) or None."""

    ids: list[int]
    targets: list[int]
    features: list[tuple[int, int] | None]
    prefix: int
    """Positions up to the end of the first picture, where the conversation opens with one; else 0."""


@dataclass
class Row:
    """Conversations packed into one sequence; ``group`` 0 is the shared opening, which all with ``opens`` see."""

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    features: list[tuple[int, int] | None] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    opens: list[bool] = field(default_factory=list)


class Scribe:
    """Turns talks into token ids with the prompt code of the family."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, list[int]] = {}

    def encode(self, talk: Talk, tiles: Sequence[int], system: str = SYSTEM_MESSAGE) -> Encoded:
        """Encode ``talk``; ``tiles`` are the tile counts of the pictures it refers to."""
        messages: list[Message] = []
        order: list[int] = []
        for turn, pictures in zip(talk.turns, talk.pictures, strict=True):
            parts = [Picture("", "", "", 0, 0) for _ in pictures]
            order += pictures
            messages.append(Message("user", (*parts, Text(turn.question))))
            messages.append(Message("assistant", (Text(turn.answer),)))
        counts = [TOKENS_PER_TILE * tiles[picture] for picture in order]
        pieces = (*render(messages, TEMPLATES["Hermes-2"], system, counts), Control("<|im_end|>"))
        ids: list[int] = []
        targets: list[int] = []
        features: list[tuple[int, int] | None] = []
        prefix, speaking = 0, False
        for piece in pieces:
            if isinstance(piece, Features):
                new = [self._vocabulary.control["<IMG_CONTEXT>"]] * piece.length
                features += [(order[piece.picture], piece.offset + at) for at in range(piece.length)]
                marks = [False] * piece.length
                prefix = prefix or (len(ids) + piece.length + 1 if talk.pictures[0] == (0,) else 0)
            elif isinstance(piece, Control):
                new, marks = [self._vocabulary.control[piece.token]], [speaking]
                features.append(None)
                speaking = False
            else:
                new, marks = self._plain(piece)
                speaking = any(marks)
                features += [None] * len(new)
            ids += new
            targets += [number if marked else IGNORE for number, marked in zip(new, marks, strict=True)]
        return Encoded(ids, targets, features, prefix)

    def _plain(self, piece: Plain) -> tuple[list[int], list[bool]]:
        """Encode text; what follows the assistant's role tag is to be learnt."""
        ids = self._ids(piece.text)
        if not piece.text.startswith("assistant\n"):
            return ids, [False] * len(ids)
        tag = len(self._ids("assistant\n"))
        return ids, [False] * tag + [True] * (len(ids) - tag)

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) > 50_000:
                self._known.clear()
            self._known[text] = self._vocabulary.encode(text)
        return self._known[text]


@dataclass(frozen=True)
class Mix:
    """What a row is made of: shares and limits, see :func:`build_row`."""

    tiled: float
    """Share of rows whose picture is cut into several tiles."""
    lookups: float
    """Share of one-question conversations."""
    length: int
    """Positions of a row."""
    named: float = 0.0
    """Share of rows that ask only for things by their names or places, of pictures with two things or more."""
    hard: float = 0.0
    """Share of rows that ask one question at a time of the kinds learnt last."""
    numbers: float = 0.0
    """Share of rows that surely show a number."""
    long: float = 0.0
    """Share of steps whose rows are one long conversation of about 1,000 positions."""


def build_row(store: Store, scribe: Scribe, dice: Dice, mix: Mix, pictures: tuple[int, int], long: bool) -> Row:
    """Pack conversations about ``pictures`` (the second one is rarely used) until the row is full."""
    row = Row()
    system = SYSTEM_MESSAGE if dice.random() < 0.88 else dice.choice(SYSTEMS)
    scenes = [store.scene(index) for index in pictures]
    tiles = [len(store.tiles(index)) for index in pictures]
    named = dice.random() < mix.named and scenes[0].kind is Kind.SHAPES and len(scenes[0].things) > 1
    hard = dice.random() < mix.hard
    number = 0
    while True:
        number += 1
        if long:
            language = dice.choice(("en", "en", "zh"))
            turns = chain(Asker(scenes[0], dice, "zh" if language == "zh" else "en"), 60)
            talk = Talk(tuple(turns), ((0,),) + ((),) * (len(turns) - 1))
        elif named:
            talk = sample_lookup(scenes[0], dice)
        elif hard:
            talk = sample_hard(scenes[0], dice)
        else:  # the first one opens with the picture, so that the others can share it
            talk = sample_talk(scenes[0], scenes[1], dice, mix.lookups if number > 1 else 1.0)
        encoded = scribe.encode(talk, tiles, system)
        gap = int(dice.random() * 600) if dice.random() < 0.1 and not long else 0
        if long or not _append(row, encoded, number, gap, mix.length):
            break
    if long:
        _append(row, _cut(encoded, mix.length), number, 0, mix.length)
    return row


def _cut(encoded: Encoded, length: int) -> Encoded:
    return Encoded(encoded.ids[:length], encoded.targets[:length], encoded.features[:length], encoded.prefix)


def _append(row: Row, encoded: Encoded, number: int, gap: int, limit: int) -> bool:
    """Add a conversation to ``row``; False where it does not fit.

    ``gap`` moves a conversation away from its picture, as a long history would.
    """
    start = 0
    if encoded.prefix:
        if not row.ids:
            _extend(row, encoded, slice(0, encoded.prefix), range(encoded.prefix), 0, True)
        if row.group[0] == 0:
            start = encoded.prefix
    if len(row.ids) + len(encoded.ids) - start > limit:
        return False
    positions = range(start + gap * (start > 0), len(encoded.ids) + gap * (start > 0))
    _extend(row, encoded, slice(start, None), positions, number, start > 0)
    return True


def _extend(row: Row, encoded: Encoded, part: slice, positions: range, group: int, opens: bool) -> None:
    row.ids += encoded.ids[part]
    row.targets += encoded.targets[part]
    row.features += encoded.features[part]
    row.positions += positions
    row.group += [group] * len(positions)
    row.opens += [opens] * len(positions)


@dataclass(frozen=True)
class Batch:
    """Tensors of a few rows.

    ``tiles`` uint8 [n, 112, 112, 3]; ``labelled`` (tile, picture) pairs of whole pictures with dense labels; ``ids``,
    ``positions`` int64 [rows, length]; ``features`` int64 [rows, length] row of the flattened image tokens or -1;
    ``allowed`` bool [rows, length, length]; ``where`` the (row, position) that predicts each of ``answers``.
    """

    tiles: NDArray[np.uint8]
    labelled: list[tuple[int, int]]
    ids: torch.Tensor
    positions: torch.Tensor
    features: torch.Tensor
    allowed: torch.Tensor
    where: tuple[torch.Tensor, torch.Tensor]
    answers: torch.Tensor


def collate(store: Store, rows: Sequence[Row], pictures: Sequence[tuple[int, int]]) -> Batch:
    """Stack rows, encoding only the pictures that a row really shows."""
    length = max(len(row.ids) for row in rows)
    ids, positions, group = (np.zeros((len(rows), length), np.int64) for _ in range(3))
    features = np.full((len(rows), length), -1, np.int64)
    targets = np.full((len(rows), length), IGNORE, np.int64)
    opens = np.zeros((len(rows), length), bool)
    group -= 1
    tiles: list[NDArray[np.uint8]] = []
    labelled: list[tuple[int, int]] = []
    count = 0
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size], positions[number, :size], group[number, :size] = row.ids, row.positions, row.group
        targets[number, :size], opens[number, :size] = row.targets, row.opens
        starts: dict[int, int] = {}
        for at, feature in enumerate(row.features):
            if feature is None:
                continue
            if feature[0] not in starts:
                picture = pictures[number][feature[0]]
                tiles.append(store.tiles(picture))
                starts[feature[0]] = count * TOKENS_PER_TILE
                count += len(tiles[-1])
                labelled.append((count - 1, picture))
            features[number, at] = starts[feature[0]] + feature[1]
    same = group[:, :, None] == group[:, None, :]
    shared = opens[:, :, None] & (group[:, None, :] == 0)
    allowed = (same | shared) & np.tri(length, dtype=bool)
    following = targets[:, 1:]
    line, place = np.nonzero(following != IGNORE)
    stacked = np.concatenate(tiles) if tiles else np.zeros((0, 112, 112, 3), np.uint8)
    return Batch(
        stacked,
        labelled,
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(features),
        torch.from_numpy(allowed),
        (torch.from_numpy(line), torch.from_numpy(place)),
        torch.from_numpy(following[line, place]),
    )


def sample_pictures(store: Store, dice: Dice, mix: Mix) -> tuple[int, int]:
    """Choose the picture of a row and a second one that some conversations turn to."""
    plan = store.plan
    several = dice.random() < mix.named
    digits = not several and dice.random() < mix.numbers
    while True:
        tiled = plan.tiled and dice.random() < mix.tiled
        first = plan.single + dice.integers(plan.tiled) if tiled else dice.integers(plan.single)
        kind, count = store.pictures[first][:2]
        if several and not (kind == Kind.SHAPES.value and count > 1):
            continue
        if not digits or kind == Kind.NUMBER.value:
            return first, dice.integers(plan.single)


def build_batch(store: Store, scribe: Scribe, mix: Mix, rows: int, *seed: int) -> Batch:
    """Build the batch that belongs to ``seed``; long conversations come one row at a time, at the same cost."""
    dice = Dice(*seed)
    long = dice.random() < mix.long
    if long:
        rows, mix = 1, Mix(mix.tiled, mix.lookups, 1000)
    pictures = [sample_pictures(store, dice, mix) for _ in range(rows)]
    if long:
        while store.scene(pictures[0][0]).kind is not Kind.SHAPES:
            pictures = [sample_pictures(store, dice, mix)]
    return collate(store, [build_row(store, scribe, dice, mix, pair, long) for pair in pictures], pictures)
