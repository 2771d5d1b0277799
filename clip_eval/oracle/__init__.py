"""CLIP in float64 NumPy, written from the papers and the config: the reference that every subject is held to.

Nothing here uses torch or transformers, so an error of theirs cannot hide in the expected values.
"""

from __future__ import annotations

from clip_eval.families.clip.text_tower import text_tower
from clip_eval.families.clip.vision_tower import vision_tower
from clip_eval.families.reference.arithmetic import EXACT, Arithmetic
from clip_eval.families.reference.contrastive_head import Contrast, contrast, contrastive_loss
from clip_eval.families.reference.encoder import Tap, TowerStates

__all__ = [
    "EXACT",
    "Arithmetic",
    "Contrast",
    "Tap",
    "TowerStates",
    "contrast",
    "contrastive_loss",
    "text_tower",
    "vision_tower",
]
