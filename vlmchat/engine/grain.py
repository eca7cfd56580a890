"""The grain of the engine's work: what decides its memory, for those who compute and for those who estimate.

No torch here, so that the estimate costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

PREFILL_CHUNK = {"cpu": 256, "cuda": 1024, "mps": 512}
"""Prompt tokens per forward pass, by device: how often progress is told and a stop is seen."""
PREFILL_REST = 4
"""A rest of up to a quarter of a chunk goes along with the last one. A pass reads all weights however few tokens it
has, and prompts with a picture of 256 tokens a tile nearly always leave such a rest."""
TILE_BATCH = {"cpu": 1, "cuda": 8, "mps": 2}
"""Tiles per pass of the vision tower, by device. On a CPU a tile of 1,025 patches fills the cores: in passes of 1, 2
and 4 InternViT-300M takes 2.4, 2.6 and 2.4 s a tile (two AVX-512 cores, bfloat16), and one shows progress soonest."""
KV_BLOCK = 256
"""Tokens by which the KV buffers grow: at 8,000 tokens one growth per 256 steps copies less than 1 %
of what those steps read."""
KV_BLOCK_RECORDED = 1024
"""As ``KV_BLOCK`` for a single row on a GPU, whose recorded steps are recorded anew when its buffers move: 134 MB with
the 32 layers and 8 key heads of InternVL2-8B."""
INT4_GROUP = 32
"""Input features that share a scale in 4 bits: the finest grain the kernel takes, 5 bits a weight in all
against 4.25 at 128. It is the more exact choice: 7.5 % of the weights' norm is lost on Gaussian weights."""
INT4_OUTPUTS = 16
"""torch's 4-bit kernel packs output features in blocks of this many."""
QUANTIZING_BYTES: Mapping[str, int] = {"8-bit": 7, "4-bit": 14}
"""Bytes alive at once for each weight of the layer that is being quantized on a CPU: itself in 16 bits and
float32 values on their way to levels (counted in ``quantize.py``, checked by ``tests/engine/test_fit.py``)."""


def longest_pass(kind: str) -> int:
    """Return the most prompt tokens one pass gets on a device of this ``kind``."""
    return PREFILL_CHUNK[kind] + PREFILL_CHUNK[kind] // PREFILL_REST
