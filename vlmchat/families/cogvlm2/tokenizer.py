"""CogVLM2's tokenizer: the Llama-3 ``tokenizer.json`` of the folder, behind one beginning token (facts §6)."""

from __future__ import annotations

from pathlib import Path

from vlmchat.families.fast_tokenizer import FastTokenizer


def open_tokenizer(folder: Path, bos_id: int) -> FastTokenizer:
    """Read the tokenizer of ``folder``; prompts begin with ``bos_id`` whatever the file's post-processor says.

    Files of the Llama-3 layout differ in that: the earliest put nothing in front.

    Raises:
        CheckpointError: a file is missing or damaged, or knows no token of this id.
    """
    tokenizer = FastTokenizer.from_folder(folder)
    tokenizer.begin_with(bos_id)
    return tokenizer
