"""CLIP's text tower in float64 (Radford et al. 2021, arXiv 2103.00020, section 2.4).

A causal pre-norm transformer over byte-pair tokens; the state at the end-of-text token represents the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from clip_eval.errors import CheckpointError
from clip_eval.families.config import LEGACY_EOS_TOKEN_ID, TextConfig
from clip_eval.families.reference.arithmetic import EXACT, Arithmetic, Array, Ids
from clip_eval.families.reference.encoder import Modules, Observer, TowerStates, encode

__all__ = ["end_token", "pooled_positions", "text_tower"]


def end_token(states: Array, input_ids: Ids, config: TextConfig, arithmetic: Arithmetic) -> Array:
    """The state at the end of each text: (texts, tokens, width) to (texts, width)."""
    rows: Array = states[np.arange(len(states)), pooled_positions(input_ids, config.eos_token_id)]  # (texts, width)
    return rows


def text_tower(
    weights: Mapping[str, Array],
    config: TextConfig,
    input_ids: Ids,
    attention_mask: Ids | None = None,
    *,
    arithmetic: Arithmetic = EXACT,
    observer: Observer | None = None,
    pool: Callable[[Array, Ids, TextConfig, Arithmetic], Array] = end_token,
) -> TowerStates:
    """All outputs of the text tower.

    The last of `hidden_states` is the last layer's output; `last_hidden_state` is that after `final_layer_norm`.

    Args:
        weights: canonical tensor name -> float64 array.
        config: the tower's shape.
        input_ids: (texts, tokens) int64.
        attention_mask: (texts, tokens) int64, 0 where a token may not be attended to; None permits all. States of
            masked tokens are computed too, but no state of another token depends on them.
        arithmetic: the leaf operations.
        observer: called before and after each module.
        pool: from last_hidden_state, ids, config and operations to the pooled state of each text, (texts, width).

    Raises:
        CheckpointError: a tensor is missing or has another shape, the activation is unknown, or the tokens do not fit.
        ValueError: `input_ids` or `attention_mask` is not an array of the documented shape.
    """
    _check_tokens(config, input_ids, attention_mask)
    modules = Modules(weights, arithmetic, observer)
    embedded = _embed(modules, config, input_ids)  # (texts, tokens, width)
    mask = _additive_mask(input_ids.shape[1], attention_mask)  # (1 or texts, 1, query, key)
    encoded = encode(modules, config, "text_model.encoder", embedded, mask)
    last = modules.layer_norm("text_model.final_layer_norm", encoded.hidden_states[-1], config.layer_norm_eps)
    modules.leaving("text_model", last, "last_hidden_state")
    pooled = pool(last, input_ids, config, arithmetic)  # (texts, width)
    modules.leaving("text_model", pooled, "pooler_output")
    projected = modules.projection("text_projection", pooled)  # (texts, projection)
    return TowerStates(encoded.hidden_states, encoded.attentions, last, pooled, projected)


def pooled_positions(input_ids: Ids, eos_token_id: int) -> Ids:
    """The position of the state that represents each text: (texts, tokens) int64 to (texts,) int64.

    The first end-of-text token (Radford et al. 2021, section 2.4); position 0 where a text has none. With the legacy
    `eos_token_id` of 2 it is the first occurrence of the largest id, which in the original vocabulary is the end of
    the text (https://github.com/huggingface/transformers/pull/24773).
    """
    if eos_token_id == LEGACY_EOS_TOKEN_ID:
        return np.asarray(np.argmax(input_ids, axis=-1))
    # argmax over a row without True is 0
    return np.asarray(np.argmax(input_ids == eos_token_id, axis=-1))


def _embed(modules: Modules, config: TextConfig, input_ids: Ids) -> Array:
    """Token embedding plus the embedding of the position, counted from the left: (texts, tokens, width)."""
    name, width = "text_model.embeddings", config.hidden_size
    words = modules.embedding(f"{name}.token_embedding", input_ids, (config.vocab_size, width))
    places = np.arange(input_ids.shape[1])  # (tokens,)
    positions = modules.embedding(f"{name}.position_embedding", places, (config.max_position_embeddings, width))
    return modules.leaving(name, modules.arithmetic.add(words, positions))


def _additive_mask(tokens: int, attention_mask: Ids | None) -> Array:
    """-inf for keys after the query and for masked keys, 0 for the others: (1 or texts, 1, query, key)."""
    forbidden = np.triu(np.ones((1, 1, tokens, tokens), dtype=bool), k=1)  # (1, 1, query, key)
    if attention_mask is not None:
        forbidden = forbidden | (attention_mask == 0)[:, None, None, :]  # (texts, 1, query, key)
    return np.where(forbidden, -np.inf, 0.0)


def _check_tokens(config: TextConfig, input_ids: Ids, attention_mask: Ids | None) -> None:
    if input_ids.ndim != 2 or input_ids.shape[1] == 0 or not np.issubdtype(input_ids.dtype, np.integer):
        raise ValueError(f"input_ids must be integers (texts, tokens), not {input_ids.dtype} {input_ids.shape}")
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask has shape {attention_mask.shape}, input_ids {input_ids.shape}")
    tokens, longest = input_ids.shape[1], config.max_position_embeddings
    if tokens > longest:
        what = f"texts of {tokens} tokens do not fit the model's {longest} positions"
        fix = "Truncate texts to max_position_embeddings of the text config"
        raise CheckpointError(what, where="input_ids", fix=fix)
    outside = input_ids[(input_ids < 0) | (input_ids >= config.vocab_size)]  # (ids without an embedding,)
    if outside.size:
        what = f"token id {outside[0]} has no embedding, vocab_size is {config.vocab_size}"
        raise CheckpointError(what, where="input_ids", fix="Use the tokenizer that belongs to these weights")
