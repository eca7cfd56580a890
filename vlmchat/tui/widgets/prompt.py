"""The box one types into: the question, its pictures, and how paths become pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Key, Paste
from textual.message import Message
from textual.widgets import TextArea

from vlmchat.conversation import Picture, Video
from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line, printable
from vlmchat.store.blobs import MAX_VIDEO
from vlmchat.tui.actions import Scope, bindings, of
from vlmchat.tui.attaching import (
    Found,
    Reach,
    attach_pasted,
    attach_typed,
    mentions,
    named,
    only_by_path,
    pasted,
    read_source,
)
from vlmchat.tui.clipboard import clipboard_picture
from vlmchat.tui.memory import Draft
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import say, size
from vlmchat.tui.widgets.chips import Chip, ChipRow
from vlmchat.tui.widgets.reading import Reading

_TYPED = tuple(action for action in of("prompt") if action.id in {"send", "newline"})
"""Their keys belong into the stream of typed characters: as bindings they would overtake the characters before them."""


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
        self._sought: str | None = None
        """Typed behind an @ while the list of pictures is on its way; Enter is a line's end. None: no @ was typed."""

    def take_sought(self) -> str:
        """Return what was typed behind the @ so far; from now on keys are text again."""
        taken, self._sought = self._sought or "", None
        return taken

    async def _on_key(self, event: Key) -> None:
        """Keep Enter in its place among the characters; look for a path when a word ends."""
        if self._sought is not None:
            event.stop()
            event.prevent_default()
            self._sought = _typed_on(self._sought, event)
            return
        if event.key == "space":
            self.post_message(self.Wants("look"))
        elif event.character == "@" and self._at_word_start():
            event.stop()
            event.prevent_default()
            self._sought = ""
            self.post_message(self.Wants("seek"))
        elif event.key == "backspace" and self.cursor_location == (0, 0) and self.selection.is_empty:
            self.post_message(self.Wants("drop"))
        method = next((action.method for action in _TYPED if event.key in action.bound.split(",")), None)
        if method is not None:
            event.stop()
            event.prevent_default()
            await self.run_action(method)

    async def _on_paste(self, event: Paste) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(self.Pasted(printable(event.text.replace("\r\n", "\n").replace("\r", "\n"))))

    def _at_word_start(self) -> bool:
        row, column = self.cursor_location
        return self.document.get_line(row)[:column][-1:].strip() == ""

    def action_paste_clipboard(self) -> None:
        """Attach the picture in the clipboard, or paste what was copied in the app."""
        self.post_message(self.Wants("clipboard"))

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


def _typed_on(text: str, event: Key) -> str:
    if event.key == "backspace":
        return text[:-1]
    if event.key == "enter":
        return f"{text}\n"
    return text + (event.character if event.is_printable and event.character else "")


