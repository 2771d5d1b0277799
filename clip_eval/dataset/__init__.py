"""Evaluation sets: images with labels and captions, from a manifest, an image folder, or shards."""

from __future__ import annotations

from clip_eval.dataset.dataset import Library, Source, open_library
from clip_eval.dataset.decode import Decoded, decoded
from clip_eval.dataset.record import Record, Sample
from clip_eval.dataset.settings import ZeroShot

__all__ = ["Decoded", "Library", "Record", "Sample", "Source", "ZeroShot", "decoded", "open_library"]
