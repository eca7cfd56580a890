"""One picture or video per conversation: what is offered before a second one would be sent.

Some models read no more than one (CogVLM2). Their family refuses a second; here it is noticed
before anything is sent, nothing is dropped, and what can be done instead is one key away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from vlmchat.conversation import Picture, Video
from vlmchat.store.model import Turn
from vlmchat.tui.desk import OpenChat
from vlmchat.tui.flow import Flow
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.panel import ChoicePanel
from vlmchat.tui.text import model_name, say


class Single:
    """Stands between the box and the engine of a model that reads one picture or video."""

    def __init__(self, flow: Flow, enter: Callable[[OpenChat], Awaitable[None]]) -> None:
        self._flow = flow
        self._enter = enter
        """Puts another chat on the screen."""

    def refuses(self, draft: Draft) -> bool:
        """Say whether ``draft`` would bring a second one; if so, what can be done is on the screen."""
        if not draft.media or not self._reads_one():
            return False
        if len(draft.media) > 1:
            self._offer_last(draft)
            return True
        before = [turn for turn in self._before() if turn.message.media]
        if before:
            self._offer(draft, before[-1].message.media[-1])
        return bool(before)

    def _reads_one(self) -> bool:
        from vlmchat.families.rules import reads_one

        model = self._flow.desk.model
        return model is not None and model.loaded is not None and reads_one(model.loaded.family)

    def _before(self) -> tuple[Turn, ...]:
        """Return the turns that the question in the box would follow."""
        session, editing = self._flow.desk.chat.session, self._flow.editing
        if session is None:
            return ()
        return session.turns if editing is None else session.branch(editing)[:-1]

    def _offer_last(self, draft: Draft) -> None:
        new = draft.media[-1]
        choices = (say("single.last", new=new.name),)
        self._show(say("single.draft", count=len(draft.media)), choices, (lambda: self._keep(new),))

    def _offer(self, draft: Draft, old: Picture | Video) -> None:
        names = {"new": draft.media[0].name, "old": old.name}
        choices = (say("single.replace", **names), say("single.fresh", **names))
        self._show(say("single.second", **names), choices, (self._replace, self._fresh))

    def _show(self, body: str, choices: tuple[str, ...], ways: tuple[Callable[[], Awaitable[None]], ...]) -> None:
        model = self._flow.desk.model
        title = say("single.title", model=model_name(model.name) if model is not None else "")

        async def chosen(at: int | None) -> None:
            self._flow.prompt.focus_text()
            if at is not None:
                await ways[at]()

        self._flow.screen.app.push_screen(ChoicePanel(title, f"{body} {say('single.kept')}", choices), chosen)

    async def _keep(self, medium: Picture | Video) -> None:
        """Keep one of several in the box and send it."""
        draft = replace(self._flow.prompt.draft, pictures=(), videos=())
        await self._flow.prompt.put(draft.with_media((medium,)))
        self._flow.prompt.send()

    async def _replace(self) -> None:
        """Go on in a copy of the chat that has the words only, with the new picture as its one."""
        turns, desk = self._before(), self._flow.desk
        session = desk.chat.session
        assert session is not None, "a picture was asked about, so there is a session"
        other = await self._flow.attempt(session.fork, turns[-1].id, with_media=False)
        if other is not None:
            await self._enter(OpenChat(other.chat_id, other, desk.chat.temporary))
            self._flow.prompt.send()

    async def _fresh(self) -> None:
        """Ask in a chat of its own."""
        await self._enter(OpenChat(temporary=self._flow.desk.chat.temporary))
        self._flow.prompt.send()
