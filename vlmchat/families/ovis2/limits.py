"""Ovis2's fixed numbers (the project's Ovis2 facts, §4, §6). No torch here."""

from __future__ import annotations

MAX_CELLS_ALONE = 9
"""Cells of a picture that is the only one of its turn, when nobody says (model card, ``max_partition``)."""
MAX_CELLS_TOGETHER = 4
"""Cells of each of several pictures of one turn. Counted by turn, so that a later picture does not
change how an earlier one was read."""
INDICATORS = 5
"""Rows at the end of the visual embedding table that mark the structure of a picture."""
