"""The transformer encoder that both towers share, and what a tower returns.

Residual blocks, each normalised on entry (Radford et al. 2021, arXiv 2103.00020, section 2.4), around the multi-head
attention of Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from clip_eval.errors import CheckpointError
from clip_eval.families.config import TextConfig, VisionConfig
from clip_eval.families.reference.arithmetic import Arithmetic, Array, Ids

__all__ = ["Encoded", "Modules", "Observer", "TowerStates", "encode"]


@dataclass(frozen=True, slots=True, eq=False)
class TowerStates:
    """Everything a tower computes, in float64. `batch` is texts or images, `tokens` is text tokens or patches + 1.

    Attributes:
        hidden_states: layers + 1 arrays (batch, tokens, width): what enters the first layer, then each layer's output.
        attentions: one array (batch, heads, query, key) a layer; a row sums to 1, forbidden keys are exactly 0.
        last_hidden_state: (batch, tokens, width); text: after `final_layer_norm`; vision: the last of `hidden_states`.
        pooler_output: (batch, width); text: the row of the end-of-text token; vision: the normalised class token.
        projected: (batch, projection), not normalised; None where the weights hold no projection.
    """

    hidden_states: tuple[Array, ...]
    attentions: tuple[Array, ...]
    last_hidden_state: Array
    pooler_output: Array
    projected: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The residual stream, layers + 1 arrays (batch, tokens, width), and each layer's attention map."""

    hidden_states: tuple[Array, ...]
    attentions: tuple[Array, ...]


class Observer(Protocol):
    """Called for the modules of a tower, in the order of computation, by their canonical names.

    Both for leaves (linear layers, norms, embeddings, the activation) and for the modules that contain them.
    """

    def enters(self, module: str, x: Array) -> Array:
        """Called before `module` runs on `x`; returns the input that it runs on instead, of the same shape."""
        ...

    def leaves(self, module: str, y: Array, what: str) -> None:
        """Called with the result `y` of `module`: its "output"; of a tower, "last_hidden_state" or "pooler_output"."""
        ...


