"""Unusual calls of a tokenizer that no contract covers, and methods that releases add and remove."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np

from clip_eval.baseline.surface.formatting import attempt, spelled
from clip_eval.subject.observations import Clip
from clip_eval.verdict.plain_values import Json

__all__ = ["CALLED", "by_route", "listed", "observe_calls"]

CALLED = ("AutoTokenizer", "CLIPTokenizer", "AutoProcessor")
"""Classes whose results are recorded, once if they agree."""

_MOST_IDS = 24


def _round_trip(tokenizer: Any, **options: Any) -> str:
    text: str = tokenizer.decode(tokenizer("It's a CAT, isn't it ? <|endoftext|> so .")["input_ids"], **options)
    return text


_SHORT = ["", "a red cat", "A photo of two DOGS, running!"]
_LONG = "a red circle and a blue square " * 40
_CALLS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"text": _SHORT},
    "a tuple": {"text": tuple(_SHORT)},
    "an array": {"text": np.array(_SHORT)},
    "no text": {"text": None},
    "a number": {"text": 3},
    "bytes": {"text": b"a red cat"},
    "None among texts": {"text": ["a", None]},
    "an empty list": {"text": []},
    "an empty list as tensors": {"text": [], "padding": True, "return_tensors": "pt"},
    "texts of different lengths as tensors": {"text": _SHORT, "return_tensors": "pt"},
    "truncation to 2": {"text": _SHORT, "truncation": True, "max_length": 2},
    "truncation to 1": {"text": _SHORT, "truncation": True, "max_length": 1},
    "truncation to 0": {"text": _SHORT, "truncation": True, "max_length": 0},
    "truncation only_second": {"text": _SHORT, "truncation": "only_second", "max_length": 5},
    "truncation no_such_one": {"text": _SHORT, "truncation": "no_such_one"},
    "max_length alone": {"text": _SHORT, "max_length": 5},
    "overflowing tokens": {"text": _LONG, "truncation": True, "max_length": 60, "return_overflowing_tokens": True},
    "overflowing tokens with a stride": {
        "text": _LONG, "truncation": True, "max_length": 60, "stride": 5, "return_overflowing_tokens": True,
    },
    "a stride too long": {
        "text": _LONG, "truncation": True, "max_length": 20, "stride": 19, "return_overflowing_tokens": True,
    },
    "padding no_such_one": {"text": _SHORT, "padding": "no_such_one"},
    "padding max_length": {"text": _SHORT, "padding": "max_length"},
    "length of padded texts": {"text": _SHORT, "padding": True, "return_length": True},
    "offsets": {"text": _SHORT, "return_offsets_mapping": True},
    "offsets of words": {"text": "A  red\u00e9 CAT\u2019s", "return_offsets_mapping": True},
    "token types": {"text": _SHORT, "return_token_type_ids": True},
    "a list of words": {"text": ["a", "red cat"], "is_split_into_words": True},
    "lists of words unannounced": {"text": [["a", "red cat"], ["b", "c"]]},
    "a pair": {"text": "a red", "text_pair": "cat it"},
    "pairs": {"text": ["a", "b"], "text_pair": ["c", "d e"]},
    "return_tensors tf": {"text": "a", "return_tensors": "tf"},
    "return_tensors no_such_one": {"text": "a", "return_tensors": "no_such_one"},
    "an unknown keyword": {"text": "a", "no_such_option": True},
}  # fmt: skip

_METHODS: Mapping[str, Callable[[Any], Any]] = {
    "encode()": lambda tokenizer: tokenizer.encode("a red cat"),
    "tokenize()": lambda tokenizer: tokenizer.tokenize("A red cat's caf\u00e9!"),
    "convert_tokens_to_ids(unknown)": lambda tokenizer: tokenizer.convert_tokens_to_ids(["no such token"]),
    "convert_ids_to_tokens(unknown)": lambda tokenizer: tokenizer.convert_ids_to_tokens([10**7]),
    "convert_tokens_to_string()": lambda tokenizer: tokenizer.convert_tokens_to_string(["a</w>", "b"]),
    "decode(unknown)": lambda tokenizer: tokenizer.decode([10**7]),
    "decode(negative)": lambda tokenizer: tokenizer.decode([-1]),
    "decode(rows)": lambda tokenizer: tokenizer.decode([[0, 1], [2]]),
    "decode(array)": lambda tokenizer: tokenizer.decode(np.array([0, 1])),
    "decode(number)": lambda tokenizer: tokenizer.decode(1),
    "decode(nothing)": lambda tokenizer: tokenizer.decode([]),
    "decode() of a text": _round_trip,
    "decode(clean_up_tokenization_spaces=True)": lambda tokenizer: _round_trip(
        tokenizer, clean_up_tokenization_spaces=True
    ),
    "decode(skip_special_tokens=True)": lambda tokenizer: _round_trip(tokenizer, skip_special_tokens=True),
    "pad()": lambda tokenizer: tokenizer.pad({"input_ids": [[1, 2], [3]]}),
    "num_special_tokens_to_add()": lambda tokenizer: tokenizer.num_special_tokens_to_add(),
    "build_inputs_with_special_tokens()": lambda tokenizer: tokenizer.build_inputs_with_special_tokens([1, 2], [3]),
    "prepare_for_model()": lambda tokenizer: tokenizer.prepare_for_model([1, 2]),
    "encode_plus()": lambda tokenizer: tokenizer.encode_plus("a"),
    "batch_encode_plus()": lambda tokenizer: tokenizer.batch_encode_plus(["a"]),
}


def observe_calls(clip: Clip) -> dict[str, Json]:
    """Return the results of unusual calls and methods; the checkpoint has a tokenizer."""
    return {
        "tokenizer(case)[*]": {case: _asked(clip, options) for case, options in _CALLS.items()},
        "tokenizer.method[*]": {name: _method(clip, ask) for name, ask in _METHODS.items()},
    }


def by_route(texts: Mapping[str, str]) -> str:
    """Return the common text if all agree, else each text with the classes that give it."""
    routes: dict[str, list[str]] = {}
    for route, text in texts.items():
        routes.setdefault(text, []).append(route)
    return "; ".join(f"{', '.join(names)}: {text}" if len(routes) > 1 else text for text, names in routes.items())


def listed(values: Iterable[Any]) -> str:
    """Values in a row; of many, the first with their number and a digest of all."""
    items = [str(value) for value in values]
    if len(items) <= _MOST_IDS:
        return " ".join(items)
    digest = sha256(" ".join(items).encode()).hexdigest()[:8]
    return f"{' '.join(items[:8])} ... {len(items)} in all, digest {digest}"


def _asked(clip: Clip, options: Mapping[str, Any]) -> str:
    """The result of a call by each of `CALLED`, recorded once if they agree."""
    process = clip.processors.process
    with _silence():
        return by_route(
            {
                route: attempt(lambda route=route: _result(process(clip.processors.load(route), **options)))
                for route in filter(clip.processors.serves, CALLED)
            }
        )


@contextmanager
def _silence() -> Iterator[None]:
    """Silence transformers' warnings."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _method(clip: Clip, ask: Callable[[Any], Any]) -> str:
    process = clip.processors.process
    return by_route(
        {
            route: attempt(lambda route=route: _result(process(lambda: ask(clip.processors.load(route)))))
            for route in CALLED[:2]
        }
    )


def _result(value: Any) -> str:
    """Keys with lengths of rows, or type, dtype and shape; a few ids are listed."""
    if hasattr(value, "items"):
        return "; ".join(f"{key}: {_result(item)}" for key, item in sorted(value.items()))
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        few = sum(map(len, value)) <= _MOST_IDS
        return ", ".join(f"[{listed(row)}]" for row in value) if few else f"rows of {listed(map(len, value))}"
    return listed(value) if isinstance(value, list) else spelled(value)
