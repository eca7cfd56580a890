"""The work of ``vlmchat pull``."""

from __future__ import annotations

from vlmchat.chat import opening
from vlmchat.cli.fetching import fetch
from vlmchat.cli.meter import meter_for
from vlmchat.cli.output import Talk, size_text, write_json, write_line
from vlmchat.errors import ExitCode, VlmchatError
from vlmchat.settings import Settings


def pull(settings: Settings, talk: Talk, reference: str, as_json: bool) -> ExitCode:
    """Download ``reference``.

    Raises:
        VlmchatError: of every kind; with ``as_json`` it is the last line, too.
    """
    try:
        done = fetch(opening.wanted(reference), settings, talk, meter_for(talk, as_json), asks=False)
    except VlmchatError as problem:
        if as_json:
            write_json({"event": "error", "code": problem.code, "message": problem.message, "hint": problem.hint})
        raise
    if not as_json:
        came = f"{size_text(done.fetched)} fetched" if done.fetched else "nothing had to be fetched"
        talk.note(f"{reference} is here, every file verified; {came}.")
        write_line(str(done.folder))
    return ExitCode.OK
