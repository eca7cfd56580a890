"""``vlmchat completion``: what a shell has to run to complete models, chats, prompts and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

import vlmchat.cli.shells  # noqa: F401 - bash in our own way
from vlmchat.cli.main import COMPLETION
from vlmchat.cli.options import examples
from vlmchat.cli.output import write
from vlmchat.errors import ExitCode


@click.command(
    epilog=examples(
        'eval "$(vlmchat completion bash)"  # in ~/.bashrc; zsh the same in ~/.zshrc',
        "vlmchat completion fish > ~/.config/fish/completions/vlmchat.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, /, shell: str) -> ExitCode:
    """Write the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three"
    script = kind(context.find_root().command, {}, "vlmchat", COMPLETION)
    write(script.source_template % script.source_vars() + "\n")
    return ExitCode.OK
