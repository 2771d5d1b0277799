"""The files of an evaluation: each whole, none before all can be rendered, evaluation.json last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from clip_eval.errors import OutputError
from clip_eval.evaluation import clip_benchmark as theirs
from clip_eval.evaluation.markdown import markdown, subject_words
from clip_eval.evaluation.options import Options
from clip_eval.evaluation.results import Evaluation, ScoreResult, TaskScores
from clip_eval.evaluation.run import Finished, open_inputs, run_evaluation
from clip_eval.files.folder_lock import clear, owned
from clip_eval.files.read_write import writable_directory, write_bytes
from clip_eval.report.anchors import anchor
from clip_eval.report.page import page_environment
from clip_eval.report.pictures import Picture
from clip_eval.report.pictures.answers import calibration_picture, confusions_picture
from clip_eval.report.pictures.intervals import Row, scores_picture
from clip_eval.verdict.measurement import format_number

__all__ = ["FILES", "render_html", "run_and_write", "write_evaluation"]

FILES = (*theirs.FILES.values(), "samples.parquet", "evaluation.html", "evaluation.md", "evaluation.json")


def run_and_write(
    options: Options,
    out: Path,
    *,
    say: Callable[[str], None] | None = None,
    show: Callable[[Evaluation], None] = lambda _: None,
) -> Evaluation:
    """Open what the user named, take the folder, evaluate, and write the reports.

    Args:
        options: what the user asked for.
        out: the folder; it belongs to this run meanwhile, and the files of an earlier one are removed.
        say: called with a line on each step; None to show no progress either.
        show: called with the result before it is written.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here.
    """
    where = writable_directory(out)
    opened = open_inputs(options)
    with owned(where):
        clear(where, FILES)
        finished = run_evaluation(options, say, opened)
        show(finished.evaluation)
        write_evaluation(finished, where)
    return finished.evaluation


def write_evaluation(finished: Finished, out: Path) -> None:
    """Write the files, all or none; those of an earlier evaluation are gone.

    Raises:
        OutputError: a file cannot be written.
    """
    from clip_eval.evaluation.samples import parquet  # with SciPy, which a refusal does not wait for

    found = finished.evaluation
    metadata = {"started": found.started, "dataset_digest": found.dataset_digest, "candidate": found.candidate.source}
    contents = {
        **{name: _json(data) for name, data in theirs.clip_benchmark(found).items()},
        "samples.parquet": parquet(finished.scored, finished.others, metadata),
        "evaluation.html": _utf8(render_html(finished)),
        "evaluation.md": _utf8(markdown(found)),
        "evaluation.json": _json(found.to_data()),
    }
    clear(out, FILES)
    try:
        for name, content in contents.items():
            write_bytes(out / name, content)
    except OutputError:
        clear(out, FILES)
        raise


def _json(data: object) -> bytes:
    return _utf8(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _utf8(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def render_html(finished: Finished) -> str:
    """Return the evaluation as one HTML file, pictures in it: nothing is fetched, its script sorts its tables."""
    environment = page_environment("clip_eval.evaluation")
    environment.filters.update(
        anchor=lambda name, kind: anchor(kind, name),
        number=lambda value, digits=4: format_number(value and value + 0.0, digits=digits),
    )
    return environment.get_template("evaluation.html.j2").render(
        found=finished.evaluation,
        pictures=[picture for picture in _pictures(finished) if picture],
        sections=finished.sections,
        subject_words=subject_words,
    )


def _row(task: TaskScores, score: ScoreResult) -> Row:
    """The row of a score; only the first one of a task is judged against chance."""
    compared = score.comparison
    return Row(
        name=score.name,
        outcome=task.outcome if compared is None and score is task.scores[0] else compared.outcome if compared else "",
        value=score.score,
        low=score.interval_low,
        high=score.interval_high,
        mark=None if compared is None else compared.other,
        edge=score.chance,
    )


def _pictures(finished: Finished) -> Iterator[Picture | None]:
    """Scores beside the other checkpoint's, and the answers behind them."""
    rows = [_row(task, score) for task in finished.evaluation.tasks for score in task.scores]
    yield scores_picture(rows, other="the other checkpoint")
    for task in finished.evaluation.tasks:
        other = finished.others.get(task.name)
        yield confusions_picture(task.details, None if other is None else other.details)
        yield calibration_picture(task.details, None if other is None else other.details)
