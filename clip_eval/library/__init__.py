"""Evaluation sets: images with labels and captions, from a manifest, an image folder, or shards."""

from __future__ import annotations

from clip_eval.library.images import Decoded, decoded
from clip_eval.library.library import Library, Source, open_library
from clip_eval.library.record import Record, Sample
from clip_eval.library.settings import ZeroShot

__all__ = ["Decoded", "Library", "Record", "Sample", "Source", "ZeroShot", "decoded", "open_library"]
