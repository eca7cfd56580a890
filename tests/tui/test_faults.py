"""Errors of the rooms below in the Chinese interface: every sentence they can say has its Chinese one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from string import Formatter

import pytest

import vlmchat
from tests.fakes import ScriptedEngine
from tests.tui.helpers import build, driven, plain
from vlmchat import errors
from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import ModelSpec
from vlmchat.chat import opening
from vlmchat.engine.keeping import CannotKeep
from vlmchat.engine.remote import KeptEngine
from vlmchat.errors import CheckpointError, ImageError, OutOfMemory, VlmchatError
from vlmchat.settings import Settings
from vlmchat.tui import text
from vlmchat.tui.faults import told, words_of
from vlmchat.tui.screens.panel import ChoicePanel
from vlmchat.tui.words import english_errors
from vlmchat.tui.words.chinese_errors import KINDS, SENTENCES

ROOT = Path(vlmchat.__file__).parent
ROOMS = ("catalog", "chat", "engine", "families", "hub", "media", "store")
NEVER_IN_THE_APP = {
    "chat/prompts.py", "chat/verifying.py", "engine/reference.py", "engine/schema.py", "hub/removal.py",
    "store/backup.py", "store/health.py",
}  # fmt: skip
"""What only commands of the shell do."""
MAKERS = {"unusable", "_unreadable", "CannotKeep", "Hiccup", "TooSlow", "Refused", "memory_guard"}
"""What else takes words that an error is then made of."""
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def chinese_spoken() -> Iterator[None]:
    text.use("zh")
    yield
    text.use("en")


def classes(parent: type[VlmchatError] = VlmchatError) -> Iterator[type[VlmchatError]]:
    """Yield ``parent`` and every class below it."""
    yield parent
    for child in parent.__subclasses__():
        yield from classes(child)


def templates(node: ast.expr) -> Iterator[str]:
    """Yield the sentences an argument may be, values as ``{0}``, ``{1}``; nothing for a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from chain(templates(node.body), templates(node.orelse))
    elif isinstance(node, ast.JoinedStr):
        words, count = "", 0
        for part in node.values:
            words += str(part.value) if isinstance(part, ast.Constant) else f"{{{count}}}"
            count += not isinstance(part, ast.Constant)
        yield words


def spoken() -> Iterator[tuple[str, str]]:
    """Yield place and sentence of every error that the rooms below the app make."""
    names = {it.__name__ for it in vars(errors).values() if isinstance(it, type) and issubclass(it, VlmchatError)}
    for file in chain([ROOT / "options.py"], *(sorted((ROOT / room).rglob("*.py")) for room in ROOMS)):
        place = file.relative_to(ROOT).as_posix()
        if place in NEVER_IN_THE_APP:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name in names | MAKERS:
                yield from ((f"{place}:{node.lineno}", words) for arg in node.args for words in templates(arg))


NOT_SENTENCES = {"{0}.", "", "user", "outdated", "busy", "comparing"}
"""A sentence made elsewhere, words of the wire, and what only ``verify`` does."""


def test_every_sentence_has_its_chinese_one() -> None:
    found = list(spoken())
    assert len(found) > 200
    assert not [it for it in found if it[1] not in SENTENCES and it[1] not in NOT_SENTENCES]


def test_no_sentence_is_of_the_past() -> None:
    source = "\n".join(
        file.read_text(encoding="utf-8") for file in ROOT.rglob("*.py") if not file.is_relative_to(ROOT / "tui")
    )
    # Literals that stand in several lines are one to Python: what joins them goes.
    joined = re.sub(r"""["']\s*\n\s*f?["']""", "", source).replace("{{", "{")
    for english in SENTENCES:
        parts = [literal for literal, *_ in Formatter().parse(english) if literal.strip(" .,:()")]
        assert all(part.strip(" .,:()") in joined for part in parts), english


def test_values_stay_what_they_are() -> None:
    for english, chinese in SENTENCES.items():
        wanted = {field for _, field, *_ in Formatter().parse(english) if field is not None}
        assert {field for _, field, *_ in Formatter().parse(chinese) if field is not None} == wanted, english
        assert HAN.search(chinese) or not re.search(r"[a-z]{3}", english), english
        values = [f"/a/{number}.png" for number in range(len(wanted))]
        assert words_of(english.format(*values)) == chinese.format(*values)


