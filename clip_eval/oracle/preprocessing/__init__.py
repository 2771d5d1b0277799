"""CLIP's tokenizer and image processor, from their files, without transformers."""

from __future__ import annotations
