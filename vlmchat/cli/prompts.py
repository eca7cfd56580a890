"""``vlmchat prompts``: the prompts that are kept."""

from __future__ import annotations

import click

from vlmchat.chat.prompts import KeptPrompt, kept_names, kept_prompt
from vlmchat.cli.options import examples, shared
from vlmchat.cli.output import Talk, write_json, write_table
from vlmchat.errors import ExitCode
from vlmchat.paths import places
from vlmchat.settings import Settings

_SHOWN = 60


@click.command(epilog=examples("vlmchat prompts", "vlmchat prompts --json | jq -r .[].name"))
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
@shared(("quiet", "verbose"))
def command(settings: Settings, talk: Talk, as_json: bool) -> ExitCode:
    """List the kept prompts, which `vlmchat ask @NAME` asks.

    Each is a file NAME.toml in the folder prompts of the config folder: `prompt = "…"`, and where it helps
    `system`, `schema` and a table [defaults]. $name in a prompt is a variable; --var name=value fills it.
    """
    del settings
    found = [kept_prompt(name) for name in kept_names()]
    if as_json:
        write_json([_object(prompt) for prompt in found], indent=2)
        return ExitCode.OK
    if found:
        write_table(("PROMPT", "VARIABLES", "TEXT"), map(_row, found))
    else:
        talk.note(f"None is kept yet. They live in {places().prompts}.")
    return ExitCode.OK


def _object(kept: KeptPrompt) -> dict[str, object]:
    return {
        "name": kept.name,
        "prompt": kept.prompt,
        "system": kept.system,
        "schema": kept.schema,
        "variables": list(kept.variables),
        "defaults": dict(kept.defaults),
    }


def _row(kept: KeptPrompt) -> tuple[str, ...]:
    variables = " ".join(f"{name}={kept.defaults[name]}" if name in kept.defaults else name for name in kept.variables)
    text = " ".join(kept.prompt.split())
    return f"@{kept.name}", variables, text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
