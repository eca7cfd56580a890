"""What the app works with, and nothing that is drawn: engine, store, model, chat, and the work under way.

Screens ask the desk for something and draw the messages that come back through
:mod:`vlmchat.tui.bridge`; who persists is :class:`vlmchat.chat.session.Session` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event as CancelEvent
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from textual.message import Message

from vlmchat.engine.api import Engine, LoadedModel
from vlmchat.engine.events import AnswerEvent, Loading
from vlmchat.options import VisionOptions
from vlmchat.paths import places
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore
from vlmchat.tui.bridge import Bridge, FromWork, ModelReady, Receiver, Work
from vlmchat.tui.downloads import Downloads
from vlmchat.tui.memory import Draft

if TYPE_CHECKING:
    from vlmchat.chat.choices import Choices
    from vlmchat.chat.session import Session

Deed: TypeAlias = "Callable[[Session, CancelEvent], Iterator[AnswerEvent]]"
"""What is done in a chat: a question, another answer, the rest of one."""


@dataclass(slots=True)
class OpenChat:
    """The chat on the screen; the worker writes into the one it began with, never into its successor."""

    stored: str | None = None
    """The chat it was opened from; None for a new one."""
    session: Session | None = None
    """Made when it is first needed, off the app's thread: opening one reads the store."""
    temporary: bool = False
    """It is never written to the store."""
    choices: Choices | None = None
    """What its next answers are made with, once the user has changed that; None: as the chat or the settings say."""

    @property
    def id(self) -> str | None:
        """The chat in the store, which a new one has only after its first question."""
        return self.stored if self.session is None else self.session.chat_id


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """The model that answers."""

    name: str
    revision: str
    loaded: LoadedModel | None


