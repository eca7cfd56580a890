"""``config.toml``, ``VLMCHAT_…`` and the command line -> one frozen :class:`Settings`.

Each choice has one name everywhere: ``max_tiles`` in the file and in JSON, ``VLMCHAT_MAX_TILES`` in the
environment, ``--max-tiles`` on the command line. Later ones win over earlier ones, and every value remembers
where it came from, so that an error names the place to mend and ``vlmchat doctor`` can print it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from vlmchat.errors import UsageError
from vlmchat.options import Dtype, LoadOptions, Quantization, Sampling, Template, VisionOptions
from vlmchat.paths import places
from vlmchat.plaintext import is_whole

Hub: TypeAlias = Literal["auto", "huggingface", "modelscope"]
Language: TypeAlias = Literal["auto", "en", "zh"]
Previews: TypeAlias = Literal["auto", "kitty", "sixel", "half-block", "off"]
Kind: TypeAlias = Literal["time", "text", "flag", "whole", "size", "number", "device"]
Part: TypeAlias = Literal["", "load", "vision", "sampling"]


@dataclass(frozen=True, slots=True)
class Key:
    """One thing a user may choose, whatever the place."""

    name: str
    """As in ``config.toml`` and JSON; :attr:`option` and :attr:`variable` follow from it."""
    kind: Kind
    help: str
    """One line for ``--help``."""
    choices: tuple[str, ...] = ()
    """The only values of a text; empty for any text."""
    short: str = ""
    """One-letter option, with its dash."""
    metavar: str = ""
    """What ``--help`` shows in place of a value."""
    part: Part = ""
    """The frozen value of ``options`` it belongs to; empty: :class:`Settings` itself."""
    command_line: bool = True
    """Whether there is an option; the others are set in the file or the environment."""

    @property
    def option(self) -> str:
        """The option as typed: ``--max-tiles``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable: ``VLMCHAT_MAX_TILES``."""
        return "VLMCHAT_" + self.name.upper()


KEYS: tuple[Key, ...] = (
    Key("model", "text", "family:tag, OWNER/NAME[@revision] or a folder.", short="-m", metavar="MODEL"),
    Key("quantization", "text", "Quantize on the fly.", get_args(Quantization), part="load"),
    Key("device", "device", "Where the model runs.", metavar="auto|cpu|cuda[:N]|mps", part="load"),
    Key("dtype", "text", "What it computes in.", get_args(Dtype), part="load"),
    Key("max_tiles", "whole", "Tiles one picture is cut into at most.", metavar="N", part="vision"),
    Key("template", "text", "CogVLM2's prompt form.", get_args(Template), part="vision"),
    Key("system", "text", "System prompt in place of the model's own.", short="-s", metavar="TEXT"),
    Key("max_new_tokens", "whole", "Longest answer, in tokens.", metavar="N", part="sampling"),
    Key("temperature", "number", "0 is greedy, the default.", metavar="T", part="sampling"),
    Key("top_p", "number", "Keep the likeliest tokens up to this probability.", metavar="P", part="sampling"),
    Key("top_k", "whole", "Keep this many tokens; 0 keeps all.", metavar="K", part="sampling"),
    Key("repetition_penalty", "number", "Above 1 discourages repeating.", metavar="R", part="sampling"),
    Key("seed", "whole", "Same seed, same text.", metavar="N", part="sampling"),
    Key("hub", "text", "Which hub's files to use.", get_args(Hub)),
    Key("offline", "flag", "Never use the network."),
    Key("yes", "flag", "Accept the licence and download without asking.", short="-y"),
    Key("private_urls", "flag", "Fetch pictures from private addresses too."),
    Key("feature_cache", "size", "Megabytes of picture features kept on disk; 0 is off.", command_line=False),
    Key("quiet", "flag", "No progress, no notices.", short="-q"),
    Key("verbose", "flag", "Tracebacks and details with errors.", short="-v"),
    Key("keep", "time", "Leave the engine behind, loaded, for this long.", metavar="5m|90s|1h|0"),
    Key("cold", "flag", "Load in this process, whatever --keep says."),
    Key("theme", "text", "Theme of the app.", command_line=False),
    Key("previews", "text", "How the app draws pictures.", get_args(Previews), command_line=False),
    Key("language", "text", "Language of the app.", get_args(Language), command_line=False),
)
"""Every key there is, in the order of ``--help``."""
GENERATION_KEYS: frozenset[str] = frozenset(
    key.name for key in KEYS if key.part in {"vision", "sampling"} or key.name == "system"
)
"""Keys that may change from one answer to the next: those a ``pipe`` line may carry."""
_BY_NAME: Mapping[str, Key] = {key.name: key for key in KEYS}
_KINDS: Mapping[Kind, type | tuple[type, ...]] = {
    "text": str,
    "device": str,
    "flag": bool,
    "whole": int,
    "size": int,
    "number": (int, float),
    "time": (str, int),
}
_RULES: Mapping[Kind, str] = {
    "text": "a text in UTF-8",
    "device": "auto, cpu, cuda, cuda:N or mps",
    "flag": "true or false",
    "whole": "a whole number",
    "size": "a whole number of megabytes, 0 or more",
    "number": "a number",
    "time": "a time such as 5m, 90s or 1h, or 0",
}
_TIME = re.compile(r"(\d{1,6})(s|m|h)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}
_FLAG_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user has chosen, or its default."""

    model: str = "demo"
    load: LoadOptions = field(default_factory=LoadOptions)
    vision: VisionOptions = field(default_factory=VisionOptions)
    sampling: Sampling = field(default_factory=Sampling)
    system: str | None = None
    """System prompt; None keeps the family's own."""
    hub: Hub = "auto"
    """``auto`` looks at both hubs' caches, Hugging Face's first."""
    offline: bool = False
    yes: bool = False
    """A missing model's licence is accepted and its files are fetched without asking."""
    private_urls: bool = False
    """Pictures may be fetched from addresses of this machine and of private networks too."""
    feature_cache: int = 1000
    """Megabytes (10**6 bytes) of picture features kept in the cache folder; 0: none are looked for or written."""
    quiet: bool = False
    verbose: bool = False
    keep: str = "0"
    """How long an engine stays loaded behind this command: ``5m``, ``90s``, ``1h``; ``0`` is off."""
    cold: bool = False
    """Load in this process all the same."""
    theme: str | None = None
    """Name of a theme; None is the app's default."""
    previews: Previews = "auto"
    """How the app draws pictures; ``auto`` goes by the terminal, ``off`` names them only."""
    language: Language = "auto"
    """Of the app's own words; ``auto`` follows the locale."""
    keys: Mapping[str, object] = field(default_factory=dict)
    """The app's keys as the file's table ``[keys]`` has them: the app checks them, and goes on without bad ones."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Key -> where its value came from: a file, a variable or an option. Absent: the default."""

    @property
    def keep_s(self) -> float:
        """Seconds an engine stays loaded behind this command; 0 is off."""
        found = _TIME.fullmatch(self.keep)
        return float(int(found[1]) * _SECONDS[found[2]]) if found and not self.cold else 0.0

    def value(self, name: str) -> object:
        """Return the value in force of key ``name``."""
        part = _BY_NAME[name].part
        value: object = getattr(getattr(self, part) if part else self, name)
        return value

    def source(self, name: str) -> str:
        """Return where key ``name`` got its value from, ``default`` when nobody set it."""
        return self.sources.get(name, "default")

    def changed(self, values: Mapping[str, object], source: str = "") -> Settings:
        """Return a copy with ``values`` set, checked as those of a file are.

        Args:
            values: key -> value, of the kinds JSON and TOML have.
            source: where they stand, for messages; empty names the keys alone.

        Raises:
            UsageError: a key that does not exist or a value that cannot be; the message names both.
        """
        changes: dict[Part, dict[str, Any]] = {"load": {}, "vision": {}, "sampling": {}, "": {}}
        for name, raw in values.items():
            place = f"{source}: {name}" if source else name
            key = _known(name, place)
            changes[key.part][name] = _checked(key, raw, place)
        return replace(
            self,
            load=replace(self.load, **changes["load"]),
            vision=replace(self.vision, **changes["vision"]),
            sampling=replace(self.sampling, **changes["sampling"]),
            sources={**self.sources, **dict.fromkeys(values, source)},
            **changes[""],
        )


