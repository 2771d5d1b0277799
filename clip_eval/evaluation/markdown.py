"""An evaluation as text: lines of 80 columns for the terminal, and evaluation.md."""

from __future__ import annotations

from clip_eval.evaluation.results import Evaluation, ScoreResult
from clip_eval.report.markdown import literal, table
from clip_eval.report.text import aligned, bullets, paragraph
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.run_record import SubjectInfo

__all__ = ["markdown", "subject_words", "terminal"]

_COLUMNS = ("score", "value", "95 % interval", "samples", "chance")
_AGAINST = ("score", "other", "loss, 95 % interval", "outcome")


def terminal(evaluation: Evaluation) -> list[str]:
    """Return what the command prints: scores, comparison, verdict, reasons, notes."""
    lines = [*paragraph(f"{evaluation.candidate.source} on {evaluation.dataset}: {_images(evaluation)}").splitlines()]
    lines += ["", *aligned([_COLUMNS, *_scores(evaluation)], words=(0,))]
    if evaluation.against is not None:
        lines += ["", *paragraph(f"against {evaluation.against.source}").splitlines()]
        lines += ["", *aligned([_AGAINST, *_compared(evaluation)], words=(0, 3))]
    lines += ["", *paragraph(evaluation.headline).splitlines()]
    return [*lines, *bullets(evaluation.reasons), *bullets(evaluation.notes)]


def markdown(evaluation: Evaluation) -> str:
    """Return evaluation.md."""
    sections = (
        [f"# {literal(evaluation.headline)}"],
        [f"- {literal(text, limit=1000)}" for text in (*evaluation.reasons, *evaluation.notes)],
        ["## Scores", "", *table(_COLUMNS, _scores(evaluation))],
        _against(evaluation),
        ["## Provenance", "", *table(("", ""), _facts(evaluation))],
    )
    return "\n".join("\n".join(part) + "\n" for part in sections if part)


def _against(evaluation: Evaluation) -> list[str]:
    if evaluation.against is None:
        return []
    columns = (*_AGAINST, "worse", "better", "margin", "would decide")
    rows = [
        (*cells, _count(found.lost), _count(found.gained), format_number(found.margin), _count(found.needed))
        for cells, score in zip(_compared(evaluation), _with_other(evaluation), strict=True)
        if (found := score.comparison)
    ]
    return ["## Comparison", "", literal(f"Against {subject_words(evaluation.against)}."), "", *table(columns, rows)]


def _images(evaluation: Evaluation) -> str:
    return f"{evaluation.images:,} images"


def _with_other(evaluation: Evaluation) -> list[ScoreResult]:
    return [score for task in evaluation.tasks for score in task.scores if score.comparison is not None]


def _scores(evaluation: Evaluation) -> list[tuple[str, ...]]:
    return [
        (score.name, _fixed(score.score), _interval(score.interval_low, score.interval_high), f"{task.samples:,}",
         "" if score.chance is None else _fixed(score.chance))
        for task in evaluation.tasks for score in task.scores
    ]  # fmt: skip


def _compared(evaluation: Evaluation) -> list[tuple[str, ...]]:
    return [
        (score.name, _fixed(found.other), _interval(found.loss_low, found.loss_high), found.outcome.replace("_", " "))
        for score in _with_other(evaluation)
        if (found := score.comparison)
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "none" if low is None or high is None else f"{_fixed(low)} to {_fixed(high)}"


def _fixed(value: float | None) -> str:
    """Four decimals below 100, as shares need them; ranks have fewer."""
    if value is None:
        return "none"
    return f"{value + 0.0:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    keys = ("clip_eval", "transformers", "torch", "python", "platform", "cpu", "gpu", "threads", "seed")
    facts = [("candidate", subject_words(evaluation.candidate))]
    if evaluation.against is not None:
        facts.append(("against", subject_words(evaluation.against)))
    facts += [("dataset", f"{evaluation.dataset} (sha256 {evaluation.dataset_digest[:16]}), {_images(evaluation)}")]
    found = evaluation.provenance
    facts += [(key, str(found[key])) for key in keys if found.get(key) is not None]
    return [*facts, ("started", evaluation.started), ("duration", f"{evaluation.duration_s} s")]


def subject_words(info: SubjectInfo) -> str:
    """Return a checkpoint in one line: its source, how it was loaded, its weights."""
    loaded = ", ".join(part for part in (info.dtype, info.device, info.attention) if part)
    revision = f" at {info.revision}" if info.revision else ""
    return f"{info.source}{revision} ({loaded}; weights {(info.fingerprints.get('weights') or 'none')[:16]})"
