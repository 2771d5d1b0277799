"""`clip-eval bench`: how fast a checkpoint is here, in which configuration it is fastest, and against what."""

from __future__ import annotations

from clip_eval.benching.options import Options
from clip_eval.benching.record import Bench
from clip_eval.benching.run import run_bench
from clip_eval.benching.writing import write_bench

__all__ = ["Bench", "Options", "run_bench", "write_bench"]
