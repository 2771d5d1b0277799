"""Scores as the Hugging Face hub shows them: `model-index` in the head of README.md, and `.eval_results/*.yaml`.

Both are made by huggingface_hub. Tasks and metrics have the hub's names where it has one
(https://huggingface.co/tasks, https://huggingface.co/evaluate-metric), retrieval those of the model cards that
sentence-transformers and MTEB write. Only what was measured is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from clip_eval.errors import UsageError
from clip_eval.report.summary import name_of
from clip_eval.report.text import clip, title
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.run_record import RunRecord, TaskResult

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

__all__ = ["RESULTS_FILE", "hub_card", "hub_files"]

RESULTS_FILE = ".eval_results/clip-eval.yaml"

_ZERO_SHOT = ("zero-shot-image-classification", "Zero-shot image classification")
_RETRIEVAL = ("information-retrieval", "Retrieval of images and texts")
# by the task's name
_TASKS = {
    "zero_shot": _ZERO_SHOT,
    "multi_label": _ZERO_SHOT,
    "caption_choice": _ZERO_SHOT,  # the captions of an image are its classes
    "linear_probe": ("image-classification", "Linear probe of image embeddings"),
    "image_to_text": _RETRIEVAL,
    "text_to_image": _RETRIEVAL,
}
# by the score's name; others keep their own
_METRICS = {"top1": "accuracy", "top5": "accuracy", "mean_per_class_recall": "recall"}
_HEAD = """\
# Entries for the leaderboards of a benchmark: task_id has to be one of the dataset's eval.yaml, and each may stand
# once. Written by clip-eval.
"""


def hub_card(record: RunRecord, *, dataset_id: str) -> str:
    """The head of a README.md with every score that was measured as `model-index`.

    Args:
        record: the run.
        dataset_id: of the dataset on the hub, with or without @revision; a record knows its directory only.

    Raises:
        UsageError: nothing was scored, or the id is none.
    """
    from huggingface_hub import ModelCardData

    card = ModelCardData(model_name=clip(name_of(record.candidate)), eval_results=_results(record, dataset_id))
    return f"---\n{card.to_yaml()}\n---\n"


def hub_files(record: RunRecord, *, dataset_id: str) -> dict[str, str]:
    """The files for a model's repository by path: README.md, and `RESULTS_FILE` if this huggingface_hub knows it."""
    files = {"README.md": hub_card(record, dataset_id=dataset_id)}
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:  # before 1.0
        return files
    from huggingface_hub.utils import yaml_dump

    name, revision = _parts(dataset_id)
    entries = [
        EvalResultEntry(
            dataset_id=name,
            dataset_revision=revision,
            task_id=task.name,
            value=task.score,
            date=record.started,
            notes=_notes(task),
        )
        for task in _measured(record)
    ]
    return {**files, RESULTS_FILE: _HEAD + yaml_dump(eval_result_entries_to_yaml(entries))}


def _results(record: RunRecord, dataset_id: str) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    name, revision = _parts(dataset_id)
    directory = record.arguments.get("dataset")
    called = clip(PurePath(directory).name) if isinstance(directory, str) else ""
    results = []
    for task in _measured(record):
        kind, score = _split(task.name)
        task_type, task_name = _TASKS.get(kind, (kind.replace("_", "-"), title(kind)))
        results.append(
            EvalResult(
                task_type=clip(task_type),
                task_name=clip(task_name),
                dataset_type=name,
                dataset_name=called or name,
                dataset_revision=revision,
                metric_type=clip(_METRICS.get(score, score)),
                metric_name=clip(title(task.name)),
                metric_value=task.score,
            )
        )
    return results


def _measured(record: RunRecord) -> Sequence[TaskResult]:
    found = [task for task in record.tasks if task.score is not None and task.score - task.score == 0]
    if not found:
        raise UsageError(
            "the run has no score for the hub", where=record.candidate.source, fix="Gate with --dataset, then report it"
        )
    return found


def _split(name: str) -> tuple[str, str]:
    """Task and score of a name such as zero_shot_top1."""
    kind = next((kind for kind in _TASKS if name.startswith(f"{kind}_")), name)
    return kind, name.removeprefix(f"{kind}_")


def _parts(dataset_id: str) -> tuple[str, str | None]:
    """Id and revision of a dataset on the hub."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    name, _, revision = dataset_id.partition("@")
    try:
        validate_repo_id(name)
    except HFValidationError as problem:
        fix = "Write it as ORG/NAME or ORG/NAME@REVISION"
        raise UsageError("this is no id of a dataset on the hub", where=dataset_id, fix=fix) from problem
    return name, revision or None


def _notes(task: TaskResult) -> str:
    """The interval and the number of values, which the format has no field for."""
    low, high = task.interval_low, task.interval_high
    interval = ""
    if low is not None and high is not None:
        interval = f"95 % interval {format_number(low, digits=4)} to {format_number(high, digits=4)}; "
    return f"{interval}{task.count} values"
