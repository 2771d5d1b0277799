"""CLIP: its config, tensors, classes, towers and head; `family` puts them together."""

from __future__ import annotations
