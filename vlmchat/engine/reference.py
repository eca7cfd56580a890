"""Reading reference folders: what the original code computed, in the three layouts they come in.

A folder holds ``cases.json``, ``expected.safetensors``, the pictures and (beside them, not needed
here) the checkpoint. Names and tolerances are those of the README of each collection: the original
ran in float32 on a CPU, greedily. Prompts, ids, positions and tokens must be exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vlmchat.conversation import Message, Part, Picture, Text, Video, assistant, system, user
from vlmchat.engine.api import Request
from vlmchat.engine.findings import Step
from vlmchat.errors import InputError
from vlmchat.media.image import read_picture
from vlmchat.options import Sampling, VisionOptions

About: TypeAlias = Mapping[str, Any]
"""One entry of ``cases.json``."""
_NEW_TOKENS = 16
"""Greedy tokens of every case at most (all three READMEs)."""
_BFLOAT16 = "bf16/"
"""Names of cases that say how far the original's own bfloat16 is off; not meant to be met."""
_LABELLED = re.compile(r"((?:Image[- ]|Frame)\d+: )?<image>\n")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the three channels that InternVL2 normalises with (its model card)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one collection writes its cases."""

    family: str
    separator: str
    """Between case and tensor in the names of ``expected.safetensors``."""
    fields: Mapping[Step, str]
    """Keys of ``cases.json`` for what is no tensor; that of ``tokens`` is in every case and tells the layouts apart."""
    tensors: Mapping[Step, str]
    tolerances: Mapping[Step, float]
    """Largest absolute difference; 0 for steps that are not named."""
    messages: Callable[[Path, About], tuple[Message, ...]]
    vision: Callable[[About], VisionOptions]


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation of a reference folder and everything the original computed for it."""

    folder: Path
    about: About

    @property
    def name(self) -> str:
        """The case's name in ``cases.json``."""
        return str(self.about["name"])

    @property
    def layout(self) -> Layout:
        """The layout of its folder.

        Raises:
            InputError: it is of none that is known.
        """
        for layout in LAYOUTS:
            if layout.fields["tokens"] in self.about:
                return layout
        raise InputError(
            f"{self.folder / 'cases.json'} is in no layout this version reads.",
            f"Known are those of {', '.join(layout.family for layout in LAYOUTS)}.",
        )

    def tensor(self, what: str) -> Tensor:
        """Return the tensor ``what`` of this case."""
        return _tensors(self.folder)[f"{self.name}{self.layout.separator}{what}"]

    def has(self, what: str) -> bool:
        """Say whether the folder holds this tensor for this case."""
        return f"{self.name}{self.layout.separator}{what}" in _tensors(self.folder)

    def request(self) -> Request:
        """Return the case as vlmchat would be asked: pictures as parts, without written placeholders.

        Raises:
            ImageError: a picture cannot be read.
            InputError: the case lacks something its layout has.
        """
        with _reading(self.folder):
            messages = self.layout.messages(self.folder, self.about)
            return Request(messages, Sampling(max_new_tokens=_NEW_TOKENS), self.layout.vision(self.about))

    def said(self, step: Step) -> Any:
        """Return what ``cases.json`` says of a step: prompt or answer as text, or token ids.

        Raises:
            InputError: it says nothing.
        """
        with _reading(self.folder):
            return self.about[self.layout.fields[step]]

    def expected(self, step: Step) -> Tensor | None:
        """Return the tensor of a step; None where the folder has none for this case.

        Shapes: ids, positions [length]; pixels [tiles, 3, side, side]; vision [tiles, tokens, ..];
        embeddings [length, hidden]; logits [rows, vocab].
        """
        if step == "pixels" and not self.has("pixel_values"):
            return _normalised(self.tensor("tiles_u8")) if self.has("tiles_u8") else None
        name = self.layout.tensors.get(step)
        if name is None or not self.has(name):
            return None
        found = self.tensor(name)
        if step == "pixels":
            return found.reshape(-1, *found.shape[-3:])
        return found.flatten() if step in {"ids", "positions"} else found

    def tolerance(self, step: Step) -> float:
        """Return the largest absolute difference that a step may have."""
        return self.layout.tolerances.get(step, 0.0)

    def logit_rows(self, length: int, rows: int) -> Sequence[int]:
        """Return the positions of a prompt of ``length`` tokens whose logits were kept, ``rows`` of them.

        They are listed where they are few; otherwise the last ones were kept.
        """
        listed = self.about.get("logits_positions", "all")
        return listed if isinstance(listed, list) else range(length - rows, length)


def read_cases(folder: Path) -> list[Case]:
    """Return the float32 cases of a reference folder.

    Raises:
        InputError: it is none, or in a layout that is not known.
    """
    path = folder / "cases.json"
    with _reading(folder):
        entries = json.loads(path.read_text(encoding="utf-8"))["cases"]
        cases = [Case(folder, about) for about in entries if not about["name"].startswith(_BFLOAT16)]
        _tensors(folder)
    if not cases:
        raise InputError(f"{path} holds no case.", "Name a folder with cases.")
    _ = cases[0].layout
    return cases


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn what is missing or broken in a reference folder into an InputError that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as problem:
        raise InputError(
            f"{folder} is no reference folder: {type(problem).__name__}: {problem}.",
            "It has to hold cases.json, expected.safetensors and the pictures.",
        ) from problem


