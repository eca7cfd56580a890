"""What each family takes in a conversation, in sentences for ``vlmchat show``. No torch here.

The families hold to these rules by themselves (their ``prompt`` and ``layout``); figures come from
where they are used. Languages, tiles and tokens are figures of a catalog row, not rules of a family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmchat.catalog.spec import ModelSpec
from vlmchat.errors import CheckpointError
from vlmchat.families.cogvlm2 import sampling as cogvlm2
from vlmchat.families.internvl2 import sampling as internvl2
from vlmchat.families.ovis2 import limits as ovis2_limits
from vlmchat.families.ovis2 import sampling as ovis2
from vlmchat.families.registry import read_config
from vlmchat.options import Template


@dataclass(frozen=True, slots=True)
class Rules:
    """One sentence, or part of one, for each thing a user may want to do."""

    pictures: str
    """In one turn."""
    later_pictures: str
    """In turns after the first."""
    video: str
    """What is read of one, and how frames are chosen."""
    text_only: str
    system_prompt: str
    history: str
    """What the model sees of earlier turns."""

    def labelled(self) -> tuple[tuple[str, str], ...]:
        """Return the rules with short labels, in the order in which they are shown."""
        return (
            ("in one turn", self.pictures),
            ("later turns", self.later_pictures),
            ("video", self.video),
            ("text only", self.text_only),
            ("system prompt", self.system_prompt),
            ("history", self.history),
        )


_TURNS = Rules(
    pictures="several pictures; in front of the text they are numbered, between texts they stay in their place",
    later_pictures="may bring pictures of their own; each stays in its turn",
    video="",
    text_only="yes",
    system_prompt="yes, in place of the model's own",
    history="all earlier turns, with their pictures",
)
INTERNVL2 = replace(
    _TURNS,
    video=f"{internvl2.FRAMES} frames, the middles of equal stretches, one tile each",
)
OVIS2 = replace(
    _TURNS,
    pictures=f"{_TURNS.pictures}; one alone is cut into at most {ovis2_limits.MAX_CELLS_ALONE} tiles, "
    f"each of several into {ovis2_limits.MAX_CELLS_TOGETHER}",
    video=f"{ovis2.MAX_FRAMES} frames, the middles of equal stretches, all of a shorter one; one tile each",
)
COGVLM2 = Rules(
    pictures="one picture per conversation, read before all text; a second one is refused: "
    "put it in the place of the first, or start a new chat",
    later_pictures="may bring the one picture, if none was given before",
    video="none; cogvlm2-video reads videos",
    text_only="yes",
    system_prompt="none; it is refused",
    history="all earlier questions and answers, as text",
)
_CHAT_FRAMES = f"one frame a second from the start, at most {cogvlm2.MAX_FRAMES}, each with its number in the prompt"
_BASE_FRAMES = f"{cogvlm2.MAX_FRAMES} frames spread evenly over the first {cogvlm2.BASE_SECONDS} seconds"
COGVLM2_VIDEO = replace(
    COGVLM2,
    pictures="a picture is read as a video of one frame",
    later_pictures="may bring the one video or picture, if none was given before; a second one is refused",
    video=f"one per conversation: {_CHAT_FRAMES}",
    history="all earlier questions and answers, as text; it was trained on single questions",
)
COGVLM2_VIDEO_BASE = replace(
    COGVLM2_VIDEO,
    video=f"one per conversation: {_BASE_FRAMES}",
    history="none: it continues the last text, and holds no dialogue",
)
_BY_ARCHITECTURE: Mapping[str, Rules] = {
    "InternVLChatModel": INTERNVL2,
    "Ovis": OVIS2,
    "CogVLMForCausalLM": COGVLM2,
    "CogVLMVideoForCausalLM": COGVLM2_VIDEO,
}
"""By class name in config.json."""
_ONE_MEDIUM = frozenset({"cogvlm2"})
_BY_LOADER: Mapping[str, Rules] = {"internvl2": INTERNVL2, "ovis2": OVIS2, "cogvlm2": COGVLM2}


def reads_one(family: str) -> bool:
    """Say whether models of ``family`` read one picture or video per conversation."""
    return family in _ONE_MEDIUM


def rules_of(spec: ModelSpec) -> Rules | None:
    """Return the rules of a catalog row; None for a family that has none written down."""
    rules = _BY_LOADER.get(spec.loader)
    return _video(spec.template) if rules is COGVLM2 and "video" in spec.abilities else rules


def rules_of_folder(folder: Path) -> Rules | None:
    """Return the rules of a checkpoint by its config.json; None where that cannot be read or says nothing known."""
    try:
        config: Mapping[str, Any] = read_config(folder)
    except CheckpointError:
        return None
    names = config.get("architectures")
    known = [_BY_ARCHITECTURE[name] for name in _BY_ARCHITECTURE if isinstance(names, list) and name in names]
    rules = next(iter(known), None)
    return _video(config.get("template_version")) if rules is COGVLM2_VIDEO else rules


def _video(template: Template | str | None) -> Rules:
    return COGVLM2_VIDEO_BASE if template == "base" else COGVLM2_VIDEO
