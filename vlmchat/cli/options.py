"""The options every command shares, declared once from the keys of :mod:`vlmchat.settings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from vlmchat.cli.output import Talk
from vlmchat.settings import KEYS, Key, Settings, load_settings

ALL = tuple(key.name for key in KEYS if key.command_line)
"""For the commands that answer: ``ask``, ``pipe`` and the app."""
SCHEMA_HELP = "Hold the answer to a JSON Schema, or to fields: 'total float, date, vendor'."
VARIABLE_HELP = "Value of a variable of a kept prompt (@NAME). Repeatable."
LOOKING = ("hub", "quiet", "verbose")
"""For the commands that only look something up."""


def shared(names: Iterable[str] = ALL) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of the keys ``names`` and ``--config``, and the settings they make.

    The function is called with the :class:`~vlmchat.settings.Settings` in force, the
    :class:`~vlmchat.cli.output.Talk`, and its own parameters by name.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.pass_obj
        @wraps(function)
        def command(talk: Talk, /, **values: Any) -> Any:
            take(talk, values)
            return function(read_settings(talk), talk, **values)

        return declare(names)(command)

    return decorate


def declare(names: Iterable[str] = ALL) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of the keys ``names`` and ``--config``; it has to :func:`take` them."""
    chosen = frozenset(names)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        decorated: Callable[..., Any] = _config(function)
        for key in reversed(KEYS):
            if key.name in chosen:
                decorated = _option(key)(decorated)
        return decorated

    return decorate


def take(talk: Talk, values: dict[str, Any]) -> None:
    """Move what was typed of the shared options from ``values`` to ``talk``, over what stands there.

    So options may stand before the command's name as well as behind it.
    """
    talk.config = values.pop("config") or talk.config
    for name in ALL:
        value = values.pop(name, None)
        if value is not None:
            talk.given[name] = value
    talk.verbose = talk.verbose or talk.given.get("verbose") is True


def read_settings(talk: Talk) -> Settings:
    """Return the settings in force, and let ``talk`` be as loud as they say.

    Raises:
        UsageError: as :func:`vlmchat.settings.load_settings`.
    """
    settings = load_settings(talk.given, talk.config)
    talk.quiet, talk.verbose = settings.quiet, settings.verbose
    return settings


def examples(*lines: str) -> str:
    """Return the end of a command's help: real calls, each on a line of its own."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _option(key: Key) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Values stay texts here: ``settings`` checks them with those of the file and the environment."""
    names = (key.short, key.option) if key.short else (key.option,)
    if key.kind == "flag":
        return click.option(*names, key.name, is_flag=True, default=None, help=key.help)
    metavar = "|".join(key.choices) or key.metavar
    return click.option(*names, key.name, metavar=metavar, help=key.help, shell_complete=_completer(key))


def _completer(key: Key) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Return what a shell completes behind the option of ``key``."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[Any]:
        # Late: only a shell asks.
        from vlmchat.cli import completing

        if key.name == "model":
            return completing.models(context, parameter, begun)
        return completing.values_of(key, begun)

    return complete


def completes(what: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Return what completes ``what``: a function of :mod:`vlmchat.cli.completing`."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[Any]:
        from vlmchat.cli import completing

        found: list[Any] = getattr(completing, what)(context, parameter, begun)
        return found

    return complete


_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings file in place of the user's config.toml.",
)