class EngineNotice(Message):
    """Something the user should know of the engine, in one sentence of the room below."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class LoadStopped(FromWork):
    """A load that the user stopped has come to its end; no model came of it."""


@dataclass(slots=True)
class Desk:
    """The state behind the screens, changed on the app's thread only."""

    settings: Settings
    store: ChatStore
    reference: str
    """The model that was asked for, loaded or not."""
    engine: Engine | None = None
    model: ReadyModel | None = None
    chat: OpenChat = field(default_factory=OpenChat)
    loading: Work | None = field(default_factory=Work)
    """The load under way; at the start one that is about to begin, so that a question can wait for it."""
    answering: Work | None = None
    queued: Draft | None = None
    """A question that waits for the model."""
    asked: Draft = field(default_factory=Draft)
    """The question being answered, for the box when it fails."""
    bridge: Bridge = field(init=False)
    _receiver: Receiver | None = None
    downloads: Downloads = field(init=False)
    _before: ReadyModel | None = None
    _opening_session: Lock = field(default_factory=Lock)
    _making_engine: Lock = field(default_factory=Lock)
    _vision: VisionOptions = field(default_factory=VisionOptions)
    """The user's, completed by what the model's publisher runs it with; set on the worker's thread."""

    def listen(self, receiver: Receiver) -> None:
        """Send every message of the work to ``receiver``; to be called once, before any work."""
        self._receiver, self.bridge = receiver, Bridge(receiver)
        self.downloads = Downloads(receiver, self.settings, places().state)

    def load(self, reference: str) -> None:
        """Make ``reference`` the model; what is loading or answering is stopped first."""
        self.stop()
        if self.loading is not None:
            self.loading.cancel.set()
        self._before = self.model or self._before
        self.reference, self.model = reference, None
        self.loading = self.bridge.load(lambda work: self._opening(reference, work))

    def stop_load(self) -> bool:
        """Stop the load under way; False when there is none. :class:`LoadStopped` comes when it has ended."""
        work = self.loading
        if work is None or work.cancel.is_set():
            return False
        work.cancel.set()
        work.done.add_done_callback(lambda _: self._post(LoadStopped(work.id)))
        return True

    def accept_model(self, message: ModelReady) -> None:
        """Take the loaded model into use."""
        self.model, self.loading = ReadyModel(message.name, message.revision, message.loaded), None
        self.reference = message.name

    def refuse_model(self) -> None:
        """Go back to the model before, when it is still in memory, after a load has failed or was stopped."""
        self.loading = None
        still = self.engine.loaded if self.engine is not None else None
        if self._before is not None and still is not None and self._before.loaded == still:
            self.model, self.reference = self._before, self._before.name

    def answer(self, deed: Deed, asked: Draft) -> Work:
        """Do ``deed`` in the open chat; the caller has made sure that a model is ready.

        ``asked`` is what goes back into the box when the deed fails; empty for what was not typed.
        """
        chat, model = self.chat, self.model
        assert model is not None, "asked before a model was ready"
        self.asked = asked
        self.answering = self.bridge.answer(lambda cancel: self._answering(chat, model, deed, cancel))
        return self.answering

    def stop(self) -> bool:
        """Stop the answer under way; False when there is none."""
        if self.answering is None:
            return False
        self.answering.cancel.set()
        return True

    def leave_chat(self, successor: OpenChat | None = None) -> None:
        """Put ``successor``, or a new chat, on the desk; the answer under way is stopped and stored as it is."""
        self.stop()
        self.answering = None
        self.chat = successor or OpenChat()

    @property
    def choices(self) -> Choices:
        """What the next answers of the open chat are made with; reads the store for a chat not yet used."""
        return self.session().choices

    def choose(self, choices: Choices) -> None:
        """Make the next answers of the open chat with ``choices``."""
        self.chat.choices = choices
        if self.chat.session is not None:
            self.chat.session.choices = choices

    def session(self, chat: OpenChat | None = None) -> Session:
        """Return the session of ``chat`` (the open one when not given); for a thread: the store may be read.

        Raises:
            InputError, StoreError: the chat is gone, or the store cannot be read.
        """
        from vlmchat.chat.session import Session

        chat = chat or self.chat
        with self._opening_session:
            if chat.session is None:
                store = None if chat.temporary else self.store
                session = Session(self._engine(), store, self.reference, chat_id=chat.stored)
                if not session.turns:
                    session.choices = self._configured()
                if chat.choices is not None:
                    session.choices = chat.choices
                chat.session = session
        return chat.session

    def measuring_session(self) -> Session:
        """Return the open chat's session with the prompt form of the loaded model; for a thread."""
        session = self.session()
        session.vision = replace(self._vision, max_tiles=session.choices.max_tiles)
        return session

    def is_current(self, message: FromWork) -> bool:
        """Say whether ``message`` is about work that the screen still shows."""
        return message.work in {work.id for work in (self.loading, self.answering) if work is not None}

    def close(self) -> bool:
        """Stop everything and give the store the time it needs; False when a thread is still at work."""
        if not hasattr(self, "bridge"):
            return True
        fetched = self.downloads.close()
        ended = self.bridge.close()
        if ended and self.engine is not None:
            self.engine.close()
        return ended and fetched

    def _opening(self, reference: str, work: Work) -> Iterator[Loading | ModelReady]:
        # Late, as is the session below: the catalog, the hubs and the chat cost 20 ms of CPU before the first frame.
        from vlmchat.chat.opening import find, open_model

        target = find(reference, self.settings.hub)
        self._vision = target.vision(self.settings.vision)
        engine = self._engine()
        yield from open_model(engine, target, self.settings.load, work.cancel)
        if not work.cancel.is_set():
            yield ModelReady(work.id, target.name, target.revision, engine.loaded)

    def _answering(self, chat: OpenChat, model: ReadyModel, deed: Deed, cancel: CancelEvent) -> Iterator[AnswerEvent]:
        session = self.session(chat)
        session.model, session.revision = model.name, model.revision
        session.vision = replace(self._vision, max_tiles=session.choices.max_tiles)
        yield from deed(session, cancel)

    def _engine(self) -> Engine:
        with self._making_engine:
            if self.engine is None:
                from vlmchat.chat.opening import engine_for

                self.engine = engine_for(self.settings, lambda words: self._post(EngineNotice(words)), interactive=True)
        return self.engine

    def _post(self, message: Message) -> None:
        """Pass ``message`` on from another thread; the app may have ended meanwhile."""
        with suppress(RuntimeError):
            if self._receiver is not None:
                self._receiver.post_message(message)

    def _configured(self) -> Choices:
        from vlmchat.chat.choices import Choices

        return Choices(self.settings.sampling, self.settings.system, self.settings.vision.max_tiles)
