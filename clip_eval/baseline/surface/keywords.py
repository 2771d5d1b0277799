"""Keywords that an entry point does not have: those of other entry points, and of attention kernels, which releases
pass on, ignore or refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clip_eval.families.family import EntryPoint
from clip_eval.probes.malformed import IDS, MASK
from clip_eval.subject import Subject

__all__ = ["foreign_keywords"]

_PLAIN: Mapping[str, tuple[object, ...]] = {
    "attn_implementation": ("eager",),
    "causal_attention_mask": (None,),
    "dropout": (0.5,),
    "head_mask": (None,),
    "interpolate_pos_encoding": (True,),
    "is_causal": (True, False),
    "max_length_q": (2,),
    "num_items_in_batch": (2,),
    "output_attentions": (True,),
    "output_hidden_states": (True,),
    "past_key_values": (None,),
    "return_loss": (True,),
    "return_tensors": ("pt",),
    "scaling": (0.5,),
    "sliding_window": (2,),
    "softcap": (1.0,),
    "use_cache": (True,),
}
"""Values that would change the results if used, or that older callers give."""


def foreign_keywords(entry: EntryPoint, subject: Subject) -> dict[str, dict[str, Any]]:
    """Return keywords by display name: each that is not a documented parameter of the entry point.

    Args:
        entry: the entry point.
        subject: the tiny model, whose device the tensors are on.
    """
    known = entry.parameters
    keywords = {
        f"{name}={value!r}": {name: value} for name, values in _PLAIN.items() if name not in known for value in values
    }
    tensors = subject.tensors(_arrays(subject))
    return keywords | {name: {name: tensor} for name, tensor in tensors.items() if name not in known}


def _arrays(subject: Subject) -> dict[str, Any]:
    """Tensor arguments of other entry points, by keyword, with values that would change the results."""
    vision = subject.checkpoint.config.vision
    texts, tokens = IDS.shape
    return {
        "attention_mask": MASK,
        "bool_masked_pos": np.ones((texts, 1), dtype=bool),
        "cache_position": np.arange(tokens),
        "input_ids": IDS,
        "inputs_embeds": np.ones((texts, tokens, subject.checkpoint.config.text.hidden_size), dtype=np.float32),
        "labels": np.arange(texts) % 2,
        "pixel_values": np.ones((texts, vision.num_channels, vision.image_size, vision.image_size), dtype=np.float32),
        "position_ids": np.arange(tokens)[::-1][None].copy(),
        "token_type_ids": np.zeros_like(IDS),
    }
