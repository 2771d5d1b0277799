"""A run of the gate as a run of MLflow: scores, margins and ratios as metrics, versions as parameters, the reports.

Server and experiment are MLflow's own settings, such as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clip_eval.errors import OutputError, UsageError
from clip_eval.report.html import render_html
from clip_eval.report.junit import render_junit
from clip_eval.report.margins import margins
from clip_eval.report.markdown import render_markdown
from clip_eval.report.summary import name_of
from clip_eval.report.text import clip, epoch_ms
from clip_eval.verdict.run_record import RunRecord, dump

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["log_to_mlflow", "metrics_of", "params_of"]

_EXPERIMENT = "clip-eval"
_UNSAFE = re.compile(r"[^\w./ -]", re.ASCII)  # what MLflow takes in names
_NAME, _VALUE = 200, 500  # characters


def metrics_of(record: RunRecord) -> dict[str, float]:
    """What MLflow plots: `score/`, `ratio/`, counts, and for each chapter `margin/`, the largest error over bound.

    Numbers that are not finite are left out: not every store of MLflow takes them.
    """
    chapters: dict[str, float] = {}
    for name, ratio in margins(record).items():
        chapter = name.partition(".")[0]
        chapters[chapter] = max(ratio, chapters.get(chapter, 0.0))
    counts = {
        "failed checks": sum(check.outcome in ("failed", "error") for check in record.checks),
        "open surface changes": sum(change.accepted is None for change in record.surface_changes),
    }
    found: dict[str, float | None] = {
        **{f"score/{task.name}": task.score for task in record.tasks},
        **{f"ratio/{timing.name}": timing.ratio for timing in record.throughput},
        **{f"margin/{chapter}": ratio for chapter, ratio in chapters.items()},
        **counts,
        "duration_s": record.duration_s,
    }
    return {_key(name): value for name, value in found.items() if value is not None and math.isfinite(value)}


def params_of(record: RunRecord) -> dict[str, str]:
    """Versions and machine, the checkpoint, the pack, and how it was loaded."""
    candidate = record.candidate
    facts: Mapping[str, object] = {
        **record.provenance,
        "model": candidate.source,
        "revision": candidate.revision,
        "dtype": candidate.dtype,
        "device": candidate.device,
        "attention": candidate.attention,
        "pack": record.baseline.source if record.baseline else None,
        **{f"fingerprint/{part}": value for part, value in candidate.fingerprints.items()},
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    return {_key(name): clip(text, limit=_VALUE) for name, text in texts.items() if facts[name] is not None}


def log_to_mlflow(record: RunRecord) -> str:
    """Log a run and return its id in MLflow.

    Raises:
        UsageError: mlflow is not installed.
        OutputError: the server or the store refuses it.
    """
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as problem:
        raise UsageError("--to-mlflow needs MLflow", fix="Install clip-eval[mlflow]") from problem
    try:
        return _logged(record, MlflowClient())
    except MlflowException as problem:
        # not the address, which may hold a password
        fix = "See MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME"
        raise OutputError(f"MLflow refuses the run ({problem})", fix=fix) from problem


def _logged(record: RunRecord, client: MlflowClient) -> str:
    """The run is finished, whatever the verdict: `verdict` is a tag of it. One that breaks off is failed."""
    start = epoch_ms(record.started)
    tags = {"verdict": record.verdict, "mlflow.note.content": record.headline}
    name = f"{clip(name_of(record.candidate))}: {record.verdict}"
    run = client.create_run(_experiment(client), start_time=start, tags=tags, run_name=name).info.run_id
    status = "FAILED"
    try:
        _fill(client, run, record, start=start)
        status = "FINISHED"
    finally:
        client.set_terminated(run, status=status, end_time=start + round(record.duration_s * 1000))
    return str(run)


def _fill(client: MlflowClient, run: str, record: RunRecord, *, start: int) -> None:
    from mlflow.entities import Metric, Param

    metrics = [Metric(name, value, start, 0) for name, value in metrics_of(record).items()]
    client.log_batch(run, metrics=metrics, params=[Param(name, text) for name, text in params_of(record).items()])
    reports = {
        "run.json": dump,
        "report.html": render_html,
        "summary.md": render_markdown,
        "junit.xml": render_junit,
    }
    for file, render in reports.items():
        client.log_text(run, render(record), file)


def _experiment(client: MlflowClient) -> str:
    """The experiment that MLflow's settings name, else one called clip-eval, which is made if it is missing."""
    chosen = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if chosen:
        return chosen
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
    known = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if known is None else known.experiment_id)


def _key(name: str) -> str:
    return _UNSAFE.sub("_", clip(name, limit=_NAME))
