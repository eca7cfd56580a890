"""How much each packed format takes, as stored and while it is unpacked. No torch here.

The shapes are those of the buffers in ``awq.py``, ``gptq.py`` and ``bnb4.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from vlmchat.families.sizes import Linear, Packing

BLOCK = 64
"""bitsandbytes: weights per scale (``blocksize``), its default, and what the repositories hold."""
CODES = 16
"""bitsandbytes: values in the codebook of a layer."""
STATE_BYTES = 512
"""bitsandbytes: room for a layer's ``quant_state`` JSON; the real ones have about 80 bytes."""
UNPACKING_BYTES: Mapping[str, int] = {"awq": 14, "gptq": 8, "bnb": 6}
"""Bytes alive at once for each weight of the layer that is being unpacked, the result included: float32 values and
their copies in other orders (counted in the ``unpack`` methods, checked by ``tests/engine/test_fit.py``)."""
_FLOAT16, _FLOAT32, _INT32 = 2, 4, 4


def packed_bytes(layer: Linear, packing: Packing) -> int:
    """Return the bytes of the packed weight of ``layer``, its bias apart."""
    weights = layer.weights
    if packing.method == "bnb":
        return -(-weights // 2) + -(-weights // BLOCK) * _FLOAT32 + CODES * _FLOAT32 + STATE_BYTES
    group = packing.group if packing.group > 0 else layer.inputs
    groups = -(-layer.inputs // group)
    scales = groups * layer.outputs * _FLOAT16
    zeros = groups * layer.outputs * packing.bits // 8
    order = layer.inputs * _INT32 if packing.method == "gptq" else 0
    return weights * packing.bits // 8 + zeros + scales + order
