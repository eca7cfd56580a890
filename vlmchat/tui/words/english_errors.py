"""What the rooms below the app say went wrong, where they name the shell: in the app's own words.

Keys are their sentences, as in ``chinese_errors``; a test holds them against the source. ``{models}`` and the like are
the keys in force.
"""

from __future__ import annotations

SENTENCES: dict[str, str] = {
    # models
    "Use a CogVLM2 checkpoint; `vlmchat models` lists them.": "Use a CogVLM2 checkpoint; {models} lists them.",
    "It runs {0}; `vlmchat models` lists the others.": "It runs {0}; {models} lists the others.",
    "`vlmchat models` lists what it runs.": "{models} lists what it runs.",
    "`vlmchat models` lists them.": "{models} lists them.",
    "`vlmchat models` shows which ones it can.": "{models} shows which ones it can.",
    "Load one first.": "Press {models} and pick one first.",
    "Pick a smaller model: `vlmchat show MODEL` says what fits.": "Pick a smaller model: {models} says what fits.",
    # settings
    "Start a new chat, use fewer or smaller pictures (--max-tiles), or shorten the text.": (
        "Start a new chat ({new_chat}), use fewer pictures or fewer tiles of each ({settings}), or shorten the text."
    ),
    "Remove it, or say it in your question.": "Remove it ({settings}), or say it in your question.",
    "Use a smaller model, --quantization 4-bit, or fewer tiles (--max-tiles).": (
        "Use a smaller model ({models}), 4-bit quantization or fewer tiles ({settings})."
    ),
    "Use --quantization {0}: that needs {1}.": "Set quantization to {0} ({settings}): that needs {1}.",
    "--device {0} is no device.": "{0} is no device.",
    "Use --device auto; `vlmchat doctor` lists the devices.": (
        "Set the device to auto ({settings}); `vlmchat doctor` lists the devices."
    ),
    "--quantization {0} needs a CPU or an NVIDIA GPU, not {1}.": (
        "Quantization {0} needs a CPU or an NVIDIA GPU, not {1}."
    ),
    "Use --quantization none, or --device cpu.": "Set quantization to none, or the device to cpu ({settings}).",
    "--max-tiles must be at least 1, not {0}.": "Tiles of a picture must be at least 1, not {0}.",
    "--{0} must be {1}, not {2}.": "{0} must be {1}, not {2}.",
    # the engine that is kept, the web, the disk
    "Ask again; --cold does without it.": "Ask again; vlmchat --cold does without it.",
    "{0} says more; --cold does without it.": "{0} says more; vlmchat --cold does without it.",
    "{0} is on the web, and --offline is set.": "{0} is on the web, and vlmchat is offline.",
    "If that is meant, give --private-urls.": "If that is meant, begin with vlmchat --private-urls.",
    "Leave --offline and HF_HUB_OFFLINE away.": "Begin without --offline and HF_HUB_OFFLINE.",
    "Check the folder's permissions, or ask with --no-save.": (
        "Check the folder's permissions, or ask in a temporary chat ({temporary})."
    ),
    "`vlmchat chats` lists them with their ids.": "{chats} lists them.",
    "Try the other hub with --hub, or report it there; the other files are kept.": (
        "Try the other hub ({switch_hub} in the list of downloads, {downloads}), or report it there; the other files "
        "are kept."
    ),
}
