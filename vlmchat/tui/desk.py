"""What the app works with, and nothing that is drawn: engine, store, model, chat, and the work under way.

Screens ask the desk for something and draw the messages that come back through
:mod:`vlmchat.tui.bridge`; who persists is :class:`vlmchat.chat.session.Session` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event as CancelEvent
from typing import TYPE_CHECKING

from vlmchat.engine.api import Engine, LoadedModel
from vlmchat.engine.events import AnswerEvent, Loading
from vlmchat.options import VisionOptions
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Chat
from vlmchat.tui.bridge import Bridge, FromWork, ModelReady, Receiver, Work
from vlmchat.tui.memory import Draft

if TYPE_CHECKING:
    from vlmchat.chat.session import Session


@dataclass(slots=True)
class OpenChat:
    """The chat on the screen; the worker writes into the one it began with, never into its successor."""

    stored: str | None = None
    """The chat it was opened from; None for a new one."""
    session: Session | None = None
    """Made with its first question, on the worker's thread: opening one reads the store."""

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
    _before: ReadyModel | None = None
    _vision: VisionOptions = field(default_factory=VisionOptions)
    """The user's, completed by what the model's publisher runs it with; set on the worker's thread."""

    def listen(self, receiver: Receiver) -> None:
        """Send every message of the work to ``receiver``; to be called once, before any work."""
        self.bridge = Bridge(receiver)

    def load(self, reference: str) -> None:
        """Make ``reference`` the model; what is loading or answering is stopped first."""
        self.stop()
        if self.loading is not None:
            self.loading.cancel.set()
        self._before = self.model or self._before
        self.reference, self.model = reference, None
        self.loading = self.bridge.load(lambda work: self._opening(reference, work))

    def accept_model(self, message: ModelReady) -> Draft | None:
        """Take the loaded model into use; returns the question that has been waiting for it."""
        self.model, self.loading = ReadyModel(message.name, message.revision, message.loaded), None
        self.reference = message.name
        queued, self.queued = self.queued, None
        return queued

    def refuse_model(self) -> None:
        """Go back to the model before, when it is still in memory, after a load has failed."""
        self.loading = None
        still = self.engine.loaded if self.engine is not None else None
        if self._before is not None and still is not None and self._before.loaded == still:
            self.model, self.reference = self._before, self._before.name

    def ask(self, draft: Draft) -> Work:
        """Ask ``draft`` in the open chat; the caller has made sure that a model is ready."""
        chat, model = self.chat, self.model
        assert model is not None, "asked before a model was ready"
        self.asked = draft
        self.answering = self.bridge.answer(lambda cancel: self._asking(chat, model, draft, cancel))
        return self.answering

    def stop(self) -> bool:
        """Stop the answer under way; False when there is none."""
        if self.answering is None:
            return False
        self.answering.cancel.set()
        return True

    def leave_chat(self, chat: Chat | None = None) -> None:
        """Put ``chat``, or a new one, on the desk; the answer under way is stopped and stored as it is."""
        self.stop()
        self.answering = None
        self.chat = OpenChat() if chat is None else OpenChat(chat.summary.id)

    def is_current(self, message: FromWork) -> bool:
        """Say whether ``message`` is about work that the screen still shows."""
        return message.work in {work.id for work in (self.loading, self.answering) if work is not None}

    def close(self) -> bool:
        """Stop everything and give the store the time it needs; False when a thread is still at work."""
        if not hasattr(self, "bridge"):
            return True
        ended = self.bridge.close()
        if ended and self.engine is not None:
            self.engine.close()
        return ended

    def _opening(self, reference: str, work: Work) -> Iterator[Loading | ModelReady]:
        # Late, as is the session below: the catalog, the hubs and the chat cost 20 ms of CPU before the first frame.
        from vlmchat.chat.opening import create_engine, find, open_model

        target = find(reference, self.settings.hub)
        self._vision = target.vision(self.settings.vision)
        if self.engine is None:
            self.engine = create_engine(interactive=True)
        yield from open_model(self.engine, target, self.settings.load, work.cancel)
        if not work.cancel.is_set():
            yield ModelReady(work.id, target.name, target.revision, self.engine.loaded)

    def _asking(self, chat: OpenChat, model: ReadyModel, draft: Draft, cancel: CancelEvent) -> Iterator[AnswerEvent]:
        assert self.engine is not None, "a ready model has an engine"
        session = chat.session
        if session is None:
            from vlmchat.chat.session import Session

            session = Session(self.engine, self.store, model.name, model.revision, chat.stored)
            session.sampling = self.settings.sampling
            session.system = self.settings.system or session.system
            chat.session = session
        session.model, session.revision, session.vision = model.name, model.revision, self._vision
        yield from session.ask(draft.parts, cancel)
