"""CLIP's embeddings in plain torch operations: the reference for speed on this machine.

Fused attention, no modules, no wrappers, no unused outputs; the tensors are the subject's own. The steps are those of
`clip_eval.oracle` (Radford et al. 2021, section 2.4), where each has its source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clip_eval.families.config import LEGACY_EOS_TOKEN_ID, ClipConfig, TextConfig, VisionConfig

__all__ = ["ClipPlainForward"]

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": functional.relu,
    "selu": functional.selu,
    "silu": functional.silu,
}


@dataclass(frozen=True, slots=True)
class ClipPlainForward:
    """CLIP as functions of its tensors.

    Attributes:
        weights: canonical tensor name -> tensor, in one dtype and on one device.
        config: the checkpoint's config.
    """

    weights: Mapping[str, Tensor]
    config: ClipConfig

    @torch.no_grad()
    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Return the projected, not normalised embeddings of images, (images, projection); pooled states without one.

        Args:
            pixel_values: (images, channels, height, width), cast to the dtype of the weights.
        """
        name, config = "vision_model.embeddings", self.config.vision
        kernel = self.weights[f"{name}.patch_embedding.weight"]  # (width, channels, patch, patch)
        patches = functional.conv2d(pixel_values.to(kernel.dtype), kernel, stride=config.patch_size)
        tokens = patches.flatten(2).transpose(1, 2)  # (images, patches, width)
        first = self.weights[f"{name}.class_embedding"].expand(len(tokens), 1, -1)  # (images, 1, width)
        x = torch.cat([first, tokens], dim=1) + self.weights[f"{name}.position_embedding.weight"]
        x = self._layer_norm("vision_model.pre_layrnorm", x, config)  # (images, patches + 1, width)
        x = self._encode("vision_model", x, config, mask=None, causal=False)  # (images, patches + 1, width)
        pooled = self._layer_norm("vision_model.post_layernorm", self._image_state(x), config)  # (images, width)
        return self._projected("visual_projection.weight", pooled)

    @torch.no_grad()
    def text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the projected, not normalised embeddings of texts, (texts, projection); pooled states without one.

        Args:
            input_ids: (texts, tokens) int64.
            attention_mask: (texts, tokens) int64, 0 for hidden tokens. None if it would hide padding on the right
                only, which no earlier position attends to.
        """
        name, config = "text_model.embeddings", self.config.text
        words = functional.embedding(input_ids, self.weights[f"{name}.token_embedding.weight"])
        x = words + self.weights[f"{name}.position_embedding.weight"][: input_ids.shape[1]]  # (texts, tokens, width)
        mask = None if attention_mask is None else _visible(attention_mask)
        x = self._encode("text_model", x, config, mask=mask, causal=mask is None)  # (texts, tokens, width)
        return self._projected("text_projection.weight", self._text_state(x, input_ids))

    @torch.no_grad()
    def logits(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the logits of every image for every text, (images, texts); for arguments, see the methods above."""
        texts = self.text_features(input_ids, attention_mask)  # (texts, projection)
        images = self.image_features(pixel_values)  # (images, projection)
        texts, images = (x / x.norm(dim=-1, keepdim=True) for x in (texts, images))  # (rows, projection)
        return self._logits(images @ texts.t())

    def _projected(self, name: str, pooled: Tensor) -> Tensor:
        """(rows, width) to (rows, projection); unchanged in a tower without its projection."""
        return functional.linear(pooled, self.weights[name]) if name in self.weights else pooled

    def _image_state(self, x: Tensor) -> Tensor:
        """The pooled state of each image: (images, patches + 1, width) to (images, width)."""
        return x[:, 0]

    def _text_state(self, x: Tensor, input_ids: Tensor) -> Tensor:
        """The pooled state of each text, normalised: (texts, tokens, width) to (texts, width)."""
        ends = _end_positions(input_ids, self.config.text.eos_token_id)  # (texts,)
        pooled = x[torch.arange(len(x), device=x.device), ends]  # (texts, width)
        return self._layer_norm("text_model.final_layer_norm", pooled, self.config.text)

    def _logits(self, cosines: Tensor) -> Tensor:
        """Logits from cosines, both (images, texts)."""
        logits: Tensor = cosines * self.weights["logit_scale"].exp()  # (images, texts)
        return logits

    def _encode(
        self, tower: str, x: Tensor, config: TextConfig | VisionConfig, *, mask: Tensor | None, causal: bool
    ) -> Tensor:
        activation = _ACTIVATIONS[config.hidden_act]
        for index in range(config.num_hidden_layers):
            name = f"{tower}.encoder.layers.{index}"
            normed = self._layer_norm(f"{name}.layer_norm1", x, config)  # (rows, tokens, width)
            x = x + self._attend(f"{name}.self_attn", normed, config.num_attention_heads, mask, causal)
            normed = self._layer_norm(f"{name}.layer_norm2", x, config)  # (rows, tokens, width)
            inner = activation(self._linear(f"{name}.mlp.fc1", normed))  # (rows, tokens, intermediate)
            x = x + self._linear(f"{name}.mlp.fc2", inner)  # (rows, tokens, width)
        return x

    def _attend(self, name: str, x: Tensor, heads: int, mask: Tensor | None, causal: bool) -> Tensor:
        rows, tokens, width = x.shape
        split = (rows, tokens, heads, width // heads)
        queries, keys, values = (self._linear(f"{name}.{part}_proj", x).view(split).transpose(1, 2) for part in "qkv")
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)
        return self._linear(f"{name}.out_proj", mixed.transpose(1, 2).reshape(rows, tokens, width))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _layer_norm(self, name: str, x: Tensor, config: TextConfig | VisionConfig) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]  # (width,)
        return functional.layer_norm(x, weight.shape, weight, bias, config.layer_norm_eps)


def _visible(attention_mask: Tensor) -> Tensor:
    """Which keys a query may see, (texts, 1, query, key): those up to itself that are not hidden."""
    tokens = attention_mask.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=attention_mask.device).tril()  # (query, key)
    return causal & (attention_mask != 0)[:, None, None, :]


def _end_positions(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """The first end-of-text token of each text, (texts,); the largest id under the legacy `eos_token_id`."""
    if eos_token_id == LEGACY_EOS_TOKEN_ID:
        return input_ids.argmax(dim=-1)
    return (input_ids == eos_token_id).int().argmax(dim=-1)
