"""The command line's one door: finds the command, runs it, and turns errors into exit codes.

Only the module of the command that was named is imported; ``--help`` reads a table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

import vlmchat
from vlmchat.cli.app import open_app
from vlmchat.cli.options import declare, examples, read_settings, take
from vlmchat.cli.output import Talk, prepare_streams
from vlmchat.errors import ExitCode, VlmchatError

COMMANDS: Mapping[str, str] = {
    "ask": "Ask once; the answer goes to stdout.",
    "pipe": "One request per line in, one result per line out.",
    "models": "List the models there are, and which are here.",
    "show": "Tell all about one model.",
    "pull": "Download a model into its hub's own cache.",
    "rm": "Remove a model's files.",
    "chats": "List, search, show, export, back up and remove saved chats.",
    "stop": "End the engine that --keep has left behind.",
    "prompts": "List the prompts that are kept.",
    "verify": "Check a checkpoint's files, tensors and numbers.",
    "completion": "Write the completion script of bash, zsh or fish.",
    "help": "Explain the exit codes, or a command.",
    "doctor": "Say what this machine has, and what is wrong.",
}
"""Command -> one line of help. Each is ``command`` in the module of the same name in this room."""


COMPLETION = "_VLMCHAT_COMPLETE"
"""The variable by which a shell asks for completions, in click's manner."""


class _Commands(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"vlmchat.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples("vlmchat", 'vlmchat ask -i photo.png "What is in this picture?"'),
)
@click.version_option(vlmchat.__version__, "-V", "--version", message="vlmchat %(version)s")
@declare()
@click.pass_context
def commands(context: click.Context, /, **values: Any) -> ExitCode:
    """Chat with open vision-language models, on your own machine. Without a command: the app."""
    talk: Talk = context.obj
    take(talk, values)
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    return open_app(read_settings(talk))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    Args:
        arguments: what was typed after ``vlmchat``; None takes the process's own.
    """
    talk = Talk()
    prepare_streams()
    try:
        if asked := os.environ.get(COMPLETION):
            return _complete(asked, talk)
        return _run(sys.argv[1:] if arguments is None else list(arguments), talk)
    except VlmchatError as problem:
        talk.error(problem.message, problem.hint)
        return problem.exit_code
    except click.ClickException as problem:
        talk.error(problem.format_message(), _usage_hint(problem))
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        talk.clear()
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as problem:  # noqa: BLE001 - the last border: nothing above it could tell the user
        talk.error(
            f"vlmchat met an error it does not know: {type(problem).__name__}: {problem}.",
            "Run it again with -v and report what it prints, with the output of `vlmchat doctor`.",
        )
        return ExitCode.UNFORESEEN


def _run(arguments: list[str], talk: Talk) -> int:
    """Parse and invoke as ``click.Command.main`` does, but let every exception through to :func:`main`."""
    try:
        with commands.make_context("vlmchat", arguments, obj=talk) as context:
            result: Any = commands.invoke(context)
            if sys.stdout is not None:
                sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    return int(result or ExitCode.OK)


def _complete(asked: str, talk: Talk) -> int:
    """Tell a shell what may follow what was typed; it says so by an environment variable."""
    from click.shell_completion import shell_complete

    import vlmchat.cli.shells  # noqa: F401 - bash in our own way

    return shell_complete(commands, {"obj": talk}, "vlmchat", COMPLETION, asked)


def _usage_hint(problem: click.ClickException) -> str:
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    return f"`{context.command_path if context else 'vlmchat'} --help` shows how it is used."


def _leave_quietly() -> ExitCode:
    """Point stdout to nowhere, so that the interpreter's own last flush does not complain."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.CLOSED_PIPE
