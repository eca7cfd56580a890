r"""Formulas in answers: kept as they were written, so that Markdown does not eat them.

Markdown takes ``\(`` for an escaped bracket and ``_`` for emphasis, which makes a formula unreadable. Here
``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]`` become code: LaTeX is shown letter by letter. A price
(``$5 and $6``) is none: what is between dollars may not begin or end with a blank, nor be followed by a digit.
"""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

_INLINE = {"math_inline", "math_inline_double"}
_BLOCK = {"math_block", "math_block_label"}


def keep_formulas(parser: MarkdownIt) -> MarkdownIt:
    """Return ``parser``, taught to leave formulas alone."""
    dollarmath_plugin(parser, allow_space=False, allow_digits=False, double_inline=True)
    parser.inline.ruler.before("escape", "round_brackets", _round_brackets)
    parser.block.ruler.before("fence", "square_brackets", _square_brackets, {"alt": ["paragraph", "reference"]})
    parser.core.ruler.push("formulas", _as_code)
    return parser


def _round_brackets(state: StateInline, silent: bool) -> bool:
    r"""Take ``\(…\)`` in a line of text."""
    if not state.src.startswith("\\(", state.pos):
        return False
    end = state.src.find("\\)", state.pos + 2)
    if end < 0:
        return False
    if not silent:
        state.push("math_inline", "math", 0).content = state.src[state.pos + 2 : end].strip()
    state.pos = end + 2
    return True


def _square_brackets(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    r"""Take lines from one that begins with ``\[`` to one that ends with ``\]``; before that is there it is text."""
    if not _line(state, first).startswith("\\["):
        return False
    end = next((at for at in range(first, last) if _line(state, at).endswith("\\]")), None)
    if end is None:
        return False
    if not silent:
        token = state.push("math_block", "math", 0)
        token.content = "\n".join(_line(state, at) for at in range(first, end + 1))[2:-2]
        token.map = [first, end + 1]
        state.line = end + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].strip()


def _as_code(state: StateCore) -> None:
    """Make code of every formula, which is what the app can draw."""
    for token in state.tokens:
        if token.type in _BLOCK:
            token.type, token.tag, token.info = "fence", "code", "latex"
            token.content = token.content.strip("\n") + "\n"
        _inline_as_code(token.children or ())


def _inline_as_code(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type in _INLINE:
            token.type, token.tag = "code_inline", "code"