def test_in_english_what_is_said_of_the_shell_is_said_of_the_app() -> None:
    text.use("en")
    shell = re.compile(r"(?<!vlmchat )--[a-z]|`vlmchat (?!doctor)|Load one")
    named = {english for english in SENTENCES if shell.search(english)}
    assert named <= english_errors.SENTENCES.keys() <= SENTENCES.keys()
    for english in english_errors.SENTENCES:
        values = [f"/a/{number}.png" for number, _ in enumerate(re.findall(r"\{\d\}", english))]
        told_so = words_of(english.format(*values))
        assert told_so != english.format(*values)
        assert not re.search(r"(?<!vlmchat )(?<!without )--[a-z]|`vlmchat (?!doctor)|[{}]", told_so)
        assert all(value in told_so for value in values)
    assert told(VlmchatError("Unheard of.", "Use --quantization 4-bit: that needs 2.1 GB.")) == (
        "Unheard of.", "Set quantization to 4-bit (F9): that needs 2.1 GB.",
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(classes()), ids=lambda kind: kind.__name__)
def test_every_kind_has_a_sentence_and_a_hint(kind: type[VlmchatError]) -> None:
    message, hint = told(kind("Something new happened to /a.bin.", "Do something new."))
    assert message == f"{KINDS[kind.code][0]}（Something new happened to /a.bin.）。"
    assert hint == KINDS[kind.code][1]
    assert HAN.search(KINDS[kind.code][0])
    assert hint.endswith("。")


@pytest.mark.parametrize("row", catalog().rows, ids=lambda row: row.name)
def test_what_the_catalog_says_is_said_in_chinese(row: ModelSpec) -> None:
    assert HAN.search(words_of(row.description))
    assert row.licence in {"MIT", "Apache-2.0"} or HAN.search(words_of(row.licence or ""))


def test_words_inside_words_are_said_too() -> None:
    error = CheckpointError("The checkpoint's config.json lacks the key 'x'.", "Fetch the file again.")
    assert told(error) == ("检查点的 config.json 缺少键 'x'。", "请重新下载该文件。")
    error = CheckpointError("The checkpoint lacks tensors its config asks for: a.weight, b.weight and 3 more.")
    assert told(error) == ("检查点缺少其配置要求的张量：a.weight, b.weight，以及另外 3 个。", "")
    text.use("en")
    assert told(error) == (error.message, "")


async def test_a_failed_answer_and_a_bad_picture_are_said_in_chinese(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    engine = ScriptedEngine(answers=(OutOfMemory("Memory ran out while answering.", "Use less."),))
    async with driven(build(engine, settings=Settings(language="zh", previews="off")), (100, 30)) as run:
        await run.ready()
        await run.ask(str(tmp_path / "bad.png"))
        await run.until(lambda: "bad.png 不是本程序能读取的图片。" in run.toasts)
        await run.ask("What is it?")
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.until(lambda: "回答时内存不足。" in plain(run.app.screen))


async def test_a_model_that_is_refused_is_said_in_chinese() -> None:
    engine = ScriptedEngine(load_error=CheckpointError("model.safetensors holds more than tensors.", "Fetch it again."))
    async with driven(build(engine, settings=Settings(language="zh"))) as run:
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.until(lambda: "model.safetensors 不只含有张量。" in plain(run.app.screen))
        assert "请重新下载。" in plain(run.app.screen)


async def test_an_engine_that_cannot_be_kept_is_said_and_the_model_loads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_engine: KeptEngine) -> None:
        raise CannotKeep("The kept engine could not be started.")

    monkeypatch.setattr(KeptEngine, "_greeted", refuse)
    monkeypatch.setattr(opening, "create_engine", lambda *_, **__: ScriptedEngine())
    app = build(settings=Settings(language="zh", keep="5m"))
    app.desk.engine = None
    async with driven(app) as run:
        await run.ready()
        await run.until(lambda: "无法启动常驻引擎。模型已在本进程中加载。" in run.toasts)
        await run.asked("你好")
        assert run.answers[0].text == "A red circle."


def test_what_the_app_says_itself_is_left_alone() -> None:
    error = ImageError("剪贴板中没有图片。", "请先复制一张。")
    assert told(error) == (error.message, error.hint)
