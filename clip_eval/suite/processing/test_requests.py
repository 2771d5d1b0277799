"""More outputs of a tokenizer and a processor, on request: beside ids and masks, as lists, tensors and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from clip_eval.baseline.surface.tiny_tokenizer import tiny_tokenizer, vocabulary
from clip_eval.subject.call_outcomes import ask
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

TEXTS = ("ab cab", "q")
KINDS: Mapping[str | None, str] = {None: "list", "pt": "Tensor", "np": "ndarray"}
_CUT = {"truncation": True, "max_length": 4}

every_kind = pytest.mark.parametrize("kind", list(KINDS), ids=str)
every_maker = pytest.mark.parametrize("maker", ["tokenizer", "processor"])


@dataclass(frozen=True, slots=True)
class Request:
    """An option, the output that it adds, and its other options.

    Attributes:
        key: the key of the output.
        value: its value for `TEXTS` padded; None if there is none.
        options: other options of the call.
        ids: the expected tokens of each row, if the option changes them.
    """

    key: str
    value: Any
    options: Mapping[str, Any]
    ids: tuple[tuple[str, ...], ...] | None = None


_START, _END = "<|startoftext|>", "<|endoftext|>"
IDS = ((_START, "ab</w>", "c", "ab</w>", _END), (_START, "q</w>", _END, _END, _END))
PIECES = ((_START, "ab</w>", "c", _END), (_START, "ab</w>", _END, _END), (_START, "q</w>", _END, _END))
REQUESTS: Mapping[str, Request] = {
    "return_attention_mask": Request("attention_mask", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], {}),
    "return_length": Request("length", [5, 5], {}),
    "return_offsets_mapping": Request(
        "offset_mapping",
        [[[0, 0], [0, 2], [3, 4], [4, 6], [0, 0]], [[0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]],
        {},
    ),
    "return_overflowing_tokens": Request("overflow_to_sample_mapping", [0, 0, 1], _CUT, PIECES),
    "return_special_tokens_mask": Request("special_tokens_mask", [[1, 0, 0, 0, 1], [1, 0, 1, 1, 1]], {}),
    "return_token_type_ids": Request("token_type_ids", [[0] * 5, [0] * 5], {}),
}


@every_kind
@every_maker
@pytest.mark.parametrize("request_name", list(REQUESTS))
def test_what_is_asked_for_comes(clip: Clip, compare: Compare, request_name: str, maker: str, kind: str | None) -> None:
    """Lengths, offsets, special tokens, token types, overflowing tokens and masks are returned on request only, with
    the right values and in the requested kind of tensor.
    """
    wanted = REQUESTS[request_name]
    made = _made(clip, maker)
    output = _asked(clip, made, kind, **{request_name: True}, **wanted.options)
    ids = [[vocabulary()[token] for token in row] for row in wanted.ids or IDS]
    _expect(compare, output, "input_ids", ids, kind, request_name)
    _expect(compare, output, wanted.key, wanted.value, kind, request_name)
    without = _asked(clip, made, kind, **{request_name: False}, **wanted.options)
    compare.equal(wanted.key in without, False, name=f"{wanted.key} with {request_name}=False")
    by_default = wanted.key == "attention_mask"
    compare.equal(wanted.key in _asked(clip, made, kind), by_default, name=f"{wanted.key} by default")


@every_kind
def test_multimodal_token_types(clip: Clip, compare: Compare, kind: str | None) -> None:
    """return_mm_token_type_ids of a processor gives 0 for each token, as CLIP has no image tokens; or is refused."""
    made = _made(clip, "processor")
    answer = ask(lambda: _asked(clip, made, kind, return_mm_token_type_ids=True))
    if answer.refusal is None:
        _expect(compare, answer.value, "mm_token_type_ids", [[0] * 5, [0] * 5], kind, "return_mm_token_type_ids")
    else:
        named = "return_mm_token_type_ids" in str(answer.refusal)
        compare.equal(named, True, name=f"the refusal names the request: {answer.outcome}")
    without = _asked(clip, made, kind)
    compare.equal("mm_token_type_ids" in without, False, name="mm_token_type_ids without a request")


def _made(clip: Clip, maker: str) -> Any:
    """The tokenizer that knows all requests, alone or in a processor."""
    tokenizer = tiny_tokenizer(clip.processors, "CLIPTokenizerFast")
    if maker == "tokenizer":
        return tokenizer
    pictures = clip.processors.construct("CLIPImageProcessor")
    return clip.processors.construct("CLIPProcessor", image_processor=pictures, tokenizer=tokenizer)


def _asked(clip: Clip, made: Any, kind: str | None, **options: Any) -> Any:
    return clip.processors.process(made, text=list(TEXTS), padding=True, return_tensors=kind, **options)


def _expect(compare: Compare, found: Any, key: str, value: Any, kind: str | None, request: str) -> None:
    name = f"{key} with {request} as {kind}"
    if key not in found:
        compare.fail(f"keys {', '.join(found)}", key, name=name)
    observed = found[key]
    compare.equal(type(observed).__name__, KINDS[kind], name=f"type of {name}")
    listed = observed if isinstance(observed, list) else observed.tolist()
    compare.equal(_plain(listed), _plain(value), name=name)


def _plain(value: Any) -> Any:
    """Nested lists of whole numbers: unstacked offsets are tuples."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else int(value)
