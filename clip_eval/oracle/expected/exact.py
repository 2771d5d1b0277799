"""The oracle's values without bounds, for recording a pack.

`outputs.Oracle` gives the same values, but runs the model several times more to bound rounding. A gate needs those
bounds; recording a release that has just passed the gate does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clip_eval.families.clip.classifier import class_logits
from clip_eval.families.config import ClipConfig
from clip_eval.families.family import Network
from clip_eval.oracle import Contrast, TowerStates
from clip_eval.probes.batches import Batch

__all__ = ["ExactReference", "Reference"]


class Reference(Protocol):
    """Anything that gives expected outputs: plain arrays here, arrays with bounds in `outputs.Oracle`."""

    def vision(self, *, images: int) -> Any:
        """Return the states of the vision tower for the first `images` images."""

    def text(self, *, texts: int, mask: str = "padding") -> Any:
        """Return the states of the text tower for the first `texts` texts."""

    def forward(self, *, images: int, texts: int, mask: str = "padding") -> Any:
        """Return the contrastive head for the first `images` and `texts`."""

    def classes(self, *, images: int) -> Any:
        """Return the logits of an image classifier for the first `images`."""


@dataclass(frozen=True, slots=True)
class ExactState:
    """A tower's final states: (rows, positions, width), (rows, width) and, with a projection, (rows, projection), all
    float64.
    """

    last_hidden_state: NDArray[np.float64]
    pooler_output: NDArray[np.float64]
    projected: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class ExactReference:
    """The values of the oracle in float64, each tower run once.

    Args:
        network: the reference of the checkpoint's family.
        weights: canonical name to float64 array.
        config: the checkpoint's config.
        batch: the inputs.
    """

    network: Network
    weights: Mapping[str, NDArray[np.float64]]
    config: ClipConfig
    batch: Batch
    _towers: dict[str, TowerStates] = field(default_factory=dict, repr=False)

    def vision(self, *, images: int) -> ExactState:
        """Return the states of the vision tower for the first `images` images."""
        return self._rows("vision", images)

    def text(self, *, texts: int, mask: str = "padding") -> ExactState:
        """Return the states of the text tower for the first `texts` texts."""
        return self._rows(mask, texts)

    def forward(self, *, images: int, texts: int, mask: str = "padding") -> Contrast:
        """Return the contrastive head for the first `images` and `texts`."""
        text, vision = self.text(texts=texts, mask=mask), self.vision(images=images)
        assert text.projected is not None, "a full CLIP checkpoint has both projections"
        assert vision.projected is not None, "a full CLIP checkpoint has both projections"
        return self.network.head(self.weights, text.projected, vision.projected)

    def classes(self, *, images: int) -> NDArray[np.float64]:
        """Return the logits of an image classifier for the first `images`, (images, labels)."""
        return class_logits(self.weights, self.vision(images=images).last_hidden_state)

    def _rows(self, which: str, count: int) -> ExactState:
        if which not in self._towers:
            self._towers[which] = self._run(which)
        states = self._towers[which]
        projected = None if states.projected is None else states.projected[:count]
        return ExactState(states.last_hidden_state[:count], states.pooler_output[:count], projected)

    def _run(self, which: str) -> TowerStates:
        if which == "vision":
            pixels = self.batch.pixel_values.astype(np.float64)  # (images, channels, height, width)
            return self.network.vision_tower(self.weights, self.config.vision, pixels)
        return self.network.text_tower(self.weights, self.config.text, self.batch.input_ids, self.batch.mask(which))
