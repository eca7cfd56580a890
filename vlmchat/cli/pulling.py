"""The work of ``vlmchat pull``."""

from __future__ import annotations

from vlmchat.chat import opening
from vlmchat.cli.fetching import fetch
from vlmchat.cli.meter import Meter, meter_for
from vlmchat.cli.output import Talk, size_text, write_json, write_line
from vlmchat.errors import ExitCode, HubUnreachable, NotInstalled, VlmchatError
from vlmchat.hub.events import Done
from vlmchat.hub.local import look
from vlmchat.settings import Settings


def pull(settings: Settings, talk: Talk, reference: str, as_json: bool) -> ExitCode:
    """Download ``reference``.

    Raises:
        VlmchatError: of every kind; with ``as_json`` it is the last line, too.
    """
    meter = meter_for(talk, as_json)
    try:
        done = _fetched(settings, talk, reference, meter)
    except VlmchatError as problem:
        if as_json:
            write_json({"event": "error", "code": problem.code, "message": problem.message, "hint": problem.hint})
        raise
    if not as_json:
        came = f"{size_text(done.fetched)} fetched" if done.fetched else "nothing had to be fetched"
        talk.note(f"{reference} is here; {came}.")
        write_line(str(done.folder))
    return ExitCode.OK


def _fetched(settings: Settings, talk: Talk, reference: str, meter: Meter) -> Done:
    """Download; a model that is here whole is good enough where no hub can be asked."""
    wanted = opening.wanted(reference)
    try:
        return fetch(wanted, settings, talk, meter, asks=False)
    except (NotInstalled, HubUnreachable) as problem:
        local = look(wanted.huggingface, wanted.modelscope, settings.hub, wanted.revision)
        if local.state != "installed" or local.folder is None:
            raise
        talk.note(f"{problem.message} What is here is whole.")
        done = Done(
            local.folder, local.revision, "modelscope" if local.hub == "modelscope" else "huggingface", local.bytes, 0
        )
        meter.show(done)
        return done
