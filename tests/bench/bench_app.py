"""What the app costs: first frame, key presses while text streams; tokens per second are ``bench_rate``.

``PEERS="…/bin/oterm …/bin/elia" python -m tests.bench.bench_app [frame] [chats] [keys] [peers]``; all of them when
none is named. Peers are measured in the same run: a bare Textual app and the programs named in ``PEERS`` for the
first frame, an empty store for ten thousand chats. Run it alone on the machine.
"""

from __future__ import annotations

import asyncio
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
from textual._compositor import CompositorUpdate
from textual.events import Key
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip

from tests.bench.terminal import Cost, Terminal
from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, build, draw_picture, driven
from tests.tui.test_first_frame import first_frame
from vlmchat.conversation import Message, Text, user
from vlmchat.media.image import read_picture
from vlmchat.options import Sampling
from vlmchat.settings import Settings
from vlmchat.store import codec
from vlmchat.store.chats import ChatStore
from vlmchat.store.schema import connect, transaction

RUNS = 5
CHATS = 10_000
KEYS = 120
KEY_S = 0.17
"""Between two keys: a quick typist's, and no multiple of the time between two drawings."""


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
    """Write ten thousand chats of one question about a picture and one answer, all at once."""
    store.create_chat("demo", "The first")
    with tempfile.TemporaryDirectory() as folder:
        paths = [draw_picture(Path(folder) / f"{at}.png", (40 + at, 32)) for at in range(64)]
        kept = [store.keep_picture(read_picture(path)) for path in paths]
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
            shown = kept[number % len(kept)]
            messages = (user(texts[0], shown), Message("assistant", (Text(texts[1]),)))
            for message, turn, parent, text in zip(messages, "qa", (None, "q"), texts, strict=True):
                role, parts = message.role, codec.encode_parts(message)
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
    engine = ScriptedEngine(answers=[(history,)] * 14 + [["word "] * 4000], delay=0.01, context_tokens=100_000)
    # The default length would end the answer, and the drawing, after ten seconds.
    settings = Settings(previews="off", sampling=Sampling(max_new_tokens=4000))
    async with driven(build(engine, settings=settings), (120, 40)) as run:
        await run.ready()
        for number in range(14):
            await run.asked(f"Question {number}?")
        await run.ask("Go on.")
        await run.until(lambda: run.answers[-1].text)
        painted = note_paints(run)
        pressed = await asyncio.to_thread(type_along, run)
        await run.until(lambda: painted and painted[-1][1] == KEYS)
        if run.desk.answering is None:
            raise SystemExit("The answer ended before the last key: nothing was measured beside it.")
        return [next(at for at, shown in painted if shown > key) - begun for key, begun in enumerate(pressed)]


def note_paints(run: Driven) -> list[tuple[float, int]]:
    """Return a list that gets, of each paint: when it was done, and how many characters the box was drawn with."""
    painted: list[tuple[float, int]] = []
    area, drawn = run.chat.prompt.area, [0]
    paint, draw = run.app._display, area.render_lines

    def rendered(crop: Region) -> list[Strip]:
        drawn[0] = len(area.text)
        return draw(crop)

    def noted(screen: Screen[object], renderable: RenderableType | None) -> None:
        # Without a terminal the app leaves this out: what is painted is made into escape codes here.
        update: object = renderable
        if isinstance(update, CompositorUpdate):
            update.render_segments(run.app.console)
        paint(screen, renderable)
        painted.append((time.perf_counter(), drawn[0]))

    area.render_lines = rendered  # type: ignore[method-assign]
    run.app._display = noted  # type: ignore[method-assign]
    return painted


def type_along(run: Driven) -> list[float]:
    """Press a key every :data:`KEY_S`, as a terminal's input thread does; returns when each was pressed.

    A user does not wait until the app is free before the next key: the times are those of the clock, however late the
    key could be handed over.
    """
    begun = time.perf_counter()
    pressed = [begun + KEY_S * number for number in range(1, KEYS + 1)]
    for at in pressed:
        time.sleep(max(0.0, at - time.perf_counter()))
        run.app.post_message(Key("a", "a"))
    return pressed


def peers() -> None:
    """CPU-seconds and memory to the first frame in a terminal, beside the programs named in ``PEERS``."""
    bare = "from textual.app import App\nfrom textual.widgets import Static\n"
    bare += "class Bare(App):\n def compose(self): yield Static('a bare Textual app ' * 9)\nBare().run()"
    commands = {"vlmchat": [sys.executable, "-m", "vlmchat"], "bare Textual app": [sys.executable, "-c", bare]}
    commands |= {Path(path).name: [path] for path in os.environ.get("PEERS", "").split()}
    for name, command in commands.items():
        costs = [cost for cost in (start_of(command) for _ in range(RUNS)) if cost is not None]
        if costs:
            cpu = statistics.median(cost.cpu_s for cost in costs)
            memory = statistics.median(cost.peak_bytes for cost in costs)
            print(f"first frame in a terminal, {name}: {cpu:.2f} CPU-seconds, {memory / 1e6:.0f} MB")
        else:
            print(f"first frame in a terminal, {name}: not installed, or it draws nothing")


def start_of(command: list[str]) -> Cost | None:
    """Start ``command`` in a home of its own and return what its first frame cost."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        terminal = Terminal(command, {"VLMCHAT_HOME": home, "HOME": home})
        cost = terminal.first_frame()
        terminal.kill()
        return cost


if __name__ == "__main__":
    parts = {"frame": frame, "chats": chats, "keys": keys, "peers": peers}
    for name in sys.argv[1:] or parts:
        parts[name]()
