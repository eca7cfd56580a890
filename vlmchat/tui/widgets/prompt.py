"""The box one types into: the question, its pictures, and how paths become pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Key, Paste
from textual.message import Message
from textual.widgets import TextArea

from vlmchat.conversation import Picture
from vlmchat.plaintext import printable
from vlmchat.tui.actions import Scope, bindings, of
from vlmchat.tui.attaching import Found, attach_pasted, attach_typed, mentions, pasted
from vlmchat.tui.memory import Draft
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import say
from vlmchat.tui.widgets.chips import Chip, ChipRow

_TYPED = {key: action.method for action in of("prompt") if action.id in {"send", "newline"} for key in [action.key]}
"""Keys that belong into the stream of typed characters: as bindings they would overtake the characters before them."""


class PromptArea(TextArea):
    """The text itself; everything special about its keys is passed on to the box around it."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("prompt")
    scope: ClassVar[Scope] = "prompt"

    class Wants(Message):
        """A key asked for something that concerns the whole box."""

        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what

    class Pasted(Message):
        """Text came in one piece."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, send: Callable[[], None]) -> None:
        super().__init__(
            placeholder=say("prompt.placeholder"), soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False
        )
        self._send = send
        """Called at once and not by message, so that a character typed after Enter is not sent with the question."""

    async def _on_key(self, event: Key) -> None:
        """Keep Enter in its place among the characters; look for a path when a word ends."""
        if event.key == "space":
            self.post_message(self.Wants("look"))
        elif event.key == "backspace" and self.cursor_location == (0, 0) and self.selection.is_empty:
            self.post_message(self.Wants("drop"))
        method = _TYPED.get(event.key)
        if method is not None:
            event.stop()
            event.prevent_default()
            await self.run_action(method)

    async def _on_paste(self, event: Paste) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(self.Pasted(printable(event.text.replace("\r\n", "\n").replace("\r", "\n"))))

    def action_send(self) -> None:
        """Send the question."""
        self._send()

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def action_recall(self) -> None:
        """Recall an earlier question, or move up in the present one."""
        if self.cursor_location[0] == 0:
            self.post_message(self.Wants("recall"))
        else:
            self.action_cursor_up()

    def action_recall_newer(self) -> None:
        """Go back towards the draft, or move down in the present text."""
        if self.cursor_location[0] == self.document.line_count - 1:
            self.post_message(self.Wants("newer"))
        else:
            self.action_cursor_down()

    def action_page(self, direction: int) -> None:
        """Scroll the chat while the cursor stays here."""
        self.post_message(self.Wants("up" if direction < 0 else "down"))


class PromptBox(Vertical):
    """Chips and text of the draft; hands finished drafts to ``submit`` and keeps those it refuses."""

    class Scrolled(Message):
        """The user wants to see another page of the chat."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    def __init__(self, submit: Callable[[Draft], bool]) -> None:
        super().__init__()
        self._submit = submit
        self._pictures: tuple[Picture, ...] = ()
        self._history: list[Draft] = []
        self._recalled = 0
        """How many questions back the box shows; 0 is the draft."""
        self._refused = ""
        """A text whose path was complained about; sent as it is when it comes again."""
        self._one_at_a_time = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """Chips above, text below."""
        yield ChipRow()
        yield PromptArea(self._send)

    @property
    def area(self) -> PromptArea:
        """The text."""
        return self.query_one(PromptArea)

    @property
    def draft(self) -> Draft:
        """What is in the box now."""
        return Draft(self.area.text, self._pictures)

    def focus_text(self) -> None:
        """Put the cursor into the text."""
        self.area.focus()

    def remember(self, drafts: list[Draft]) -> None:
        """Make ``drafts``, oldest first, the questions that can be recalled."""
        self._history, self._recalled = list(drafts), 0

    async def put(self, draft: Draft) -> None:
        """Show ``draft``, with the cursor at its end."""
        self.area.text = draft.text
        self.area.move_cursor(self.area.document.end)
        await self._show_pictures(draft.pictures)

    async def put_back(self, draft: Draft) -> None:
        """Put a question that was not answered back in front of what was typed since."""
        await self.put(draft.before(self.draft))

    async def drop_last(self) -> None:
        """Take the last picture off the draft."""
        await self._show_pictures(self._pictures[:-1])

    @on(PromptArea.Wants)
    async def _serve(self, event: PromptArea.Wants) -> None:
        event.stop()
        match event.what:
            case "look":
                self._look()
            case "drop":
                await self.drop_last()
            case "recall":
                await self._recall(1)
            case "newer":
                await self._recall(-1)
            case direction:
                self.post_message(self.Scrolled(-1 if direction == "up" else 1))

    @on(PromptArea.Pasted)
    def _pasted(self, event: PromptArea.Pasted) -> None:
        event.stop()
        if pasted(event.text):
            self._attach_pasted(event.text)
        else:
            self.area.insert(event.text)

    @on(Chip.Removed)
    async def _chip_removed(self, event: Chip.Removed) -> None:
        event.stop()
        await self._show_pictures(tuple(it for it in self._pictures if it.digest != event.picture.digest))
        self.focus_text()

    @on(Chip.Left)
    def _chip_left(self, event: Chip.Left) -> None:
        event.stop()
        self.focus_text()

    def _send(self) -> None:
        text = self.area.text
        if self._one_at_a_time.locked() or (mentions(text) and text != self._refused):
            self._read_and_send()
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        draft = self.draft
        if not draft.text.strip():
            if draft.pictures:
                tell(self, "toast.no_question")
            return
        if not self._submit(draft):
            return
        self._history.append(draft)
        self._recalled, self._refused = 0, ""
        self.area.text = ""
        self.call_next(self._show_pictures, ())

    @work
    async def _read_and_send(self) -> None:
        """Turn the paths in the text into chips; send at once when a question is left over."""
        async with self._one_at_a_time:
            text = self.area.text
            found = await self._reading(attach_typed, text) if text != self._refused else Found(rest=text)
            if found is None or self.area.text != text:
                return
            if found.error is not None:
                self._refused = text
                complain(self, found.error, say("toast.path_as_text"))
                return
            if found.pictures:
                await self.put(Draft(found.rest, self._with(found.pictures)))
            if found.rest.strip() or not found.pictures:
                self._hand_over()

    @work
    async def _attach_pasted(self, text: str) -> None:
        """Make chips of a paste that names pictures; type it when it does not."""
        async with self._one_at_a_time:
            found = await self._reading(attach_pasted, text)
            if found is None or found.error is not None:
                self.area.insert(text)
            if found is not None:
                await self._show_pictures(self._with(found.pictures))
                if found.error is not None:
                    complain(self, found.error)

    def _look(self) -> None:
        """Look whether the word that just ended is a picture; it is only tried, never complained about."""
        if any(mention.sure for mention in mentions(self.area.text)) and not self._one_at_a_time.locked():
            self._try_typed()

    @work
    async def _try_typed(self) -> None:
        async with self._one_at_a_time:
            text = self.area.text
            found = await self._reading(attach_typed, text)
            if found is not None and found.pictures and self.area.text.startswith(text):
                now = f"{found.rest} {self.area.text[len(text) :]}".lstrip()
                await self.put(Draft(now, self._with(found.pictures)))

    async def _reading(self, read: Callable[[str], Found | None], text: str) -> Found | None:
        self.border_subtitle = say("prompt.reading", count=1)
        try:
            return await asyncio.to_thread(read, text)
        finally:
            self.border_subtitle = ""

    async def _recall(self, step: int) -> None:
        """Show the question ``step`` further back, unless the text on the screen is the user's own."""
        if self.draft != self._recalled_draft or self._recalled + step < 0:
            return
        if self._recalled + step > len(self._history):
            tell(self, "toast.nothing_to_recall")
            return
        self._recalled += step
        await self.put(self._recalled_draft)

    @property
    def _recalled_draft(self) -> Draft:
        return self._history[-self._recalled] if self._recalled else Draft()

    def _with(self, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        known = {picture.digest for picture in self._pictures}
        return self._pictures + tuple(picture for picture in pictures if picture.digest not in known)

    async def _show_pictures(self, pictures: tuple[Picture, ...]) -> None:
        self._pictures = pictures
        await self.query_one(ChipRow).show(pictures)
