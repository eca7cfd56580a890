"""The verdict on a model as one sentence in the language of the app: the engine counts, the words are ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmchat.options import SHORT_DTYPES
from vlmchat.tui.text import many, say

if TYPE_CHECKING:
    from vlmchat.engine.fit import Estimate
    from vlmchat.engine.verdict import Fit, Place


def fit_text(fit: Fit | None) -> str:
    """Say which setting fits where with how much room, and what the most exact one would need; empty for None."""
    if fit is None:
        return ""
    # Late: what counts memory is of no use to the first frame; whoever has a Fit has it loaded.
    from vlmchat.engine.verdict import gigabytes

    best, exact = fit.best, fit.rooms[0]
    if best.lacks:
        setting = _setting(best.estimate)
        return say("fit.lacks", place=_place(best.place), setting=setting, lacks=gigabytes(best.lacks))
    room = many(f"fit.{fit.medium}", best.pictures)
    text = say(
        "fit.fits", setting=_setting(best.estimate), place=_place(best.place), room=room, tokens=_tokens(best.tokens)
    )
    if exact is best:
        return text
    setting = _setting(exact.estimate)
    if exact.lacks:
        return text + say("fit.exact.lacks", setting=setting, lacks=gigabytes(exact.lacks))
    return text + say("fit.exact.place", setting=setting, place=_place(exact.place))


def _place(place: Place) -> str:
    from vlmchat.engine.verdict import gigabytes

    return say(f"fit.place.{place.where}", free=gigabytes(place.told), gpus=place.gpus)


def _setting(taken: Estimate) -> str:
    if taken.quantization in ("8-bit", "4-bit"):
        return taken.quantization
    dtype = SHORT_DTYPES[taken.dtype]
    return say(f"fit.{taken.quantization}", dtype=dtype) if taken.quantization in ("packed", "unpacked") else dtype


def _tokens(count: int) -> str:
    """Return a number of tokens in round figures."""
    return say("fit.tokens", count=f"{count // 1000}k" if count >= 1000 else count // 100 * 100)
