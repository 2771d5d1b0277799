"""CLIP in float64 NumPy, written from the papers and the config: the reference that every subject is held to.

Nothing here uses torch or transformers, so an error of theirs cannot hide in the expected values.
"""

from __future__ import annotations

from clip_eval.oracle.arithmetic import EXACT, Arithmetic
from clip_eval.oracle.contrastive import Contrast, contrast, contrastive_loss
from clip_eval.oracle.text import text_tower
from clip_eval.oracle.transformer import Tap, TowerStates
from clip_eval.oracle.vision import vision_tower

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