class PromptBox(Vertical):
    """Chips and text of the draft; hands finished drafts to ``submit`` and keeps those it refuses."""

    class Scrolled(Message):
        """The user wants to see another page of the chat."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    class Changed(Message):
        """The box holds other pictures than before."""

    class Sought(Message):
        """The user wants to look for a picture."""

    def __init__(self, submit: Callable[[Draft], bool]) -> None:
        super().__init__()
        self._submit = submit
        self._media = Draft()
        """Its pictures and videos; its text is the area's."""
        self._history: list[Draft] = []
        self._recalled = 0
        """How many questions back the box shows; 0 is the draft."""
        self._refused = ""
        """A text whose path was complained about; sent as it is when it comes again."""
        self.reading = Reading(self)
        self.command: Callable[[str], bool | None] = lambda _text: None
        """Takes a typed command: True when it was done, False when it was refused, None when the text is none."""

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
        return Draft(self.area.text, self._media.pictures, self._media.videos)

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
        await self._show(draft)

    async def put_back(self, draft: Draft) -> None:
        """Put a question that was not answered back in front of what was typed since."""
        await self.put(draft.before(self.draft))

    async def drop_last(self) -> None:
        """Take the last picture or video off the draft."""
        await self._drop(self._media.media[-1:])

    async def add(self, media: tuple[Picture | Video, ...]) -> None:
        """Add chips to the draft; what is there already is not added again."""
        self._tell_long(media)
        await self._show(self._media.with_media(media))

    def attach(self, source: str) -> None:
        """Read a path or a URL and add it."""
        self._attach_with(partial(read_source, named(source)))

    def show_costs(self, costs: Mapping[str, int]) -> None:
        """Say on the chips what each costs the model, by digest."""
        self.query_one(ChipRow).price(costs)

    @on(PromptArea.Wants)
    async def _serve(self, event: PromptArea.Wants) -> None:
        event.stop()
        match event.what:
            case "look":
                self._look()
            case "seek":
                self.post_message(self.Sought())
            case "clipboard":
                self._attach_clipboard()
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
        await self._drop((event.medium,))
        self.focus_text()

    @on(Chip.Left)
    def _chip_left(self, event: Chip.Left) -> None:
        event.stop()
        self.focus_text()

    def send(self) -> None:
        """Do what Enter does."""
        self._send()

    def _send(self) -> None:
        text = self.area.text
        if text.startswith("/") and text != self._refused:
            taken = self.command(text)
            if taken is not None:
                self._refused = "" if taken else text
                self.area.text = "" if taken else text
                return
        if self.reading.turn.locked() or (mentions(text) and text != self._refused):
            self._read_and_send()
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        draft = self.draft
        if not draft.text.strip():
            if draft.media:
                tell(self, "toast.no_question")
            return
        if not self._submit(draft):
            return
        self._history.append(draft)
        self._recalled, self._refused = 0, ""
        self.area.text = ""
        self.call_next(self._show, Draft())

    @work
    async def _read_and_send(self) -> None:
        """Turn the paths in the text into chips; send at once when a question is left over."""
        async with self.reading.turn:
            text = self.area.text
            as_text = text == self._refused
            found = Found(rest=text) if as_text else await self.reading.read(partial(attach_typed, text))
            if self.area.text != text:
                return
            if found.error is not None:
                self._refused = text
                complain(self, found.error, say("toast.path_as_text"))
                return
            if found.media:
                await self._take(found)
            if found.rest.strip() or not found.media:
                self._hand_over()

    @work
    async def _attach_pasted(self, text: str) -> None:
        """Make chips of a paste that names pictures; type it when it does not."""
        async with self.reading.turn:
            found = await self.reading.read(partial(attach_pasted, text))
            if found is None or found.error is not None:
                self.area.insert(text)
            if found is not None:
                await self.add(found.media)
                if found.error is not None:
                    complain(self, found.error)

    @work
    async def _attach_with(self, read: Callable[[Reach], Picture | Video]) -> None:
        async with self.reading.turn:
            try:
                await self.add((await self.reading.read(read),))
            except VlmchatError as error:
                complain(self, error)

    @work
    async def _attach_clipboard(self) -> None:
        """Make a chip of the clipboard's picture; without one, paste the text that was copied in the app."""
        async with self.reading.turn:
            try:
                await self.add((await self.reading.read(lambda _reach: clipboard_picture()),))
            except VlmchatError as error:
                if self.app.clipboard:
                    self.area.action_paste()
                else:
                    complain(self, error)

    def _look(self) -> None:
        """Look whether the word that just ended is a picture; it is only tried, never complained about."""
        if any(mention.sure for mention in mentions(self.area.text)) and not self.reading.turn.locked():
            self._try_typed()

    @work
    async def _try_typed(self) -> None:
        async with self.reading.turn:
            text = self.area.text
            # The web is asked when the question is sent, not while it is typed.
            found = await self.reading.read(partial(attach_typed, text, web=False))
            if found.media and self.area.text.startswith(text):
                await self._take(replace(found, rest=f"{found.rest} {self.area.text[len(text) :]}".lstrip()))

    async def _take(self, found: Found) -> None:
        """Put what was found in the text among the chips, and the rest of the text into the box."""
        self._tell_long(found.media)
        draft = self._media.with_media(found.media)
        await self.put(replace(draft, text=found.rest))

    def _tell_long(self, media: tuple[Picture | Video, ...]) -> None:
        """Say which of ``media`` a chat keeps by its path alone."""
        for video in only_by_path(media):
            tell(self, "toast.video_by_path", name=one_line(video.name), limit=size(MAX_VIDEO))

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

    async def _drop(self, media: tuple[Picture | Video, ...]) -> None:
        gone = {medium.digest for medium in media}
        left = tuple(medium for medium in self._media.media if medium.digest not in gone)
        await self._show(Draft().with_media(left))

    async def _show(self, draft: Draft) -> None:
        self._media = replace(draft, text="")
        await self.query_one(ChipRow).show(draft.media)
        self.post_message(self.Changed())
