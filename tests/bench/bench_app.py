"""What the app costs: first frame, key presses while text streams, tokens per second beside ``ask``.

``python -m tests.bench.bench_app [frame] [chats] [keys] [rate]``; all of them when none is named. Peers are
measured in the same run: a bare Textual app for the first frame, an empty store for ten thousand chats, the
engine's own stream (what ``ask`` prints) for the rate. Run it alone on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.console import RenderableType
from textual.events import Key
from textual.screen import Screen

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, build, driven
from tests.tui.test_first_frame import first_frame
from vlmchat.chat.opening import create_engine, find, open_model
from vlmchat.chat.session import Session
from vlmchat.conversation import user
from vlmchat.engine.events import Finished
from vlmchat.options import LoadOptions, Sampling
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore
from vlmchat.store.schema import connect, transaction

RUNS = 5
CHATS = 10_000
HOT = Sampling(max_new_tokens=300, temperature=100.0, seed=1)
"""Sampled so hot the embedded model does not find its end: an answer long enough to be timed."""


def frame() -> None:
    """CPU-seconds to the first frame, beside a bare Textual app."""
    with tempfile.TemporaryDirectory() as home:
        for kind in ("bare", "ours"):
            spent = sorted(float(str(first_frame(kind, Path(home))["cpu"])) for _ in range(RUNS))
            print(f"first frame, {kind}: {spent[0]:.2f} to {spent[-1]:.2f} CPU-seconds")


def chats() -> None:
    """CPU-seconds to the first frame with ten thousand chats in the store, beside an empty one."""
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as full:
        os.environ["VLMCHAT_HOME"] = full
        fill(ChatStore())
        found: dict[str, list[float]] = {empty: [], full: []}
        for home in (empty, full) * RUNS:
            found[home].append(float(str(first_frame("ours", Path(home))["cpu"])))
        ratio = min(found[full]) / min(found[empty])
        print(f"first frame, {CHATS:,} chats: {min(found[full]):.2f}; none: {min(found[empty]):.2f}; ratio {ratio:.2f}")
        store = ChatStore()
        for words in ("", "question 4242", "colour"):
            print(f"list for {words!r}: {1000 * timed(partial(store.chats, words)):.0f} ms")
        store.close()


def fill(store: ChatStore) -> None:
    """Write ten thousand chats of one question with a picture's name and one answer, all at once."""
    store.create_chat("demo", "The first")
    store.close()
    now = time.time()
    with closing(connect(store.database)) as connection, transaction(connection):
        for number in range(CHATS):
            title, chat = f"Question {number}", f"{number:016x}"
            connection.execute(
                "INSERT INTO chats (id, title, model, created, updated, head) VALUES (?, ?, 'demo', ?, ?, ?)",
                (chat, title, now, now - number, f"a{chat}"),
            )
            texts = (f"This is question {number} about a colour?", f"The answer to it is {number}.")
            for role, turn, parent, text in (("user", "q", None, texts[0]), ("assistant", "a", "q", texts[1])):
                parts = json.dumps([{"type": "text", "text": text}])
                connection.execute(
                    "INSERT INTO turns (id, chat_id, parent, role, parts, text, status, created) "
                    "VALUES (?, ?, ?, ?, ?, ?, 'complete', ?)",
                    (turn + chat, chat, parent and parent + chat, role, parts, text, now),
                )


def timed(call: Callable[[], object]) -> float:
    """Return the seconds ``call`` takes, the best of three."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def keys() -> None:
    """Time from a key press to the paint that shows it, while 100 tokens/s stream into a chat of 10,000 tokens."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["VLMCHAT_HOME"] = home
        latencies = asyncio.run(press_while_streaming())
        worst = statistics.quantiles(latencies, n=20)[-1]
        print(f"key to paint: median {1000 * statistics.median(latencies):.0f} ms, p95 {1000 * worst:.0f} ms")


async def press_while_streaming() -> list[float]:
    """Type while an answer comes after 14 of 720 words each; returns seconds from each key to its paint."""
    history = "The **picture** shows a red circle, a `blue` square and a star.\n\n" * 60
    engine = ScriptedEngine(answers=[(history,)] * 14 + [["word "] * 2000], delay=0.01, context_tokens=100_000)
    async with driven(build(engine), (120, 40)) as run:
        await run.ready()
        for number in range(14):
            await run.asked(f"Question {number}?")
        painted: list[float] = []
        paint = run.app._display

        def noted(screen: Screen[object], renderable: RenderableType | None) -> None:
            paint(screen, renderable)
            painted.append(time.perf_counter())

        run.app._display = noted  # type: ignore[method-assign]
        await run.ask("Go on.")
        await run.until(lambda: run.answers[-1].text)
        return [await one_key(run, painted) for _ in range(60)]


async def one_key(run: Driven, painted: list[float]) -> float:
    """Press a key and return the seconds until it was painted."""
    area = run.chat.prompt.area
    before, start = len(area.text), time.perf_counter()
    run.app.post_message(Key("a", "a"))
    while len(area.text) == before:
        await asyncio.sleep(0.001)
    shown = time.perf_counter()
    while not painted or painted[-1] < shown:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    return painted[-1] - start


def rate() -> None:
    """Tokens per second of the embedded model in the app, beside the same stream without it."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["VLMCHAT_HOME"] = home
        alone = asyncio.run(rate_alone())
        app = asyncio.run(rate_in_app())
        print(f"tokens/s: ask {alone:.0f}, app {app:.0f}, ratio {app / alone:.2f}")


async def rate_alone() -> float:
    """The median rate without an app."""
    engine = create_engine()
    for _ in open_model(engine, find("demo"), LoadOptions()):
        pass
    rates = []
    for _ in range(RUNS):
        session = Session(engine, None, "demo")
        session.sampling = HOT
        events = session.ask(user("Go on.").parts)
        rates += [event.timing.decode_tokens_per_s for event in events if isinstance(event, Finished)]
    engine.close()
    return statistics.median(rates)


async def rate_in_app() -> float:
    """The median rate with the app drawing every token."""
    rates = []
    async with driven(build(create_engine(interactive=True), model="demo", settings=Settings(sampling=HOT))) as run:
        await run.until(lambda: run.desk.model is not None)
        for _ in range(RUNS):
            await run.pilot.press("ctrl+n")
            await run.asked("Go on.")
            shown = run.answers[-1].shown
            assert shown is not None
            assert shown.turn.provenance is not None
            rates.append(shown.turn.provenance.decode_tokens_per_s)
    return statistics.median(rates)


if __name__ == "__main__":
    parts = {"frame": frame, "chats": chats, "keys": keys, "rate": rate}
    for name in sys.argv[1:] or parts:
        parts[name]()
