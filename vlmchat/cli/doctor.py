"""``vlmchat doctor``: what this machine has, where each setting came from, and what is wrong."""

from __future__ import annotations

import click

from vlmchat.cli.options import declare, examples, take
from vlmchat.cli.output import Talk, write_json, write_line
from vlmchat.errors import ExitCode


@click.command(epilog=examples("vlmchat doctor", "vlmchat doctor --json | jq -r '.problems[].message'"))
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@declare()
@click.pass_obj
def command(talk: Talk, /, as_json: bool, **values: object) -> ExitCode:
    """Say what this machine has, where each setting came from, and what is wrong.

    Nothing is loaded and no hub is asked. Exits with 0 whatever it finds, and with 2 when the settings
    cannot be read.
    """
    # Late: --help and completion need none of it.
    from vlmchat.cli.examination import examine

    take(talk, values)
    found = examine(talk)
    if as_json:
        write_json(found.as_object(), indent=2)
    else:
        for line in found.as_lines():
            write_line(line)
    return found.outcome
