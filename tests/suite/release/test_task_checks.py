"""The checks of tasks: what each says of healthy, broken and undecided answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.datasets import SETTINGS, write_dataset
from support.embedded import hits as scores
from support.embedded import scored
from support.forked import run_suite

from clip_eval.baseline import PackedTask
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.suite.release import test_tasks as chapter
from clip_eval.tasks.task import Score, Scored, all_tasks
from clip_eval.verdict.compare import Compare, Mismatch
from clip_eval.verdict.policy import Policy

Skipped = pytest.skip.Exception

ASKED: Any = SimpleNamespace(policy=Policy())
"""A session without a policy's demands."""


def packed(count: int, *, but: Mapping[int, float] | None = None) -> PackedTask:
    """Return the answers of a release that had the first `count` of 528 right, with changes."""
    values = {index: float(index < count) for index in range(528)} | dict(but or {})
    return PackedTask(dataset="digest", samples=tuple(map(str, values)), values={"top1": tuple(values.values())})


def left(evidence: Evidence, kind: str) -> list[Any]:
    """Return what a check left behind of one kind."""
    return [json.loads(str(text)) for name, text in evidence.properties if name == f"clip_eval.{kind}"]


def top1(found: Scored, approved: PackedTask | None = None) -> Evidence:
    """Run the check on these answers and return its evidence; what it raises is left under `raised`."""
    evidence = Evidence([])
    try:
        chapter.test_score_is_above_chance(ASKED, found, approved, evidence, Compare(evidence.measurement))
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


def test_a_score_of_unknown_chance_is_recorded_only() -> None:
    """Without chance there is nothing to be above, and the score and those beside it are recorded all the same."""
    values = scores(500, 528).primary.values
    evidence = top1(scored(Score(name="precision", values=values), Score(name="recall", values=values)))
    assert left(evidence, "skip")[0]["outcome"] == "not_applicable"
    assert [task["name"] for task in left(evidence, "task")] == ["zero_shot_precision", "zero_shot_recall"]


def test_the_approved_score_is_the_reference() -> None:
    """With the pack's answers the task result holds the approved score."""
    assert left(top1(scores(500, 528), packed(501)), "task")[0]["reference"] == pytest.approx(501 / 528)


def readable(found: Scored, told_by: str | None) -> Evidence:
    """Run the check of zero-shot on these answers; what it raises is left under `raised`."""
    evidence = Evidence([])
    (zero_shot,) = (task for task in all_tasks() if task.name == "zero_shot")
    try:
        chapter.test_every_record_is_readable(zero_shot, found, told_by, evidence, Compare(evidence.measurement))
    except (Mismatch, Skipped) as raised:
        evidence.properties.append(("clip_eval.raised", json.dumps(str(raised))))
    return evidence


def test_unreadable_images_fail() -> None:
    """One damaged image is enough, and its name is in the failure."""
    damaged = scores(5, 9, unreadable=("a.png: truncated",))
    for told_by in ("zero_shot", None):
        assert "a.png: truncated" in left(readable(damaged, told_by), "raised")[0]
    assert left(readable(scores(5, 9), "zero_shot"), "raised") == []


def test_unreadable_images_are_one_finding() -> None:
    """Every task sees the same images: the first one's check fails, the others are not run because of it."""
    (skip,) = left(readable(scores(5, 9, unreadable=("a.png: truncated",)), "image_to_text"), "skip")
    assert skip == {
        "outcome": "not_run",
        "reason": "1 image cannot be read",
        "because": "image_to_text.every_record_is_readable",
    }
    assert left(readable(scores(5, 9), "image_to_text"), "skip") == []


def test_the_first_task_that_runs_tells_it(bare_model: Path, tmp_path: Path) -> None:
    """It is the first of those that were selected and that the dataset serves; without a dataset there is none."""
    data = write_dataset(tmp_path / "data")
    session = Session(Settings(model=str(bare_model), dataset=str(data)))
    own = chapter.test_every_record_is_readable
    items = [
        SimpleNamespace(originalname=name, callspec=SimpleNamespace(params={"task": task}))
        for name in ("test_score_is_above_chance", own.__name__)
        for task in all_tasks()
    ]
    told_by = chapter.told_by.__wrapped__  # type: ignore[attr-defined]
    asked = SimpleNamespace(function=own, session=SimpleNamespace(items=items))
    assert session.dataset is not None
    assert told_by(session, asked) == next(task.name for task in all_tasks() if task.lacks(session.dataset) is None)
    items[:] = items[-1:]
    assert told_by(session, asked) == "zero_shot"
    assert told_by(Session(Settings(model=str(bare_model))), asked) is None


PACK, EMPTY_PACK = SimpleNamespace(tasks={"zero_shot": None}), SimpleNamespace(tasks={})
OLDER_PACK = SimpleNamespace(tasks={"linear_probe": None})


def worse(found: Scored, approved: PackedTask | None, pack: object) -> Evidence:
    """Run the check against the approved release; what it raises is left under `raised`."""
    evidence, session = Evidence([]), Session(Settings(model="nowhere"))
    session.__dict__["pack"] = pack
    try:
        chapter.test_score_is_no_worse_than_approved(session, found, approved, evidence, Compare(evidence.measurement))
    except (Mismatch, Skipped) as raised:
        evidence.properties.append(("clip_eval.raised", json.dumps(type(raised).__name__)))
    return evidence


def test_lost_answers_fail() -> None:
    """Thirty answers lost and none gained fail; equal answers pass, and so does a balanced change."""
    approved = packed(500)
    assert left(worse(scores(500, 528), approved, PACK), "raised") == []
    assert left(worse(scores(470, 528), approved, PACK), "raised") == ["Mismatch"]
    swapped = packed(500, but={0: 0.0, 1: 0.0, 510: 1.0, 511: 1.0})
    assert left(worse(scores(500, 528), swapped, PACK), "raised") == []


def test_without_a_comparable_pack_nothing_is_judged() -> None:
    """No pack and a pack without answers do not apply; answers to another dataset cannot be compared."""
    said = [left(worse(scores(5, 9), None, pack), "skip")[0] for pack in (None, EMPTY_PACK, OLDER_PACK, PACK)]
    assert [skip["outcome"] for skip in said] == [*["not_applicable"] * 3, "not_run"]
    assert "without this task" in said[2]["reason"]
    assert "another dataset" in said[3]["reason"]


def test_a_pack_without_the_score_is_said() -> None:
    """A pack that was recorded before a task had its score decides nothing, and says what to do."""
    older = PackedTask(dataset="digest", samples=("0",), values={"top5": (1.0,)})
    (skip,) = left(worse(scores(5, 9), older, PACK), "skip")
    assert skip["outcome"] == "not_run"
    assert "no top1 of this task: record it again" in skip["reason"]
    assert left(top1(scores(500, 528), older), "task")[0]["outcome"] == "inconclusive"


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
