"""What the list of models and the list of chats share: a line to type, a list that follows it.

The line keeps the focus, and the arrows move in the list: one types and chooses without a step
between. The list is fetched on a thread; what comes back for an older line is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.types import CSSPathType
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from vlmchat.tui.inorder import Awaited
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.widgets.hints import KeyHints

Row = TypeVar("Row")


class Listing(Dialog[str | None], Generic[Row]):
    """A searchable list over the chat, dismissed with what was chosen."""

    CSS_PATH: ClassVar[CSSPathType | None] = "listing.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("pageup", "move(-10)", show=False, priority=True),
        Binding("pagedown", "move(10)", show=False, priority=True),
    ]

    def __init__(self, title: str, placeholder: str) -> None:
        super().__init__()
        self._title, self._placeholder = title, placeholder
        self.rows: Sequence[Row] = ()
        self._listed_for: str | None = None
        """The words that the list on the screen answers."""
        self._choice_waits = False
        """Enter came before the list for its words."""
        self._renewed = False
        """What was done changes the list, and the new one is on its way."""

    def compose(self) -> ComposeResult:
        """Line, list, a text for the marked row, keys."""
        with Vertical(classes="listing") as box:
            box.border_title = self._title
            yield Input(placeholder=self._placeholder)
            yield OptionList(markup=False)
            yield Static(classes="empty")
            yield Static(classes="detail")
            yield KeyHints()

    def on_mount(self) -> None:
        """Type first."""
        self.query_one(Input).focus()

    @property
    def words(self) -> str:
        """What is typed."""
        return self.query_one(Input).value

    @property
    def marked(self) -> Row | None:
        """The row under the bar."""
        at = self.query_one(OptionList).highlighted
        return self.rows[at] if at is not None and at < len(self.rows) else None

    def show_rows(self, words: str | None, rows: Sequence[Row], empty: str, mark: int = 0) -> None:
        """Draw the ``rows`` found for ``words`` (None: while they are sought), or the text ``empty`` without any."""
        self._listed_for = words
        if not rows or rows != self.rows:
            self._draw_rows(rows, empty, mark)
        if self._is_true:
            chosen = self._choice_waits
            self.decide()
            if chosen:
                self.choose()

    def awaits(self, key: str, typed: bool) -> bool:
        """Let keys wait for the list they are meant for; never Esc."""
        return key != "escape" and (self._renewed or self._choice_waits or not (typed or self._is_true))

    @property
    def _is_true(self) -> bool:
        """Whether the list is the one for what is typed."""
        return self._listed_for == self.words

    def renew(self) -> None:
        """Let keys wait for the next list: what the one before has done changes it."""
        self._renewed = True

    def decide(self) -> None:
        """Let the keys go that waited for the list."""
        self._choice_waits = self._renewed = False
        self.app.post_message(Awaited())

    def _draw_rows(self, rows: Sequence[Row], empty: str, mark: int) -> None:
        options = self.query_one(OptionList)
        self.rows = rows
        options.clear_options()
        options.add_options([Option(self.draw(row), disabled=self.is_heading(row)) for row in rows])
        options.display = bool(rows)
        note = self.query_one(".empty", Static)
        note.update(Content(empty))
        note.display = not rows
        if rows:
            options.highlighted = max(0, min(mark, len(rows) - 1))
        self.show_detail()
        self.refresh_bindings()

    def draw(self, row: Row) -> Content:
        """Return one row of the list as plain content."""
        raise NotImplementedError

    def is_heading(self, row: Row) -> bool:
        """Say whether ``row`` only stands above others and cannot be marked."""
        return False

    def detail(self, row: Row) -> Content:
        """Return what is said about the marked row."""
        raise NotImplementedError

    def show_detail(self) -> None:
        """Say something about the marked row."""
        row = self.marked
        line = self.query_one(".detail", Static)
        line.update(Content("") if row is None else self.detail(row))

    def action_move(self, steps: int) -> None:
        """Move the bar."""
        options = self.query_one(OptionList)
        places = [at for at, row in enumerate(self.rows) if not self.is_heading(row)]
        if places:
            here = sum(at < (options.highlighted or 0) for at in places)
            options.highlighted = places[max(0, min(len(places) - 1, here + steps))]

    def action_close(self) -> None:
        """Go back to the chat."""
        self.dismiss(None)

    def action_choose(self) -> None:
        """Do what Enter does, once the list is the one for what was typed."""
        if self._is_true:
            self.choose()
        else:
            self._choice_waits = True

    def choose(self) -> None:
        """Do what Enter does with the marked row."""
        raise NotImplementedError

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.action_choose()

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        self.show_detail()

    @on(OptionList.OptionSelected)
    def _clicked(self) -> None:
        self.action_choose()
