"""Training rows: several conversations packed behind one picture, and the tensors of a batch.

Every conversation is rendered by the InternVL2 prompt code itself. Those that open with the picture share its tokens
(computed once) and see nothing of each other; the rest carry their own prompt and pictures.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vlmchat.conversation import Message, Picture, Text
from vlmchat.demo.dialogue import Asker, Turn
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
Gaze = tuple[int, tuple[int, ...]] | None


@dataclass(frozen=True)
class Encoded:
    """One conversation, by position: ids, targets (-100 none), feature (picture, offset) or None, and gaze.

    The gaze of a position is the picture and the things that its token speaks of.
    """

    ids: list[int]
    targets: list[int]
    features: list[tuple[int, int] | None]
    gaze: list[Gaze]
    prefix: int
    """Positions up to the end of the first picture, where the conversation opens with one; else 0."""


@dataclass
class Row:
    """Conversations packed into one sequence; ``group`` 0 is the shared opening, which all with ``opens`` see."""

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    features: list[tuple[int, int] | None] = field(default_factory=list)
    gaze: list[Gaze] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    opens: list[bool] = field(default_factory=list)


class Scribe:
    """Turns talks into token ids with the prompt code of the family."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, tuple[list[int], list[int]]] = {}

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
        gaze: list[Gaze] = []
        prefix, speaking, answered = 0, False, 0
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
                if speaking:
                    shown = [picture for pictures in talk.pictures[: answered + 1] for picture in pictures]
                    gaze += self._gaze(talk.turns[answered], shown[-1] if shown else 0, marks.count(False))
                    answered += 1
            ids += new
            gaze += [None] * (len(ids) - len(gaze))
            targets += [number if marked else IGNORE for number, marked in zip(new, marks, strict=True)]
        return Encoded(ids, targets, features, gaze, prefix)

    def _gaze(self, turn: Turn, picture: int, tag: int) -> list[Gaze]:
        """Return what each token of an answer speaks of, after ``tag`` tokens of the role."""
        ends = list(accumulate(len(piece) for piece, _ in turn.about))
        gaze: list[Gaze] = [None] * tag
        for start in self._encode("assistant\n" + turn.answer)[1][tag:]:
            piece = bisect_right(ends, start - len("assistant\n"))
            things = turn.about[piece][1] if piece < len(ends) else ()
            gaze.append((picture, things) if things else None)
        return gaze

    def _plain(self, piece: Plain) -> tuple[list[int], list[bool]]:
        """Encode text; what follows the assistant's role tag is to be learnt."""
        ids = self._encode(piece.text)[0]
        if not piece.text.startswith("assistant\n"):
            return ids, [False] * len(ids)
        tag = len(self._encode("assistant\n")[0])
        return ids, [False] * tag + [True] * (len(ids) - tag)

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        if text not in self._known:
            if len(self._known) > 50_000:
                self._known.clear()
            self._known[text] = self._vocabulary.encode_at(text)
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
    return Encoded(
        encoded.ids[:length],
        encoded.targets[:length],
        encoded.features[:length],
        encoded.gaze[:length],
        encoded.prefix,
    )


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
    row.gaze += encoded.gaze[part]
    row.positions += positions
    row.group += [group] * len(positions)
    row.opens += [opens] * len(positions)


@dataclass(frozen=True)
class Batch:
    """Tensors of a few rows.

    ``tiles`` uint8 [n, 112, 112, 3]; ``labelled`` (tile, picture) pairs of whole pictures with dense labels; ``ids``,
    ``positions`` int64 [rows, length]; ``features`` int64 [rows, length] row of the flattened image tokens or -1;
    ``allowed`` bool [rows, length, length]; ``where`` the (row, position) that predicts each of ``answers``;
    ``gazing`` the (row, position) of those that speak of things, ``gazed`` bool [gazing, length] the image tokens of
    the whole picture that show these things, ``single`` int64 [gazing, 2] picture and thing where it is one, else -1.
    """

    tiles: NDArray[np.uint8]
    labelled: list[tuple[int, int]]
    ids: torch.Tensor
    positions: torch.Tensor
    features: torch.Tensor
    allowed: torch.Tensor
    where: tuple[torch.Tensor, torch.Tensor]
    answers: torch.Tensor
    gazing: tuple[torch.Tensor, torch.Tensor]
    gazed: torch.Tensor
    single: torch.Tensor


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
    gazes: list[tuple[int, int, NDArray[np.bool_], tuple[int, int]]] = []
    count = 0
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size], positions[number, :size], group[number, :size] = row.ids, row.positions, row.group
        targets[number, :size], opens[number, :size] = row.targets, row.opens
        starts: dict[int, int] = {}
        whole: dict[int, int] = {}
        for at, feature in enumerate(row.features):
            if feature is None:
                continue
            if feature[0] not in starts:
                picture = pictures[number][feature[0]]
                tiles.append(store.tiles(picture))
                starts[feature[0]] = count * TOKENS_PER_TILE
                count += len(tiles[-1])
                whole[feature[0]] = (len(tiles[-1]) - 1) * TOKENS_PER_TILE
                labelled.append((count - 1, picture))
            features[number, at] = starts[feature[0]] + feature[1]
        for at, seen, one in _gazes(store, row, pictures[number], whole):
            gazes.append((number, at, np.pad(seen, (0, length - size)), one))
    same = group[:, :, None] == group[:, None, :]
    shared = opens[:, :, None] & (group[:, None, :] == 0)
    allowed = (same | shared) & np.tri(length, dtype=bool)
    following = targets[:, 1:]
    line, place = np.nonzero(following != IGNORE)
    stacked = np.concatenate(tiles) if tiles else np.zeros((0, 112, 112, 3), np.uint8)
    gazes = [(number, at, seen & allowed[number, at], one) for number, at, seen, one in gazes]
    gazes = [gaze for gaze in gazes if gaze[2].any()]
    return Batch(
        stacked,
        labelled,
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(features),
        torch.from_numpy(allowed),
        (torch.from_numpy(line), torch.from_numpy(place)),
        torch.from_numpy(following[line, place]),
        (torch.tensor([number for number, *_ in gazes]), torch.tensor([at for _, at, *_ in gazes])),
        torch.from_numpy(np.asarray([seen for *_, seen, _ in gazes], bool).reshape(-1, length)),
        torch.tensor([one for *_, one in gazes], dtype=torch.int64).view(-1, 2),
    )


def _gazes(
    store: Store, row: Row, pictures: tuple[int, int], whole: Mapping[int, int]
) -> Iterator[tuple[int, NDArray[np.bool_], tuple[int, int]]]:
    """Yield each position whose next token speaks of things, the positions that show these, and the thing if it is one.

    ``whole`` holds the offset of the whole picture's tokens behind those of its cut tiles.
    """
    shown = np.full((2, len(row.ids)), -1)  # which picture, and which of its things
    for at, feature in enumerate(row.features):
        if feature is not None and feature[1] >= whole[feature[0]]:
            cell = feature[1] - whole[feature[0]]
            shown[:, at] = feature[0], int(store.tokens[pictures[feature[0]]][cell]) - 1
    for at, gaze in enumerate(row.gaze):
        if gaze is not None:
            picture, things = gaze
            one = (pictures[picture], things[0]) if len(things) == 1 else (-1, -1)
            yield at - 1, (shown[0] == picture) & np.isin(shown[1], things), one


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
