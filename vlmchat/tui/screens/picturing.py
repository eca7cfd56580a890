"""What a chat does with pictures apart from asking: find, look, crop, count, and one where only one may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from textual import on, work
from textual.screen import Screen

from vlmchat.conversation import Picture, Video
from vlmchat.engine.api import Engine
from vlmchat.errors import VlmchatError
from vlmchat.options import VisionOptions
from vlmchat.tui.telling import tell
from vlmchat.tui.widgets.chips import Chip
from vlmchat.tui.widgets.preview import Preview
from vlmchat.tui.widgets.prompt import PromptBox
from vlmchat.tui.widgets.turn import QuestionView

if TYPE_CHECKING:
    from vlmchat.tui.app import VlmchatApp
    from vlmchat.tui.desk import Desk


Seen = TypeVar("Seen")
Look: TypeAlias = Callable[[Engine, Sequence[Picture | Video], VisionOptions], Seen]


class Picturing(Screen[None]):
    """The half of the chat that is about pictures; the chat itself gives it a desk and a box."""

    desk: Desk
    prompt: PromptBox

    def action_attach(self) -> None:
        """Find a picture or a video."""
        from vlmchat.tui.screens.pictures import PicturesScreen

        self.app.push_screen(PicturesScreen(), self._picked)

    def action_view(self) -> None:
        """Show what the model gets of the pictures in the box, or of those asked about last."""
        media, engine, model = self._media_at_hand(), self.desk.engine, self.desk.model
        if not media:
            tell(self, "toast.no_picture")
        elif engine is None or model is None or model.loaded is None:
            tell(self, "toast.view_later")
        else:
            from vlmchat.tui.screens.tiles import TilesScreen
            from vlmchat.tui.sighting import pages

            look = partial(self._with_vision, pages, engine, media)
            self.app.push_screen(TilesScreen(look, model.loaded.context_tokens), self._crop)

    def action_crop(self) -> None:
        """Cut a part out of the last picture."""
        pictures = [medium for medium in self._media_at_hand() if isinstance(medium, Picture)]
        if pictures:
            self._crop(pictures[-1])
        else:
            tell(self, "toast.no_picture")

    def action_previews(self) -> None:
        """Draw the pictures, or name them only."""
        app: VlmchatApp = self.app  # type: ignore[assignment]
        wish = self.desk.settings.previews
        app.previews = "off" if app.previews != "off" else "auto" if wish == "off" else wish
        tell(self, "toast.previews_off" if app.previews == "off" else "toast.previews_on")
        for preview in self.query(Preview):
            preview.draw_again()

    @work(exclusive=True, group="price")
    async def price(self) -> None:
        """Say on the chips what each picture costs, once the model can tell."""
        media, engine = self.prompt.draft.media, self.desk.engine
        if engine is None or self.desk.model is None or not media:
            return
        from vlmchat.tui.sighting import costs

        with suppress(VlmchatError):
            self.prompt.show_costs(await asyncio.to_thread(self._with_vision, costs, engine, media))

    @on(PromptBox.Changed)
    def _media_changed(self, event: PromptBox.Changed) -> None:
        event.stop()
        self.price()
        self.refresh_bindings()

    @on(PromptBox.Sought)
    def _sought(self, event: PromptBox.Sought) -> None:
        """Look for a picture in place of the @ that was typed; left without one, it is typed after all."""
        event.stop()
        from vlmchat.tui.screens.pictures import PicturesScreen

        screen = PicturesScreen(self.prompt.area.take_sought)

        def back(source: str | None) -> None:
            self._picked(source)
            if source is None:
                self.prompt.area.insert(f"@{screen.words_left}")

        self.app.push_screen(screen, back)

    @on(Chip.Wanted)
    def _wanted(self, event: Chip.Wanted) -> None:
        event.stop()
        if event.what == "view":
            self.action_view()
        elif isinstance(event.medium, Picture):
            self._crop(event.medium)

    def _picked(self, source: str | None) -> None:
        self.prompt.focus_text()
        if source is not None:
            self.prompt.attach(source)

    def _crop(self, picture: Picture | None) -> None:
        if picture is not None:
            from vlmchat.tui.screens.crop import CropScreen

            self.app.push_screen(CropScreen(picture), self._cropped)

    async def _cropped(self, picture: Picture | None) -> None:
        self.prompt.focus_text()
        if picture is not None:
            await self.prompt.add((picture,))

    def _media_at_hand(self) -> tuple[Picture | Video, ...]:
        """Return what is in the box, or what the last question with a picture was about."""
        asked = (view.question.media for view in reversed(list(self.query(QuestionView))))
        return self.prompt.draft.media or next(filter(None, asked), ())

    def _with_vision(self, look: Look[Seen], engine: Engine, media: Sequence[Picture | Video]) -> Seen:
        """Look at ``media`` as the next question would be laid out; for a thread."""
        return look(engine, media, self.desk.measuring_session().vision)
