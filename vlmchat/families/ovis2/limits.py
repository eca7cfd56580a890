"""How finely Ovis2 cuts pictures when nobody says (model card, ``max_partition``; the project's Ovis2 facts, §6)."""

from __future__ import annotations

MAX_CELLS_ALONE = 9
"""Cells of a picture that is the only one of its turn."""
MAX_CELLS_TOGETHER = 4
"""Cells of each of several pictures of one turn. Counted by turn, so that a later picture does not
change how an earlier one was read."""
