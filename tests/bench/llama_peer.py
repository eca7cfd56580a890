"""llama.cpp as a peer: a random GGUF of Qwen2-0.5B's geometry, answered by its server in a process of its own.

Run by ``bench_llama`` with an interpreter that has ``xllamacpp`` and ``gguf`` (``pip install xllamacpp gguf``), because
its threads and torch's must not share a process. Lines on stdin ask, lines of JSON on stdout answer.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY = 896, 24, 14, 2, 4864, 151655
KINDS = {"f16": 1, "q8_0": 7, "q4_0": 2}
"""Name of a file's quantization -> llama.cpp's number for it."""


def build(path: Path, kind: str) -> None:
    """Write the checkpoint; its embedding and head have 16 or 8 bits, as llama.cpp's own tool leaves them."""
    import numpy as np

    gguf: Any = import_module("gguf")
    writer = gguf.GGUFWriter(path, "qwen2")
    _describe(writer, kind)
    random = np.random.default_rng(0)
    packed = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_0": gguf.GGMLQuantizationType.Q4_0}.get(kind)
    ends = gguf.GGMLQuantizationType.Q8_0 if packed else None

    def matrix(name: str, outputs: int, inputs: int, form: Any = packed) -> None:
        values = random.standard_normal((outputs, inputs), dtype=np.float32) * 0.02
        if form is None:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, form), raw_dtype=form)

    def vector(name: str, length: int, value: float) -> None:
        writer.add_tensor(name, np.full(length, value, np.float32))

    matrix("token_embd.weight", VOCABULARY, HIDDEN, ends)
    matrix("output.weight", VOCABULARY, HIDDEN, ends)
    vector("output_norm.weight", HIDDEN, 1)
    keys = HIDDEN // HEADS * KV_HEADS
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        for name, outputs in (("attn_q", HIDDEN), ("attn_k", keys), ("attn_v", keys)):
            matrix(f"{at}{name}.weight", outputs, HIDDEN)
            vector(f"{at}{name}.bias", outputs, 0)
        matrix(f"{at}attn_output.weight", HIDDEN, HIDDEN)
        for name in ("ffn_gate", "ffn_up"):
            matrix(f"{at}{name}.weight", INNER, HIDDEN)
        matrix(f"{at}ffn_down.weight", HIDDEN, INNER)
        vector(f"{at}attn_norm.weight", HIDDEN, 1)
        vector(f"{at}ffn_norm.weight", HIDDEN, 1)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()


def _describe(writer: Any, kind: str) -> None:
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_file_type(KINDS[kind])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{number}" for number in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges(["t 1"])
    writer.add_eos_token_id(VOCABULARY - 1)


def main() -> None:
    """Serve: folder, kind, threads and lengths from the command line; each line on stdin is one cold answer."""
    folder, kind, threads, prompt, tokens = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
    path = folder / f"qwen2-0.5b-{kind}.gguf"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        build(path, kind)
    xllamacpp: Any = import_module("xllamacpp")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.verbosity = prompt + tokens + 64, 1, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    print(json.dumps({"system": xllamacpp.get_system_info()}), flush=True)
    for number, _ in enumerate(sys.stdin):
        question = {
            "prompt": list(range(100 + number, 100 + number + prompt)),
            "n_predict": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "cache_prompt": False,
        }
        said: list[Any] = []
        server.handle_completions(json.dumps(question), said.append)
        answer = said[-1] if isinstance(said[-1], dict) else json.loads(said[-1])
        times = answer["timings"]
        print(json.dumps({"prefill": times["prompt_per_second"], "decode": times["predicted_per_second"]}), flush=True)


if __name__ == "__main__":
    main()
