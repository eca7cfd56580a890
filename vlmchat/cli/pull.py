"""``vlmchat pull``: download a model into its hub's own cache, or go on with a download."""

from __future__ import annotations

import click

from vlmchat.cli.options import completes, examples, shared
from vlmchat.cli.output import Talk
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings


@click.command(epilog=examples("vlmchat pull internvl2:1b", "vlmchat pull internvl2:1b --json --yes > progress.jsonl"))
@click.argument("reference", metavar="MODEL", shell_complete=completes("models"))
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per event.")
@shared(("hub", "offline", "yes", "quiet", "verbose"))
def command(settings: Settings, talk: Talk, reference: str, as_json: bool) -> ExitCode:
    """Download a model into its hub's own cache, where other tools find it too.

    MODEL is a name of the catalog or a hub id (OWNER/NAME[@revision]). What is here already is checked and
    not fetched again; a download that was stopped goes on. Writes the folder to stdout.
    """
    # Late: --help and completion need none of it.
    from vlmchat.cli.pulling import pull

    return pull(settings, talk, reference, as_json)
