"""Follow-up turns and growth: what a long chat costs beside its first turn, and each token beside bare attention.

    python -m tests.bench.bench_turns [--tokens 8000]

InternVL2-1B's language model (Qwen2-0.5B), random weights in bfloat16. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from tests.bench.bench_engine import opened_1b
from tests.bench.checkpoints import INTERNVL2_1B
from vlmchat.conversation import Message, assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.families.attention import causal_attention
from vlmchat.options import Sampling

TURNS = 16
DECODED = 16


def history(engine: TorchEngine, tokens: int) -> tuple[Message, ...]:
    """Return ``TURNS`` questions and answers that take about ``tokens`` tokens in all."""

    def made(words: int) -> tuple[Message, ...]:
        pairs = [(user(f"Question {number}? " + "red " * words), assistant("A star.")) for number in range(TURNS)]
        return tuple(message for pair in pairs for message in pair)

    words = 8
    while engine.measure(Request((*made(words), user("And?")))).prompt_tokens < tokens:
        words += 8
    return made(words)


def ask(engine: TorchEngine, *messages: Message, tokens: int = 1) -> tuple[Finished, int]:
    """Answer; returns the end and the tokens that went through the language model."""
    before = engine.runner.passes.forward_tokens
    finished = list(engine.generate(Request(messages, Sampling(max_new_tokens=tokens))))[-1]
    assert isinstance(finished, Finished)
    return finished, engine.runner.passes.forward_tokens - before


def turns(engine: TorchEngine, past: tuple[Message, ...]) -> None:
    """Print cold, next and edited turns."""
    middle = len(past) // 2
    edited = (*past[:middle], user("Another question?"), *past[middle + 1 :])
    asked = {
        "cold": (*past, user("What was that?")),
        "next turn": (*past, user("What was that?"), assistant("A star."), user("And where is it?")),
        "the same, last question edited": (*past, user("What was that?"), assistant("A star."), user("How big?")),
        "a question in the middle edited": (*edited, user("What was that?")),
    }
    engine.runner.forget()
    base = 0.0
    print("| | prompt | computed | first token s | of cold |\n| --- | ---: | ---: | ---: | ---: |")
    for name, messages in asked.items():
        end, computed = ask(engine, *messages)
        first = end.timing.first_token_s
        base = base or first
        print(f"| {name} | {end.usage.prompt_tokens:,} | {computed:,} | {first:.3f} | {100 * first / base:.1f} % |")
    print()


def attention_s(length: int) -> float:
    """Return seconds of the attention calls of one decode step at a context of ``length``, nothing else."""
    shape = INTERNVL2_1B["language"]
    heads, shared = shape["num_attention_heads"], shape["num_key_value_heads"]
    size, layers = shape["hidden_size"] // heads, shape["num_hidden_layers"]
    query = torch.randn(1, heads, 1, size).bfloat16()
    held = [torch.randn(2, 1, shared, length, size).bfloat16() for _ in range(layers)]
    taken = []
    for _ in range(DECODED):
        start = time.perf_counter()
        for keys, values in held:
            causal_attention(query, keys, values, None)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@torch.inference_mode()
def growth(engine: TorchEngine, past: tuple[Message, ...], kv_bytes: int) -> None:
    """Print what a token costs at growing contexts, the attention alone beside it, and the memory."""
    print(
        "| context | ms a token | attention alone, ms | KV MB, held | estimate |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    found = []
    # A shortened chat keeps the buffers of the long one, which would count as held.
    engine.runner.forget()
    for share in (8, 4, 2, 1):
        end, _ = ask(engine, *past[: len(past) // share], user("What was that?"), tokens=DECODED + 1)
        length, each = end.usage.prompt_tokens, 1 / end.timing.decode_tokens_per_s
        alone, held = attention_s(length), engine.runner.cache.bytes() / 1e6
        found.append((length, each, alone))
        estimate = (length + DECODED) * kv_bytes / 1e6
        print(f"| {length:,} | {1e3 * each:.1f} | {1e3 * alone:.1f} | {held:.1f} | {estimate:.1f} |")
    (low, each_low, alone_low), (high, each_high, alone_high) = found[0], found[-1]
    slopes = [1e6 * (b - a) / (high - low) for a, b in ((each_low, each_high), (alone_low, alone_high))]
    print(f"\nmicroseconds a token for each token of context: {slopes[0]:.2f}; attention alone {slopes[1]:.2f}\n")


def chats(engine: TorchEngine) -> None:
    """Print what a token costs after many other chats."""
    rates = []
    for number in range(60):
        end, _ = ask(engine, user(f"Chat {number}. What is that?"), tokens=DECODED + 1)
        rates.append(1e3 / end.timing.decode_tokens_per_s)
    first, last = statistics.median(rates[1:11]), statistics.median(rates[-10:])
    print(f"ms a token: chats 2 to 11 {first:.1f}, chats 51 to 60 {last:.1f}, ratio {last / first:.2f}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8000)
    arguments = parser.parse_args()
    engine = opened_1b("bfloat16")
    engine.runner.model.checkpoint.stop_ids = frozenset()
    past = history(engine, arguments.tokens)
    turns(engine, past)
    growth(engine, past, engine.runner.model.about.kv_bytes_per_token)
    chats(engine)
    engine.close()


if __name__ == "__main__":
    main()
