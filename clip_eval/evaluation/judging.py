"""From scores to the outcome of each task and the verdict of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.evaluation.comparison import compare_score
from clip_eval.evaluation.results import Comparison, NotServed, ScoreResult, TaskScores
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.task import Score, Scored, Task
from clip_eval.verdict.run_record import TaskResult, TrialOutcome, Verdict

__all__ = ["judge_task", "notes_on", "unscored", "verdict_of"]

_GRAVITY: tuple[TrialOutcome, ...] = ("not_asked", "passed", "inconclusive", "failed")
_COMPARED: dict[str, TrialOutcome] = {
    "better": "passed", "same": "passed", "no_worse": "passed", "worse": "failed", "inconclusive": "inconclusive"
}  # fmt: skip
_NAMED = 3


def judge_task(
    task: Task, scored: Scored, other: Scored | None, *, margin: float | None, identical: bool
) -> TaskScores:
    """Return the scores of a task with their judgement. Against chance it is that of the gate.

    Args:
        task: what was scored.
        scored: of the candidate.
        other: of the other checkpoint; None without one.
        margin: as in `compare_score`.
        identical: as in `compare_score`.
    """
    results = judge(scored)
    scores = tuple(
        _score(result, score, _compared(scored, score, other, margin, identical))
        for result, score in zip(results, scored.scores, strict=True)
    )
    outcome, reason = _judged(scored, results[0], scores[0].comparison)
    return TaskScores(
        name=task.name,
        claim=task.claim,
        outcome=outcome,
        reason=reason,
        samples=len(set(scored.samples)),
        values=len(scored.samples),
        groups=len(set(scored.clusters)),
        not_finite=scored.not_finite,
        scores=scores,
        details=scored.details,
    )


def unscored(task: Task, problem: DatasetError) -> TaskScores:
    """Return a task that could not be scored on this dataset with this checkpoint: the evaluation goes on."""
    return TaskScores(
        name=task.name, claim=task.claim, outcome="inconclusive", reason=f"not scored: {problem.what}",
        samples=0, values=0, groups=0, not_finite=0, scores=(), details={},
    )  # fmt: skip


def _compared(
    scored: Scored, score: Score, other: Scored | None, margin: float | None, identical: bool
) -> Comparison | None:
    if other is None or score.name not in other.values:
        return None
    return compare_score(scored, score, other, margin=margin, identical=identical)


def _score(result: TaskResult, score: Score, compared: Comparison | None) -> ScoreResult:
    assert result.interval_low is not None, "a task has values"
    assert result.interval_high is not None, "as above"
    return ScoreResult(
        name=result.name,
        score=score.value,
        interval_low=result.interval_low,
        interval_high=result.interval_high,
        higher_is_better=score.higher_is_better,
        chance=score.chance,
        comparison=compared,
    )


def _judged(scored: Scored, found: TaskResult, compared: Comparison | None) -> tuple[TrialOutcome, str]:
    """The gravest outcome, the first of equals, with its reason."""
    outcomes: list[tuple[TrialOutcome, str]] = [(found.outcome, str(found.reason))]
    if scored.not_finite:
        outcomes.insert(0, ("failed", _not_finite(scored)))
    if compared is not None:
        said = f"{compared.outcome.replace('_', ' ')} than the other checkpoint" if compared.outcome != "same" else ""
        said = "not decided against the other checkpoint" if compared.outcome == "inconclusive" else said
        outcomes.insert(0, (_COMPARED[compared.outcome], f"{said or 'the same as the other'}: {compared.reason}"))
    return max(outcomes, key=lambda one: _GRAVITY.index(one[0]))


def _not_finite(scored: Scored) -> str:
    missing = scored.primary.filled != scored.primary.values  # NaN differs from what stands for it
    names = list(dict.fromkeys(name for name, gone in zip(scored.samples, missing, strict=True) if gone))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{scored.not_finite} of {len(scored.samples)} values are missing, an embedding being NaN or infinite: "
        f"{', '.join(names[:_NAMED])}{more}"
    )


def verdict_of(
    tasks: Sequence[TaskScores], unreadable: Sequence[str], images: int
) -> tuple[Verdict, str, tuple[str, ...]]:
    """Return the verdict, its headline, and its reasons, the gravest first."""
    by_outcome = {outcome: [task for task in tasks if task.outcome == outcome] for outcome in _GRAVITY}
    open_ones = bool(by_outcome["inconclusive"] or unreadable or not by_outcome["passed"])
    verdict: Verdict = "fail" if by_outcome["failed"] else "inconclusive" if open_ones else "pass"
    names = (
        f"{', '.join(task.name for task in by_outcome[one])} {_word(one)}"
        for one in reversed(_GRAVITY)
        if by_outcome[one]
    )
    headline = f"{verdict}: {'; '.join(names)}"
    if unreadable:
        headline += f"; {len(unreadable)} of {len(unreadable) + images} images could not be read"
    reasons = [f"{task.name} {_word(one)}: {task.reason}" for one in reversed(_GRAVITY) for task in by_outcome[one]]
    if unreadable:
        more = f"; and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        reasons.append(f"{len(unreadable)} images could not be read: {'; '.join(unreadable[:_NAMED])}{more}")
    return verdict, headline, tuple(reasons)


def _word(outcome: TrialOutcome) -> str:
    return "not judged" if outcome == "not_asked" else outcome


def notes_on(embedded: Embedded, scored: Sequence[Scored], not_served: Sequence[NotServed]) -> Iterator[str]:
    """Yield what a reader should know of the data, a sentence each: what has no images, what is too long, what is left.

    Args:
        embedded: the candidate's embeddings.
        scored: its scores.
        not_served: the tasks that the dataset cannot serve.
    """
    if embedded.dataset.zero_shot is not None:
        seen = {sample.label for sample in embedded.samples}
        without = [name for name in embedded.dataset.zero_shot.classes if name not in seen]
        if without:
            more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
            what = "1 class has" if len(without) == 1 else f"{len(without)} classes have"
            yield f"{what} no image that can be read: {', '.join(without[:_NAMED])}{more}."
    for one in scored:
        if count := one.details.get("captions_too_long"):
            what = "1 caption has" if count == 1 else f"{count} captions have"
            texts = one.details.get("long_captions")
            named = "; ".join(f"{text} ..." for text in (texts if isinstance(texts, tuple) else ()))
            yield f"{what} more tokens than the model takes and no part in {one.task}: {named}."
    for lacking in not_served:
        yield f"{lacking.task} was not scored: {lacking.reason}."
