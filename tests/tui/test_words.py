"""The app speaks two languages: the same keys and placeholders, by setting or locale, and nothing wider than a cell."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

import pytest

from tests.tui.helpers import build, driven, plain
from vlmchat.catalog.index import catalog
from vlmchat.engine.machine import Gpu, Machine
from vlmchat.engine.verdict import Fit, judge
from vlmchat.families.sizes import sizes_of
from vlmchat.settings import Settings
from vlmchat.tui import text
from vlmchat.tui.browsing import ModelRow
from vlmchat.tui.widgets.fit_text import fit_text
from vlmchat.tui.widgets.model_detail import describe
from vlmchat.tui.words import chinese, chinese_models, chinese_pictures, english, english_models, english_pictures

PAIRS = (
    (english.TABLE, chinese.TABLE),
    (english_pictures.TABLE, chinese_pictures.TABLE),
    (english_models.TABLE, chinese_models.TABLE),
)
LANGUAGE = re.compile(r"[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f]")
"""Letters and marks of Chinese, two cells each by nature."""


@pytest.fixture(autouse=True)
def english_again() -> object:
    yield
    text.use("en")


def placeholders(words: str) -> list[str]:
    return sorted(re.findall(r"{(\w+)", words))


@pytest.mark.parametrize("pair", PAIRS, ids=["app", "pictures", "models"])
def test_both_tables_have_the_same_keys_and_placeholders(pair: tuple[dict[str, str], dict[str, str]]) -> None:
    ours, theirs = pair
    assert ours.keys() == theirs.keys()
    differing = [key for key, words in ours.items() if placeholders(words) != placeholders(theirs[key])]
    assert not differing


@pytest.mark.parametrize("table", [english.TABLE, chinese.TABLE], ids=["en", "zh"])
def test_symbols_take_one_cell(table: dict[str, str]) -> None:
    wide = {
        char
        for words in table.values()
        for char in LANGUAGE.sub("", words)
        if unicodedata.east_asian_width(char) in "WF" or unicodedata.combining(char) or ord(char) > 0xFFFF
    }
    assert not wide


@pytest.mark.parametrize(
    ("variables", "chinese_spoken"),
    [
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "zh_TW"}, True),
        ({}, False),
    ],
)
def test_the_locale_chooses(variables: dict[str, str], chinese_spoken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text.use("auto")
    assert (text.say("status.ready") == "就绪") == chinese_spoken


async def test_the_setting_speaks_everywhere() -> None:
    async with driven(build(settings=Settings(language="zh")), (80, 30)) as run:
        await run.ready()
        await run.asked("What is this?")
        page = plain(run.app.screen)
        assert "词元" in page
        assert "发送" in page
        assert not re.search(r"tokens|finished|Send", page)
        await run.pilot.press("f1")
        await run.pilot.pause()
        assert "按键与命令" in plain(run.app.screen)


MACHINE = Machine(memory_free=16 * 10**9, memory_total=16 * 10**9, disk_free=10**11, bfloat16=True)


def machine(*gpus: int, free: int = 16, unified: bool = False) -> Machine:
    cards = tuple(Gpu(at, "Toy", size * 10**9, size * 10**9) for at, size in enumerate(gpus))
    return replace(MACHINE, memory_free=free * 10**9, gpus=cards, unified=unified)


def fit(name: str, here: Machine) -> Fit:
    row = catalog().find(name)
    assert row is not None
    sizes = sizes_of(row.config)
    assert sizes is not None
    return judge(replace(sizes, context_tokens=row.context_tokens), here)


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("internvl2:2b", machine()),
        ("internvl2:8b", machine(free=9)),
        ("internvl2:76b", machine()),
        ("cogvlm2:19b-int4", machine(24)),
        ("cogvlm2:19b-int4", machine()),
        ("internvl2:8b", machine(12, 12)),
        ("internvl2:8b", machine(12)),
        ("internvl2:8b", machine(4)),
        ("internvl2:8b", machine(free=32, unified=True)),
        ("cogvlm2-video:12b-chat", machine(free=200)),
    ],
)
def test_the_verdict_is_the_engines_in_english_and_holds_its_numbers_in_chinese(name: str, here: Machine) -> None:
    found = fit(name, here)
    text.use("en")
    assert fit_text(found) == found.text
    text.use("zh")
    said = fit_text(found)
    assert re.findall(r"\d+\.\d GB", said) == re.findall(r"\d+\.\d GB", found.text)
    english_words = set(re.findall(r"[A-Za-z]{3,}", said)) - {"GPU", "bit"}
    assert not english_words


def test_the_verdict_in_chinese_to_the_letter() -> None:
    text.use("zh")
    assert fit_text(fit("internvl2:8b", machine(free=9))) == (
        "以 4-bit 在主内存中（空闲 9.0 GB）可以运行，还能容纳 2 张图片和 8k 词元；以 bf16 还差 7.6 GB"
    )
    assert fit_text(None) == ""


def test_one_thing_is_said_as_one() -> None:
    text.use("en")
    assert [text.many("count.turns", count) for count in (1, 2)] == ["1 turn", "2 turns"]
    row = catalog().find("cogvlm2:19b")
    assert row is not None
    page = describe(ModelRow(row.name, row, here=False)).plain
    assert "one picture per conversation" in page
    assert "one tile of 1344 pixels" in page
    for table in (english.TABLE, chinese.TABLE):
        assert not [words for words in table.values() if "(s)" in words]


def test_a_dtype_has_one_name() -> None:
    text.use("en")
    row = catalog().find("internvl2:2b")
    assert row is not None
    page = describe(ModelRow(row.name, row, here=False, fit=fit(row.name, machine(free=9)))).plain
    assert "bf16" in page
    assert "bfloat16" not in page
