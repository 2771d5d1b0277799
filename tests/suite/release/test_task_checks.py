"""The checks of the zero-shot chapter: what each says of healthy, broken and undecided answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.datasets import SETTINGS, write_dataset
from support.forked import run_suite

from clip_eval.dataset import ZeroShot
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.suite.release import test_zero_shot as chapter
from clip_eval.tasks.zero_shot import Answer, ZeroShotScores
from clip_eval.verdict.compare import Compare, Mismatch

Skipped = pytest.skip.Exception


def scores(hits: int, count: int, *, unreadable: tuple[str, ...] = (), broken: int = 0) -> ZeroShotScores:
    """Return scores over 48 classes; the last `broken` answers are none."""
    task = ZeroShot(tuple(f"class {index}" for index in range(48)), ("a {}",))
    predicted = [0] * hits + [1] * (count - hits - broken) + [None] * broken
    return ZeroShotScores(task, tuple(Answer(str(i), 0, best) for i, best in enumerate(predicted)), unreadable, "it")


def left(evidence: Evidence, kind: str) -> list[Any]:
    """Return what a check left behind of one kind."""
    return [json.loads(str(text)) for name, text in evidence.properties if name == f"clip_eval.{kind}"]


def top1(found: ZeroShotScores, approved: dict[str, bool] | None = None) -> Evidence:
    """Run the check on these answers and return its evidence; what it raises is left under `raised`."""
    evidence = Evidence([])
    try:
        chapter.test_top1_is_above_chance(found, approved, evidence, Compare(evidence.measurement))
    except (Mismatch, Skipped) as raised:
        evidence.properties.append(("clip_eval.raised", json.dumps(type(raised).__name__)))
    return evidence


def test_a_good_score_passes() -> None:
    """The task result is recorded with its interval, and nothing is raised."""
    evidence = top1(scores(500, 528))
    (task,) = left(evidence, "task")
    assert (task["name"], task["outcome"], task["count"]) == ("zero_shot_top1", "passed", 528)
    assert left(evidence, "raised") == []


def test_a_score_at_chance_fails() -> None:
    """A checkpoint that guesses fails, and its result is recorded all the same."""
    evidence = top1(scores(11, 528))
    assert left(evidence, "raised") == ["Mismatch"]
    assert left(evidence, "task")[0]["outcome"] == "failed"
    failed = left(evidence, "measurement")[-1]
    assert (failed["passed"], failed["expected"]) == (False, "above chance, 0.0208")


def test_too_few_images_are_not_run() -> None:
    """What cannot be decided is no pass."""
    evidence = top1(scores(0, 3))
    assert left(evidence, "skip")[0]["outcome"] == "not_run"
    assert left(evidence, "task")[0]["outcome"] == "inconclusive"


def test_broken_embeddings_fail_a_good_score() -> None:
    """One NaN among good answers is a failure, whatever the score."""
    assert left(top1(scores(500, 528, broken=1)), "raised") == ["Mismatch"]


def test_the_approved_score_is_the_reference() -> None:
    """With the pack's answers the task result holds the approved score."""
    approved = {str(index): index < 501 for index in range(528)}
    assert left(top1(scores(500, 528), approved), "task")[0]["reference"] == pytest.approx(501 / 528)


def test_unreadable_images_fail() -> None:
    """One damaged image is enough, and its name is in the failure."""
    evidence = Evidence([])
    with pytest.raises(Mismatch, match=r"a\.png: truncated"):
        chapter.test_every_record_is_readable(
            scores(5, 9, unreadable=("a.png: truncated",)), Compare(evidence.measurement)
        )
    chapter.test_every_record_is_readable(scores(5, 9), Compare(evidence.measurement))
    assert [measurement["passed"] for measurement in left(evidence, "measurement")] == [False, True]


PACK, EMPTY_PACK = SimpleNamespace(tasks={"zero_shot_top1": None}), SimpleNamespace(tasks={})


def worse(found: ZeroShotScores, approved: dict[str, bool] | None, pack: object) -> Evidence:
    """Run the check against the approved release; what it raises is left under `raised`."""
    evidence, session = Evidence([]), Session(Settings(model="nowhere"))
    session.__dict__["pack"] = pack
    try:
        chapter.test_top1_is_no_worse_than_approved(session, found, approved, evidence, Compare(evidence.measurement))
    except (Mismatch, Skipped) as raised:
        evidence.properties.append(("clip_eval.raised", json.dumps(type(raised).__name__)))
    return evidence


def test_lost_answers_fail() -> None:
    """Thirty answers lost and none gained fail; equal answers pass, and so does a balanced change."""
    approved = {str(index): index < 500 for index in range(528)}
    assert left(worse(scores(500, 528), approved, PACK), "raised") == []
    assert left(worse(scores(470, 528), approved, PACK), "raised") == ["Mismatch"]
    swapped = approved | {"0": False, "1": False, "510": True, "511": True}
    assert left(worse(scores(500, 528), swapped, PACK), "raised") == []


def test_without_a_comparable_pack_nothing_is_judged() -> None:
    """No pack and a pack without answers do not apply; answers to another dataset cannot be compared."""
    said = [left(worse(scores(5, 9), None, pack), "skip")[0] for pack in (None, EMPTY_PACK, PACK)]
    assert [skip["outcome"] for skip in said] == ["not_applicable", "not_applicable", "not_run"]
    assert "another dataset" in said[2]["reason"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "not_applicable: no --dataset was given"),
        (SETTINGS.partition("[zero_shot]")[0], "not_applicable: the dataset sets no zero-shot task"),
        (SETTINGS, "not_run: the checkpoint has no tokenizer and no image processor"),
    ],
)
def test_what_is_lacking_is_said(bare_model: Path, tmp_path: Path, settings: str | None, said: str) -> None:
    """Without a dataset, a task or a processor every check of the chapter says so, and no score is recorded."""
    dataset = (
        [] if settings is None else ["--clip-dataset", str(write_dataset(tmp_path / "dataset", settings=settings))]
    )
    record = run_suite(bare_model, tmp_path / "out", *dataset, keyword="zero_shot")
    assert record["tasks"] == []
    chapter_checks = [check for check in record["checks"] if check["chapter"] == "zero_shot"]
    assert len(chapter_checks) == 3
    assert {f"{check['outcome']}: {check['reason']}" for check in chapter_checks} == {said}
