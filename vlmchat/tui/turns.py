"""What is done with one turn of the chat: marked with the keyboard or the mouse, then named by one key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from vlmchat.options import SHORT_DTYPES
from vlmchat.plaintext import one_line
from vlmchat.tui.copying import copy
from vlmchat.tui.desk import OpenChat
from vlmchat.tui.flow import Flow
from vlmchat.tui.screens.panel import Panel
from vlmchat.tui.telling import tell
from vlmchat.tui.text import has, many, say, seconds
from vlmchat.tui.widgets.turn import QuestionView, TurnView

if TYPE_CHECKING:
    from vlmchat.chat.session import Session
    from vlmchat.chat.tree import Removed
    from vlmchat.store.model import Provenance
    from vlmchat.tui.widgets.answer import AnswerView


class TurnDeeds:
    """Carries out what a marked turn was asked for."""

    def __init__(self, flow: Flow, enter: Callable[[OpenChat], Awaitable[None]]) -> None:
        self._flow = flow
        self._enter = enter
        """Puts another chat on the desk and the screen."""
        self._undo: list[tuple[OpenChat, Removed]] = []
        self._copied: tuple[str | None, int] = (None, 0)
        """The answer whose code was copied last, and how many of its blocks."""

    async def do(self, view: TurnView, deed: str) -> None:
        """Do ``deed``, which ``view`` has said can be done."""
        name, _, number = deed.partition(" ")
        step = int(number or 0)
        match name:
            case "move":
                self.move(view, step)
            case "leave":
                self._flow.prompt.focus_text()
            case "copy":
                await copy(self._flow.screen, view.plain, "toast.copied_turn")
            case "code":
                await self._copy_code(cast("AnswerView", view))
            case "info":
                self._explain(view)
            case "undo":
                await self.undo()
            case _:
                await self._change(view, name, step)

    async def _change(self, view: TurnView, name: str, step: int) -> None:
        """Do what changes the chat; refused while an answer is under way."""
        flow = self._flow
        if view.turn_id is None:
            return
        if flow.busy:
            tell(flow.screen, "toast.wait")
        elif name == "edit" and isinstance(view, QuestionView):
            await flow.edit(view.turn_id, view.question)
        elif name == "regenerate":
            await flow.regenerate(view.turn_id)
        elif name == "continue":
            await flow.resume()
        else:
            await self._rearrange(view, view.turn_id, name, step)

    async def _rearrange(self, view: TurnView, turn_id: str, name: str, step: int) -> None:
        session = await self._flow.attempt(self._flow.desk.session)
        if session is None:
            return
        if name == "fork":
            await self.fork(turn_id)
        elif name == "version":
            at = self._flow.transcript.views.index(view)
            await self._flow.attempt(session.switch, turn_id, step)
            await self._flow.redraw()
            self._flow.transcript.views[at].focus()
        elif name == "delete":
            await self._delete(session, view, turn_id)

    async def fork(self, turn_id: str | None = None) -> None:
        """Go on in a new chat that begins with everything up to ``turn_id`` (None: all of it)."""
        flow = self._flow
        if flow.busy:
            tell(flow.screen, "toast.wait")
            return
        session = await flow.attempt(flow.desk.session)
        if session is None or not session.turns:
            tell(flow.screen, "toast.nothing_asked")
            return
        other = await flow.attempt(session.fork, turn_id or session.turns[-1].id)
        if other is not None:
            await self._enter(OpenChat(other.chat_id, other, flow.desk.chat.temporary))
            tell(flow.screen, "toast.forked")

    def move(self, view: TurnView, step: int) -> None:
        """Mark the turn ``step`` further on; after the last comes the box."""
        views = self._flow.transcript.views
        at = views.index(view) + step
        if at >= len(views):
            self._flow.prompt.focus_text()
        else:
            self._flow.transcript.mark(views[max(0, at)])

    def mark_last(self) -> None:
        """Mark the newest turn."""
        views = self._flow.transcript.views
        if views:
            self._flow.transcript.mark(views[-1])
        else:
            tell(self._flow.screen, "toast.nothing_asked")

    async def undo(self) -> None:
        """Bring back the turns deleted last, where their chat is the open one."""
        flow = self._flow
        if flow.busy:
            tell(flow.screen, "toast.wait")
            return
        mine = [it for it in self._undo if it[0] is flow.desk.chat]
        session = flow.desk.chat.session
        if not mine or session is None:
            tell(flow.screen, "toast.nothing_to_undo")
            return
        self._undo.remove(mine[-1])
        await flow.attempt(session.undelete, mine[-1][1])
        await flow.redraw()
        tell(flow.screen, "toast.turns_back", turns=many("count.turns", len(mine[-1][1].turns)))

    async def _delete(self, session: Session, view: TurnView, turn_id: str) -> None:
        flow = self._flow
        at = flow.transcript.views.index(view)
        removed = await flow.attempt(session.delete, turn_id)
        if removed is None:
            return
        self._undo.append((flow.desk.chat, removed))
        await flow.redraw()
        views = flow.transcript.views
        if views:
            flow.transcript.mark(views[min(at, len(views) - 1)])
        else:
            flow.prompt.focus_text()
        tell(flow.screen, "toast.turns_deleted", turns=many("count.turns", len(removed.turns)))

    async def _copy_code(self, view: AnswerView) -> None:
        """Copy a code block; the same key again takes the next one."""
        fences = view.fences
        known, count = self._copied
        at = count % len(fences) if known == view.turn_id else 0
        self._copied = (view.turn_id, at + 1)
        await copy(self._flow.screen, fences[at], "toast.copied_code", at=at + 1, of=len(fences))

    def _explain(self, view: TurnView) -> None:
        made = None if view.shown is None else view.shown.turn.provenance
        if made is not None:
            self._flow.screen.app.push_screen(Panel(say("panel.info"), passport(made), say("panel.close")))


def passport(made: Provenance) -> str:
    """Return what made an answer, one thing in a line."""
    rows = [
        (say("info.model"), one_line(made.model)),
        (say("info.revision"), made.revision),
        (say("info.held"), " · ".join(filter(None, _held(made)))),
        (say("info.tokens"), say("info.tokens.of", **_counts(made))),
        (say("info.time"), say("info.time.of", first=seconds(made.first_token_s), total=seconds(made.total_s))),
    ]
    rows += [(named(name), one_line(str(value))) for name, value in made.settings.items() if value is not None]
    return "\n".join(say("info.line", name=name, value=value) for name, value in rows if value)


def named(setting: str) -> str:
    """Return a setting as the app calls it; one that this version does not know by its own name."""
    key = f"settings.{setting}"
    return say(key) if has(key) else setting


def _held(made: Provenance) -> tuple[str, ...]:
    quantization = "" if made.quantization == "none" else made.quantization
    return made.device, SHORT_DTYPES.get(made.dtype, made.dtype), quantization


def _counts(made: Provenance) -> dict[str, object]:
    counts = asdict(made)
    return {name: f"{counts[name]:,}" for name in ("prompt_tokens", "image_tokens", "completion_tokens")}
