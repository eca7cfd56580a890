"""Faults of what the user has on disk: folders, chats, and the files of the config folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from vlmchat.catalog.index import catalog
from vlmchat.chat.prompts import kept_names, kept_prompt
from vlmchat.chat.shelf import EMBEDDED, offers
from vlmchat.cli.checks.problem import Problem, Seen
from vlmchat.errors import VlmchatError
from vlmchat.paths import existing, places
from vlmchat.settings import unknown_variables


def _folders(seen: Seen) -> Iterator[Problem]:
    here = places()
    for folder in dict.fromkeys((here.config, here.data, here.cache, here.state)):
        found = existing(folder)
        if not found.is_dir():
            yield Problem(
                "no-folder", f"{found} is a file where a folder should be.", "Move it away, or set VLMCHAT_HOME."
            )
        elif not os.access(found, os.W_OK | os.X_OK):
            yield Problem(
                "not-writable",
                f"{found} cannot be written.",
                "Change its permissions, or set VLMCHAT_HOME to another folder.",
            )


def _privacy(seen: Seen) -> Iterator[Problem]:
    for path in (places().chats, places().data):
        if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
            yield Problem("not-private", f"Others may read {path}.", f"Close it with: chmod go-rwx {path}")


def _chats(seen: Seen) -> Iterator[Problem]:
    for problem in seen.health.problems:
        yield Problem.of("chats", problem)


def _variables(seen: Seen) -> Iterator[Problem]:
    for name in unknown_variables():
        yield Problem(
            "unknown-variable",
            f"{name} is set but means nothing.",
            "Settings are VLMCHAT_MODEL and so on; `vlmchat doctor` lists their names.",
        )


def _rows(seen: Seen) -> Iterator[Problem]:
    for problem in catalog().problems:
        yield Problem("catalog-row", problem, "Mend it; the other rows are used.")


def _prompts(seen: Seen) -> Iterator[Problem]:
    for name in kept_names():
        try:
            kept_prompt(name)
        except VlmchatError as problem:
            yield Problem.of("kept-prompt", problem)


def _themes(seen: Seen) -> Iterator[Problem]:
    # Late: Textual takes 0.15 CPU-seconds.
    from vlmchat.tui.themes import DEFAULT, read_themes

    shelf = read_themes()
    for problem in shelf.problems:
        path = places().themes / problem.file
        yield Problem("theme", f"{path} is no theme: {problem.reason}.", "Mend the file; the shipped themes go on.")
    if seen.settings.theme is not None and seen.settings.theme not in shelf.themes:
        known = ", ".join(shelf.themes)
        yield Problem(
            "unknown-theme",
            f"There is no theme {seen.settings.theme!r} ({seen.settings.source('theme')}); {DEFAULT} stands in.",
            f"Name one of: {known}.",
        )


def _keys(seen: Seen) -> Iterator[Problem]:
    if seen.settings.keys:
        # Late, as above.
        from vlmchat.tui.keymap import read_keymap

        for problem in read_keymap(seen.settings.keys).problems:
            yield Problem("key", f"[keys] of the settings file: {problem}", "Mend that line; the other keys hold.")


def _demo(seen: Seen) -> Iterator[Problem]:
    for offer in offers(EMBEDDED):
        if offer.spec.name == EMBEDDED and offer.how:
            yield Problem("embedded-model", "The embedded model is not whole.", offer.how)


CHECKS: tuple[Callable[[Seen], Iterator[Problem]], ...] = (
    _folders, _privacy, _chats, _variables, _rows, _prompts, _themes, _keys, _demo,
)  # fmt: skip
