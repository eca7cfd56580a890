"""What a shell may complete: models, chats, prompts, choices of options. Nothing is imported before it is asked."""

from __future__ import annotations

from click import Context, Parameter
from click.shell_completion import CompletionItem

from vlmchat.errors import VlmchatError
from vlmchat.settings import Key

_CHATS = 50
_SHORT_ID = 8


def models(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Return the catalog's names that begin so, with their titles."""
    del context, parameter
    from vlmchat.catalog.index import catalog

    try:
        rows = catalog().filter("")
    except VlmchatError:
        return []
    return [CompletionItem(row.name, help=row.title) for row in rows if row.name.startswith(begun.lower())]


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
    return [CompletionItem(choice) for choice in key.choices if choice.startswith(begun)]
