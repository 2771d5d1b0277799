"""One evaluation: the scores of a checkpoint on a dataset, judged, compared with another's, and their reports."""

from __future__ import annotations

from clip_eval.evaluation.options import Options
from clip_eval.evaluation.results import Evaluation
from clip_eval.evaluation.run import run_evaluation
from clip_eval.evaluation.write import FILES, run_and_write, write_evaluation

__all__ = ["FILES", "Evaluation", "Options", "run_and_write", "run_evaluation", "write_evaluation"]
