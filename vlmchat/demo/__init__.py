"""The embedded demo model: a tiny InternVL2-layout checkpoint, and the code that drew its world and trained it.

Reading order: :mod:`world` (what there is), :mod:`draw` (how it looks), :mod:`phrases` and :mod:`dialogue` (what is
said about it), :mod:`network` and :mod:`train` (how it is learnt), :mod:`evaluate` (what was learnt).
Only :data:`CHECKPOINT` is needed to run the model; nothing heavy is imported here.
"""

from pathlib import Path
from typing import Final

CHECKPOINT: Final = Path(__file__).parent / "checkpoint"
"""The shipped checkpoint folder, in the original hub layout."""
