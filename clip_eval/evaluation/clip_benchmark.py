"""Results as CLIP_benchmark's: one JSON object a task of theirs, which `clip_benchmark build` makes a table of.

Theirs is https://github.com/LAION-AI/CLIP_benchmark; `run` in its `cli.py` writes dataset, model, pretrained, task,
metrics and language. A score that was not computed is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clip_eval.evaluation.results import Evaluation
from clip_eval.verdict.plain_values import Json

__all__ = ["FILES", "clip_benchmark"]

_METRICS: Mapping[str, Mapping[str, str]] = {
    "zeroshot_classification": {
        "acc1": "zero_shot_top1",
        "acc5": "zero_shot_top5",
        "mean_per_class_recall": "zero_shot_mean_per_class_recall",
    },
    "zeroshot_retrieval": {
        "image_retrieval_recall@5": "text_to_image_recall_at_5",  # an image is retrieved, by a text
        "text_retrieval_recall@5": "image_to_text_recall_at_5",
    },
}
FILES = {task: f"clip_benchmark_{task}.json" for task in _METRICS}
"""Name of the file of each of their tasks."""


def clip_benchmark(evaluation: Evaluation) -> dict[str, dict[str, Json]]:
    """Return what goes into each file, by its name; a file without a score is left out."""
    scores = {score.name: score.score for task in evaluation.tasks for score in task.scores}
    found: dict[str, dict[str, Json]] = {}
    for task, metrics in _METRICS.items():
        known: dict[str, Json] = {theirs: scores[ours] for theirs, ours in metrics.items() if ours in scores}
        if known:
            found[FILES[task]] = {
                "dataset": Path(evaluation.dataset).resolve().name,
                "model": Path(evaluation.candidate.source).name,
                "pretrained": evaluation.candidate.revision or evaluation.candidate.source,
                "task": task,
                "metrics": known,
                "language": "en",
            }
    return found
