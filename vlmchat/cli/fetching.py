"""A model that is not here: the plan shown, the licence accepted, the download run, in whatever command needs it."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event as CancelEvent

from vlmchat.catalog.index import catalog
from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.meter import Meter, meter_for
from vlmchat.cli.output import Talk, ask_line, can_ask, size_text
from vlmchat.errors import LicenceNotAccepted, NotInstalled
from vlmchat.hub import licences
from vlmchat.hub.events import Done, DownloadEvent, Paused, Planned
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
    cancel = CancelEvent()
    end: DownloadEvent | None = None
    with interruptible(cancel):
        talk.status(f"Asking for {wanted.name} …")
        events = opening.fetch(wanted, settings.hub, settings.offline, cancel)
        planned = next(events)
        talk.clear()
    if isinstance(planned, Planned):
        _agree(planned.plan, settings, talk, asks)
    with interruptible(cancel), meter:
        meter.show(planned)
        for end in events:
            meter.show(end)
    if isinstance(end, Done):
        return end
    if isinstance(end, Paused):
        kept = f"{size_text(end.done)} of {size_text(end.total)} are kept"
        talk.warn(f"Stopped; {kept}. Go on with: vlmchat pull {wanted.reference}")
    raise KeyboardInterrupt


def plan_lines(plan: DownloadPlan) -> Iterator[str]:
    """Yield the plan as a person reads it."""
    have = plan.total_bytes - plan.fetch_bytes
    kept = f" ({size_text(have)} are here already)" if have else ""
    licence = plan.licence
    accepted = ", accepted before" if licence.accepted and licence.name else ""
    yield f"{plan.wanted.name}: {plan.listing.repository}@{plan.listing.commit[:12]} from {TITLES[plan.hub]}"
    yield f"  {len(plan.files)} files, {size_text(plan.total_bytes)}{kept} into {plan.folder}"
    yield f"  {size_text(plan.free_bytes)} are free there"
    if verdict := _fit(plan):
        yield f"  {verdict}"
    yield f"  licence: {licence.name or 'none named'}{accepted}, {licence.url}"


def _fit(plan: DownloadPlan) -> str:
    """Say whether it will run here; empty where the catalog does not know enough."""
    from vlmchat.chat.capacity import fit_of, machine_now
    from vlmchat.chat.shelf import offer

    spec = catalog().find(plan.wanted.name)
    fit = None if spec is None else fit_of(offer(spec), machine_now(plan.hub))
    return fit.text if fit is not None else ""


def _agree(plan: DownloadPlan, settings: Settings, talk: Talk, asks: bool) -> None:
    """Show the plan, and go on only with a yes to its licence, and to the download where ``asks``."""
    licence = plan.licence
    if plan.complete and licence.accepted:
        return
    for line in plan_lines(plan):
        talk.warn(line)
    if not settings.yes and (asks or not licence.accepted):
        _ask(plan)
    if licence.name and not licence.accepted:
        licences.accept(plan.wanted.name, licence.name, licence.url)


def _ask(plan: DownloadPlan) -> None:
    licence = plan.licence
    if not can_ask():
        raise LicenceNotAccepted(
            f"{plan.wanted.name} comes under {licence.name} ({licence.url}), which was not accepted yet.",
            "Read it, then accept it with --yes.",
        )
    what = "Download it" if licence.accepted else f"Accept its licence, {licence.name}, and download it"
    if ask_line(f"{what} ({size_text(plan.fetch_bytes)})? [y/N] ").lower() not in {"y", "yes"}:
        raise LicenceNotAccepted(
            f"{plan.wanted.name} was not downloaded: nobody said yes.", "Run it again to be asked."
        )
