"""What ``vlmchat ask`` does: read the question, load, answer, keep."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.chat.session import Session
from vlmchat.cli.answering import Opened, answer_object, opened, with_kept
from vlmchat.cli.dryrun import show_preview
from vlmchat.cli.fetching import obtain
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.output import Talk, answer_writer, write_json
from vlmchat.cli.progress import progress_text
from vlmchat.cli.question import read_parts
from vlmchat.cli.shape import TokenEnds, shape_object
from vlmchat.conversation import Part
from vlmchat.engine.api import Engine
from vlmchat.engine.events import Delta, Finished
from vlmchat.engine.schema import read_schema, value_of
from vlmchat.errors import ExitCode, InputError, SchemaError, UsageError
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed beside the shared options."""

    prompt: str | None
    images: tuple[str, ...]
    video: str | None
    go_on: bool
    chat: str | None
    no_save: bool
    no_stream: bool
    raw: bool
    variables: tuple[str, ...]
    schema: str | None
    dry_run: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer is kept."""

    store: ChatStore | None
    chat_id: str | None = None
    model: str | None = None
    """The continued chat's own model."""


def ask(settings: Settings, talk: Talk, options: Asked) -> ExitCode:
    """Answer one question.

    Raises:
        VlmchatError: of every kind; the exit code is the error's.
    """
    settings, prompt, shape_text = with_kept(settings, options.prompt, options.schema, options.variables)
    schema = None if shape_text is None else read_schema(shape_text)
    place = _place(options)
    parts = read_parts(prompt, options.images, options.video, settings, talk)
    model = settings.model
    if place.model is not None and not settings.source("model").startswith("--"):
        model = place.model
    target = obtain(settings, talk, model)
    if options.dry_run:
        session = _session(opening.create_engine(), place, target, settings)
        used = replace(settings, system=session.system)
        return show_preview(target, session.request(parts), used, talk, options.as_json)
    with opened(settings, target, talk) as model_here:
        session = _session(model_here.engine, place, target, settings)
        session.schema = schema
        finished, tokens = _answer(session, parts, talk, options)
        held = schema is not None and finished.reason != "interrupted"
        if options.as_json:
            answer = _object(session, model_here, settings, finished)
            try:
                write_json(answer | (shape_object(finished, str(schema), tokens) if held else {}))
            except SchemaError:
                # The exit code says that it has not the shape; what was computed is not thrown away.
                write_json(answer)
                raise
        elif held:
            value_of(finished.text, str(schema))
    if finished.reason == "length":
        talk.note(f"The answer was cut at --max-new-tokens {settings.sampling.max_new_tokens}.")
    return ExitCode.INTERRUPTED if finished.reason == "interrupted" else ExitCode.OK


def _session(engine: Engine, place: _Place, target: Target, settings: Settings) -> Session:
    """Open the chat, with the choices of this call; the system prompt of a continued one goes on."""
    session = Session(engine, place.store, target.name, target.revision, place.chat_id)
    session.sampling, session.vision = settings.sampling, target.vision(settings.vision)
    session.system = settings.system or session.system
    return session


def _place(options: Asked) -> _Place:
    """Find the chat that is continued, if any, before anything is loaded."""
    go_on, chat, no_save = options.go_on, options.chat, options.no_save
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


def _answer(session: Session, parts: list[Part], talk: Talk, options: Asked) -> tuple[Finished, TokenEnds]:
    """Ask and return the end of the answer, having written it as it came unless the options say otherwise."""
    finished: Finished | None = None
    tokens = TokenEnds()
    with ExitStack() as stack:
        cancel = stack.enter_context(interruptible())
        writer = None
        if not options.as_json:
            # JSON is no Markdown.
            writer = answer_writer(options.raw or session.schema is not None)
            stack.callback(writer.end)
        for event in stack.enter_context(closing(session.ask(parts, cancel))):
            talk.status(progress_text(event))
            tokens.note(event)
            if isinstance(event, Finished):
                finished = event
            elif isinstance(event, Delta) and writer is not None and not options.no_stream:
                writer.add(event.text)
        assert finished is not None, "an engine ends every answer with Finished"
        if writer is not None and options.no_stream:
            writer.add(finished.text)
    return finished, tokens


def _object(session: Session, model_here: Opened, settings: Settings, finished: Finished) -> dict[str, object]:
    """Return the answer as JSON has it; its id is the stored turn's."""
    used = replace(settings, system=session.system)
    return answer_object(session.turns[-1].id, model_here, used, finished, session.chat_id)
