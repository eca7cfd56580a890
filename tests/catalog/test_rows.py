"""The packaged rows: each figure has a source, and what a row says in several places agrees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.reference_cases import REFERENCE
from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import FIGURES, ModelSpec
from vlmchat.families.sizes import Sizes, sizes_of

ROWS = [row for row in catalog().rows if row.config]
HUB_CONFIGS = REFERENCE / "cogvlm2" / "hub_configs"


def counted(row: ModelSpec) -> Sizes:
    sizes = sizes_of(row.config)
    assert sizes is not None
    return sizes


@pytest.mark.parametrize("row", catalog().rows, ids=lambda row: row.name)
def test_every_figure_names_its_source(row: ModelSpec) -> None:
    without = [name for name in FIGURES if getattr(row, name) and not row.sources.get(name)]
    assert without == []
    assert [name for name in row.sources if not getattr(row, name)] == []


def test_every_row_but_the_embedded_one_can_be_counted() -> None:
    assert [row.name for row in catalog().rows if not row.config] == ["demo"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_parameters_are_those_of_the_config(row: ModelSpec) -> None:
    """Rounded to three digits for InternVL2; Ovis2's files count the head and a norm that are not loaded."""
    sizes, llm = counted(row), row.config.get("llm_config", {})
    stored = sizes.parameters
    if row.loader == "ovis2":
        stored += llm["tie_word_embeddings"] * sizes.vocabulary * sizes.attention.hidden
        stored += row.config["visual_tokenizer_config"]["backbone_config"]["hidden_size"]
    assert row.parameters is not None
    assert stored == pytest.approx(row.parameters, rel=0.003 if row.loader == "internvl2" else 0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_pictures_are_those_of_the_config(row: ModelSpec) -> None:
    vision, pictures = row.vision, counted(row).pictures
    assert vision is not None
    tiles = vision.frames if row.loader == "cogvlm2" and vision.frames else vision.max_tiles + vision.thumbnail
    assert (pictures.tiles, pictures.features) == (tiles, tiles * vision.tokens_per_tile)
    assert (pictures.side, pictures.most) == (vision.tile_pixels, vision.max_images)
    assert row.context_tokens is not None
    assert pictures.tokens < row.context_tokens


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_language_model_is_that_of_the_config(row: ModelSpec) -> None:
    named = row.config.get("llm_config", {}).get("architectures") or row.config["architectures"]
    assert row.language_model == {"Ovis": "Qwen2ForCausalLM"}.get(named[0], named[0])
    assert (counted(row).packing is None) == (row.format == "pytorch")


def holds(whole: dict[str, Any], part: Any) -> bool:
    return all(
        holds(whole[key], value) if isinstance(value, dict) else whole[key] == value for key, value in part.items()
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.loader == "cogvlm2"], ids=lambda row: row.name)
def test_cogvlm2_is_what_its_own_config_says(row: ModelSpec) -> None:
    config = json.loads((HUB_CONFIGS / row.title / "config.json").read_text())
    assert holds(config, row.config)
    assert row.context_tokens == config["max_position_embeddings"]


def test_published_scores_are_complete() -> None:
    images = {"TextVQA", "DocVQA", "ChartQA", "OCRbench", "MMMU", "MMVet", "MMBench"}
    for row in catalog().rows:
        scores = dict(row.scores)
        if row.name in ("cogvlm2:19b", "cogvlm2:19b-zh"):
            assert scores.keys() == images
        elif "video" in row.abilities:
            categories = [figure for name, figure in scores.items() if name.startswith("MV-")]
            assert len(categories) == 20
            # The tables hold rounded averages of these very figures.
            assert sum(categories) / 20 == pytest.approx(scores["MVBench"], abs=0.05)
            generation = [scores[f"VCG-{part}"] for part in ("CI", "DO", "CU", "TU", "CO")]
            assert sum(generation) / 5 == pytest.approx(scores["VCG-AVG"], abs=0.005)
        else:
            assert not scores, "nobody gives any in the documents"
