"""Qwen2.5's tokenizer, with names for what Ovis2 puts between its words."""

from __future__ import annotations

from vlmchat.families.bytelevel import ByteLevelTokenizer
from vlmchat.families.ovis2.prompt import PLACEHOLDER_IDS


class Ovis2Tokenizer(ByteLevelTokenizer):
    """Knows picture and indicator positions by name; the files have no tokens for them."""

    def control(self, token: str) -> int:
        """Return the id of control token, picture or indicator ``token``.

        Raises:
            CheckpointError: the checkpoint has no such token.
        """
        placeholder = PLACEHOLDER_IDS.get(token)
        return super().control(token) if placeholder is None else placeholder
