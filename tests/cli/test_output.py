"""What goes to stdout and stderr, and what a terminal gets of it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlmchat.cli.output import AnswerWriter, Talk, size_text, write, write_json, write_table
from vlmchat.cli.progress import progress_text
from vlmchat.engine.events import Delta, Encoding, Event, Loading, Prefill


class Stream(io.TextIOWrapper):
    """A stream in memory that may pass for a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def seen(self) -> str:
        self.flush()
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode("utf-8")


Open = Callable[[], tuple[Stream, Stream]]


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def open_streams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Put streams of one kind in place of stdout and stderr; in the test, after pytest set its own."""

    def install() -> tuple[Stream, Stream]:
        out, err = Stream(request.param), Stream(request.param)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return install


def test_notes_are_for_people_and_warnings_for_logs(open_streams: Open) -> None:
    out, err = open_streams()
    Talk().note("nice to know")
    Talk().warn("look here")
    Talk(quiet=True).note("no")
    Talk(quiet=True).warn("no")
    assert err.seen == ("nice to know\n" if err.terminal else "") + "look here\n"
    assert out.seen == ""


def test_progress_is_one_line_that_goes_away(open_streams: Open) -> None:
    _, err = open_streams()
    talk = Talk()
    for text in ("one", "two", ""):
        talk.status(text)
    talk.clear()
    Talk(quiet=True).status("no")
    assert err.seen == ("\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K" if err.terminal else "")


def test_an_error_takes_the_progress_away_and_is_harmless(open_streams: Open) -> None:
    _, err = open_streams()
    talk = Talk()
    talk.status("half way")
    talk.error("No file \x1b[31mred\n.png.", "Look again.")
    assert err.seen.endswith("No file [31mred .png.\nhint: Look again.\n")
    try:
        raise ValueError("deep down")
    except ValueError:
        Talk(verbose=True).error("It broke.")
    assert "Traceback" in err.seen
    assert err.seen.endswith("ValueError: deep down\nIt broke.\n")


def test_a_table_has_every_cell(open_streams: Open) -> None:
    out, _ = open_streams()
    write_table(("NAME", "SIZE"), [("颜色", "5"), ("b\x1b[1m", "1000")], frozenset({1}))
    assert all(cell in out.seen for cell in ("NAME", "SIZE", "颜色", "1000", "b[1m"))
    if not out.terminal:
        assert out.seen == "NAME  SIZE\n颜色     5\nb[1m  1000\n"


def test_json_escapes_what_a_terminal_would_obey(open_streams: Open) -> None:
    out, _ = open_streams()
    write_json({"text": "中\x9b\u202e\x7f\x1b"})
    assert out.seen == '{"text": "中\\u009b\\u202e\\u007f\\u001b"}\n'


def test_no_stdout_is_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(BrokenPipeError):
        write("x")
    Talk().note("fine")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet=" \n\tab中", max_size=5), max_size=8))
def test_a_stream_ends_as_the_whole_answer(monkeypatch: pytest.MonkeyPatch, pieces: list[str]) -> None:
    out = Stream(terminal=False)
    monkeypatch.setattr(sys, "stdout", out)
    writer = AnswerWriter()
    for piece in pieces:
        writer.add(piece)
    writer.end()
    whole = "".join(pieces).strip()
    assert out.seen == (whole + "\n" if whole else "")


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_880_000_000, "1.9 GB"), (152_500_000_000, "152 GB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Loading("libraries"), "Starting torch"),
        (Loading("weights", 500, 1000), "Loading the weights: 500 B of 1.0 kB"),
        (Loading("weights"), "Loading the weights"),
        (Loading("ready"), ""),
        (Encoding(2, 3, 4, 7), "Looking at picture 2 of 3: tile 4 of 7"),
        (Prefill(512, 1024, 0), "Reading the prompt: 512 of 1024 tokens"),
        (Prefill(1024, 1024, 0), ""),
        (Delta("x", (1,)), ""),
    ],
)
def test_progress_in_words(event: Event, text: str) -> None:
    assert progress_text(event) == text