@lru_cache(maxsize=8)
def _tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(folder / "expected.safetensors")
    return tensors


def _normalised(tiles: Tensor) -> Tensor:
    """Return float32 pixels [tiles, 3, side, side] of the original's tiles, uint8 [tiles, side, side, 3]."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in _IMAGENET)
    return (tiles.permute(0, 3, 1, 2) / 255 - mean) / deviation


def _internvl2_messages(folder: Path, about: About) -> tuple[Message, ...]:
    """Return questions and answers; the pictures of a conversation without marks stand before its first question."""
    pictures = [read_picture(folder / "inputs" / name) for name in about["images"]]
    turns = [*about["history"], (about["question"], None)]
    if not any("<image>" in question for question, _ in turns):
        (question, answer), *rest = turns
        turns = [("<image>\n" * len(pictures) + question, answer), *rest]
    return tuple(_exchanges(turns, pictures))


def _exchanges(turns: Sequence[tuple[str, str | None]], pictures: list[Picture]) -> Iterator[Message]:
    for question, answer in turns:
        yield Message("user", tuple(_parts(question, pictures, video="Frame1: " in question)))
        if answer is not None:
            yield assistant(answer)


def _ovis2_messages(folder: Path, about: About) -> tuple[Message, ...]:
    """Return the turns; several marks without labels are the frames of a video."""
    pictures = [read_picture(folder / "images" / name) for name in about["images"]]
    messages: list[Message] = []
    for turn in about["conversations"]:
        text = turn["value"]
        if turn["from"] == "human":
            video = text.startswith("<image>\n<image>\n")
            messages.append(Message("user", tuple(_parts(text, pictures, video))))
        else:
            messages.append(system(text) if turn["from"] == "system" else assistant(text))
    return tuple(messages)


def _parts(text: str, pictures: list[Picture], video: bool) -> Iterator[Part]:
    """Undo what was written by hand: marks become parts, and the labels in front are the family's own.

    Marks in front of the text are pictures (or frames) of the turn, marks further on stand in their place.
    Each takes the first of ``pictures`` away.
    """
    if text.count("<image>") > len(pictures):
        raise ValueError(f"{text!r} has more marks than there are pictures")
    leading: list[Picture] = []
    while found := _LABELLED.match(text):
        leading.append(pictures.pop(0))
        text = text[found.end() :]
    if video:
        yield Video("video", "video", tuple(leading))
    else:
        yield from leading
    first, *rest = text.split("<image>")
    yield Text(first)
    for stretch in rest:
        yield pictures.pop(0)
        yield Text(stretch)


def _cogvlm2_messages(folder: Path, about: About) -> tuple[Message, ...]:
    """Return questions and answers; the picture or clip is given with the last question."""
    media: list[Picture | Video] = []
    if about["image"]:
        media.append(read_picture(folder / "inputs" / about["image"]))
    if about["frames"]:
        media.append(Video("clip", "clip", tuple(read_picture(folder / "inputs" / name) for name in about["frames"])))
    told = [part for asked, answer in about["history"] for part in (user(asked), assistant(answer))]
    return (*told, user(about["query"], *media))


LAYOUTS = (
    Layout(
        family="internvl2",
        separator="/",
        fields={"prompt": "prompt", "tokens": "greedy_tokens", "text": "response"},
        tensors={
            "ids": "input_ids", "pixels": "pixel_values", "vision": "vision_features", "logits": "prefill_logits",
        },
        # Its README names none: logits, because a wrong norm epsilon moves them by 3e-4; features and
        # pixels, float32 rounding.
        tolerances={"pixels": 1e-5, "vision": 1e-5, "logits": 1e-4},
        messages=_internvl2_messages,
        vision=lambda about: VisionOptions(max_tiles=about["max_num"]),
    ),
    Layout(
        family="ovis2",
        separator=".",
        fields={"prompt": "prompt", "tokens": "greedy", "text": "greedy_text"},
        tensors={
            "ids": "expanded_ids", "pixels": "pixel_values", "vision": "visual_tokens",
            "embeddings": "inputs_embeds", "logits": "logits",
        },
        # Its README allows 2e-3 on logits; a wrong norm epsilon moves them by 9e-4, other kernels by 1e-4.
        tolerances={"vision": 1e-5, "embeddings": 1e-5, "logits": 5e-4},
        messages=_ovis2_messages,
        vision=lambda about: VisionOptions(max_tiles=about["max_partition"]),
    ),
    Layout(
        family="cogvlm2",
        separator="/",
        fields={"prompt": "prompt_text", "tokens": "generated_ids", "text": "generated_text"},
        tensors={
            "ids": "input_ids", "positions": "position_ids", "pixels": "pixel_values", "vision": "vision_features",
            "embeddings": "hidden_states.0", "logits": "logits_tail",
        },
        # Its README.
        tolerances={"pixels": 1e-5, "vision": 5e-4, "embeddings": 5e-4, "logits": 5e-4},
        messages=_cogvlm2_messages,
        vision=lambda about: VisionOptions(template=about["template_version"]),
    ),
)  # fmt: skip
"""Every layout there is."""
