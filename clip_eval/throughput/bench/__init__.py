"""`clip-eval bench`: how fast a checkpoint is here, in which configuration it is fastest, and against what."""

from __future__ import annotations

from clip_eval.throughput.bench.options import Options
from clip_eval.throughput.bench.results import Bench
from clip_eval.throughput.bench.run import run_bench
from clip_eval.throughput.bench.write import write_bench

__all__ = ["Bench", "Options", "run_bench", "write_bench"]
