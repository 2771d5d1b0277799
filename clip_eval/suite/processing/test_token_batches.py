"""Batches of texts: padding, truncation, tensors, optional outputs, and independence of calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from clip_eval.errors import NotAskable
from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder
from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip
from clip_eval.subject.tokenizers import (
    LOADED,
    encoder_of,
    expected_batch,
    expected_rows,
    is_processor,
    is_python,
    obstacle,
    require_whole_texts,
    tokenizer_of,
)
from clip_eval.suite._tokens import compare_rows, plain_rows
from clip_eval.verdict.compare import Compare

SHORT = ("", "a red cat", "A photo of two DOGS, running!")
LONG = "a red circle and a blue square "
FIT = "tokenizer.truncated_texts_fit_the_model"
PADDING: dict[str, dict[str, Any]] = {
    "longest": {"padding": True},
    "longest-by-name": {"padding": "longest"},
    "max_length": {"padding": "max_length", "max_length": 50},
    "multiple-of-8": {"padding": True, "pad_to_multiple_of": 8},
    "on-the-left": {"padding": True, "padding_side": "left"},
    "on-the-right": {"padding": "longest", "padding_side": "right"},
    "to-a-length-on-the-left": {"padding": "max_length", "max_length": 60, "padding_side": "left"},
    "with-truncation": {"padding": True, "truncation": True, "max_length": 7},
    "to-a-length-with-truncation": {"padding": "max_length", "truncation": True, "max_length": 7},
}
TRUNCATION: dict[str, dict[str, Any]] = {
    "none": {},
    "off": {"truncation": False},
    "on": {"truncation": True},
    "longest-first": {"truncation": "longest_first"},
    "only-first": {"truncation": "only_first"},
    "to-7": {"truncation": True, "max_length": 7},
    "to-3": {"truncation": True, "max_length": 3},
    "to-more-than-there-is": {"truncation": True, "max_length": 5000},
}


@pytest.fixture
def encoder(clip: Clip, evidence: Evidence) -> BytePairEncoder:
    """The tokenizer's own rules, read from its files."""
    if absence := clip.checkpoint.tokenizer_absence:
        evidence.absent(absence)
    return encoder_of(clip)


@pytest.mark.parametrize("case", PADDING)
def test_padding_follows_the_rules(clip: Clip, compare: Compare, encoder: BytePairEncoder, case: str) -> None:
    """Padding appends the padding token, on the requested side and to the requested length, and the mask is 0 there.

    Through every class that users load a tokenizer by.
    """
    options = PADDING[case]
    for route in _routes(clip, encoder):
        expected = expected_batch(encoder, route, SHORT, **options)
        observed = _call(clip, route, SHORT, return_tensors="np", **options)
        compare.equal(observed["input_ids"], expected.input_ids, name=f"input_ids by {route}")
        compare.equal(observed["attention_mask"], expected.attention_mask, name=f"attention_mask by {route}")


