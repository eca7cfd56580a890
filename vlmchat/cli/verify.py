"""``vlmchat verify``: whether a checkpoint is what it should be. The declaration; the work is ``verification``."""

from __future__ import annotations

import click

from vlmchat.cli.options import completes, examples, shared
from vlmchat.cli.output import Talk
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings


@click.command(
    epilog=examples("vlmchat verify internvl2:1b", "vlmchat verify ./reference/checkpoint --reference ./reference")
)
@click.argument("reference_name", metavar="[MODEL]", required=False, shell_complete=completes("models"))
@click.option(
    "--reference",
    metavar="DIR",
    shell_complete=completes("folders"),
    help="Compare with numbers that the original code computed.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@shared(("device", "dtype", "hub", "quiet", "verbose"))
def command(
    settings: Settings, talk: Talk, reference_name: str | None, reference: str | None, as_json: bool
) -> ExitCode:
    """Check a checkpoint: its files, its tensors and, with a reference folder, its numbers.

    MODEL is a name of the catalog, a hub id, or a folder. Nothing in the folder is executed. The
    comparison runs in float32 unless --dtype says otherwise. Exits with 7 when something is wrong.
    """
    # Late: --help and completion need none of it.
    from vlmchat.cli.verification import verify_model

    return verify_model(settings, talk, reference_name, reference, as_json)
