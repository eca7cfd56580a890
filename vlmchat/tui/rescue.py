"""Ways out of a context or a memory that is full: measured, offered with their numbers, and taken on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlmchat.engine.api import PromptSize
from vlmchat.errors import ContextOverflow, DoesNotFit, VlmchatError
from vlmchat.tui.desk import OpenChat
from vlmchat.tui.faults import told
from vlmchat.tui.flow import Flow
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.panel import ChoicePanel
from vlmchat.tui.text import many, say, size

if TYPE_CHECKING:
    from vlmchat.chat.overflow import Remedy
    from vlmchat.chat.smaller import Smaller

_TILE_LIMITS = (6, 4, 2, 1)
"""Limits of tiles that are tried when the memory ran out."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way out."""

    label: str
    take: Callable[[], Awaitable[None]]


class Rescue:
    """Offers what can be done about an answer that did not fit."""

    def __init__(
        self, flow: Flow, reload: Callable[[], None], leave_chat: Callable[[OpenChat], Awaitable[None]]
    ) -> None:
        self._flow = flow
        self._reload = reload
        """Loads the present model anew, with the settings in force then."""
        self._leave_chat = leave_chat

    async def offer(self, error: VlmchatError, asked: Draft) -> None:
        """Show why a question was not answered, with every way out there is; Esc leaves things as they are."""
        find = self._room if isinstance(error, ContextOverflow) else self._memory
        ways = await self._flow.attempt(find, asked) or []
        self._show(say("panel.answer"), error, ways, draft_back=bool(asked))

    def offer_load(self, error: VlmchatError, draft_back: bool, models: Callable[[], None]) -> None:
        """Show why a model was not loaded, with what may help; ``models`` shows the others."""
        ways = self._memory(Draft()) if isinstance(error, DoesNotFit) else []

        async def others() -> None:
            models()

        self._show(say("panel.load"), error, [*ways, Way(say("rescue.models"), others)], draft_back)

    def _show(self, title: str, error: VlmchatError, ways: Sequence[Way], draft_back: bool) -> None:
        lines = [*told(error), say("panel.draft_back") if draft_back else ""]
        panel = ChoicePanel(title, "\n\n".join(filter(None, lines)), [way.label for way in ways])

        async def chosen(at: int | None) -> None:
            if at is not None:
                await ways[at].take()

        self._flow.screen.app.push_screen(panel, chosen)

    def _room(self, asked: Draft) -> list[Way]:
        """What makes the question fit the context; for a thread: it measures."""
        from vlmchat.chat.overflow import remedies

        session = self._flow.desk.measuring_session()
        editing = self._flow.editing
        after = session.parent(editing) if editing is not None else None
        return [self._remedy(it) for it in remedies(session, asked.parts if asked else (), after)]

    def _remedy(self, remedy: Remedy) -> Way:
        taken = say("rescue.tokens", used=f"{remedy.size.prompt_tokens:,}", limit=f"{remedy.size.context_tokens:,}")
        pictures = many("rescue.pictures", remedy.pictures) if remedy.pictures else ""
        words = many(f"rescue.{remedy.kind}", remedy.amount, pictures=pictures)

        async def take() -> None:
            again = self._flow.again
            if remedy.kind == "fresh":
                await self._leave_chat(OpenChat(choices=remedy.choices))
            else:
                self._flow.desk.choose(remedy.choices)
            if again is not None:
                await again()

        return Way(say("rescue.way", words=words, taken=taken), take)

    def _memory(self, asked: Draft) -> list[Way]:
        """What needs less memory; for a thread: it measures."""
        from vlmchat.chat.smaller import smaller

        desk = self._flow.desk
        loaded = desk.engine.loaded if desk.engine is not None else None
        sizes: tuple[tuple[int | None, PromptSize], ...] = ()
        if loaded is not None and asked.pictures:
            session = desk.measuring_session()
            limits = (session.choices.max_tiles, *_TILE_LIMITS)
            sizes = tuple(
                (limit, session.measure(asked.parts, replace(session.choices, max_tiles=limit))) for limit in limits
            )
        return [self._smaller(it) for it in smaller(desk.settings.load, loaded, sizes)]

    def _smaller(self, it: Smaller) -> Way:
        desk = self._flow.desk
        if it.kind == "tiles":
            words = many("rescue.memory.tiles", it.max_tiles or 1, before=f"{it.before:,}", after=f"{it.after:,}")
        elif it.kind == "cpu":
            words = say("rescue.memory.cpu")
        else:
            saved = say("rescue.memory.weights", before=size(it.before), after=size(it.after)) if it.before else ""
            words = say("rescue.memory.quantization", name=it.load.quantization if it.load else "") + saved

        async def take() -> None:
            again = self._flow.again
            if it.load is None:
                desk.choose(replace(desk.choices, max_tiles=it.max_tiles))
            else:
                desk.settings = replace(desk.settings, load=it.load)
                self._reload()
            if again is not None:
                await again()

        return Way(words, take)
