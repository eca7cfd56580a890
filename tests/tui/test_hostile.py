"""What a model writes is data: markup, escapes, endless lines and broken fences are shown, never obeyed."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import Markdown
from textual.widgets.markdown import MarkdownBlock

from tests.fakes import ScriptedEngine
from tests.tui.helpers import GatedEngine, build, driven, plain
from vlmchat.conversation import assistant
from vlmchat.store.model import Turn
from vlmchat.tui.widgets.answer import LONGEST_LINE, AnswerText, LongLines, parser
from vlmchat.tui.widgets.turn import Shown

FENCED = "A\n```py\nx\n```\nB\n\n- c"
RICH = "# H\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n1. one\n2. two\n\n> q\n\n**end**"

MATHS = "So \\(a_1 * b_1\\):\n\n\\[\n\\frac{a_1}{b_1} * x\n\\]\n\nand\n\n$$\na_1\n$$\n\nfor $5 and $6."


def shape(answer: Markdown) -> list[tuple[str, str]]:
    """Return kind and text of every block: what a finished answer looks like."""
    return [(type(block).__name__, block.source or "") for block in answer.children if isinstance(block, MarkdownBlock)]


@pytest.mark.parametrize(
    "text",
    [
        "[bold red]not markup[/] [/b] [[x]] \\[y]",
        "[link](javascript:alert(1)) [@click=app.quit]quit[/]",
        "<b>html</b> <script>x</script> <!-- gone? --> end",
        "$primary {braces} %s {0}",
    ],
)
async def test_markup_is_text(text: str) -> None:
    async with driven(build(ScriptedEngine(answers=((text,),))), (100, 30)) as run:
        await run.ready()
        await run.asked(text)
        shown = plain(run.chat.transcript)
        for word in ("not markup", "quit", "<b>html</b>", "gone?", "{braces}"):
            assert (word in text) == (word in shown)
        assert shown.splitlines()[1].endswith(text)


async def test_terminal_commands_are_stripped() -> None:
    text = "a\x1b]0;title\x07b\x1b[2Jc\x1b]52;c;aGk=\x07d\u202ee\x9bf"
    async with driven(build(ScriptedEngine(answers=(tuple(text),)))) as run:
        await run.ready()
        await run.asked(text)
        shown = plain(run.chat.transcript)
        assert "a]0;titleb[2Jc]52;c;aGk=def" in shown
        assert not any(ord(char) < 32 and char != "\n" for char in shown)
        assert "\u202e" not in shown
        assert run.chat.status.title == "a]0;titleb[2Jc]52;c;aGk=def"


async def test_a_megabyte_without_a_newline() -> None:
    pieces = ["word " * 2000] * 100
    async with driven(build(ScriptedEngine(answers=(pieces,)))) as run:
        await run.ready()
        await run.asked("Go on.")
        assert len(run.answers[0].text) > 999_000
        await run.write("still here")
        assert run.draft.text == "still here"


async def test_a_megabyte_without_a_blank() -> None:
    async with driven(build(ScriptedEngine(answers=(["x" * 100_000] * 10,)))) as run:
        await run.ready()
        await run.asked("Go on.")
        assert len(run.answers[0].text) == 1_000_000


async def test_fences_split_at_every_byte_end_as_the_whole() -> None:
    async with driven(build(GatedEngine())) as run:

        async def shown(text: str, *pieces: str) -> list[tuple[str, str]]:
            view = await run.chat.transcript.add_answer()
            for piece in pieces:
                await view.write(piece)
                await asyncio.sleep(0)
            await view.settle(Shown(Turn("a", "", None, assistant(text), "complete", 0.0)))
            result = shape(view.query_one(AnswerText))
            await view.remove()
            return result

        whole = await shown(FENCED, FENCED)
        assert [kind for kind, _ in whole][:3] == ["MarkdownParagraph", "MarkdownFence", "MarkdownParagraph"]
        for cut in range(1, len(FENCED)):
            assert await shown(FENCED, FENCED[:cut], FENCED[cut:]) == whole
        for text in (FENCED, RICH, MATHS):
            assert await shown(text, *text) == await shown(text, text)


async def test_half_written_fence_is_shown_while_it_grows() -> None:
    engine = GatedEngine(answers=(("Look:\n\n```py\n", "x = 1\n", "```\n", "done"),))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Code?")
        engine.let(2)
        await run.until(lambda: run.answers and "x = 1" in plain(run.answers[0]))
        engine.let(2)
        await run.idle()
        assert "done" in plain(run.answers[0])


def test_long_lines_are_broken_and_nothing_else_is_changed() -> None:
    lines = LongLines()
    text = "".join(lines.feed(piece) for piece in ("a" * 1500, "b" * 1500, "\nshort\n", "c" * 10))
    assert text.replace("\n\n", "") == "a" * 1500 + "b" * 1500 + "\nshort\n" + "c" * 10
    assert max(map(len, text.split("\n"))) <= LONGEST_LINE
    assert LongLines().feed("one\n\ntwo\n") == "one\n\ntwo\n"


def test_formulas_are_shown_letter_by_letter_and_prices_are_none() -> None:
    tokens = parser().parse(MATHS + " Or $x_1 * y_1$.")
    assert [(token.info, token.content) for token in tokens if token.type == "fence"] == [
        ("latex", "\\frac{a_1}{b_1} * x\n"),
        ("latex", "a_1\n"),
    ]
    inline = [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]
    assert inline == ["a_1 * b_1", "x_1 * y_1"]
    assert any("for $5 and $6." in child.content for token in tokens for child in token.children or ())
