"""``vlmchat pipe``: one request per line on stdin, one result per line out, in the same order.

The declaration; the work is :mod:`vlmchat.cli.piping`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vlmchat.cli.options import SCHEMA_HELP, VARIABLE_HELP, completes, examples, shared
from vlmchat.cli.output import Talk
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings


@click.command(
    epilog=examples(
        "ls photos/*.jpg | vlmchat pipe --prompt 'Name the main colour.' --format text",
        "vlmchat pipe --max-new-tokens 64 --output answers.jsonl --resume < requests.jsonl",
    )
)
@click.option(
    "--prompt",
    metavar="TEXT",
    shell_complete=completes("prompts"),
    help="Ask this of pictures without a prompt; @NAME is a kept one.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "text"]),
    default="jsonl",
    help="jsonl: an object per line (default); text: only the answers.",
)
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help=VARIABLE_HELP)
@click.option("--schema", metavar="JSON|FILE|FIELDS", shell_complete=completes("files"), help=SCHEMA_HELP)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the results here."
)
@click.option(
    "--batch-size", type=click.IntRange(1, 1024), default=1, metavar="N", help="Answer so many lines at a time."
)
@click.option("--resume", is_flag=True, help="Leave out what FILE answers already.")
@click.option("--retry-failed", is_flag=True, help="With --resume: ask again what FILE has an error for.")
@shared()
def command(settings: Settings, talk: Talk, **given: Any) -> ExitCode:
    r"""Answer one request per line of stdin, in order, each written as soon as it is done.

    A line is the path of a picture, or a JSON object: {"prompt": …, "images": […]} or
    {"messages": […]}, with "id" and generation options if you like. A bad line gives an error
    object, and the next line goes on. Nothing is saved among the chats.

    With --output the results also carry the "key" of their input, its id or a hash of the line, by which
    --resume knows them: after any end, each input is in FILE once. Failed lines count as answered unless
    --retry-failed takes them out first; an answer that Ctrl-C cut short does not.
    """
    # Late: --help and completion need none of it.
    from vlmchat.cli.piping import PipeOptions, pipe

    return pipe(settings, talk, PipeOptions(**given))
