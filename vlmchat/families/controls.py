"""The control tokens of a tokenizer, by name."""

from __future__ import annotations

from collections.abc import Mapping

from vlmchat.errors import CheckpointError


class ControlTable:
    """What all tokenizers share: looking a control token up, and saying that it is not there."""

    _controls: Mapping[str, int]
    """Token text -> id; set by the tokenizer that reads it from its files."""

    def control(self, token: str) -> int:
        """Return the id of control token ``token``.

        Raises:
            CheckpointError: the checkpoint has no such token.
        """
        try:
            return self._controls[token]
        except KeyError:
            raise CheckpointError(
                f"The tokenizer of this checkpoint has no {token} token.", "Fetch its tokenizer files again."
            ) from None
