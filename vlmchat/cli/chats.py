"""``vlmchat chats``: the saved chats, listed, searched, shown, exported, backed up and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from vlmchat.cli.options import completes, examples, shared
from vlmchat.cli.output import Talk, counted, json_line, size_text, write, write_json, write_line, write_table
from vlmchat.errors import ExitCode, InputError
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Chat, ChatSummary

_SHORT_ID = 8
_TALKING = ("quiet", "verbose")
_FORMATS = ("md", "html", "json")
"""What a chat can be exported as."""


@click.group(
    invoke_without_command=True,
    epilog=examples("vlmchat chats", "vlmchat chats search receipt"),
)
@click.pass_context
def command(context: click.Context, /) -> ExitCode:
    """List, search, show, export, back up and remove saved chats."""
    if context.invoked_subcommand is None:
        _list(ChatStore().chats(), as_json=False)
    return ExitCode.OK


@command.command("list", epilog=examples("vlmchat chats list -n 100", "vlmchat chats list --json | jq -r .[].id"))
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many at most.")
@click.option("--archived", is_flag=True, help="The archived ones in place of the others.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
@shared(_TALKING)
def list_chats(settings: Settings, talk: Talk, limit: int, archived: bool, as_json: bool) -> ExitCode:
    """List the chats, the one changed last first."""
    del settings, talk
    _list(ChatStore().chats(limit=limit, archived=archived), as_json)
    return ExitCode.OK


@command.command(epilog=examples("vlmchat chats search receipt total", "vlmchat chats search 红色 --json"))
@click.argument("words", nargs=-1, required=True)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many at most.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
@shared(_TALKING)
def search(settings: Settings, talk: Talk, words: tuple[str, ...], limit: int, as_json: bool) -> ExitCode:
    """Find the chats that hold all WORDS in their title or messages."""
    del settings
    found = ChatStore().chats(" ".join(words), limit=limit)
    _list(found, as_json)
    if not found:
        talk.note("No chat holds all these words.")
    return ExitCode.OK


@command.command(epilog=examples("vlmchat chats show 3f2a", "vlmchat chats show 3f2a --json | jq .turns[-1]"))
@click.argument("chat", metavar="ID", shell_complete=completes("chats"))
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
@shared(_TALKING)
def show(settings: Settings, talk: Talk, chat: str, as_json: bool) -> ExitCode:
    """Show one chat; the beginning of its id is enough."""
    del settings, talk
    # Late, as below: --help and completion need none of it.
    from vlmchat.store.export import as_markdown, as_object

    found = ChatStore().chat(chat)
    if as_json:
        write_json(as_object(found), indent=2)
    else:
        write(as_markdown(found))
    return ExitCode.OK


@command.command(epilog=examples("vlmchat chats export 3f2a > chat.md", "vlmchat chats export 3f2a -o chat.html"))
@click.argument("chat", metavar="ID", shell_complete=completes("chats"))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it here.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="Default: by FILE's ending, else md.")
@shared(_TALKING)
def export(settings: Settings, talk: Talk, chat: str, output: Path | None, form: str | None) -> ExitCode:
    """Write one chat as Markdown, as one HTML file with its pictures in it, or as JSON.

    Markdown and JSON name the pictures by their files in the store.
    """
    del settings, talk
    found = ChatStore().chat(chat)
    ending = output.suffix.removeprefix(".") if output is not None else ""
    text = _exported(found, form or (ending if ending in _FORMATS else "md"))
    if output is None:
        write(text)
        return ExitCode.OK
    try:
        output.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as problem:
        raise InputError(f"{output} cannot be written: {problem.strerror}.", "Name another file.") from problem
    return ExitCode.OK


@command.command(epilog=examples("vlmchat chats path", 'sqlite3 "$(vlmchat chats path)" "SELECT title FROM chats"'))
@shared(_TALKING)
def path(settings: Settings, talk: Talk) -> ExitCode:
    """Say where the chats are: one SQLite file, their pictures in the folder blobs beside it."""
    del settings, talk
    write_line(str(ChatStore().database))
    return ExitCode.OK


@command.command(
    epilog=examples(
        "vlmchat chats backup ~/chats-today",
        "vlmchat chats backup /mnt/usb/chats && VLMCHAT_HOME=/mnt/usb/chats vlmchat",
    )
)
@click.argument("folder", type=click.Path(path_type=Path))
@shared(_TALKING)
def backup(settings: Settings, talk: Talk, folder: Path) -> ExitCode:
    """Copy all chats and their pictures into the new FOLDER, while the app may be open.

    The copy is a home of its own: VLMCHAT_HOME=FOLDER opens it.
    """
    del settings
    from vlmchat.store.backup import back_up

    store = ChatStore()
    talk.status("Copying the chats")
    copied = back_up(
        store.database,
        store.pictures,
        folder.expanduser(),
        lambda done, total: talk.status(f"Copying pictures: {done:,} of {total:,}"),
    )
    talk.clear()
    talk.note(
        f"{counted(copied.chats, 'chat')}, {counted(copied.pictures, 'picture')}, {size_text(copied.bytes)} in {folder}"
    )
    if copied.missing:
        talk.warn(f"Not on disk: {counted(copied.missing, 'picture')} that chats name; the rest was copied.")
    return ExitCode.OK


@command.command(epilog=examples("vlmchat chats rm 3f2a", "vlmchat chats rm 3f2a 77b0"))
@click.argument("chats", metavar="ID…", nargs=-1, required=True, shell_complete=completes("chats"))
@shared(_TALKING)
def rm(settings: Settings, talk: Talk, chats: tuple[str, ...]) -> ExitCode:
    """Remove chats for good, with the pictures that no other chat shows."""
    del settings
    store = ChatStore()
    for found in [store.chat(chat).summary for chat in chats]:
        store.erase(found.id)
        talk.note(f"Removed {found.id} {found.title}")
    return ExitCode.OK


def _exported(chat: Chat, form: str) -> str:
    from vlmchat.store.export import as_markdown, as_object
    from vlmchat.store.export_files import as_html

    match form:
        case "html":
            return as_html(chat)
        case "json":
            return json_line(as_object(chat), indent=2)
        case _:
            return as_markdown(chat)


def _list(chats: Sequence[ChatSummary], as_json: bool) -> None:
    if as_json:
        write_json([_row_object(chat) for chat in chats], indent=2)
        return
    if not chats:
        return
    rows = [(chat.id[:_SHORT_ID], _local_time(chat.updated), chat.model, str(chat.turns), chat.title) for chat in chats]
    write_table(("ID", "CHANGED", "MODEL", "TURNS", "TITLE"), rows, frozenset({3}))
    for chat in chats:
        if chat.snippet:
            write_line(f"{chat.id[:_SHORT_ID]}  {_plain(chat.snippet)}")


def _row_object(chat: ChatSummary) -> dict[str, object]:
    from vlmchat.store.export import moment

    times = {"created": moment(chat.created), "updated": moment(chat.updated)}
    return {**asdict(chat), **times, "snippet": _plain(chat.snippet)}


def _plain(snippet: str) -> str:
    """Take the marks of the matches away."""
    return snippet.replace("\x02", "").replace("\x03", "")


def _local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
