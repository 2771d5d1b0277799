"""CLIP in float64 NumPy, written from the papers and the config: the reference for every subject.

Nothing here uses torch or transformers, so an error of theirs cannot also be in the expected values.
"""

from __future__ import annotations

from clip_eval.families.clip.text_tower import text_tower
from clip_eval.families.clip.vision_tower import vision_tower
from clip_eval.families.reference.arithmetic import EXACT, Arithmetic
from clip_eval.families.reference.contrastive_head import Contrast, contrast, contrastive_loss
from clip_eval.families.reference.encoder import Observer, TowerStates

__all__ = [
    "EXACT",
    "Arithmetic",
    "Contrast",
    "Observer",
    "TowerStates",
    "contrast",
    "contrastive_loss",
    "text_tower",
    "vision_tower",
]
