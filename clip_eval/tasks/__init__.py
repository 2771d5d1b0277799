"""Task scores: what a checkpoint's embeddings are good for, each score with its interval and its judgement."""

from __future__ import annotations
