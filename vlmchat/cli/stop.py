"""``vlmchat stop``: end the engine that ``--keep`` has left behind."""

from __future__ import annotations

import click

from vlmchat.cli.options import examples, shared
from vlmchat.cli.output import Talk
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings


@click.command(epilog=examples("vlmchat stop", "vlmchat stop --quiet"))
@shared(("quiet", "verbose"))
def command(settings: Settings, talk: Talk) -> ExitCode:
    """End the engine that --keep has left behind; programs that use it go on to their end."""
    del settings
    # Late: --help and completion need none of it.
    from vlmchat.engine.remote import running

    found = running(leave=True)
    if found is None:
        talk.note("No engine was left behind.")
    elif found.clients:
        talk.warn(f"The engine (process {found.pid}) ends as soon as the {found.clients} that use it are done.")
    else:
        talk.note(f"The engine (process {found.pid}) ends.")
    return ExitCode.OK
