"""A tokenizer of a few dozen tokens, which depends on transformers alone, not on a checkpoint's files."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from tempfile import TemporaryDirectory
from typing import Any

from clip_eval.subject.processors import Processors

__all__ = ["tiny_tokenizer", "vocabulary"]


def vocabulary() -> dict[str, int]:
    """Return a vocabulary of letters, two pairs, and CLIP's begin and end tokens."""
    words = (*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase), "ab", "ab</w>")
    return {token: index for index, token in enumerate((*words, "<|startoftext|>", "<|endoftext|>"))}


def tiny_tokenizer(processors: Processors, class_name: str, **arguments: Any) -> Any:
    """Construct a tokenizer of the tiny vocabulary, by position as every release takes its two files.

    Args:
        processors: construct it.
        class_name: CLIPTokenizer or CLIPTokenizerFast.
        arguments: further ones by keyword.
    """
    with TemporaryDirectory(prefix="clip-eval-") as place:
        files = Path(place) / "vocab.json", Path(place) / "merges.txt"
        files[0].write_text(json.dumps(vocabulary()), encoding="utf-8")
        files[1].write_text("#version: 0.2\na b\na b</w>\n", encoding="utf-8")
        return processors.construct(class_name, *map(str, files), **arguments)