def test_rows_can_be_padded_later(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """tokenizer.pad(), which data loaders call, pads plain rows as padding=True pads their texts."""
    for route in _tokenizers(clip):
        tokenizer, rows = clip.processors.load(route), _call(clip, route, SHORT)
        expected = expected_batch(encoder, route, SHORT, padding=True)
        observed = clip.processors.process(tokenizer.pad, dict(rows), return_tensors="np")
        compare.equal(observed["input_ids"], expected.input_ids, name=f"input_ids padded later by {route}")
        compare.equal(observed["attention_mask"], expected.attention_mask, name=f"mask padded later by {route}")


@pytest.mark.parametrize("case", TRUNCATION)
def test_truncation_follows_the_rules(clip: Clip, compare: Compare, encoder: BytePairEncoder, case: str) -> None:
    """Truncation cuts a text to the requested length, else the model's, end token last; without it nothing is cut.

    Through every class that users load a tokenizer by.
    """
    options = TRUNCATION[case]
    texts = (*SHORT, LONG * clip.config.text.max_position_embeddings)
    for route in _routes(clip, encoder):
        expected = expected_rows(encoder, route, texts, **options)
        observed = _call(clip, route, texts, **options)
        ids, mask = plain_rows(observed["input_ids"]), plain_rows(observed["attention_mask"])
        compare_rows(compare, ids, expected, texts=texts, what=f"input_ids by {route}")
        compare_rows(compare, mask, [[1] * len(row) for row in expected], texts=texts, what=f"mask by {route}")


@pytest.mark.parametrize("route", LOADED)
def test_long_texts_are_truncated_to_the_models_length(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """truncation=True with padding="max_length" gives rows of the tokenizer's model_max_length, the end token last.

    Whether that fits the model is another check.
    """
    length = clip.config.text.max_position_embeddings
    texts = (LONG * length, "a red circle")
    _require_whole_texts(clip, evidence, encoder, route)
    if not _is_limited(encoder, route, length):
        raise NotAskable("the tokenizer's length is not the model's", finding=FIT, where="tokenizer_config.json")
    expected = expected_batch(encoder, route, texts, padding="max_length", truncation=True)
    observed = _call(clip, route, texts, padding="max_length", truncation=True, return_tensors="pt")
    compare.equal(observed["input_ids"], expected.input_ids, name="input_ids")
    compare.equal(observed["attention_mask"], expected.attention_mask, name="attention_mask")


@pytest.mark.parametrize("route", LOADED)
def test_tensors_hold_the_ids(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """return_tensors gives torch tensors or NumPy arrays of int64, and without it plain lists, all of the same ids."""
    _require_whole_texts(clip, evidence, encoder, route)
    expected = expected_batch(encoder, route, SHORT, padding=True)
    for wanted, kind in (("pt", "Tensor"), ("np", "ndarray"), (None, "list")):
        observed = _call(clip, route, SHORT, padding=True, return_tensors=wanted)
        for name, right in (("input_ids", expected.input_ids), ("attention_mask", expected.attention_mask)):
            value = observed[name]
            compare.equal(type(value).__name__, kind, name=f"type of {name} for return_tensors={wanted!r}")
            dtype = "int64" if wanted is None else str(value.dtype).removeprefix("torch.")
            compare.equal(dtype, "int64", name=f"dtype of {name} for return_tensors={wanted!r}")
            compare.equal(np.asarray(value), right, name=f"{name} for return_tensors={wanted!r}")


@pytest.mark.parametrize("route", LOADED)
def test_one_text_is_a_batch_of_one(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """A bare string gives what it gives in a list: with a leading axis of one as a tensor, without it as a list."""
    _require_whole_texts(clip, evidence, encoder, route)
    text, expected = SHORT[2], encoder.encode(SHORT[2])
    tensor = _call(clip, route, text, return_tensors="pt")["input_ids"]
    compare.equal(tensor, np.array([expected]), name="input_ids of one text")
    compare.equal(_call(clip, route, text)["input_ids"], expected, name="input_ids of one text without return_tensors")
    listed = _call(clip, route, [text], return_tensors="pt")["input_ids"]
    compare.equal(listed, np.array([expected]), name="input_ids of a list of one text")


def test_words_given_apart_are_a_text(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """is_split_into_words=True takes a list of words as one text: the ids of each word in order."""
    texts = [["A", "red-hot", "cat's"], ["two DOGS"]]
    words = [[number for word in text for number in encoder.inner(word)] for text in texts]
    expected = [[encoder.bos_id, *ids, encoder.eos_id] for ids in words]
    for route in _tokenizers(clip):
        observed = _call(clip, route, texts, is_split_into_words=True)
        ids, spelled = plain_rows(observed["input_ids"]), [" ".join(text) for text in texts]
        compare_rows(compare, ids, expected, texts=spelled, what=f"input_ids by {route}")


def test_optional_outputs_agree_with_the_ids(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """Leaving out or marking special tokens, returning lengths and leaving out the mask do not change the ids.

    Through every class that users load a tokenizer by.
    """
    ids = encoder.rows(SHORT)
    for route in _routes(clip, encoder):
        bare = _call(clip, route, SHORT, add_special_tokens=False)
        inner = plain_rows(bare["input_ids"])
        compare_rows(compare, inner, [row[1:-1] for row in ids], texts=SHORT, what=f"no special tokens by {route}")
        full = _call(clip, route, SHORT, return_special_tokens_mask=True, return_length=True)
        compare_rows(compare, plain_rows(full["input_ids"]), ids, texts=SHORT, what=f"input_ids by {route}")
        marks = [[1, *(0 for _ in row[1:-1]), 1] for row in ids]
        marked = plain_rows(full["special_tokens_mask"])
        compare_rows(compare, marked, marks, texts=SHORT, what=f"special_tokens_mask by {route}")
        compare.equal([int(length) for length in full["length"]], list(map(len, ids)), name=f"length by {route}")
        maskless = _call(clip, route, SHORT, return_attention_mask=False)
        compare.equal(sorted(maskless.keys()), ["input_ids"], name=f"keys without the mask by {route}")


def test_offsets_point_into_the_text(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence
) -> None:
    """return_offsets_mapping gives each token's place in the text; special tokens have an empty one."""
    routes = [route for route in _tokenizers(clip) if not is_python(route)]
    text = "A red  CAT, running"
    names = {number: symbol for symbol, number in encoder.vocabulary.items()}
    symbols = [names[number].removesuffix("</w>") for number in encoder.inner(text)]
    if encoder.unk_id in encoder.inner(text):
        evidence.not_applicable("the vocabulary lacks letters of the Latin alphabet")
    for route in routes:
        spans = _call(clip, route, text, return_offsets_mapping=True)["offset_mapping"]
        compare.equal([tuple(spans[0]), tuple(spans[-1])], [(0, 0), (0, 0)], name=f"offsets of the ends by {route}")
        read = [text[first:last].lower() for first, last in spans[1:-1]]
        compare.equal(read, symbols, name=f"text at the offsets by {route}")


@pytest.mark.parametrize("route", LOADED)
def test_calls_leave_nothing_behind(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """Padding, truncation or leaving out special tokens changes neither the next call nor the input texts."""
    _require_whole_texts(clip, evidence, encoder, route)
    texts, expected = [*SHORT], encoder.rows(SHORT)
    calls: tuple[dict[str, Any], ...] = (
        {},
        {"padding": "max_length", "max_length": 33, "padding_side": "left", "truncation": True},
        {"padding": True, "pad_to_multiple_of": 16, "add_special_tokens": False},
        {"truncation": True, "max_length": 3},
    )
    batch = expected_batch(encoder, route, SHORT, padding=True)
    before = _settings(clip, route)
    for options in calls:
        _call(clip, route, texts, **options)
        observed = plain_rows(_call(clip, route, texts)["input_ids"])
        compare_rows(compare, observed, expected, texts=SHORT, what=f"input_ids after {_spelled(options)}")
        padded = _call(clip, route, texts, padding=True, return_tensors="np")["input_ids"]
        compare.equal(padded, batch.input_ids, name=f"padded after {_spelled(options)}")
    compare.equal(_settings(clip, route), before, name="settings of the tokenizer")
    compare.equal(texts, list(SHORT), name="the texts given")


@pytest.mark.parametrize("route", LOADED)
def test_threads_get_the_ids_of_their_own_texts(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """Four threads that share a tokenizer each get what a single one gets."""
    _require_whole_texts(clip, evidence, encoder, route)
    options: dict[str, Any] = {"padding": "max_length", "max_length": 50, "truncation": True}
    batches = [[f"{text} {number}" for text in SHORT] for number in range(16)]
    expected = [expected_batch(encoder, route, texts, **options).input_ids for texts in batches]
    loaded = clip.processors.load(route)

    def work() -> list[Any]:
        loaded(text=batches[0], **options)  # these settings persist in the tokenizer
        with ThreadPoolExecutor(max_workers=4) as pool:
            return list(pool.map(lambda texts: loaded(text=texts, return_tensors="np", **options), batches))

    observed = clip.processors.process(work)
    for number, (found, right) in enumerate(zip(observed, expected, strict=True)):
        compare.equal(found["input_ids"], right, name=f"input_ids of batch {number}")


def _routes(clip: Clip, encoder: BytePairEncoder) -> Iterator[str]:
    """The classes that load this checkpoint, tokenizers first; raises NotAskable if processors cut texts."""
    for route in sorted(LOADED, key=is_processor):
        if obstacle(clip, route) is None:
            require_whole_texts(clip, route, encoder)
            yield route


def _tokenizers(clip: Clip) -> list[str]:
    return [route for route in LOADED if not is_processor(route) and obstacle(clip, route) is None]


def _require_whole_texts(clip: Clip, evidence: Evidence, encoder: BytePairEncoder, route: str) -> None:
    """Skip a check of a class that cannot load the checkpoint, or that cuts every text."""
    if reason := obstacle(clip, route):
        evidence.not_applicable(reason)
    require_whole_texts(clip, route, encoder)


def _is_limited(encoder: BytePairEncoder, route: str, length: int) -> bool:
    """Whether a class cuts and pads to at most `length` tokens in a call without max_length."""
    saved = encoder.saved_length if is_processor(route) else None
    limit = saved or encoder.max_length
    return limit is not None and limit <= length


def _call(clip: Clip, route: str, texts: Any, **options: Any) -> Any:
    return clip.processors.process(clip.processors.load(route), text=_as_given(texts), **options)


def _as_given(texts: Any) -> Any:
    return list(texts) if isinstance(texts, tuple) else texts


def _settings(clip: Clip, route: str) -> dict[str, object]:
    tokenizer = tokenizer_of(clip.processors.load(route))
    names = ("padding_side", "truncation_side", "model_max_length", "pad_token_id", "bos_token_id", "eos_token_id")
    return {name: getattr(tokenizer, name) for name in names}


def _spelled(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "a plain call"
