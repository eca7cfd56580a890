"""``vlmchat ask``: one question, one answer on stdout."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import click

from vlmchat.chat import opening
from vlmchat.chat.session import Session
from vlmchat.cli.answering import Opened, answer_object, opened
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.options import examples, shared
from vlmchat.cli.output import AnswerWriter, Talk, write_json, write_line
from vlmchat.cli.progress import progress_text
from vlmchat.cli.question import read_parts
from vlmchat.conversation import Part
from vlmchat.engine.events import Delta, Finished
from vlmchat.errors import ExitCode, InputError, UsageError
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer is kept."""

    store: ChatStore | None
    chat_id: str | None = None
    model: str | None = None
    """The continued chat's own model."""


@click.command(
    epilog=examples(
        'vlmchat ask -i photo.png "What is in this picture?"',
        'git diff | vlmchat ask --no-save "Sum up this change in one line."',
    )
)
@click.argument("prompt", required=False)
@click.option("-i", "--image", "images", multiple=True, metavar="PATH|-", help="A picture; - is stdin. Repeatable.")
@click.option("--video", metavar="PATH", help="A video file; the model's family chooses the frames.")
@click.option("-c", "--continue", "go_on", is_flag=True, help="Go on with the latest chat.")
@click.option("--chat", metavar="ID", help="Go on with this chat.")
@click.option("--no-save", is_flag=True, help="Keep nothing of it.")
@click.option("--no-stream", is_flag=True, help="Write the answer when it is whole.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@shared()
def command(
    settings: Settings,
    talk: Talk,
    prompt: str | None,
    images: tuple[str, ...],
    video: str | None,
    go_on: bool,
    chat: str | None,
    no_save: bool,
    no_stream: bool,
    as_json: bool,
) -> ExitCode:
    """Ask once; the answer goes to stdout, and the exchange into the saved chats.

    Text on stdin comes before PROMPT. Pictures keep their order and stand before the text. Without
    PROMPT a picture is described.
    """
    place = _place(go_on, chat, no_save)
    parts = read_parts(prompt, images, video, settings, talk)
    model = settings.model
    if place.model is not None and not settings.source("model").startswith("--"):
        model = place.model
    target = opening.find(model, settings.hub)
    with opened(settings, target, talk) as model_here:
        session = Session(model_here.engine, place.store, target.name, target.revision, place.chat_id)
        session.sampling, session.vision = settings.sampling, target.vision(settings.vision)
        session.system = settings.system or session.system
        finished = _answer(session, parts, talk, stream=not (no_stream or as_json))
        if as_json:
            write_json(_object(session, model_here, settings, finished))
        elif no_stream and finished.text:
            write_line(finished.text)
    if finished.reason == "length":
        talk.note(f"The answer was cut at --max-new-tokens {settings.sampling.max_new_tokens}.")
    return ExitCode.INTERRUPTED if finished.reason == "interrupted" else ExitCode.OK


def _place(go_on: bool, chat: str | None, no_save: bool) -> _Place:
    """Find the chat that is continued, if any, before anything is loaded."""
    if go_on and chat is not None:
        raise UsageError("--continue and --chat both name a chat.", "Give one of them.")
    if no_save and (go_on or chat is not None):
        raise UsageError("--no-save cannot go on with a saved chat.", "Leave one of the two out.")
    if no_save:
        return _Place(None)
    store = ChatStore()
    if chat is not None:
        found = store.chat(chat).summary
        return _Place(store, found.id, found.model)
    if not go_on:
        return _Place(store)
    latest = store.latest()
    if latest is None:
        raise InputError("There is no chat to go on with yet.", "Ask without --continue first.")
    return _Place(store, latest.id, latest.model)


def _answer(session: Session, parts: list[Part], talk: Talk, stream: bool) -> Finished:
    """Ask and return the end of the answer, having written it as it came if ``stream``."""
    writer = AnswerWriter()
    finished: Finished | None = None
    with interruptible() as cancel, closing(session.ask(parts, cancel)) as events:
        for event in events:
            talk.status(progress_text(event))
            if isinstance(event, Delta) and stream:
                writer.add(event.text)
            elif isinstance(event, Finished):
                finished = event
    if stream:
        writer.end()
    assert finished is not None, "an engine ends every answer with Finished"
    return finished


def _object(session: Session, model_here: Opened, settings: Settings, finished: Finished) -> dict[str, object]:
    """Return the answer as JSON has it; its id is the stored turn's."""
    used = replace(settings, system=session.system)
    return answer_object(session.turns[-1].id, model_here, used, finished, session.chat_id)
