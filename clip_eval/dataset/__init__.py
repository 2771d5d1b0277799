"""Evaluation sets: images with labels and captions, from a manifest, an image folder, or shards."""

from __future__ import annotations

from clip_eval.dataset.dataset import Dataset, Source, open_dataset
from clip_eval.dataset.decode import Decoded, decoded
from clip_eval.dataset.sample import Entry, Sample
from clip_eval.dataset.settings import MultiLabel, ZeroShot

__all__ = ["Dataset", "Decoded", "Entry", "MultiLabel", "Sample", "Source", "ZeroShot", "decoded", "open_dataset"]
