"""The clip-eval command."""

from __future__ import annotations

from clip_eval.cli.main import main

__all__ = ["main"]
