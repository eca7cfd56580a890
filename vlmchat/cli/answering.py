"""What ``ask`` and ``pipe`` have in common: a model brought up, an answer as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.chat.prompts import is_kept, kept_prompt
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.output import Talk
from vlmchat.cli.progress import progress_text
from vlmchat.engine.api import Engine
from vlmchat.engine.events import Finished
from vlmchat.errors import UsageError
from vlmchat.media.web import WebRules
from vlmchat.settings import Settings

DEFAULT_PROMPT = "Describe the picture."
"""What a picture is asked when nobody asks anything."""


@dataclass
class Opened:
    """A model that is in memory."""

    engine: Engine
    target: Target
    load_s: float
    """Seconds the load took; counted into the first answer only; 0 where it was in memory."""

    @property
    def revision(self) -> str:
        """Commit of a hub checkpoint, fingerprint of a local folder."""
        loaded = self.engine.loaded
        return self.target.revision or (loaded.fingerprint if loaded else "")


@contextmanager
def opened(settings: Settings, target: Target, talk: Talk) -> Iterator[Opened]:
    """Load ``target``, with progress on the terminal, and close the engine afterwards.

    Raises:
        KeyboardInterrupt: Ctrl-C while it was loading.
        VlmchatError: as :meth:`vlmchat.engine.api.Engine.load`.
    """
    engine = opening.engine_for(settings, talk.warn)
    try:
        begun = time.monotonic()
        with interruptible() as cancel:
            stages = set()
            for event in opening.open_model(engine, target, settings.load, cancel, talk.warn):
                stages.add(event.stage)
                talk.status(progress_text(event))
            if cancel.is_set():
                raise KeyboardInterrupt
        talk.clear()
        loaded_now = not stages <= {"waiting", "ready"}
        yield Opened(engine, target, time.monotonic() - begun if loaded_now else 0.0)
    finally:
        talk.clear()
        engine.close()


def web_rules(settings: Settings) -> WebRules:
    """Return what may be fetched of the web."""
    return WebRules(settings.offline, settings.private_urls)


def with_kept(
    settings: Settings, prompt: str | None, schema: str | None, variables: Sequence[str]
) -> tuple[Settings, str | None, str | None]:
    """Return settings, prompt and schema, with what a kept prompt says where nothing was typed.

    Args:
        settings: a kept system prompt comes in where none was chosen.
        prompt: as typed; ``@name`` names a kept one.
        schema: as typed.
        variables: ``name=value``, as typed.

    Raises:
        InputError: no prompt of that name is kept.
        UsageError: its file or a variable is wrong.
    """
    if prompt is None or not is_kept(prompt):
        if variables:
            raise UsageError("--var fills a kept prompt, and none is asked.", "Ask @NAME; `vlmchat prompts` lists all.")
        return settings, prompt, schema
    if wrong := next((word for word in variables if "=" not in word), None):
        raise UsageError(f"--var {wrong} has no value.", f"Write --var {wrong}=….")
    kept = kept_prompt(prompt)
    text = kept.fill(dict(word.split("=", 1) for word in variables))
    if kept.system is not None and settings.system is None:
        settings = settings.changed({"system": kept.system}, prompt)
    return settings, text, schema or kept.schema


def answer_object(
    answer_id: object, opened_model: Opened, settings: Settings, finished: Finished, chat_id: str | None
) -> dict[str, object]:
    """Return one answer in the form of ``ask --json`` and of a ``pipe`` line (README, "JSON")."""
    timing = finished.timing
    if not timing.load_s:
        timing = replace(timing, load_s=round(opened_model.load_s, 6))
    return {
        "id": answer_id,
        "model": opened_model.target.name,
        "revision": opened_model.revision,
        "text": finished.text,
        "token_ids": list(finished.token_ids),
        "finish_reason": finished.reason,
        "usage": asdict(finished.usage),
        "timing": asdict(timing),
        "settings": settings_object(settings),
        "chat_id": chat_id,
    }


def settings_object(settings: Settings) -> Mapping[str, object]:
    """Return every choice that has a say in an answer, by its long name with underscores."""
    chosen = {**asdict(settings.load), **asdict(settings.vision), **asdict(settings.sampling)}
    return {**chosen, "system": settings.system}
