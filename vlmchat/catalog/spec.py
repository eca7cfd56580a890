"""One row of the catalog, with every field explained where it stands, and the reader that checks it.

A row is data: nothing in it says whether this version can run the checkpoint (that is asked of
``families.registry``) or whether it is on this machine (that is asked of ``hub.local``). A figure
nobody has published or computed is absent, which reads as None or empty here; it is never guessed, and each
that is there names the document it was taken from (:data:`FIGURES`, :attr:`ModelSpec.sources`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args

from vlmchat.options import Template

FORMATS = ("pytorch", "awq", "gptq", "bnb")
HUBS = ("huggingface", "modelscope")
ABILITIES = ("chat", "vision", "video")
FIGURES = (
    "huggingface", "modelscope", "revision", "format", "quantizations", "languages", "abilities", "parameters", "bytes",
    "weights_files", "context_tokens", "licence", "licence_url", "vision", "scores", "config",
)  # fmt: skip
"""Fields of a packaged row that say where they come from; a row of the user's own need not."""


class RowError(ValueError):
    """A row that does not say what a row must say; the message names the field and the fix."""


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """What pictures cost this model, in tiles and tokens."""

    tower: str
    """Name of the vision tower: ``InternViT-300M``."""
    tile_pixels: int
    """Side of one square tile (or of the whole picture, where it is not cut) in pixels."""
    tokens_per_tile: int
    """Prompt positions of one tile; of one frame in the video models."""
    max_tiles: int
    """Tiles the checkpoint cuts one picture into at most by itself, thumbnail apart; 1: no tiling."""
    thumbnail: bool
    """Whether the whole picture is added as one more tile when it was cut."""
    max_images: int | None = None
    """Pictures in one conversation; None: only the context is the limit."""
    frames: int | None = None
    """Frames taken of one video, each read as one tile; None: the family's publishers name no figure."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One checkpoint: what it is called, where it lives, what it can do and what it weighs."""

    name: str
    """``family:tag`` in lower case, the name users type; ``demo`` for the embedded model."""
    title: str
    """The publisher's own name: ``InternVL2-8B-AWQ``."""
    loader: str = "generic"
    """The family room that loads it: ``internvl2``, ``ovis2``, ``cogvlm2``, or ``generic``: what Transformers has."""
    language_model: str | None = None
    """Class of the text model in the checkpoint's config: ``Qwen2ForCausalLM``."""
    format: str = "pytorch"
    """How the weights are stored: ``pytorch`` (16 bit), ``awq``, ``gptq`` or ``bnb``."""
    quantizations: tuple[str, ...] = ("none", "8-bit", "4-bit")
    """What it can run in: values of ``--quantization``, or the one form it is stored in (``int4``)."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes the publisher names."""
    abilities: tuple[str, ...] = ("chat", "vision")
    """Of ``chat`` (several turns), ``vision`` (pictures), ``video``."""
    description: str = ""
    """Two sentences at most, for the picker's detail pane."""
    huggingface: str | None = None
    """``OWNER/NAME`` on Hugging Face; None only for the embedded model."""
    modelscope: str | None = None
    """``OWNER/NAME`` on ModelScope; None only for the embedded model."""
    folder: str | None = None
    """A folder of this machine with the checkpoint, for rows of the user's own; no hub is asked then."""
    revision: str | None = None
    """Commit on Hugging Face that the figures are of."""
    parameters: int | None = None
    """Parameters as stored, rounded where the source rounds."""
    bytes: int | None = None
    """Bytes of the weights files, rounded where the source rounds; None where nobody says."""
    weights_files: int | None = None
    """How many files they are in."""
    context_tokens: int | None = None
    """Prompt and answer together, as the text model's config states it."""
    licence: str | None = None
    """Name of the licence the weights come under."""
    licence_url: str | None = None
    """Where to read it before downloading."""
    vision: VisionSpec | None = None
    template: Template | None = None
    """The prompt form the publisher runs it with, where config.json names another (CogVLM2-Video chat)."""
    scores: tuple[tuple[str, float], ...] = ()
    """Published benchmark results, as (benchmark, figure), in the publisher's own scale."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What is known of the checkpoint's config.json, under its own keys: enough to count its memory."""
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Field -> the document its figure was taken from."""

    def hub_id(self, hub: str) -> str | None:
        """Return the ``OWNER/NAME`` of this checkpoint on ``hub`` (one of :data:`HUBS`)."""
        return self.huggingface if hub == "huggingface" else self.modelscope

    def matches(self, words: str) -> bool:
        """Say whether every word of a filter occurs in the name, the title or an ability."""
        text = " ".join((self.name, self.title, self.format, *self.abilities, *self.languages)).lower()
        return all(word in text for word in words.lower().split())

    def resembles(self, words: str) -> bool:
        """Say whether the letters of every word stand in the name in this order, others between them."""
        return all(_in_order(word, self.name) for word in words.lower().split())


def read_row(row: Mapping[str, Any]) -> ModelSpec:
    """Check one table of a catalog file and return it as a :class:`ModelSpec`.

    Raises:
        RowError: a field is missing, unknown, or not of its kind; the message says which and how to mend it.
    """
    values = _checked(row, _MODEL_FIELDS, ModelSpec)
    if "vision" in values:
        values["vision"] = VisionSpec(**_checked(values["vision"], _VISION_FIELDS, VisionSpec, "vision."))
    if values["name"] != values["name"].lower() or {"/", "@", " "} & set(values["name"]):
        raise RowError(f"field name must be in lower case, without blank, slash or @, not {values['name']!r}")
    if "sources" in values:  # those of [defaults] may speak of fields this row does not have
        values["sources"] = {name: document for name, document in values["sources"].items() if name in values}
    return ModelSpec(**values)


def _checked(
    row: Mapping[str, Any],
    readers: Mapping[str, Callable[[Any], Any]],
    kind: type[ModelSpec | VisionSpec],
    prefix: str = "",
) -> dict[str, Any]:
    unknown = sorted(row.keys() - readers.keys())
    if unknown:
        raise RowError(f"field {prefix}{unknown[0]} is unknown; known are {', '.join(sorted(readers))}")
    for name in _required(kind):
        if name not in row:
            raise RowError(f"field {prefix}{name} is missing")
    values = {}
    for name, value in row.items():
        try:
            values[name] = readers[name](value)
        except ValueError as problem:
            raise RowError(f"field {prefix}{name} must be {problem}, not {value!r}") from problem
    return values


def _required(kind: type[ModelSpec | VisionSpec]) -> list[str]:
    return [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number from 1 on")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError("a list of texts that is not empty")
    return tuple(value)


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return read


def _some_of(*choices: str) -> Callable[[object], tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        texts = _texts(value)
        if not set(texts) <= set(choices):
            raise ValueError(f"a list of {', '.join(choices)}")
        return texts

    return read


def _repository(value: object) -> str:
    text = _text(value)
    owner, slash, name = text.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise ValueError("OWNER/NAME")
    return text


def _link(value: object) -> str:
    text = _text(value)
    if not text.startswith("https://"):
        raise ValueError("a link that begins with https://")
    return text


def _in_order(letters: str, text: str) -> bool:
    rest = iter(text)
    return all(letter in rest for letter in letters)


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a table")
    return value


def _config(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a table, or a list of names of [config] tables in this file")
    return value


def _sources(value: object) -> Mapping[str, str]:
    """Turn ``document = [fields]`` around."""
    table = _table(value)
    if not all(isinstance(named, list) and set(named) <= _MODEL_FIELDS.keys() for named in table.values()):
        raise ValueError("a table of document = list of fields")
    return {name: document for document, named in table.items() for name in named}


def _scores(value: object) -> tuple[tuple[str, float], ...]:
    table = _table(value)
    if not all(isinstance(figure, int | float) and not isinstance(figure, bool) for figure in table.values()):
        raise ValueError("a table of benchmark = figure")
    return tuple((benchmark, float(figure)) for benchmark, figure in table.items())


_VISION_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "tower": _text,
    "tile_pixels": _count,
    "tokens_per_tile": _count,
    "max_tiles": _count,
    "thumbnail": _flag,
    "max_images": _count,
    "frames": _count,
}
_MODEL_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "name": _text,
    "title": _text,
    "loader": _text,
    "language_model": _text,
    "format": _one_of(*FORMATS),
    "quantizations": _texts,
    "languages": _texts,
    "abilities": _some_of(*ABILITIES),
    "description": _text,
    "huggingface": _repository,
    "modelscope": _repository,
    "folder": _text,
    "revision": _text,
    "parameters": _count,
    "bytes": _count,
    "weights_files": _count,
    "context_tokens": _count,
    "licence": _text,
    "licence_url": _link,
    "vision": _table,
    "template": _one_of(*get_args(Template)),
    "scores": _scores,
    "config": _config,
    "sources": _sources,
}
