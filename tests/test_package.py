"""What a user installs holds everything: themes, catalog, style sheets, licence, and the embedded model."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED_DATA = {
    *(f"vlmchat/tui/themes/{path.name}" for path in (ROOT / "themes").glob("*.toml")),
    *(
        str(path.relative_to(ROOT))
        for path in (ROOT / "vlmchat").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "themes" not in path.parts
    ),
}
LIMIT = 10_000_000
"""Bytes of the embedded model's weights at most."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # In the environment at hand: an isolated build would fetch its tools from a registry.
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=ROOT, check=True, timeout=300)
    return out


def test_the_wheel_holds_the_data_and_nothing_foreign(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= SHIPPED_DATA
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"vlmchat"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_the_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "screenshots/example.png"}
    assert names >= wanted | {f"themes/{path.name}" for path in (ROOT / "themes").glob("*.toml")}


def test_the_embedded_model_is_small_and_whole() -> None:
    folder = ROOT / "vlmchat" / "demo" / "checkpoint"
    assert (folder / "model.safetensors").stat().st_size <= LIMIT
    tokenizer = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in folder.iterdir()} >= tokenizer | {"config.json", "generation_config.json"}
