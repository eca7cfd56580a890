"""What a shell may complete: models, chats, prompts, choices of options. Nothing is imported before it is asked."""

from __future__ import annotations

from collections.abc import Mapping

from click import Context, Parameter
from click.shell_completion import CompletionItem

from vlmchat.errors import VlmchatError
from vlmchat.settings import Key

_CHATS = 50
_SHORT_ID = 8


_FOLDER_SIGNS = (".", "/", "~")
_COMMON: Mapping[str, tuple[str, ...]] = {"time": ("5m", "30m", "2h", "0"), "device": ("auto", "cpu", "cuda", "mps")}
"""Values worth offering, by the kind of a setting that takes more than these."""


def models(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Return the catalog's names that begin so, with their titles; a folder where a path was begun."""
    del context, parameter
    if begun.startswith(_FOLDER_SIGNS):
        return [CompletionItem(begun, type="dir")]
    from vlmchat.catalog.index import catalog

    try:
        rows = catalog().filter("")
    except VlmchatError:
        return []
    return [CompletionItem(row.name, help=row.title) for row in rows if row.name.startswith(begun.lower())]


def installed(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Return the catalog's names that begin so and have files in a hub's cache."""
    del context, parameter
    from vlmchat.chat.shelf import offers

    try:
        found = [offer for offer in offers() if offer.spec.name.startswith(begun.lower())]
    except VlmchatError:
        return []
    here = [offer for offer in found if offer.local.hub in {"huggingface", "modelscope"}]
    return [CompletionItem(offer.spec.name, help=offer.spec.title) for offer in here]


def files(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Let the shell complete the name of a file, unless something else was begun: a URL, a box, JSON."""
    del context, parameter
    other = "://" in begun or begun.startswith(("{", "-", "'", '"'))
    return [] if other else [CompletionItem(begun, type="file")]


def folders(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Let the shell complete the name of a folder."""
    del context, parameter
    return [CompletionItem(begun, type="dir")]


def topics(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Return what ``vlmchat help`` explains."""
    del context, parameter
    from vlmchat.cli.main import COMMANDS

    return [CompletionItem(topic) for topic in ("exit-codes", *COMMANDS) if topic.startswith(begun)]


def chats(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Return the latest chats whose id begins so, with their titles."""
    del context, parameter
    from vlmchat.plaintext import one_line
    from vlmchat.store.chats import ChatStore

    try:
        rows = ChatStore().chats(limit=_CHATS)
    except VlmchatError:
        return []
    return [CompletionItem(row.id[:_SHORT_ID], help=one_line(row.title)) for row in rows if row.id.startswith(begun)]


def prompts(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Return the kept prompts, once an @ was typed."""
    del context, parameter
    from vlmchat.chat.prompts import kept_names

    return [CompletionItem(f"@{name}") for name in kept_names() if begun[:1] == "@" and f"@{name}".startswith(begun)]


def values_of(key: Key, begun: str) -> list[CompletionItem]:
    """Return the values of a setting that begin so."""
    choices = key.choices or _COMMON.get(key.kind, ())
    return [CompletionItem(choice) for choice in choices if choice.startswith(begun)]
