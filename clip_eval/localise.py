"""Where a subject first leaves the oracle: the module that the first diverging state of a tower comes from.

A check that looks at an embedding or a logit sees a defect of any layer before it. This walks the tower's hidden states
in order, and looks at the attention map of the first layer whose output is off, so that such a check names the cause.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.compare import Expected, agrees
from clip_eval.expect import ExpectedTower, Oracle
from clip_eval.observe import Clip
from clip_eval.probes import MOST_ROWS

__all__ = ["first_divergence"]

_FIRST = {"text_model": "text_model.embeddings", "vision_model": "vision_model.pre_layrnorm"}
_INSIDE_A_LAYER = re.compile(r"\.layers\.\d+\.")


def first_divergence(clip: Clip, oracle: Oracle, module: str) -> str:
    """Return the first module, in the order of computation, that diverges before or at `module`.

    Args:
        clip: the subject's observations.
        oracle: the expected values on the same probe.
        module: where a difference was seen, in the checkpoint's names. One inside a layer is returned as it is, and so
            is one whose tower is right by itself.
    """
    if _INSIDE_A_LAYER.search(module) or module in _FIRST.values():
        return module
    for tower in _towers_before(module):
        for mask in ("padding", "interior") if tower == "text_model" else (None,):
            found = _first_layer(clip, oracle, tower, mask)
            if found is not None:
                return found
    return module


def _towers_before(module: str) -> tuple[str, ...]:
    if module.startswith(("vision_model", "visual_projection")):
        return ("vision_model",)
    if module.startswith("text_"):
        return ("text_model",)
    return ("vision_model", "text_model")


def _first_layer(clip: Clip, oracle: Oracle, tower: str, mask: str | None) -> str | None:
    expected = _expected(oracle, mask)
    real = None if mask is None else clip.real(MOST_ROWS, mask)  # (texts, tokens)
    states = _ask(clip, mask, output_hidden_states=True).hidden_states
    where = None if real is None else real[:, :, None]  # (texts, tokens, 1)
    index = _first_off(states, expected.hidden_states, where)
    if not index:
        return None if index is None else _FIRST[tower]
    layer = f"{tower}.encoder.layers.{index - 1}"
    maps = _ask(clip, mask, output_attentions=True, attention="eager").attentions[index - 1 : index]
    where = None if real is None else real[:, None, :, None]  # (texts, 1, query, 1)
    attends_right = _first_off(maps, expected.attentions[index - 1 : index], where) is None
    return layer if attends_right else f"{layer}.self_attn"


def _ask(clip: Clip, mask: str | None, **options: Any) -> Any:
    if mask is None:
        return clip.vision_model(images=MOST_ROWS, **options)
    return clip.text_model(texts=MOST_ROWS, mask=mask, **options)


def _expected(oracle: Oracle, mask: str | None) -> ExpectedTower:
    return oracle.vision(images=MOST_ROWS) if mask is None else oracle.text(texts=MOST_ROWS, mask=mask)


def _first_off(observed: Any, expected: tuple[Expected, ...], where: NDArray[np.bool_] | None) -> int | None:
    pairs = enumerate(zip(observed, expected, strict=True))
    return next((index for index, (one, value) in pairs if not agrees(one, value, where=where)), None)
