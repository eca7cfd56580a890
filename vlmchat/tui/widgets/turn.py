"""A turn in the transcript, and a question as one: its text as typed, and the pictures it was asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from vlmchat.plaintext import printable
from vlmchat.store.model import Turn
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.memory import Draft
from vlmchat.tui.text import say
from vlmchat.tui.widgets.bare import Bare
from vlmchat.tui.widgets.chips import label
from vlmchat.tui.widgets.fold import Grown, Window
from vlmchat.tui.widgets.preview import PreviewRow


@dataclass(frozen=True, slots=True)
class Shown:
    """A stored turn, and its place among the versions that stand where it stands."""

    turn: Turn
    at: int = 1
    of: int = 1

    @property
    def version(self) -> str:
        """``version 2/3``; empty where there is only one."""
        return say("turn.version", at=self.at, of=self.of) if self.of > 1 else ""


class LinkSeen(Message):
    """The user clicked a link of an answer, which leads to ``target``; nothing is opened yet."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target


class TurnView(Bare, Vertical, Grown, can_focus=True):
    """One turn; marked it takes keys, and asks the screen for what they mean."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("turn")
    scope: ClassVar[Scope] = "turn"

    class Wanted(Message):
        """The user wants ``deed`` done with the turn that ``view`` shows."""

        def __init__(self, view: TurnView, deed: str) -> None:
            super().__init__()
            self.view, self.deed = view, deed

    shown: Shown | None = None
    """The stored turn; None until the session has written it."""

    @property
    def turn_id(self) -> str | None:
        """The stored turn's id, or None until there is one."""
        return None if self.shown is None else self.shown.turn.id

    @property
    def plain(self) -> str:
        """The turn as text, for the clipboard."""
        raise NotImplementedError

    def deeds(self) -> set[str]:
        """Return what can be done with it now."""
        found = {"move", "leave", "copy", "undo"}
        if self.shown is not None:
            found |= {"regenerate", "fork", "delete"}
            if self.shown.of > 1:
                found.add("version")
        return found

    async def settle(self, shown: Shown) -> None:
        """Show what was stored of it, and its place among its versions."""
        self.shown = shown

    @property
    def settled(self) -> bool:
        """Whether its height is its last, for this width of the screen."""
        return self.shown is not None

    def tend(self, window: Window, may: Callable[[Widget], bool]) -> None:
        """Lay out only what is near ``window``, as lines from the turn's top; a question is small.

        Args:
            window: what is seen.
            may: whether a part that is laid out may be folded.
        """

    def unfold(self) -> None:
        """Lay everything out."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what can be done with this turn."""
        if action == "deed" and parameters:
            return str(parameters[0]).partition(" ")[0] in self.deeds()
        return True

    def action_deed(self, deed: str) -> None:
        """Ask the screen to do it."""
        self.post_message(self.Wanted(self, deed))


class QuestionView(TurnView):
    """One question; never markup, never Markdown: it is shown as it was typed."""

    def __init__(self, question: Draft, note: str = "", shown: Shown | None = None) -> None:
        super().__init__()
        self.question = question
        self.shown = shown
        self._note = note or _note_of(shown)

    @classmethod
    def of_turn(cls, shown: Shown) -> QuestionView:
        """Return the view of a stored question."""
        message = shown.turn.message
        return cls(Draft(message.text).with_media(message.media), shown=shown)

    @property
    def plain(self) -> str:
        """The question as it was typed."""
        return self.question.text

    def deeds(self) -> set[str]:
        """A question can be edited, too."""
        return super().deeds() | ({"edit"} if self.shown is not None else set())

    def compose(self) -> ComposeResult:
        """Pictures above the text, as they were given."""
        if self.question.media:
            with Horizontal(classes="pictures"):
                for medium in self.question.media:
                    yield Static(label(medium), classes="picture")
            yield PreviewRow(self.question.pictures)
        yield Static(Content(printable(self.question.text.strip())), classes="text")
        yield Static(Content(self._note), classes="note")

    def on_mount(self) -> None:
        """Hide the note while there is none."""
        self.note(self._note)

    async def settle(self, shown: Shown) -> None:
        """Show its place among its versions."""
        await super().settle(shown)
        self.note(_note_of(shown))

    def note(self, text: str) -> None:
        """Write ``text`` under the question, or nothing."""
        line = self.query_one(".note", Static)
        line.update(Content(text))
        line.display = bool(text)


def _note_of(shown: Shown | None) -> str:
    if shown is None:
        return ""
    failed = say("turn.failed") if shown.turn.status == "failed" else ""
    return " · ".join(filter(None, (shown.version, failed)))
