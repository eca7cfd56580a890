"""``vlmchat rm``: remove a model's files from the hubs' caches."""

from __future__ import annotations

from dataclasses import asdict

import click

from vlmchat.cli.options import completes, examples, shared
from vlmchat.cli.output import Talk, ask_line, can_ask, counted, size_text, write_json, write_line
from vlmchat.errors import ExitCode, NotInstalled, UsageError
from vlmchat.settings import Settings


@click.command(epilog=examples("vlmchat rm internvl2:1b", "vlmchat rm internvl2:1b --yes --json | jq .freed_bytes"))
@click.argument("reference", metavar="MODEL", shell_complete=completes("installed"))
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option("-y", "--yes", "agreed", is_flag=True, help="Do not ask.")
@shared(("hub", "quiet", "verbose"))
def command(settings: Settings, talk: Talk, reference: str, as_json: bool, agreed: bool) -> ExitCode:
    """Remove a model's files, all revisions and unfinished downloads, from the hubs' caches.

    Other tools that share these caches lose them, too. --hub keeps the other hub's copy.
    """
    # Late: --help and completion need none of it.
    from vlmchat.chat import opening
    from vlmchat.hub.removal import removals, remove

    found = removals(opening.wanted(reference, to_run=False), settings.hub)
    if not found:
        raise NotInstalled(f"{reference} is not on this machine.", "There is nothing to remove.")
    if not as_json:
        for removal in found:
            write_line(f"{size_text(removal.bytes)} in {counted(removal.files, 'file')}: {removal.folder}")
    if not agreed:
        _ask(reference, as_json)
    for removal in found:
        remove(removal)
    freed = sum(removal.bytes for removal in found)
    if as_json:
        removed = [{**asdict(removal), "folder": str(removal.folder)} for removal in found]
        write_json({"model": reference, "removed": removed, "freed_bytes": freed}, indent=2)
    else:
        talk.note(f"Removed; {size_text(freed)} are free again.")
    return ExitCode.OK


def _ask(reference: str, as_json: bool) -> None:
    """Go on only when a person agrees."""
    if as_json or not can_ask():
        raise UsageError("Nobody is there to agree to the removal.", "Say --yes.")
    if ask_line(f"Remove {reference} for good? [y/N] ").lower() not in {"y", "yes"}:
        raise click.Abort
