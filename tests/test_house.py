"""The walls of the house: lint, types, import direction, cheap rooms, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vlmchat"
HEAVY = ("torch", "transformers", "modelscope", "modelscope_hub", "huggingface_hub", "numpy", "accelerate")
CHEAP_ROOMS = (
    "vlmchat.__main__",
    "vlmchat.cli.main",
    "vlmchat.catalog.index",
    "vlmchat.chat.opening",
    "vlmchat.chat.session",
    "vlmchat.engine.api",
    "vlmchat.engine.torch_engine",
    "vlmchat.families.registry",
    "vlmchat.hub.local",
    "vlmchat.media.image",
    "vlmchat.settings",
    "vlmchat.store.chats",
    "vlmchat.tui.app",
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CLASS_LINES = 250


def run(*command: str) -> str:
    """Run a tool of this environment over the checkout; its output is the failure's message."""
    finished = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    return output


def test_lint() -> None:
    run("ruff", "check", "vlmchat", "tests")


def test_format() -> None:
    run("ruff", "format", "--check", "vlmchat", "tests")


def test_types() -> None:
    run("mypy")


def test_imports_go_one_way() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize("room", CHEAP_ROOMS)
def test_a_cheap_room_stays_cheap(room: str) -> None:
    """A fresh interpreter imports the room and holds none of the heavy libraries."""
    code = f"import {room}, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def modules() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        yield path.relative_to(ROOT), source, ast.parse(source)


def test_files_functions_and_classes_stay_small() -> None:
    too_long = []
    for path, source, tree in modules():
        if (lines := source.count("\n")) > MAX_FILE_LINES:
            too_long.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                limit = MAX_CLASS_LINES if isinstance(node, ast.ClassDef) else MAX_FUNCTION_LINES
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > limit:
                    too_long.append(f"{path}:{node.lineno} {node.name}: {length} lines")
    assert not too_long


def test_every_folder_is_a_package() -> None:
    bare = {
        str(path.parent.relative_to(ROOT))
        for path in PACKAGE.rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert not bare
