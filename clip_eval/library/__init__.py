"""Evaluation sets: a manifest of records, a path template that names their files, and the image files."""

from __future__ import annotations

from clip_eval.library.images import Decoded, decoded
from clip_eval.library.manifest import Library, open_library
from clip_eval.library.record import Record
from clip_eval.library.settings import LibrarySettings, ZeroShot

__all__ = ["Decoded", "Library", "LibrarySettings", "Record", "ZeroShot", "decoded", "open_library"]
