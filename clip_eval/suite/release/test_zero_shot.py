"""Zero-shot classification of a dataset with the checkpoint's own processor (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.tasks.judgement import against_chance, against_reference, judge
from clip_eval.tasks.zero_shot import NAME, ZeroShotScores
from clip_eval.verdict.compare import Compare

SCOPE = "tasks"


@pytest.fixture
def scores(clip_session: Session, evidence: Evidence, request: pytest.FixtureRequest) -> ZeroShotScores:
    """The subject's answers for the dataset; made once a session."""
    if clip_session.dataset is None:
        evidence.not_applicable("no --dataset was given")
    if clip_session.dataset.zero_shot is None:
        evidence.not_applicable("the dataset sets no zero-shot task")
    checkpoint = clip_session.candidate.checkpoint
    lacks = {"tokenizer": not checkpoint.has_tokenizer, "image processor": not checkpoint.has_image_processor}
    if any(lacks.values()):
        evidence.not_run(f"the checkpoint has no {' and no '.join(name for name, lacking in lacks.items() if lacking)}")
    request.getfixturevalue("clip")  # says so where the device is absent
    return clip_session.zero_shot


@pytest.fixture
def approved(clip_session: Session, scores: ZeroShotScores) -> Mapping[str, bool] | None:
    """Which samples the approved release had right; None if the pack does not have them for this dataset."""
    recorded = None if clip_session.pack is None else clip_session.pack.tasks.get(NAME)
    return recorded.hits if recorded is not None and recorded.dataset == scores.dataset else None


def test_every_record_is_readable(scores: ZeroShotScores, compare: Compare) -> None:
    """Every image of the dataset can be read, so that no sample silently drops out of a score."""
    compare.equal(scores.unreadable, (), name="unreadable images")


def test_top1_is_above_chance(
    scores: ZeroShotScores, approved: Mapping[str, bool] | None, evidence: Evidence, compare: Compare
) -> None:
    """The class whose prompts are nearest to an image is its label more often than guessing explains.

    Fails if the score cannot be told from guessing although a useful model would be with these images; see
    `clip_eval.tasks.judgement`.
    """
    evidence.task(judge(scores, approved))
    compare.equal(scores.not_finite, 0, name="images without an answer, an embedding being NaN or infinite")
    found, interval = against_chance(scores), scores.interval
    if found.outcome == "failed":
        observed = f"{scores.score:.4f} (95 %: {interval.low:.4f} to {interval.high:.4f})"
        compare.fail(observed, f"above chance, {scores.chance:.4f}", name="zero-shot top-1")
    if found.outcome == "inconclusive":
        evidence.not_run(found.reason)


def test_top1_is_no_worse_than_approved(
    clip_session: Session,
    scores: ZeroShotScores,
    approved: Mapping[str, bool] | None,
    evidence: Evidence,
    compare: Compare,
) -> None:
    """The answers lost since the approved release do not outweigh those gained by more than chance explains.

    The samples are paired, so that a few changed answers show what two separate scores would not.
    """
    if clip_session.pack is None:
        evidence.not_applicable("no --baseline was given")
    if NAME not in clip_session.pack.tasks:
        evidence.not_applicable("the pack was recorded without --dataset and holds no answers")
    if approved is None:
        evidence.not_run("the pack's answers are to another dataset, or to other files or settings of this one")
    paired = against_reference(scores, approved)
    if paired.outcome == "failed":
        compare.fail(paired.reason, "no such loss", name="answers against the approved release")
    compare.equal(len(scores.answers), len(approved), name="answers paired with the approved release's")
