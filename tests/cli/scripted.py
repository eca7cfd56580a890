"""``python -m tests.cli.scripted SCRIPT ARG…``: vlmchat's command line over a scripted engine.

SCRIPT is a JSON object with the fields of :class:`tests.fakes.ScriptedEngine`; an answer that is a text
in place of a list is an OutOfMemory error with that message.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from tests.fakes import ScriptedEngine
from vlmchat.chat import opening
from vlmchat.cli.main import main
from vlmchat.errors import OutOfMemory, VlmchatError


def engine_from(script: str) -> ScriptedEngine:
    """Return the engine a JSON object describes."""
    fields = json.loads(script)
    answers: list[Sequence[str] | VlmchatError] = [
        OutOfMemory(answer) if isinstance(answer, str) else answer for answer in fields.pop("answers", [["A ", "red."]])
    ]
    return ScriptedEngine(answers=answers, **fields)


if __name__ == "__main__":
    engine = engine_from(sys.argv[1])
    opening.create_engine = lambda **_: engine
    sys.exit(main(sys.argv[2:]))
