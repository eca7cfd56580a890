"""A model that is not here: the plan shown, the licence accepted, the download run, in whatever command needs it."""

from __future__ import annotations

from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.meter import Meter, meter_for
from vlmchat.cli.output import Talk, ask_line, can_ask, size_text
from vlmchat.errors import LicenceNotAccepted, NotInstalled
from vlmchat.hub.events import Done, DownloadEvent, Paused
from vlmchat.hub.plan import DownloadPlan, Wanted
from vlmchat.hub.source import TITLES
from vlmchat.settings import Settings


def obtain(settings: Settings, talk: Talk, reference: str) -> Target:
    """Find a model, after downloading it where it is missing and that is wanted.

    With ``--yes`` it is fetched; at a terminal it is offered; with ``--offline``, or where nobody can be
    asked, it is an error that says how to get it.

    Raises:
        NotInstalled: it is not here, and may not or need not be fetched.
        KeyboardInterrupt: Ctrl-C while it came; what came is kept.
        VlmchatError: as :func:`vlmchat.chat.opening.find` and :mod:`vlmchat.hub.download`.
    """
    try:
        return opening.find(reference, settings.hub)
    except NotInstalled:
        if settings.offline or not (settings.yes or can_ask()):
            raise
    fetch(opening.wanted(reference), settings, talk, meter_for(talk, as_json=False), asks=True)
    return opening.find(reference, settings.hub)


def fetch(wanted: Wanted, settings: Settings, talk: Talk, meter: Meter, asks: bool) -> Done:
    """Plan, show, have the licence accepted, download, and return the last event.

    Args:
        wanted: what to download.
        settings: ``hub``, ``offline`` and ``yes`` count.
        talk: where the plan is shown.
        meter: where the events go.
        asks: whether a person has to agree to the download itself, its licence apart.

    Raises:
        LicenceNotAccepted: declined, or nobody there to ask.
        KeyboardInterrupt: Ctrl-C; what came is kept, and how to go on was said.
        VlmchatError: as :mod:`vlmchat.hub.download`.
    """
    # Late: the clients and their connections cost 0.3 CPU-seconds that no other command needs.
    from vlmchat.hub.download import download, make_plan

    with interruptible() as cancel:
        talk.status(f"Asking for {wanted.name} …")
        plan = make_plan(wanted, settings.hub, settings.offline, cancel)
        talk.clear()
    if not plan.complete:
        for line in plan_lines(plan):
            talk.warn(line)
    _agree(plan, settings, asks and not plan.complete)
    end: DownloadEvent | None = None
    with interruptible() as cancel, meter:
        for end in download(plan, cancel):
            meter.show(end)
    if isinstance(end, Done):
        return end
    if isinstance(end, Paused):
        kept = f"{size_text(end.done)} of {size_text(end.total)} are kept"
        talk.warn(f"Stopped; {kept}. Go on with: vlmchat pull {wanted.reference}")
    raise KeyboardInterrupt


def plan_lines(plan: DownloadPlan) -> list[str]:
    """Return the plan as a person reads it."""
    have = plan.total_bytes - plan.fetch_bytes
    kept = f" ({size_text(have)} are here already)" if have else ""
    licence = plan.licence
    accepted = ", accepted before" if licence.accepted and licence.name else ""
    return [
        f"{plan.wanted.name}: {plan.listing.repository}@{plan.listing.commit[:12]} from {TITLES[plan.hub]}",
        f"  {len(plan.files)} files, {size_text(plan.total_bytes)}{kept} into {plan.folder}",
        f"  {size_text(plan.free_bytes)} are free there",
        f"  licence: {licence.name or 'none named'}{accepted}, {licence.url}",
    ]


def _agree(plan: DownloadPlan, settings: Settings, asks: bool) -> None:
    from vlmchat.hub import licences

    licence = plan.licence
    if settings.yes or (licence.accepted and not asks):
        agreed = True
    elif can_ask():
        what = "Download it" if licence.accepted else "Accept this licence and download it"
        agreed = ask_line(f"{what} ({size_text(plan.fetch_bytes)})? [y/N] ").lower() in {"y", "yes"}
    else:
        raise LicenceNotAccepted(
            f"{plan.wanted.name} comes under {licence.name} ({licence.url}), which was not accepted yet.",
            "Read it, then accept it with --yes.",
        )
    if not agreed:
        raise LicenceNotAccepted(
            f"{plan.wanted.name} was not downloaded: nobody said yes.", "Run it again to be asked."
        )
    if licence.name and not licence.accepted:
        licences.accept(plan.wanted.name, licence.name, licence.url)
