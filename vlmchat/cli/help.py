"""``vlmchat help``: what is no option of one command."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vlmchat.cli.options import completes, examples
from vlmchat.cli.output import write_line
from vlmchat.errors import ExitCode

EXIT_CODES: Mapping[ExitCode, str] = {
    ExitCode.OK: "Done.",
    ExitCode.UNFORESEEN: "An error nobody foresaw, or a chat database that cannot be used; run it again with -v.",
    ExitCode.USAGE: "Wrong usage: an option, a setting or a combination of them.",
    ExitCode.MODEL: "The model is unknown, not installed (offline, or the download was not accepted), or gated.",
    ExitCode.INPUT: "Bad input: a picture, video, URL or request that cannot be read, or that is too long.",
    ExitCode.DOES_NOT_FIT: "It does not fit: memory or disk.",
    ExitCode.DOWNLOAD: "The network or a server failed.",
    ExitCode.CHECKPOINT: "The checkpoint was refused: incomplete, altered, unsafe, or not what its config says.",
    ExitCode.SOME_LINES_FAILED: "pipe finished, and some lines failed; each says why.",
    ExitCode.SCHEMA: "The answer has not the shape of --schema.",
    ExitCode.INTERRUPTED: "Interrupted with Ctrl-C; what was produced is kept.",
    ExitCode.CLOSED_PIPE: "Nobody reads stdout any more; said quietly.",
}


@click.command(epilog=examples("vlmchat help exit-codes", "vlmchat help ask"))
@click.argument("topic", required=False, shell_complete=completes("topics"))
@click.pass_context
def command(context: click.Context, /, topic: str | None) -> ExitCode:
    """Explain the exit codes, or a command.

    TOPIC is exit-codes or the name of a command; without one, all commands are listed.
    """
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    if topic == "exit-codes":
        for code, meaning in EXIT_CODES.items():
            write_line(f"{code:>3}  {meaning}")
        return ExitCode.OK
    found = root.command.get_command(root, topic) if topic else root.command
    if found is None:
        raise click.UsageError(f"There is no help on {topic!r}: name a command, or exit-codes.", context)
    shown = click.Context(found, info_name=topic, parent=root) if topic else root
    write_line(found.get_help(shown))
    return ExitCode.OK
