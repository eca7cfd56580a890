"""Every sentence the app shows, in one table, so that another language is another table.

Values are filled in by name. What comes back is plain text: it is shown as it is and never parsed
as markup, whatever a file name or a model put into it.
"""

from __future__ import annotations

from time import localtime, strftime

from vlmchat.plaintext import one_line

_ENGLISH: dict[str, str] = {
    # actions: what the footer, the palette and the help say
    "action.quit": "Quit",
    "action.quit.tip": "Leave. Nothing is asked and nothing is lost: chats, half answers and the draft are kept.",
    "action.help": "Help",
    "action.help.tip": "Show every key and what it does.",
    "action.palette": "Commands",
    "action.palette.tip": "Find any command by typing a part of its name.",
    "action.theme": "Next theme",
    "action.theme.tip": "Go through the themes; the choice is remembered.",
    "action.send": "Send",
    "action.send.tip": "Send the question with its pictures. While the model loads it waits and goes out by itself.",
    "action.newline": "New line",
    "action.newline.tip": "Begin a new line in the question.",
    "action.recall": "Recall",
    "action.recall.tip": "In an empty box: bring back the question before, with its pictures.",
    "action.recall_newer": "Back again",
    "action.recall_newer.tip": "After a recall: go on to the newer question, and at last to the empty box.",
    "action.stop": "Stop",
    "action.stop.tip": "Stop the answer within one token and keep what was written, or take a waiting question back.",
    "action.new_chat": "New chat",
    "action.new_chat.tip": "Begin a new chat; the present one stays among the saved chats.",
    "action.chats": "Chats",
    "action.chats.tip": "Search, reopen, rename and delete saved chats.",
    "action.models": "Models",
    "action.models.tip": "Pick another model, or type the path of a checkpoint folder.",
    "action.copy": "Copy answer",
    "action.copy.tip": "Copy the last answer, as the model wrote it, to the clipboard.",
    "action.drop_picture": "Remove picture",
    "action.drop_picture.tip": "Remove the last picture: Backspace at the very start of the box does it too.",
    "action.page_up": "Scroll up",
    "action.page_up.tip": "Look back in the chat; new text no longer moves it.",
    "action.page_down": "Scroll down",
    "action.page_down.tip": "Go down in the chat; at its end it follows new text again.",
    "action.remove_chip": "Remove",
    "action.remove_chip.tip": "Remove the picture that is marked.",
    "action.leave_chips": "Back to the question",
    "action.leave_chips.tip": "Go back to typing.",
    "action.use_model": "Use",
    "action.use_model.tip": "Talk to the marked model, or see how to get it.",
    "action.open_chat": "Open",
    "action.open_chat.tip": "Go on with the marked chat.",
    "action.rename_chat": "Rename",
    "action.rename_chat.tip": "Give the marked chat another title.",
    "action.delete_chat": "Delete",
    "action.delete_chat.tip": "Delete the marked chat; Ctrl+Z brings it back.",
    "action.restore_chat": "Undo delete",
    "action.restore_chat.tip": "Bring back the chat deleted last.",
    "action.close": "Back",
    "action.close.tip": "Go back to the chat.",
    "scope.app": "Everywhere",
    "scope.chat": "In the chat",
    "scope.prompt": "While you type",
    "scope.chips": "On a picture",
    "scope.models": "In the list of models",
    "scope.chats": "In the list of chats",
    "palette.search": "Type a command…",
    "palette.theme": "Theme: {title}",
    "palette.theme.tip": "Change the colours now and next time.",
    # the chat
    "prompt.placeholder": "Ask about a picture. Paste or type its path to attach it.",
    "prompt.reading": "reading {count} picture(s)…",
    "welcome.title": "vlmchat",
    "welcome.line": "Ask about a picture. Everything stays on this machine.",
    "welcome.attach": "paste or type a path to attach a picture",
    "welcome.send": "send",
    "welcome.stop": "stop, and keep what was written",
    "welcome.models": "pick a model",
    "welcome.chats": "saved chats",
    "welcome.help": "all keys",
    "turn.stopped": "stopped",
    "turn.length": "token limit reached",
    "turn.failed": "not answered",
    "turn.queued": "waiting for the model; Esc takes it back",
    "turn.waiting": "thinking",
    "turn.earlier": "{count} earlier turns: Page Up at the top shows them",
    "stats.first": "{seconds} to first token",
    "stats.rate": "{rate} tok/s",
    "stats.token": "{count} token",
    "stats.tokens": "{count} tokens",
    "stats.reason.stop": "finished",
    "stats.reason.length": "token limit",
    "stats.reason.interrupted": "stopped",
    "status.new": "new chat",
    "status.no_model": "no model",
    "status.ready": "ready",
    "status.answering": "answering",
    "status.reading": "picture {picture}/{pictures} · tile {tile}/{tiles}",
    "status.prefill": "prefill {done}/{total}",
    "status.failed": "not loaded",
    "status.loading": "loading",
    "status.loading.libraries": "loading · starting the engine",
    "status.loading.config": "loading · reading the checkpoint",
    "status.loading.tokenizer": "loading · tokenizer",
    "status.loading.weights": "loading · weights {done} of {total}",
    "status.loading.audit": "loading · checking every tensor",
    "status.loading.ready": "ready",
    # small notices
    "toast.copied": "Copied the last answer.",
    "toast.nothing_to_copy": "There is no answer to copy yet.",
    "toast.busy": "The answer is still coming. Esc stops it; your text stays here.",
    "toast.queued": "One question is waiting for the model already. Esc takes it back; your text stays here.",
    "toast.no_question": "Type a question about the picture, then press Enter.",
    "toast.no_model": "No model is loaded, so the question stays here. Ctrl+L picks one.",
    "toast.nothing_to_recall": "No earlier question in this chat.",
    "toast.restored_draft": "Your unsent question is back.",
    "toast.path_as_text": "Enter again sends it as plain text.",
    "toast.theme": "Theme: {title}",
    "toast.bad_theme": "{file}: {problem}. Using {fallback}.",
    "toast.unknown_theme": "There is no theme {name}. Using {fallback}.",
    "toast.deleted": "Deleted “{title}”. Ctrl+Z brings it back.",
    "toast.restored": "“{title}” is back.",
    "toast.nothing_to_restore": "Nothing was deleted since this list was opened.",
    "toast.deleting_busy": "This chat is being answered. Stop it first with Esc.",
    # panels
    "panel.load": "The model could not be loaded",
    "panel.answer": "The question was not answered",
    "panel.draft_back": "Your question is back in the box.",
    "panel.keys": "Enter closes · Ctrl+L picks another model",
    "panel.close": "Enter closes",
    "panel.get": "{name} is not on this machine",
    "panel.link": "Where this link leads",
    "panel.link.keys": "o opens it in your browser · Enter closes",
    "panel.rename": "New title",
    "panel.rename.keys": "Enter saves · Esc leaves it",
    "panel.help": "Keys and commands",
    "panel.help.keys": "Esc closes · every command is also in the palette (Ctrl+P)",
    "error.unforeseen": "Something went wrong that vlmchat did not foresee ({kind}: {problem}).",
    "error.unforeseen.hint": "The details are in {log}; please report them.",
    "error.no_file": "{path} is no ordinary file.",
    "error.no_file.hint": "Name a picture file.",
    # models
    "models.title": "Models",
    "models.filter": "Filter, or type the path of a checkpoint folder",
    "models.current": "in use",
    "models.installed": "installed",
    "models.missing": "not here",
    "models.folder": "folder",
    "models.none": "No model is called that. A path that begins with / or ./ or ~ opens a folder.",
    "models.loading": "Reading the catalog…",
    "models.later": "This version of vlmchat cannot run {name} yet.",
    "models.detail.here": "Enter talks to it.",
    "models.detail.folder": "Enter loads the checkpoint in this folder.",
    # chats
    "chats.title": "Chats",
    "chats.filter": "Search in all chats",
    "chats.none": "No chats yet. Ask something, and it is kept here.",
    "chats.no_match": "No chat has these words.",
    "chats.untitled": "untitled",
    "chats.turns": "{count} turns",
    "time.now": "just now",
    "time.minutes": "{count} min ago",
    "time.hours": "{count} h ago",
    "time.yesterday": "yesterday",
}

_TABLE = _ENGLISH


def say(key: str, **values: object) -> str:
    """Return the sentence called ``key`` with ``values`` filled in; plain text, never markup."""
    return _TABLE[key].format(**values)


def seconds(value: float) -> str:
    """Return a duration as short as it can be read: ``340 ms``, ``1.2 s``, ``75 s``."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value:.0f} s"


def size(count: int) -> str:
    """Return a number of bytes in decimal units, three digits at most: ``9.8 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 99.5 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def model_name(name: str) -> str:
    """Return a model as a narrow place can show it: a folder by its last part, a catalog name whole."""
    return one_line(name.rstrip("/").rsplit("/", 1)[-1] if name.startswith("/") else name)


def shorten(text: str, length: int) -> str:
    """Return ``text``, its end left out when it is longer than ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def ago(then: float, now: float) -> str:
    """Return how long ago ``then`` was, or its date when that is more than a day."""
    passed = max(0.0, now - then)
    if passed < 60:
        return say("time.now")
    if passed < 3600:
        return say("time.minutes", count=int(passed // 60))
    if passed < 86400:
        return say("time.hours", count=int(passed // 3600))
    if passed < 2 * 86400:
        return say("time.yesterday")
    return strftime("%Y-%m-%d", localtime(then))
