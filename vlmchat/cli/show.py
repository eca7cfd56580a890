"""``vlmchat show``: all about one model. The declaration; the work is :mod:`vlmchat.cli.showing`."""

from __future__ import annotations

import click

from vlmchat.cli.options import LOOKING, completes, examples, shared
from vlmchat.cli.output import Talk
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings


@click.command(epilog=examples("vlmchat show internvl2:8b", "vlmchat show cogvlm2:19b-int4 --json | jq .licence_url"))
@click.argument("reference", metavar="MODEL", shell_complete=completes("models"))
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
@shared(LOOKING)
def command(settings: Settings, talk: Talk, reference: str, as_json: bool) -> ExitCode:
    """Tell all about one model, and whether it fits this machine.

    MODEL is a name of the catalog, a hub id, or a folder with a checkpoint.
    """
    del talk
    # Late: --help and completion need none of it.
    from vlmchat.cli.showing import show

    return show(settings, reference, as_json)
