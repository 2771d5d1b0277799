"""Every task on a dataset, with the checkpoint's own processor. Each check here is one of every task in
`clip_eval/tasks/`, named after the task and its primary score: `zero_shot.top1_is_above_chance`.
"""

from __future__ import annotations

import pytest

from clip_eval.baseline import PackedTask
from clip_eval.run.declared_checks import task_check_id
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.tasks.judgement import against_chance, against_reference, judge
from clip_eval.tasks.shown import sections_of
from clip_eval.tasks.task import Scored, Task, all_tasks
from clip_eval.tasks.thresholds import as_asked
from clip_eval.verdict.compare import Compare

SCOPE = "tasks"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each task; its case is the id of its check."""
    name, tasks = metafunc.function.__name__, all_tasks()
    metafunc.parametrize("task", tasks, ids=[task_check_id(name, task.name, task.primary) for task in tasks])


@pytest.fixture
def scored(task: Task, clip_session: Session, evidence: Evidence, request: pytest.FixtureRequest) -> Scored:
    """The subject's scores on the dataset that was given; made once a session."""
    if clip_session.dataset is None:
        evidence.not_applicable("no --dataset was given")
    if reason := task.lacks(clip_session.dataset):
        evidence.not_applicable(reason)
    checkpoint = clip_session.candidate.checkpoint
    lacks = {"tokenizer": not checkpoint.has_tokenizer, "image processor": not checkpoint.has_image_processor}
    if any(lacks.values()):
        evidence.not_run(f"the checkpoint has no {' and no '.join(name for name, lacking in lacks.items() if lacking)}")
    request.getfixturevalue("clip")  # says so where the device is absent
    return clip_session.scored(task)


@pytest.fixture
def approved(clip_session: Session, scored: Scored) -> PackedTask | None:
    """The values of the approved release; None where the pack does not know them for this dataset."""
    recorded = None if clip_session.pack is None else clip_session.pack.tasks.get(scored.task)
    return recorded if recorded is not None and recorded.dataset == scored.dataset else None


@pytest.fixture
def shown(clip_session: Session, scored: Scored, approved: PackedTask | None, evidence: Evidence) -> None:
    """The samples of the report; their pictures go into the record once."""
    sections = sections_of(
        clip_session.embedded, [(scored, approved)], reference="the baseline", most=6, size_px=96, in_files=True
    )
    for one in (one for section in sections for one in section.shown if one.picture):
        evidence.image(f"sample/{one.sample}", one.picture)
    evidence.samples(scored.name(scored.primary), [section.to_data() for section in sections])


@pytest.fixture
def told_by(clip_session: Session, request: pytest.FixtureRequest) -> str | None:
    """The task whose check tells what cannot be read, the first that runs: one cause is one finding."""
    if clip_session.dataset is None:
        return None
    own = request.function.__name__
    params = [item.callspec.params for item in request.session.items  # type: ignore[attr-defined]
              if getattr(item, "originalname", None) == own]  # fmt: skip
    return next((each["task"].name for each in params if each["task"].lacks(clip_session.dataset) is None), None)


def test_every_record_is_readable(
    task: Task, scored: Scored, told_by: str | None, evidence: Evidence, compare: Compare
) -> None:
    """Every image of the dataset can be read, so that no sample drops out of a score in silence.

    All tasks see the same images: where some cannot be read, the first task's check fails, and the others refer to it.
    """
    if scored.unreadable and told_by not in (None, task.name):
        count = f"{len(scored.unreadable)} image{'' if len(scored.unreadable) == 1 else 's'}"
        evidence.not_run(f"{count} cannot be read", because=f"{told_by}.every_record_is_readable")
    compare.equal(scored.unreadable, (), name="unreadable images")


@pytest.mark.usefixtures("shown")
def test_score_is_above_chance(
    clip_session: Session, scored: Scored, approved: PackedTask | None, evidence: Evidence, compare: Compare
) -> None:
    """{claim} more often than guessing explains.

    Fails where the score cannot be told from guessing although the images would show a useful model; see
    `clip_eval.tasks.judgement`.
    """
    for result in as_asked(judge(scored, approved), scored, clip_session.policy.tasks, approved):
        evidence.task(result)
    compare.equal(scored.not_finite, 0, name="images without an answer, an embedding being NaN or infinite")
    score, found, interval = scored.primary, against_chance(scored), scored.interval(scored.primary)
    if score.chance is None:
        evidence.not_applicable(found.reason)
    if found.outcome == "failed":
        observed = f"{score.value:.4f} (95 %: {interval.low:.4f} to {interval.high:.4f})"
        better = "above" if score.higher_is_better else "below"
        compare.fail(observed, f"{better} chance, {score.chance:.4f}", name=scored.name(score))
    if found.outcome == "inconclusive":
        evidence.not_run(found.reason)


def test_score_is_no_worse_than_approved(
    clip_session: Session,
    scored: Scored,
    approved: PackedTask | None,
    evidence: Evidence,
    compare: Compare,
) -> None:
    """The answers lost since the approved release do not outweigh those gained by more than chance explains.

    The samples are paired, so that a handful of changed answers shows where two separate scores would not.
    """
    if clip_session.pack is None:
        evidence.not_applicable("no --baseline was given")
    if not clip_session.pack.tasks:
        evidence.not_applicable("the pack was recorded without --dataset and holds no answers")
    if scored.task not in clip_session.pack.tasks:
        evidence.not_applicable("the pack was recorded without this task and holds no answers to it")
    if approved is None:
        evidence.not_run("the pack's answers are to another dataset, or to other files or settings of this one")
    if scored.primary.name not in approved.values:
        evidence.not_run(f"the pack holds no {scored.primary.name} of this task: record it again")
    found = against_reference(scored, approved)
    if found.outcome == "failed":
        compare.fail(found.reason, "no such loss", name="answers against the approved release")
    compare.equal(len(scored.samples), len(approved.samples), name="answers paired with the approved release's")
