"""Settings: where a value comes from, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmchat.errors import UsageError
from vlmchat.settings import GENERATION_KEYS, KEYS, Settings, load_settings, unknown_variables


@pytest.fixture
def config(home: Path) -> Path:
    path = home / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_defaults_come_from_nowhere() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert {settings.source(key.name) for key in KEYS} == {"default"}
    assert settings.model == "demo"
    assert settings.sampling.temperature == 0


def test_later_places_win_and_are_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('model = "internvl2:1b"\ntop_k = 5\nseed = 1\nmax_tiles = 4\n', encoding="utf-8")
    monkeypatch.setenv("VLMCHAT_TOP_K", "6")
    monkeypatch.setenv("VLMCHAT_SEED", "2")
    settings = load_settings({"seed": "3", "offline": True})
    assert (settings.model, settings.vision.max_tiles) == ("internvl2:1b", 4)
    assert (settings.sampling.top_k, settings.sampling.seed, settings.offline) == (6, 3, True)
    assert settings.source("model") == str(config)
    assert settings.source("top_k") == "VLMCHAT_TOP_K"
    assert settings.source("seed") == "--seed"
    assert settings.source("offline") == "--offline"


def test_every_key_can_be_set_in_every_place(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = {
        "text": "x",
        "device": "cuda:1",
        "flag": "true",
        "whole": "3",
        "size": "0",
        "number": "0.5",
        "time": "5m",
    }
    for key in KEYS:
        text = key.choices[-1] if key.choices else samples[key.kind]
        assert load_settings({key.name: text}).source(key.name) == key.option
        monkeypatch.setenv(key.variable, text)
        assert load_settings().source(key.name) == key.variable
        monkeypatch.delenv(key.variable)
        plain = text if key.kind in {"flag", "whole", "size", "number"} else f'"{text}"'
        config.write_text(f"{key.name} = {plain}\n", encoding="utf-8")
        assert load_settings().source(key.name) == str(config)


def test_a_file_named_by_option_or_variable_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    with pytest.raises(UsageError, match="There is no file"):
        load_settings(file=other)
    other.write_text("top_p = 0.9\n", encoding="utf-8")
    assert load_settings(file=other).sampling.top_p == 0.9
    monkeypatch.setenv("VLMCHAT_CONFIG", str(other))
    assert load_settings().source("top_p") == str(other)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle = 'x'", r"config\.toml: modle is no setting"),
        ("top_p = 'high'", r"config\.toml: top_p must be a number, not 'high'"),
        ("top_p = 2", r"config\.toml: top_p must be above 0 and at most 1, not 2"),
        ("seed = true", r"config\.toml: seed must be a whole number, not True"),
        ("offline = 1", r"config\.toml: offline must be true or false, not 1"),
        ("dtype = 'int8'", r"config\.toml: dtype must be one of auto, bfloat16"),
        ("device = 'tpu'", r"config\.toml: device must be auto, cpu"),
        ("max_tiles = 0", r"config\.toml: max_tiles must be at least 1"),
        ("temperature = nan", r"config\.toml: temperature must be a number"),
        ("feature_cache = -1", r"config\.toml: feature_cache must be a whole number of megabytes, 0 or more, not -1"),
        ("[app]\ntheme = 'x'", r"config\.toml: app is no setting"),
        ("model =", "is not valid TOML"),
    ],
)
def test_a_wrong_file_names_file_key_and_rule(config: Path, text: str, says: str) -> None:
    config.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=says) as caught:
        load_settings()
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "text"), [("seed", "x"), ("seed", "-1"), ("offline", "maybe"), ("top_k", "1.5"), ("device", "cuda:x")]
)
def test_a_wrong_variable_or_option_is_named(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"^--{name.replace('_', '-')} must be"):
        load_settings({name: text})
    monkeypatch.setenv(f"VLMCHAT_{name.upper()}", text)
    with pytest.raises(UsageError, match=f"^VLMCHAT_{name.upper()} must be"):
        load_settings()


def test_an_unreadable_file(config: Path) -> None:
    config.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings()


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        Settings().changed({"temprature": 1}, "Line 3")
    assert caught.value.message == "Line 3: temprature is no setting."
    assert caught.value.hint == "Did you mean temperature?"


def test_generation_keys_are_those_of_one_answer() -> None:
    assert {"temperature", "max_tiles", "system", "seed"} <= GENERATION_KEYS
    assert not GENERATION_KEYS & {"model", "device", "hub", "quiet"}


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMCHAT_MODLE", "x")
    assert unknown_variables() == ("VLMCHAT_MODLE",)