def load_settings(given: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Read the file, then the environment, then ``given`` (the command line's options by key).

    Args:
        given: values that were typed, texts as they were typed.
        file: in place of ``VLMCHAT_CONFIG`` and of the user's own ``config.toml``; must exist.

    Raises:
        UsageError: an unknown key, a value that cannot be, or a file that cannot be read.
    """
    settings = Settings()
    named = file or (Path(os.environ["VLMCHAT_CONFIG"]) if os.environ.get("VLMCHAT_CONFIG") else None)
    path = named or places().settings
    values = _read_file(path, required=named is not None)
    keys = values.pop("keys", {})
    if not isinstance(keys, dict):
        raise UsageError(f"{path}: keys must be a table.", "Write [keys] above the lines that bind keys.")
    settings = replace(settings.changed(values, str(path)), keys=keys)
    for key in KEYS:
        text = os.environ.get(key.variable)
        if text:
            settings = with_text(settings, key, text, key.variable)
    for name, value in (given or {}).items():
        key = _BY_NAME[name]
        settings = with_text(settings, key, value, key.option)
    return settings


def unknown_variables() -> tuple[str, ...]:
    """Return the ``VLMCHAT_…`` variables that are set and mean nothing: misspellings, for ``doctor``."""
    known = {key.variable for key in KEYS} | {"VLMCHAT_HOME", "VLMCHAT_CONFIG"}
    return tuple(sorted(name for name in os.environ if name.startswith("VLMCHAT_") and name not in known))


def with_text(settings: Settings, key: Key, value: object, source: str) -> Settings:
    """Return ``settings`` with ``key`` set to ``value``, a text as it was typed or a value of its kind.

    Raises:
        UsageError: the value cannot be; ``source`` names the place to mend.
    """
    checked = _checked(key, _from_text(key, value, source) if isinstance(value, str) else value, source)
    changed = settings.changed({key.name: checked})
    return replace(changed, sources={**settings.sources, key.name: source})


def _read_file(path: Path, required: bool) -> dict[str, object]:
    # Late, as below: --help and completion read no file, and each of these is 1 to 3 ms of their start.
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        if not required:
            return {}
        raise UsageError(f"There is no file {path}.", "Check --config or VLMCHAT_CONFIG.") from problem
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror}.", "Check its permissions.") from problem
    except ValueError as problem:
        raise UsageError(f"{path} is not valid TOML: {problem}.", "Mend that line.") from problem


def _known(name: str, place: str) -> Key:
    if name not in _BY_NAME:
        from difflib import get_close_matches

        nearest = get_close_matches(name, _BY_NAME, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"Settings are: {', '.join(_BY_NAME)}."
        raise UsageError(f"{place} is no setting.", hint)
    return _BY_NAME[name]


def _from_text(key: Key, text: str, place: str) -> object:
    try:
        if key.kind in {"whole", "size"}:
            return int(text)
        if key.kind == "number":
            return float(text)
        if key.kind == "flag":
            return _FLAG_WORDS[text.lower()]
    except (ValueError, KeyError) as problem:
        raise _wrong(key, text, place) from problem
    return text


def _checked(key: Key, value: object, place: str) -> object:
    """Return ``value`` if it can be ``key``'s: first by kind, then by the rules of ``options``."""
    right = isinstance(value, _KINDS[key.kind]) and isinstance(value, bool) == (key.kind == "flag")
    if not right or (key.choices and value not in key.choices):
        raise _wrong(key, value, place)
    if isinstance(value, float) and not isfinite(value):
        raise _wrong(key, value, place)
    if isinstance(value, str) and not is_whole(value):
        raise _wrong(key, value, place)
    if key.kind == "size" and isinstance(value, int) and value < 0:
        raise _wrong(key, value, place)
    if key.kind == "device" and not _is_device(str(value)):
        raise _wrong(key, value, place)
    if key.kind == "time":
        value = str(value)
        if not _TIME.fullmatch(value):
            raise _wrong(key, value, place)
    owner = {"sampling": Sampling, "vision": VisionOptions}.get(key.part)
    try:
        if owner is not None:
            owner(**{key.name: value})
    except UsageError as problem:
        rule = problem.message.removeprefix(key.option).strip()
        raise UsageError(f"{place} {rule}", f"Change or remove {place}.") from problem
    return value


def _is_device(text: str) -> bool:
    kind, colon, number = text.partition(":")
    return kind in {"auto", "cpu", "cuda", "mps"} and (not colon or (kind == "cuda" and number.isdecimal()))


def _wrong(key: Key, value: object, place: str) -> UsageError:
    rule = f"one of {', '.join(key.choices)}" if key.choices else _RULES[key.kind]
    return UsageError(f"{place} must be {rule}, not {value!r}.", f"Change or remove {place}.")