@dataclass(frozen=True, slots=True)
class Modules:
    """The layers with weights, by their canonical names, computed with one arithmetic.

    Attributes:
        weights: canonical tensor name -> float64 array.
        arithmetic: the leaf operations.
        observer: called before and after each module; None for none.
    """

    weights: Mapping[str, Array]
    arithmetic: Arithmetic
    observer: Observer | None = None

    def entering(self, name: str, x: Array) -> Array:
        """The input of module `name`: `x`, or what the observer replaces it with."""
        return x if self.observer is None else self.observer.enters(name, x)

    def leaving(self, name: str, y: Array, what: str = "output") -> Array:
        """Report the result `y` of module `name` to the observer, and return it."""
        if self.observer is not None:
            self.observer.leaves(name, y, what)
        return y

    def tensor(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """The tensor `name`, not a copy. `shape` is what the config requires; None allows any length.

        Raises:
            CheckpointError: the tensor is missing, or has another shape, which broadcasting might hide.
            TypeError: it is not float64.
        """
        if name not in self.weights:
            raise CheckpointError(f"missing tensor {name}", where="weights", fix="Use a complete CLIP checkpoint")
        array = self.weights[name]  # (shape)
        if array.dtype != np.float64:
            raise TypeError(f"{name} is {array.dtype}; the oracle computes in float64 only")
        if len(array.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
            what = f"tensor {name} has shape {array.shape}, the config demands {_shape_text(shape)}"
            raise CheckpointError(what, where="weights", fix="Use the config.json that belongs to these weights")
        return array

    def linear(self, name: str, x: Array, width: int) -> Array:
        """The linear layer `name` with bias. x (..., in); returns (..., width)."""
        weight = self.tensor(f"{name}.weight", (width, x.shape[-1]))  # (width, in)
        bias = self.tensor(f"{name}.bias", (width,))  # (width,)
        return self.leaving(name, self.arithmetic.linear(self.entering(name, x), weight, bias))

    def layer_norm(self, name: str, x: Array, eps: float) -> Array:
        """The layer normalisation `name`. x (..., width); returns (..., width)."""
        weight = self.tensor(f"{name}.weight", x.shape[-1:])  # (width,)
        bias = self.tensor(f"{name}.bias", x.shape[-1:])  # (width,)
        return self.leaving(name, self.arithmetic.layer_norm(self.entering(name, x), weight, bias, eps))

    def activation(self, name: str, x: Array, function: str) -> Array:
        """The activation module `name`, which computes `function`. x (...); the same shape returned."""
        return self.leaving(name, self.arithmetic.activation(self.entering(name, x), function))

    def embedding(self, name: str, ids: Ids, shape: tuple[int, int]) -> Array:
        """Rows of the table `name`, whose shape is (rows, width). ids (...); returns (..., width)."""
        table = self.tensor(f"{name}.weight", shape)  # (rows, width)
        return self.leaving(name, self.arithmetic.embedding(table, ids))

    def patches(self, name: str, pixel_values: Array, kernel: Array) -> Array:
        """The patch convolution `name`. pixel_values (images, channels, height, width); (images, patches, width)."""
        return self.leaving(name, self.arithmetic.patches(self.entering(name, pixel_values), kernel))

    def projection(self, name: str, pooled: Array) -> Array | None:
        """The projection `name` without bias: pooled (batch, width) to (batch, projection); None where it is absent.

        Its output width is the tensor's: the towers' configs often hold a stale `projection_dim`.
        """
        tensor = f"{name}.weight"
        if tensor not in self.weights:
            return None
        matrix = self.tensor(tensor, (None, pooled.shape[-1]))  # (projection, width)
        return self.leaving(name, self.arithmetic.linear(self.entering(name, pooled), matrix, None))


def encode(
    modules: Modules, config: TextConfig | VisionConfig, prefix: str, hidden: Array, mask: Array | None
) -> Encoded:
    """Run the encoder layers `prefix.layers.0`, `prefix.layers.1` and so on.

    Args:
        modules: weights and arithmetic.
        config: the tower's shape.
        prefix: of the layers, for example `text_model.encoder`.
        hidden: (batch, tokens, width), the embeddings.
        mask: additive, broadcastable to (batch, heads, query, key): 0 where a key is permitted, -inf where it is not.

    Raises:
        CheckpointError: a tensor is missing or has another shape, or `hidden_act` is unknown.
    """
    hidden_states, attentions = [hidden], []
    for index in range(config.num_hidden_layers):
        name = f"{prefix}.layers.{index}"
        hidden = modules.entering(name, hidden)  # (batch, tokens, width)
        normed = modules.layer_norm(f"{name}.layer_norm1", hidden, config.layer_norm_eps)  # (batch, tokens, width)
        scores = _scores(modules, config, f"{name}.self_attn", normed, mask)  # (batch, heads, query, key)
        attentions.append(modules.arithmetic.softmax(scores))
        mixed = _mix(modules, config, f"{name}.self_attn", normed, attentions[-1])  # (batch, tokens, width)
        hidden = modules.arithmetic.add(hidden, mixed)  # (batch, tokens, width)
        normed = modules.layer_norm(f"{name}.layer_norm2", hidden, config.layer_norm_eps)  # (batch, tokens, width)
        hidden = modules.arithmetic.add(hidden, _mlp(modules, config, f"{name}.mlp", normed))  # (batch, tokens, width)
        modules.leaving(name, hidden)
        hidden_states.append(hidden)
    return Encoded(tuple(hidden_states), tuple(attentions))


def _scores(modules: Modules, config: TextConfig | VisionConfig, name: str, x: Array, mask: Array | None) -> Array:
    """QK^T / sqrt(head width), masked: Vaswani et al. 2017, equation 1. The queries carry the scale, as in CLIP."""
    head_width = config.hidden_size // config.num_attention_heads
    queries = modules.linear(f"{name}.q_proj", x, config.hidden_size)  # (batch, tokens, width)
    queries = modules.arithmetic.scale(queries, head_width**-0.5)  # (batch, tokens, width)
    keys = modules.linear(f"{name}.k_proj", x, config.hidden_size)  # (batch, tokens, width)
    heads = config.num_attention_heads
    scores = modules.arithmetic.matmul(_split(queries, heads), _split(keys, heads).swapaxes(-1, -2))
    return scores if mask is None else modules.arithmetic.add(scores, mask)


def _mix(modules: Modules, config: TextConfig | VisionConfig, name: str, x: Array, attention: Array) -> Array:
    """Values averaged by attention, heads joined, then `out_proj`: Vaswani et al. 2017, section 3.2.2."""
    values = modules.linear(f"{name}.v_proj", x, config.hidden_size)  # (batch, tokens, width)
    context = modules.arithmetic.matmul(attention, _split(values, config.num_attention_heads))
    joined = context.transpose(0, 2, 1, 3).reshape(x.shape)  # (batch, tokens, width)
    return modules.leaving(name, modules.linear(f"{name}.out_proj", joined, config.hidden_size))


def _mlp(modules: Modules, config: TextConfig | VisionConfig, name: str, x: Array) -> Array:
    """Two linear layers with the activation between them: Vaswani et al. 2017, section 3.3."""
    inner = modules.linear(f"{name}.fc1", x, config.intermediate_size)  # (batch, tokens, intermediate)
    inner = modules.activation(f"{name}.activation_fn", inner, config.hidden_act)  # (batch, tokens, intermediate)
    return modules.leaving(name, modules.linear(f"{name}.fc2", inner, config.hidden_size))


def _split(x: Array, heads: int) -> Array:
    """(batch, tokens, width) to (batch, heads, tokens, width / heads)."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, heads, width // heads).transpose(0, 2, 1, 3)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
