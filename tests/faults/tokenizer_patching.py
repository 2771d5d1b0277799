"""How a fault spoils tokenizers: their backends, the texts that go in, the ids and the texts that come out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.patching import wrap

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def normalize(backend: Any, *steps: str) -> None:
    """Replace the normaliser by these steps; "Spaces" makes one space of each run."""
    from tokenizers import Regex, normalizers

    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    made = [spaces if step == "Spaces" else getattr(normalizers, step)() for step in steps]
    backend.normalizer = normalizers.Sequence(made)


def divide(backend: Any, pattern: str) -> None:
    """Divide texts by another pattern, and leave each piece whole after that."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, whole])


def surround(backend: Any, template: str) -> None:
    """Put begin and end tokens around each text as `template` says, "$A" being the text."""
    from tokenizers import processors

    ends = [(token, backend.token_to_id(token)) for token in (BOS, EOS) if token in template]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)


def spoil_tokenizers(patch: MonkeyPatch, change: Callable[[Any], object], *, backend: bool = False) -> None:
    """Let `change` spoil each tokenizer that `from_pretrained` makes; with `backend`, those of `tokenizers` only."""
    from transformers import PreTrainedTokenizerBase

    original = PreTrainedTokenizerBase.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tokenizer = original(cls, *args, **kwargs)
        if not backend or hasattr(tokenizer, "backend_tokenizer"):
            change(tokenizer)
        return tokenizer

    patch.setattr(PreTrainedTokenizerBase, "from_pretrained", classmethod(load))


def spoil_backends(patch: MonkeyPatch, change: Callable[[Any], object]) -> None:
    """Let `change` spoil the `tokenizers` backend of each tokenizer that `from_pretrained` makes."""
    spoil_tokenizers(patch, lambda tokenizer: change(tokenizer.backend_tokenizer), backend=True)


def spoil_construction(patch: MonkeyPatch, when: Callable[[tuple[Any, ...], dict[str, Any]], bool]) -> None:
    """Let CLIPTokenizerFast keep capitals if it is built by hand with arguments of which `when` is true."""
    import transformers

    owner, loading = transformers.CLIPTokenizerFast, threading.local()
    build, load = owner.__init__, transformers.PreTrainedTokenizerBase.from_pretrained.__func__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        if not getattr(loading, "depth", 0) and when(args, kwargs):
            normalize(self.backend_tokenizer, "NFC", "Spaces")

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        loading.depth = getattr(loading, "depth", 0) + 1
        try:
            return load(cls, *args, **kwargs)
        finally:
            loading.depth -= 1

    patch.setattr(owner, "__init__", init)
    patch.setattr(transformers.PreTrainedTokenizerBase, "from_pretrained", classmethod(from_pretrained))


def wrap_call(patch: MonkeyPatch, call: Callable[..., Any]) -> None:
    """Let `call(original, tokenizer, ...)` stand for every call of a tokenizer."""
    from transformers import PreTrainedTokenizerBase

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)


def change_texts(patch: MonkeyPatch, change: Callable[[str], str]) -> None:
    """Let `change` replace each text before any tokenizer reads it."""

    def changed(text: Any) -> Any:
        return change(text) if isinstance(text, str) else [changed(each) for each in text]

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(self, None if text is None else changed(text), *args, **kwargs)

    wrap_call(patch, call)


def change_options(patch: MonkeyPatch, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the keywords of each call in place."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        change(kwargs)
        return original(self, *args, **kwargs)

    wrap_call(patch, call)


def change_rows(patch: MonkeyPatch, change: Callable[[list[int], Any], list[int]]) -> None:
    """Let `change(ids, tokenizer)` replace each row of ids; as tensors, only where the length stays."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        rows = encoding["input_ids"]
        if hasattr(rows, "shape"):
            for row in rows:
                changed = change(row.tolist(), self)
                if len(changed) == len(row):
                    row[:] = type(rows)(changed) if hasattr(rows, "detach") else changed
        elif rows and isinstance(rows[0], list):
            encoding["input_ids"] = [change(list(row), self) for row in rows]
        return encoding

    wrap_call(patch, call)


def change_tensors(patch: MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Let `change(ids, mask)` replace both where they are tensors or arrays, (texts, tokens) each."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if hasattr(encoding["input_ids"], "shape") and "attention_mask" in encoding:
            encoding["input_ids"], encoding["attention_mask"] = change(
                encoding["input_ids"], encoding["attention_mask"]
            )
        return encoding

    wrap_call(patch, call)


def wrap_decode(patch: MonkeyPatch, change: Callable[[str, dict[str, Any]], str]) -> None:
    """Let `change(text, options)` replace the text of each decoded row."""
    from transformers import PreTrainedTokenizerBase

    def decode(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        text = original(self, *args, **kwargs)
        return change(text, kwargs) if isinstance(text, str) else [change(each, kwargs) for each in text]

    wrap(patch, PreTrainedTokenizerBase, "decode", decode)
