"""What a subject should return: the oracle's values with the bound that rounding allows each element.

One oracle run over the largest batch serves every row count, since rows do not depend on each other; results are kept
for the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip_eval.budgets import COPIES, SIGMAS, SMALLEST_NORMAL
from clip_eval.compare import Expected
from clip_eval.config import ClipConfig
from clip_eval.oracle import Arithmetic, Contrast, TowerStates, contrast, text_tower, vision_tower
from clip_eval.probes import Batch
from clip_eval.rounding import Precision, RoundingArithmetic, spread, tile
from clip_eval.tensors import round_values

__all__ = ["ExpectedContrast", "ExpectedTower", "Oracle"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExpectedTower:
    """What a tower should return; see `clip_eval.oracle.TowerStates` for shapes."""

    hidden_states: tuple[Expected, ...]
    attentions: tuple[Expected, ...]
    last_hidden_state: Expected
    pooler_output: Expected
    projected: Expected

    def rows(self, count: int) -> ExpectedTower:
        """Return the first `count` rows."""
        return ExpectedTower(
            tuple(state[:count] for state in self.hidden_states),
            tuple(weights[:count] for weights in self.attentions),
            self.last_hidden_state[:count],
            self.pooler_output[:count],
            self.projected[:count],
        )


@dataclass(frozen=True, slots=True)
class ExpectedContrast:
    """What the contrastive head should return; `loss` only where there are as many images as texts."""

    text_embeds: Expected
    image_embeds: Expected
    logits_per_text: Expected
    logits_per_image: Expected
    loss: Expected | None


@dataclass(slots=True)
class Oracle:
    """Expected values for one checkpoint, precision and batch.

    Args:
        weights: canonical name -> float64 array, already rounded to the subject's dtype.
        config: the checkpoint's config.
        precision: how the subject computes.
        batch: the inputs. Pixels are rounded to the subject's dtype here, as the model does on entry.
    """

    weights: Mapping[str, Array]
    config: ClipConfig
    precision: Precision
    batch: Batch
    _towers: dict[str, tuple[ExpectedTower, Array]] = field(default_factory=dict, repr=False)
    _heads: dict[tuple[int, int, str], ExpectedContrast] = field(default_factory=dict, repr=False)

    @property
    def rule(self) -> str:
        """The name of the budget behind every bound here."""
        tf32 = ", TF32" if self.precision.tf32_products or self.precision.tf32_convolution else ""
        return f"{SIGMAS:g} sigma of {self.precision.dtype}{tf32} rounding, amplified by this model"

    def vision(self, *, images: int) -> ExpectedTower:
        """Return what the vision tower should give for the first `images` images."""
        return self._tower("vision")[0].rows(images)

    def text(self, *, texts: int, mask: str = "padding") -> ExpectedTower:
        """Return what the text tower should give for the first `texts` texts; only positions whose mask is 1 count."""
        return self._tower(mask)[0].rows(texts)

    def forward(self, *, images: int, texts: int, mask: str = "padding") -> ExpectedContrast:
        """Return what the contrastive head should give for the first `images` and `texts`."""
        key = (images, texts, mask)
        if key not in self._heads:
            self._heads[key] = self._head(images, texts, mask)
        return self._heads[key]

    def _tower(self, which: str) -> tuple[ExpectedTower, Array]:
        if which not in self._towers:
            run = self._run_vision if which == "vision" else lambda ops, copies: self._run_text(ops, copies, which)
            exact = run(Arithmetic(), 1)
            noisy = run(RoundingArithmetic(self.precision, COPIES), COPIES)
            self._towers[which] = (self._expected_tower(exact, noisy), _projected(noisy))
        return self._towers[which]

    def _run_vision(self, arithmetic: Arithmetic, copies: int) -> TowerStates:
        rounded = round_values(self.batch.pixel_values, self.precision.dtype)  # (images, channels, height, width)
        pixel_values = tile(rounded.astype(np.float64), copies)  # (copies * images, channels, height, width)
        return vision_tower(self.weights, self.config.vision, pixel_values, arithmetic=arithmetic)

    def _run_text(self, arithmetic: Arithmetic, copies: int, mask: str) -> TowerStates:
        input_ids = tile(self.batch.input_ids, copies)  # (copies * texts, tokens)
        attention_mask = tile(self.batch.mask(mask), copies)  # (copies * texts, tokens)
        return text_tower(self.weights, self.config.text, input_ids, attention_mask, arithmetic=arithmetic)

    def _expected_tower(self, exact: TowerStates, noisy: TowerStates) -> ExpectedTower:
        return ExpectedTower(
            tuple(self._expected(a, b) for a, b in zip(exact.hidden_states, noisy.hidden_states, strict=True)),
            tuple(self._expected_map(a, b) for a, b in zip(exact.attentions, noisy.attentions, strict=True)),
            self._expected(exact.last_hidden_state, noisy.last_hidden_state),
            self._expected(exact.pooler_output, noisy.pooler_output),
            self._expected(_projected(exact), _projected(noisy)),
        )

    def _expected(self, exact: Array, noisy: Array) -> Expected:
        return Expected(exact, SIGMAS * spread(exact, noisy, COPIES), self.rule)

    def _expected_map(self, exact: Array, noisy: Array) -> Expected:
        """An attention map: weights err in proportion to themselves, and one that is masked is exactly 0."""
        scale = exact + SMALLEST_NORMAL[self.precision.dtype]  # (rows, heads, query, key)
        deviation = spread(exact, noisy, COPIES, scale=scale)  # (rows, heads, query, key)
        return Expected(exact, np.where(exact > 0, SIGMAS * deviation, 0.0), self.rule)

    def _head(self, images: int, texts: int, mask: str) -> ExpectedContrast:
        text, noisy_text = self._tower(mask)
        vision, noisy_vision = self._tower("vision")
        scale = self.weights["logit_scale"]  # ()
        exact = contrast(text.projected.value[:texts], vision.projected.value[:images], scale)
        copies = [
            contrast(t[:texts], v[:images], scale, arithmetic=self._arithmetic(seed))
            for seed, (t, v) in enumerate(zip(_split(noisy_text), _split(noisy_vision), strict=True))
        ]
        return self._expected_head(exact, copies)

    def _arithmetic(self, seed: int) -> RoundingArithmetic:
        return RoundingArithmetic(self.precision, 1, np.random.Generator(np.random.PCG64(seed)))

    def _expected_head(self, exact: Contrast, copies: list[Contrast]) -> ExpectedContrast:
        logits = self._expected(exact.logits_per_text, np.concatenate([copy.logits_per_text for copy in copies]))
        loss = None
        if exact.loss is not None:
            noisy = np.array([copy.loss for copy in copies], dtype=np.float64)  # (copies,)
            loss = self._expected(np.asarray(exact.loss), noisy)
        return ExpectedContrast(
            self._expected(exact.text_embeds, np.concatenate([copy.text_embeds for copy in copies])),
            self._expected(exact.image_embeds, np.concatenate([copy.image_embeds for copy in copies])),
            logits,
            logits.transposed,
            loss,
        )


def _projected(states: TowerStates) -> Array:
    assert states.projected is not None, "a full CLIP checkpoint has both projections"
    return states.projected


def _split(tiled: Array) -> list[Array]:
    return np.split(tiled, COPIES)
