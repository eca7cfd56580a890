"""The golden fixtures as messages and tensors: what the original code computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from safetensors.torch import load_file, save_file
from torch import Tensor

from vlmchat.conversation import Message, Part, Picture, Text, Video, assistant
from vlmchat.engine.api import Request
from vlmchat.media.image import read_picture
from vlmchat.options import Sampling, VisionOptions

REFERENCE = Path(__file__).parent / "reference"
QWEN2 = REFERENCE / "internvl2" / "qwen2-vit300m"
INTERNVL2 = sorted(path.parent for path in (REFERENCE / "internvl2").glob("*/cases.json"))
"""One folder per language model, vision tower and weights format of the family."""

Tensors: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One conversation of a fixture and everything the original computed for it."""

    folder: Path
    about: dict[str, Any]

    @property
    def name(self) -> str:
        """The case's name in cases.json."""
        return str(self.about["name"])

    def tensor(self, what: str) -> Tensor:
        """Return ``expected.safetensors[name/what]``."""
        return _tensors(self.folder)[f"{self.name}/{what}"]

    def has(self, what: str) -> bool:
        """Say whether the fixture holds this tensor for this case."""
        return f"{self.name}/{what}" in _tensors(self.folder)

    def request(self) -> Request:
        """Return the case as vlmchat would be asked: pictures as parts, without written placeholders."""
        pictures = [read_picture(self.folder / "inputs" / name) for name in self.about["images"]]
        messages: list[Message] = []
        for question, answer in [*self.about["history"], (self.about["question"], None)]:
            messages.append(Message("user", tuple(_parts(question, pictures if not messages else []))))
            if answer is not None:
                messages.append(assistant(answer))
        return Request(tuple(messages), Sampling(max_new_tokens=16), VisionOptions(max_tiles=self.about["max_num"]))


def _parts(question: str, pictures: list[Picture]) -> Iterator[Part]:
    """Undo what the fixture's author wrote by hand: the family puts these labels there itself."""
    *_, text = question.split("<image>\n")
    if "Frame1: " in question:
        yield Video("video", "video", tuple(pictures))
    else:
        yield from pictures
    yield Text(text)


@lru_cache
def _tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(folder / "expected.safetensors")
    return tensors


def internvl2_cases(*folders: Path) -> list[Case]:
    """Return all cases of these InternVL2 fixtures; of the Qwen2 one when none is named."""
    return [case for folder in folders or (QWEN2,) for case in _cases(folder)]


def _cases(folder: Path) -> list[Case]:
    about = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    return [Case(folder, case) for case in about["cases"]]


def rewrite_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Let ``change`` alter the tensors of a copied checkpoint's weights file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
