"""The chat as one reads it: questions and answers, following new text only while one is at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Static

from vlmchat.tui.actions import key_of
from vlmchat.tui.memory import Draft
from vlmchat.tui.text import many, say
from vlmchat.tui.widgets.bare import Bare
from vlmchat.tui.widgets.fold import Fold, Grown, Window
from vlmchat.tui.widgets.turn import QuestionView, Shown, TurnView

if TYPE_CHECKING:
    from vlmchat.tui.widgets.answer import AnswerView

FIRST_SHOWN = 40
"""Turns of a reopened chat that are drawn at once; earlier ones on demand."""


class Welcome(Vertical):
    """What an empty chat shows: what this is, and what to press."""

    def compose(self) -> ComposeResult:
        """A mark with the name and a line, and the keys to begin with."""
        yield Static(self._mark())
        yield Static(self._keys())

    def _mark(self) -> Content:
        """A framed picture of three shapes, with two lines beside it."""
        shapes = Content.assemble(("●", "$answer"), " ", ("▲", "$question"), " ", ("■", "$accent"))
        return Content.assemble(
            ("╭───────╮", "$line"), "\n",
            ("│ ", "$line"), shapes, (" │", "$line"), "   ", (say("welcome.title"), "bold $primary"), "\n",
            ("╰───────╯", "$line"), "   ", (say("welcome.line"), "$foreground"),
        )  # fmt: skip

    def _keys(self) -> Content:
        rows = [("path", say("welcome.attach"))]
        rows += [(key_of(name), say(f"welcome.{name}")) for name in ("send", "stop", "models", "chats", "help")]
        lines = [Content.assemble((f"{key:<9}   ", "bold $primary"), (words, "$quiet")) for key, words in rows]
        return Content("\n").join(lines)


class Earlier(Static):
    """Stands for the turns above that are not drawn yet."""


class Turns(Bare, Vertical, Grown):
    """The turns themselves, at least as high as the window: a short chat begins at its top."""

    async def greet(self) -> bool:
        """Show the welcome when there is nothing else; True when it is there."""
        if not self.children:
            self.add_class("-empty")
            await self.mount(Welcome())
        return self.has_class("-empty")

    async def leave_welcome(self) -> None:
        """Make room for the first turn."""
        self.remove_class("-empty")
        await self.query(Welcome).remove()


class Transcript(Bare, VerticalScroll, Grown, can_focus=False):
    """All turns on the screen, newest at the bottom."""

    def __init__(self) -> None:
        super().__init__()
        self._hidden: list[Shown] = []
        self._width = 0
        self._fold = Fold()

    def compose(self) -> ComposeResult:
        """Begin empty, with a welcome."""
        yield Turns()

    async def on_mount(self) -> None:
        """Stay at the end while it is not scrolled away from."""
        await self.turns.greet()
        self.anchor()

    @property
    def turns(self) -> Turns:
        """What holds the turns."""
        return self.query_one(Turns)

    @property
    def last_answer(self) -> str:
        """The newest answer as the model wrote it; empty when there is none."""
        views = cast("Iterable[AnswerView]", self.turns.query("AnswerView"))
        texts = [view.text for view in views if view.text]
        return texts[-1] if texts else ""

    async def clear(self) -> None:
        """Show an empty chat."""
        self._hidden = []
        self._fold.open(self.turns)
        await self.turns.remove_children()
        await self.turns.greet()

    async def welcome_if_empty(self) -> bool:
        """Greet again when the only question was taken back; True when the chat is empty."""
        return await self.turns.greet()

    async def add_question(self, question: Draft, note: str = "") -> QuestionView:
        """Add a question at the end and go there."""
        await self.turns.leave_welcome()
        view = QuestionView(question, note)
        await self.turns.mount(view)
        self.anchor()
        self.call_after_refresh(self.tend)
        return view

    async def add_answer(self) -> AnswerView:
        """Add an answer that is to come."""
        view = _answer()
        await self.turns.mount(view)
        return view

    @property
    def views(self) -> list[TurnView]:
        """The turns that are drawn, oldest first."""
        return list(self.turns.query_children(TurnView))

    async def show(self, shown: Sequence[Shown]) -> None:
        """Show a stored branch; the views of its beginning stay, later ones are made anew."""
        views = self.views
        first = views[0].turn_id if views else None
        start = next((at for at, it in enumerate(shown) if it.turn.id == first), None)
        if start is None:
            await self._show_anew(shown)
            return
        same = 0
        self.unfold()
        for view, it in zip(views, shown[start:], strict=False):
            if view.turn_id != it.turn.id:
                break
            await view.settle(it)
            same += 1
        async with self.batch():
            await self.turns.remove_children(views[same:])
            await self.turns.mount_all([_view(it) for it in shown[start + same :]])
        self.call_after_refresh(self.tend)

    async def _show_anew(self, shown: Sequence[Shown]) -> None:
        """Show the last :data:`FIRST_SHOWN` turns of a branch; earlier ones come in on demand."""
        await self.clear()
        if not shown:
            return
        await self.turns.leave_welcome()
        self._hidden = list(shown[:-FIRST_SHOWN])
        if self._hidden:
            await self.turns.mount(Earlier(Content(many("turn.earlier", len(self._hidden)))))
        await self.turns.mount_all([_view(it) for it in shown[-FIRST_SHOWN:]])
        self.anchor()
        self.call_after_refresh(self.tend)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Have what comes into view laid out before it is drawn."""
        super().watch_scroll_y(old_value, new_value)
        self.tend()

    def on_resize(self, event: Resize) -> None:
        """Unfold all when lines break elsewhere: the heights they were folded with hold no more."""
        if self._width != event.size.width:
            self._width = event.size.width
            self.unfold()
            self.call_after_refresh(self.tend)

    def unfold(self) -> None:
        """Lay everything out, until :meth:`tend`."""
        self._fold.open(self.turns)
        for view in self.views:
            view.unfold()

    def tend(self) -> None:
        """Lay out only what is near the window: of the turns, and of the answers among them."""
        # What is selected is asked for its text, wherever it is.
        free = not self.screen.selections
        window = Window(self.scroll_y, self.size.height)
        for view, top in self._fold.tend(self.turns, window, lambda view: free and _rests(view)):
            if isinstance(view, TurnView):
                view.tend(window.inside(top), lambda block: free)

    def mark(self, view: TurnView) -> None:
        """Give ``view`` the keys, and bring it into sight."""
        self.release_anchor()
        if self.reveal(view):
            # What was never laid out has no place to scroll to.
            self.call_after_refresh(view.focus)
        else:
            view.focus()

    def reveal(self, view: TurnView) -> bool:
        """Lay ``view`` out, wherever it is: it is to be seen, or to grow; False when it was laid out."""
        folded = view in self._fold
        if folded:
            self._fold.open(self.turns)
        return folded

    async def page(self, direction: int) -> None:
        """Scroll one page; at the very top the earlier turns come in."""
        if direction < 0 and self.scroll_y <= 0 and self._hidden:
            await self._show_earlier()
        elif direction < 0:
            self.release_anchor()
            self.scroll_page_up(animate=False)
        else:
            self.scroll_page_down(animate=False)

    async def _show_earlier(self) -> None:
        batch, self._hidden = self._hidden[-FIRST_SHOWN:], self._hidden[:-FIRST_SHOWN]
        notice = self.query_one(Earlier)
        await self.turns.mount_all([_view(it) for it in batch], after=notice)
        if self._hidden:
            notice.update(Content(many("turn.earlier", len(self._hidden))))
        else:
            await notice.remove()


def _rests(child: Widget) -> bool:
    return not isinstance(child, TurnView) or (child.settled and not child.has_focus)


def _answer(shown: Shown | None = None) -> AnswerView:
    """Return the view of a stored answer, or of one that is to come."""
    # Late: Markdown costs 36 ms of CPU, and no first frame shall wait for it.
    from vlmchat.tui.widgets.answer import AnswerView

    return AnswerView(stats=say("turn.waiting"), shown=shown)


def _view(shown: Shown) -> TurnView:
    return QuestionView.of_turn(shown) if shown.turn.message.role == "user" else _answer(shown)
