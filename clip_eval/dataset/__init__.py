"""Evaluation sets: images with labels and captions, in any of the forms that people have them."""

from __future__ import annotations

from clip_eval.dataset.dataset import Dataset, Source, open_dataset
from clip_eval.dataset.decode import Decoded, decode
from clip_eval.dataset.sample import Entry, Sample
from clip_eval.dataset.settings import MultiLabel, ZeroShot

__all__ = ["Dataset", "Decoded", "Entry", "MultiLabel", "Sample", "Source", "ZeroShot", "decode", "open_dataset"]
