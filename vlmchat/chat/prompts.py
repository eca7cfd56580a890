"""Prompts that are kept: one TOML file each in the folder ``prompts`` of the config folder.

::

    prompt = "Read the receipt. Amounts are in $currency."
    system = "Be exact."                      # these two may be left out
    schema = "total float, date, vendor"

    [defaults]
    currency = "EUR"

``$name`` in the prompt is a variable, ``$$`` a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from string import Template

from vlmchat.errors import InputError, UsageError
from vlmchat.paths import places

_NAME = re.compile(r"@[\w.-]+")
_KEYS = frozenset({"prompt", "system", "schema", "defaults"})


@dataclass(frozen=True, slots=True)
class KeptPrompt:
    """One prompt as its file has it."""

    name: str
    prompt: str
    system: str | None = None
    schema: str | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Variable -> its value where none is given."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the prompt, in their order."""
        return tuple(dict.fromkeys(Template(self.prompt).get_identifiers()))

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the prompt with ``values`` in place of its variables.

        Raises:
            UsageError: a variable has no value, or a value has no variable.
        """
        if unknown := [name for name in values if name not in self.variables]:
            raise UsageError(f"@{self.name} has no variable {unknown[0]}.", self._hint())
        chosen = {**self.defaults, **values}
        if missing := [name for name in self.variables if name not in chosen]:
            raise UsageError(f"@{self.name} needs a value for {missing[0]}.", f"Give --var {missing[0]}=….")
        return Template(self.prompt).substitute(chosen)

    def _hint(self) -> str:
        return f"Its variables are: {', '.join(self.variables)}." if self.variables else "It has no variables."


def is_kept(prompt: str) -> bool:
    """Say whether what was typed is the name of a kept prompt: ``@receipt``."""
    return _NAME.fullmatch(prompt) is not None


def kept_names() -> list[str]:
    """Return the names of all kept prompts, without reading them."""
    return sorted(path.stem for path in places().prompts.glob("*.toml"))


def kept_prompt(name: str) -> KeptPrompt:
    """Read the prompt ``name``, with or without its ``@``.

    Raises:
        InputError: there is none of that name.
        UsageError: its file is not what it should be.
    """
    name = name.removeprefix("@")
    path = places().prompts / f"{name}.toml"
    # Late: --help reads none.
    import tomllib

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        nearest = get_close_matches(name, kept_names(), n=1)
        hint = f"Did you mean @{nearest[0]}?" if nearest else f"Write it into {path}; `vlmchat prompts` lists all."
        raise InputError(f"There is no kept prompt @{name}.", hint) from problem
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path} cannot be used: {problem}.", "Mend the file.") from problem
    texts = [found.get(key) for key in ("prompt", "system", "schema") if key in found]
    defaults = found.get("defaults", {})
    right = found.keys() <= _KEYS and "prompt" in found and isinstance(defaults, dict)
    if not right or not all(isinstance(text, str) for text in (*texts, *defaults.values())):
        raise UsageError(
            f"{path} is no kept prompt.", f"It needs a text `prompt`; it may have {', '.join(sorted(_KEYS))}."
        )
    if not Template(found["prompt"]).is_valid():
        raise UsageError(f"{path} has a $ that begins no variable.", "Write $$ for a dollar sign.")
    return KeptPrompt(name, found["prompt"], found.get("system"), found.get("schema"), defaults)
