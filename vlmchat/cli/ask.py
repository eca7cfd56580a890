"""``vlmchat ask``: one question, one answer on stdout. The declaration; the work is :mod:`vlmchat.cli.asking`."""

from __future__ import annotations

from typing import Any

import click

from vlmchat.cli.options import SCHEMA_HELP, VARIABLE_HELP, completes, examples, shared
from vlmchat.cli.output import Talk
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings

_IMAGE_HELP = "A picture; - is stdin, photo.png[x,y,w,h] a part of it. Repeatable."


@click.command(
    epilog=examples(
        'vlmchat ask -i photo.png "What is in this picture?"',
        'git diff | vlmchat ask --no-save "Sum up this change in one line."',
    )
)
@click.argument("prompt", required=False, shell_complete=completes("prompts"))
@click.option(
    "-i", "--image", "images", multiple=True, metavar="PATH|URL|-", shell_complete=completes("files"), help=_IMAGE_HELP
)
@click.option(
    "--video",
    metavar="PATH",
    shell_complete=completes("files"),
    help="A video file; the model's family chooses the frames.",
)
@click.option("-c", "--continue", "go_on", is_flag=True, help="Go on with the latest chat.")
@click.option("--chat", metavar="ID", shell_complete=completes("chats"), help="Go on with this chat.")
@click.option("--no-save", is_flag=True, help="Keep nothing of it.")
@click.option("--no-stream", is_flag=True, help="Write the answer when it is whole.")
@click.option("--raw", is_flag=True, help="On a terminal: the text as it comes, Markdown not drawn.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help=VARIABLE_HELP)
@click.option("--schema", metavar="JSON|FILE|FIELDS", shell_complete=completes("files"), help=SCHEMA_HELP)
@click.option("--dry-run", is_flag=True, help="Show the prompt as the model would see it; load and ask nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@shared()
def command(settings: Settings, talk: Talk, prompt: str | None, **given: Any) -> ExitCode:
    """Ask once; the answer goes to stdout, and the exchange into the saved chats.

    Text on stdin comes before PROMPT, a picture on stdin before the others. Pictures keep their order and
    stand before the video and the text. Without PROMPT a picture is described. PROMPT may be @NAME, a kept
    prompt (`vlmchat prompts`).
    """
    # Late: --help and completion need none of it.
    from vlmchat.cli.asking import Asked, ask

    return ask(settings, talk, Asked(prompt, **given))
