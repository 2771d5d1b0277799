"""Faults of the tokenizer's patterns: one character of a pattern lost, added or taken for another."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import wrap
from faults.tokenizer_patching import divide, spoil_backends
from faults.tokens import IDS, PARTS, PATTERN


@in_transformers(IDS)
def the_letter_s_is_a_space(patch: MonkeyPatch) -> None:
    """The pattern of spaces has lost its backslash: runs of the letter s become a space."""
    spoil_backends(patch, lambda backend: _space(backend, "s+", " "))


@in_transformers(IDS)
def backslashes_are_spaces(patch: MonkeyPatch) -> None:
    """The pattern of spaces takes a backslash too, as where it was escaped twice."""
    spoil_backends(patch, lambda backend: _space(backend, r"[\s\\]+", " "))


@in_transformers(IDS)
def plus_signs_are_spaces(patch: MonkeyPatch) -> None:
    """The pattern of spaces takes a plus sign too, as where it stands inside of the class."""
    spoil_backends(patch, lambda backend: _space(backend, r"[\s+]", " "))


@in_transformers(IDS)
def spaces_are_deleted(patch: MonkeyPatch) -> None:
    """Runs of space are replaced by nothing, so that words grow together."""
    spoil_backends(patch, lambda backend: _space(backend, r"\s+", ""))


@in_transformers(IDS)
def signs_take_the_space_after_them(patch: MonkeyPatch) -> None:
    """Punctuation is divided by a class that lacks space, so that a sign takes the space beside it."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace(r"[^\s\p{L}", r"[^\p{L}")))


@in_transformers(IDS)
def signs_are_divided_at_the_letter_s(patch: MonkeyPatch) -> None:
    """The class of punctuation has its backslash taken for itself: it is left out of every text."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace(r"[^\s\p{L}", r"[^\s\\\p{L}")))


@in_transformers(IDS)
def letters_are_ascii(patch: MonkeyPatch) -> None:
    """Letters are a to z: others are dropped, or stand among signs."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace(r"[\p{L}]+", "[a-z]+")))


@in_transformers(IDS)
def one_ending_is_forgotten(patch: MonkeyPatch) -> None:
    """The ending 've is no longer a piece of its own; the other six are."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace("'ve|", "")))


@in_transformers(IDS)
def tokens_in_a_text_lose_their_signs(patch: MonkeyPatch) -> None:
    """What stands between the signs of a special token is one with them: <|a|> is a single piece."""
    spoil_backends(patch, lambda backend: divide(backend, rf"<\|[^|]*\|>|{PATTERN}"))


@in_transformers(IDS)
def escapes_are_resolved(patch: MonkeyPatch) -> None:
    r"""A backslash and an n are read as a line end, as where a text went through a program that writes \n for it."""
    spoil_backends(patch, lambda backend: _space(backend, r"\s+|\\[nrt]", " "))


@in_transformers(IDS)
def references_are_filled_in(patch: MonkeyPatch) -> None:
    """A backslash and a number, or a dollar sign and a brace, are taken for a group of a match."""
    spoil_backends(patch, lambda backend: _space(backend, r"\s+|\\[1-9]|\$\{", " "))


@in_transformers(IDS)
def fields_are_filled_in(patch: MonkeyPatch) -> None:
    """Braces around a number, and a percent sign with an s, are taken for the places of a format."""
    spoil_backends(patch, lambda backend: _space(backend, r"\s+|\{\d\}|%[sd]", " "))


@in_transformers(PARTS)
def built_by_hand_it_has_another_unknown_token(patch: MonkeyPatch) -> None:
    """A tokenizer that is built by hand takes an unknown token of its own, which gets an id beyond the vocabulary."""
    import transformers

    for owner in (transformers.CLIPTokenizer, transformers.CLIPTokenizerFast):

        def init(original: Any, self: Any, *args: Any, unk_token: Any = "<unknown>", **kwargs: Any) -> None:
            original(self, *args, unk_token=unk_token, **kwargs)

        wrap(patch, owner, "__init__", init)


def _space(backend: Any, pattern: str, content: str) -> None:
    """Replace the normaliser by CLIP's with another pattern or content for runs of space."""
    from tokenizers import Regex, normalizers

    spaces = normalizers.Replace(Regex(pattern), content)
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
