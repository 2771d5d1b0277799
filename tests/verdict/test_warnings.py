"""What a policy lets warn: it decides nothing, it is told first, and it hides nothing else."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest
from support import sample_records as sample

from clip_eval.verdict.decide import Asked, Decision, decide
from clip_eval.verdict.policy import Policy, Warned
from clip_eval.verdict.run_record import CheckResult, SurfaceChange, TaskResult, ThroughputResult
from clip_eval.verdict.warnings import Softened, parts_that_warn, soften, soften_changes

TODAY = date(2026, 11, 28)
CONTRACT = sample.check("shapes.logits")
FAILED = sample.failed_check()
SLOW = sample.timing(outcome="failed", reason="the lower end is above the margin")
LOST = sample.task(outcome="failed")
ALL = Asked(baseline=True, tasks=True, throughput=True)


def entry(name: str = FAILED.id, **changes: object) -> Warned:
    """An entry for a check, in force, with changes."""
    values: dict[str, object] = {"key": "check", "name": name, "reason": "known", "expires": date(2027, 1, 31)}
    return Warned(**{**values, **changes})  # type: ignore[arg-type]


def judged(
    policy: Policy,
    *checks: CheckResult,
    tasks: tuple[TaskResult, ...] = (sample.task(),),
    throughput: tuple[ThroughputResult, ...] = (sample.timing(),),
    changes: tuple[SurfaceChange, ...] = (),
    new_weights: bool = False,
) -> tuple[Softened, Decision]:
    """What the policy makes of a run with these results, and the decision."""
    results = (CONTRACT, sample.check("parity.logits", scope="baseline"), *checks)
    changes = soften_changes(changes, policy=policy, today=TODAY)
    found = soften(results, tasks, throughput, changes, policy=policy, new_weights=new_weights, today=TODAY)
    parts = parts_that_warn(policy, new_weights=new_weights)
    decision = decide(
        checks=found.checks,
        declared=sample.declared(results),
        surface_changes=changes,
        tasks=found.tasks,
        throughput=found.throughput,
        asked=ALL,
        new_weights=new_weights,
        required=policy.require,
        warns=[name for name in ("tasks", "throughput") if name in parts],
    )
    return found, decision


def test_without_a_policy_nothing_changes() -> None:
    """An empty policy softens nothing and says nothing."""
    found, decision = judged(Policy(), FAILED, tasks=(LOST,), throughput=(SLOW,))
    assert found.notes == ()
    assert (found.checks[-1], found.tasks, found.throughput) == (FAILED, (LOST,), (SLOW,))
    assert decision.verdict == "fail"


def test_a_part_that_warns_blocks_nothing_and_is_told() -> None:
    """What failed there is in the headline and first among the notes, with its numbers."""
    found, decision = judged(Policy(warn=("throughput",)), throughput=(SLOW,))
    assert decision.verdict == "pass"
    assert decision.headline == "pass: contract, baseline, tasks, throughput (image_tower failed, which only warns)"
    assert found.notes[0].startswith("Warning: Throughput image_tower failed: it takes 1.004 (0.996 to 1.013)")
    assert judged(Policy(warn=("tasks",)), throughput=(SLOW,))[1].verdict == "fail"


def test_tasks_that_warn() -> None:
    """A lost score and its check warn together."""
    check = sample.check("zero_shot.top1", scope="tasks", outcome="failed", reason="answers were lost")
    found, decision = judged(Policy(warn=("tasks",)), check, tasks=(LOST,))
    assert decision.verdict == "pass"
    assert "tasks (1 check failed, which only warns, zero_shot_top1 failed, which only warns)" in decision.headline
    assert [note.split(" failed")[0] for note in found.notes] == [
        "Warning: zero_shot.top1",
        "Warning: Task zero_shot_top1",
    ]


def test_new_weights_are_decided_by_tasks() -> None:
    """With new weights nothing else judges the answers: tasks block, whatever the policy says, and a note says so."""
    found, decision = judged(Policy(warn=("tasks",)), tasks=(LOST,), new_weights=True)
    assert decision.verdict == "fail"
    assert "they decide" in found.notes[-1]


@pytest.mark.parametrize("outcome", ["error", "not_run"])
def test_what_is_undecided_in_a_part_that_warns(outcome: str) -> None:
    """It keeps no run from passing, unless the scope is required."""
    crashed = sample.check("zero_shot.top1", scope="tasks", outcome=outcome, reason="no room", measurements=())
    assert judged(Policy(), crashed)[1].verdict == "inconclusive"
    assert judged(Policy(warn=("tasks",)), crashed)[1].verdict == "pass"
    assert judged(Policy(warn=("tasks",), require=("tasks",)), crashed)[1].verdict == "inconclusive"


def test_a_check_warns_until_its_last_day() -> None:
    """With reason and day; after it the check blocks again, and the note says why."""
    found, decision = judged(Policy(warned=(entry(),)), FAILED)
    assert (decision.verdict, found.checks[-1].outcome) == ("pass", "warned")
    assert decision.headline.startswith("pass: contract (1 check failed, which only warns)")
    assert found.notes[0].startswith(f"Warning: {FAILED.name} failed: error 0.0421")
    assert f"The policy lets {FAILED.id} warn: known (until 2027-01-31)." in found.notes
    found, decision = judged(Policy(warned=(entry(expires=date(2026, 11, 27)),)), FAILED)
    assert decision.verdict == "fail"
    assert found.notes == (f"The policy's entry for {FAILED.id} expired on 2026-11-27, and warns no longer.",)
    assert judged(Policy(warned=(entry(expires=TODAY),)), FAILED)[1].verdict == "pass"


def test_an_entry_for_a_case_covers_no_other() -> None:
    """An id without a case covers all cases, one with a case that one."""
    other = sample.failed_check(case="text")
    assert judged(Policy(warned=(entry(),)), FAILED, other)[1].verdict == "pass"
    found, decision = judged(Policy(warned=(entry(FAILED.name),)), FAILED, other)
    assert decision.verdict == "fail"
    assert [check.outcome for check in found.checks[-2:]] == ["warned", "failed"]


def test_what_was_not_run_because_of_a_warning_is_a_gap() -> None:
    """A warning excuses a failure, and not what could not be judged because of it."""
    waiting = sample.check("shapes.more", outcome="not_run", because=FAILED.name, reason="it fails", measurements=())
    _, decision = judged(Policy(warned=(entry(),)), FAILED, waiting)
    assert decision.verdict == "inconclusive"
    assert f"Not run (it fails; because of {FAILED.name}, which only warns): shapes.more." in decision.reasons


def test_what_follows_from_a_warning_still_blocks() -> None:
    """A failure that has its own check is told as its own."""
    follower = sample.check("shapes.more", outcome="failed", because=FAILED.name, reason="it differs")
    _, decision = judged(Policy(warned=(entry(),)), FAILED, follower)
    assert decision.verdict == "fail"
    assert decision.reasons[0].startswith("shapes.more failed")


def test_an_entry_that_is_not_needed_is_told() -> None:
    """A check that passes again needs no entry; one that was not run says nothing."""
    assert judged(Policy(warned=(entry(CONTRACT.id),)))[0].notes == (
        f"The policy lets {CONTRACT.id} warn, which has passed: remove the entry.",
    )
    absent = dataclasses.replace(FAILED, outcome="not_run")
    assert judged(Policy(warned=(entry(),)), absent)[0].notes == ()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(warn=("surface",)),
        Policy(warned=(entry("outputs and calls: types or fields differ", key="area", expires=None),)),
    ],
)
def test_changes_that_warn(policy: Policy) -> None:
    """Changes of the surface, or of one area or cause, are told with their number, and block nothing."""
    change = sample.change(id="CLIPModel().x", before="a", after="b")
    found, decision = judged(policy, changes=(change,))
    assert decision.verdict == "pass"
    assert "baseline (1 surface change not accepted, which only warns)" in decision.headline
    assert found.notes[0].startswith("Warning: 1 surface change is not accepted (")
    assert "CLIPModel().x" in found.notes[0]
    assert not any(reason.startswith("Accepted") for reason in decision.reasons)


def test_another_area_still_blocks_and_an_acceptance_stays() -> None:
    """An entry covers its own area; what a review accepted is no warning."""
    policy = Policy(warned=(entry("tokenizer: types or fields differ", key="area"),))
    assert judged(policy, changes=(sample.change(id="CLIPModel().x"),))[1].verdict == "fail"
    reviewed = sample.change(accepted="reviewed")
    assert soften_changes([reviewed], policy=Policy(warn=("surface",)), today=TODAY) == (reviewed,)


@pytest.mark.parametrize("scope", ["contract", "baseline"])
def test_no_list_of_parts_softens_what_a_model_computes(scope: str) -> None:
    """Contract and numbers against the baseline block with every part on the list."""
    failed = sample.check("chapter.broken", outcome="failed", scope=scope, measurements=(sample.failed_measurement(),))
    assert judged(Policy(warn=("surface", "tasks", "throughput")), failed)[1].verdict == "fail"


def test_scores_must_be_shown_to_be_as_asked() -> None:
    """A score with a threshold that was not measured, or is undecided, keeps the run from passing."""
    asked = Asked(baseline=False, tasks=False, throughput=False)

    def verdict(*tasks: TaskResult) -> Decision:
        return decide(
            checks=(CONTRACT,), declared=(), surface_changes=(), tasks=tasks, throughput=(), asked=asked,
            thresholds=("zero_shot_top1",),
        )  # fmt: skip

    assert verdict().verdict == "inconclusive"
    assert "zero_shot_top1 not measured, and the policy has a threshold" in verdict().headline
    assert verdict(sample.task()).verdict == "inconclusive"
    assert verdict(sample.task(policy="inconclusive", outcome="inconclusive")).verdict == "inconclusive"
    assert verdict(sample.task(policy="passed")).verdict == "pass"
    assert verdict(sample.task(policy="passed", outcome="inconclusive")).verdict == "pass"
    assert verdict(sample.task(policy="failed", outcome="failed")).verdict == "fail"
