"""The rules of the verdict, one by one, together, and as properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from support import sample_records as sample

from clip_eval.verdict.decide import Asked, Decision, DeclaredCheck, complete, decide
from clip_eval.verdict.reasons import cause, listed
from clip_eval.verdict.run_record import CheckResult, SurfaceChange, TaskResult, ThroughputResult

ALL = Asked(baseline=True, tasks=True, throughput=True)
NOTHING = Asked(baseline=False, tasks=False, throughput=False)

CONTRACT = sample.check("shapes.logits")
BASELINE = sample.check("parity.logits", scope="baseline")


def verdict(
    checks: Sequence[CheckResult] = (CONTRACT,),
    *,
    declared: Sequence[DeclaredCheck] | None = None,
    surface_changes: Sequence[SurfaceChange] = (),
    tasks: Sequence[TaskResult] = (),
    throughput: Sequence[ThroughputResult] = (),
    asked: Asked = NOTHING,
    **options: object,
) -> Decision:
    """The decision on these results; what is declared are the results' own checks unless given."""
    return decide(
        checks=checks,
        declared=sample.declared(checks) if declared is None else declared,
        surface_changes=surface_changes,
        tasks=tasks,
        throughput=throughput,
        asked=asked,
        **options,  # type: ignore[arg-type]
    )


def statuses(decision: Decision) -> dict[str, str]:
    """The status of each scope."""
    return {entry.name: entry.status for entry in decision.scope}


def test_a_clean_run_passes_and_says_what_it_covers() -> None:
    """Everything judged and right passes; the headline names every scope."""
    decision = verdict((CONTRACT, BASELINE), tasks=(sample.task(),), throughput=(sample.timing(),), asked=ALL)
    assert (decision.verdict, decision.exit_code) == ("pass", 0)
    assert decision.headline == "pass: contract, baseline, tasks, throughput"
    assert set(statuses(decision).values()) == {"judged"}


def test_what_nobody_asked_for_is_in_the_headline() -> None:
    """Scopes that were not asked do not hinder a pass, and the headline lists them."""
    decision = verdict((CONTRACT, BASELINE), asked=Asked(baseline=True, tasks=False, throughput=False))
    assert decision.headline == "pass: contract, baseline; no tasks, no throughput"
    assert statuses(decision)["tasks"] == statuses(decision)["throughput"] == "not_asked"


def test_checks_of_a_scope_that_was_not_asked_may_be_not_run() -> None:
    """Without a baseline the checks against it are not run, and that is no gap."""
    skipped = dataclasses.replace(BASELINE, outcome="not_run", reason="no baseline was given")
    decision = verdict((CONTRACT, skipped))
    assert decision.headline == "pass: contract; no baseline, no tasks, no throughput"


@pytest.mark.parametrize("scope", ["contract", "baseline", "tasks", "throughput"])
def test_a_failed_check_fails(scope: str) -> None:
    """A failure fails in every scope, asked for or not."""
    failed = sample.check("chapter.broken", outcome="failed", scope=scope, measurements=(sample.failed_measurement(),))
    decision = verdict((CONTRACT, failed))
    assert (decision.verdict, decision.exit_code) == ("fail", 1)
    assert decision.headline.startswith("fail: ")
    assert f"{scope} (1 check failed" in decision.headline
    assert decision.reasons[0].startswith("chapter.broken failed: error 0.0421")


def test_an_unaccepted_surface_change_fails() -> None:
    """A change that nothing accepts fails and is named with its values."""
    decision = verdict((CONTRACT, BASELINE), surface_changes=(sample.change(),))
    assert decision.verdict == "fail"
    assert "baseline (1 surface change not accepted)" in decision.headline
    assert sample.change().id in decision.reasons[0]


def test_an_accepted_surface_change_passes() -> None:
    """An accepted change passes, and its reason is told."""
    asked = Asked(baseline=True, tasks=False, throughput=False)
    decision = verdict((CONTRACT, BASELINE), surface_changes=(sample.change(accepted="reviewed"),), asked=asked)
    assert decision.verdict == "pass"
    assert "baseline (1 surface change accepted)" in decision.headline
    assert any("reviewed" in reason for reason in decision.reasons)


def test_many_surface_changes_are_told_in_groups() -> None:
    """More changes than one reads in a row take a sentence for each thing that they mean, the gravest first."""
    names = [f"CLIPModel().field{number}" for number in range(7)]
    changes = [sample.change(id=name) for name in names]
    changes += [sample.change(id="CLIPModel(x)", after="raises TypeError", cause="options-are-keyword-only")]
    decision = verdict((CONTRACT, BASELINE), surface_changes=changes)
    assert [reason for reason in decision.reasons if "urface change" in reason] == [
        "1 surface change is not accepted, calls that fail now: options-are-keyword-only (1).",
        "7 surface changes are not accepted, types or fields differ: outputs and calls (7).",
    ]


def test_the_check_of_the_surface_has_no_sentence_beside_its_changes() -> None:
    """What changed is told once: the check that saw it is counted, and named by its changes."""
    seen = sample.check(sample.change().check, outcome="failed", scope="baseline", reason="1 change is not accepted")
    decision = verdict((CONTRACT, seen), surface_changes=[sample.change()])
    assert [sample.change().check in reason for reason in decision.reasons].count(True) == 1
    assert "1 check failed" in decision.headline


@pytest.mark.parametrize("scope", ["contract", "baseline", "tasks", "throughput"])
def test_an_error_is_inconclusive(scope: str) -> None:
    """A crashed check leaves its scope unjudged in every scope, speed too: a crash is no slow run."""
    crashed = sample.check("chapter.crashed", outcome="error", scope=scope, measurements=(), reason="the worker died")
    decision = verdict((CONTRACT, crashed))
    assert (decision.verdict, decision.exit_code) == ("inconclusive", 10)
    assert statuses(decision)[scope] == "could_not"
    assert "Ended in an error (the worker died): chapter.crashed." in decision.reasons


def test_a_failure_outweighs_an_error() -> None:
    """With a failure and an error the run fails, and the error is still told."""
    failed = sample.failed_check()
    crashed = sample.check("chapter.crashed", outcome="error", measurements=())
    decision = verdict((CONTRACT, failed, crashed))
    assert decision.verdict == "fail"
    assert "1 check failed, 1 check ended in an error" in decision.headline
    assert statuses(decision)["contract"] == "could_not"


@pytest.mark.parametrize("scope", ["contract", "baseline", "tasks"])
def test_a_check_that_was_not_run_is_inconclusive(scope: str) -> None:
    """A skipped or deselected check leaves its scope unjudged where that was asked for."""
    skipped = sample.check("processor.ids", outcome="not_run", scope=scope, reason="no tokenizer", measurements=())
    checks = (CONTRACT, BASELINE, skipped)
    decision = verdict(checks, tasks=(sample.task(),), throughput=(sample.timing(),), asked=ALL)
    assert decision.verdict == "inconclusive"
    assert statuses(decision)[scope] == "could_not"
    assert f"could not judge {scope} (1 check not run)" in decision.headline
    assert "Not run (no tokenizer): processor.ids." in decision.reasons


def test_a_declared_check_without_a_result_was_not_collected() -> None:
    """What the suite declares and pytest never collected is not run, whatever else passed."""
    decision = verdict((CONTRACT,), declared=sample.declared((CONTRACT, sample.check("heads.norm"))))
    assert decision.verdict == "inconclusive"
    assert "Not run (was not collected): heads.norm." in decision.reasons


def test_no_checks_never_pass() -> None:
    """An empty run is inconclusive, even where nothing was declared."""
    decision = verdict((), declared=())
    assert decision.verdict == "inconclusive"
    assert decision.reasons == ("Contract could not be judged: no check applied.",)


def test_a_scope_in_which_nothing_applied_was_not_judged() -> None:
    """Checks that are all not applicable prove nothing."""
    idle = dataclasses.replace(BASELINE, outcome="not_applicable", measurements=())
    decision = verdict((CONTRACT, idle), asked=Asked(baseline=True, tasks=False, throughput=False))
    assert decision.verdict == "inconclusive"
    assert statuses(decision)["baseline"] == "could_not"


@pytest.mark.parametrize("outcome", ["not_applicable", "deviation"])
def test_excused_checks_do_not_hinder(outcome: str) -> None:
    """A check that does not apply, or kept to a declared deviation, lets the run pass."""
    excused = sample.check("chapter.excused", outcome=outcome, deviation="known" if outcome == "deviation" else None)
    assert verdict((CONTRACT, excused)).verdict == "pass"


def test_a_swallowed_failure_fails() -> None:
    """A check that passed over a failed measurement has failed."""
    swallowed = sample.check("chapter.swallowed", measurements=(sample.failed_measurement(),))
    decision = verdict((CONTRACT, swallowed))
    assert decision.verdict == "fail"
    assert complete((swallowed,), declared=())[0].outcome == "failed"


def test_a_failed_task_fails() -> None:
    """A task below its reference fails with score, interval and reference."""
    decision = verdict(tasks=(sample.task(outcome="failed", score=0.9),), asked=ALL)
    assert decision.verdict == "fail"
    assert decision.reasons[0].startswith("Task zero_shot_top1 failed with 0.9 (0.9646 to 0.9901) against 0.9833")


@pytest.mark.parametrize(("new_weights", "expected"), [(False, "pass"), (True, "inconclusive")])
def test_an_inconclusive_task_blocks_new_weights_only(new_weights: bool, expected: str) -> None:
    """New weights need a task verdict; with the same weights an undecided score leaves the verdict alone."""
    asked = Asked(baseline=True, tasks=True, throughput=False)
    undecided = sample.task(outcome="inconclusive")
    decision = verdict((CONTRACT, BASELINE), tasks=(undecided,), asked=asked, new_weights=new_weights)
    assert decision.verdict == expected
    assert statuses(decision)["tasks"] == "could_not"
    assert "tasks (zero_shot_top1 inconclusive)" in decision.headline


@pytest.mark.parametrize("tasks", [(), (sample.task(outcome="not_asked"),), (sample.task(reference=None),)])
def test_new_weights_need_tasks_against_the_pack(tasks: Sequence[TaskResult]) -> None:
    """New weights without tasks, or with scores that the pack cannot be held against, are inconclusive."""
    asked = Asked(baseline=True, tasks=False, throughput=False)
    decision = verdict((CONTRACT, BASELINE), tasks=tasks, asked=asked, new_weights=True)
    assert decision.verdict == "inconclusive"
    assert statuses(decision)["tasks"] == "could_not"


def test_asked_tasks_that_are_missing_are_inconclusive() -> None:
    """Tasks that were asked for and gave no score leave the run inconclusive."""
    decision = verdict(asked=Asked(baseline=False, tasks=True, throughput=False))
    assert decision.headline.startswith("inconclusive: could not judge tasks (no task was judged); passed contract")


@pytest.mark.parametrize("throughput", [(), (sample.timing(outcome="inconclusive"),)])
def test_undecided_speed_leaves_the_verdict_alone(throughput: Sequence[ThroughputResult]) -> None:
    """Speed that could not be judged passes, and the headline says so."""
    asked = Asked(baseline=False, tasks=False, throughput=True)
    decision = verdict(throughput=throughput, asked=asked)
    assert decision.verdict == "pass"
    assert "; could not judge throughput (" in decision.headline
    assert any("does not depend on it" in reason for reason in decision.reasons)


def test_a_speed_check_that_was_not_run_leaves_the_verdict_alone() -> None:
    """A timing that was skipped leaves the verdict alone."""
    skipped = sample.check("speed.image_tower", outcome="not_run", scope="throughput", measurements=())
    decision = verdict((CONTRACT, skipped), asked=Asked(baseline=False, tasks=False, throughput=True))
    assert decision.verdict == "pass"
    assert statuses(decision)["throughput"] == "could_not"


def test_failed_speed_fails() -> None:
    """A slow-down beyond the margin fails with its ratio."""
    decision = verdict(throughput=(sample.timing(outcome="failed", ratio=1.2),), asked=ALL)
    assert decision.verdict == "fail"
    assert "1.2 (0.996 to 1.013) times as long as plain torch forward" in decision.reasons[0]


@pytest.mark.parametrize("required", ["baseline", "tasks", "throughput"])
def test_a_policy_may_require_a_scope(required: str) -> None:
    """A scope that the policy requires and that was not judged makes the run inconclusive."""
    decision = verdict(required={required})
    assert decision.verdict == "inconclusive"
    assert decision.reasons[0] == f"The policy requires {required} to be judged."
    assert verdict(required={"contract"}).verdict == "pass"


def test_checks_that_diverge_at_one_module_share_a_reason() -> None:
    """Many checks that one defect breaks give one sentence with its module and the worst of them, and it is first."""
    small = sample.failed_measurement(error=1e-4)
    checks = [sample.failed_check(case=str(layer), measurements=(small,)) for layer in range(6)]
    other = sample.check("shapes.logits", outcome="failed", measurements=(), reason="logits have the shape (5, 3)")
    decision = verdict([other, *checks, sample.failed_check(case="worst")])
    assert decision.reasons[0].startswith("7 checks diverge first at vision_model.encoder.layers.2.mlp.activation_fn")
    assert "The worst is reference_values.hidden_states[worst]: error 0.0421" in decision.reasons[0]
    assert decision.reasons[1] == "shapes.logits failed: logits have the shape (5, 3)."


LOADING = sample.check(
    "weights.every_weight_is_loaded",
    case="CLIPTextModel",
    outcome="failed",
    measurements=(),
    reason="transformers 5.23.0 cannot load CLIPTextModel: a field is 512, and a tensor is made for 40. Write 40.",
)


def unasked(count: int, **changes: object) -> list[CheckResult]:
    """Checks that were not run because of LOADING."""
    values: dict[str, object] = {"outcome": "not_run", "reason": "not loaded", "because": LOADING.name, **changes}
    return [sample.check("calls.a_call", case=str(number), measurements=(), **values) for number in range(count)]


def test_what_could_not_be_asked_is_told_with_its_cause() -> None:
    """One finding and what needs it are one reason and one phrase; nothing else is said to be missing."""
    decision = verdict([CONTRACT, *unasked(7), LOADING])
    assert decision.headline.startswith("fail: contract (1 check failed, 7 not run because of it);")
    assert decision.reasons[0] == (
        f"{LOADING.name} failed: {(LOADING.reason or '').rstrip('.')}. 7 checks could not be asked because of it."
    )
    assert not any("not run" in reason.lower() for reason in decision.reasons)
    assert statuses(decision)["contract"] == "could_not"


def test_two_findings_are_two_reasons_with_their_own_counts() -> None:
    """Each cause says how much could not be asked because of it."""
    second = dataclasses.replace(LOADING, case="CLIPVisionModel")
    decision = verdict([LOADING, second, *unasked(3), *unasked(1, chapter="batches", because=second.name)])
    assert "2 checks failed, 4 not run because of them" in decision.headline
    assert [reason.rpartition(". ")[2] for reason in decision.reasons[:2]] == [
        "3 checks could not be asked because of it.",
        "1 check could not be asked because of it.",
    ]


def test_a_scope_without_a_failure_of_its_own_says_where_to_look() -> None:
    """Speed that could not be asked because of a failure of the contract has no gap of its own."""
    decision = verdict([LOADING, *unasked(2, scope="throughput")], asked=ALL)
    assert "throughput (2 checks not run because of what failed, nothing was timed)" not in decision.headline
    assert "throughput (2 checks not run because of what failed)" in decision.headline


@pytest.mark.parametrize("outcome", ["passed", "not_run"])
def test_a_reference_to_a_check_that_did_not_fail_is_a_gap(outcome: str) -> None:
    """What was not run because of a check that passed, or was left out, is missing: the run cannot pass."""
    other = dataclasses.replace(LOADING, outcome=outcome, reason=None)  # type: ignore[arg-type]
    decision = verdict([CONTRACT, other, *unasked(2)])
    assert decision.verdict == "inconclusive"
    assert any(f"(not loaded; {LOADING.name}, which would say why, did not fail)" in one for one in decision.reasons)


def test_what_may_follow_from_a_failure_is_told_below_it() -> None:
    """Checks that may follow are in the reason of the cause, by name and number, and the headline begins with it."""
    cause_of_all = sample.failed_check()
    others = [
        sample.check("threads.mix", case=str(number), outcome="failed", because=cause_of_all.name)
        for number in range(5)
    ]
    decision = verdict([*others, cause_of_all])
    assert decision.headline.startswith(f"fail: contract (6 checks failed, first at {cause_of_all.diverges_at});")
    assert decision.reasons[0].startswith(f"{cause_of_all.name} failed: ")
    assert decision.reasons[0].endswith(
        "5 checks may follow from it: threads.mix[0], threads.mix[1], threads.mix[2] and 2 more."
    )
    assert len([reason for reason in decision.reasons if "threads" in reason]) == 1


def test_a_thing_itself_is_told_before_what_is_seen_through_it() -> None:
    """A failure of threads or gradients is never the first reason where a check of the thing itself fails."""
    names = ["gradients.a", "threads.b", "hidden_states.c", "batches.d"]
    decision = verdict([sample.check(name, outcome="failed", measurements=()) for name in names])
    assert decision.reasons[0].startswith("hidden_states.c failed")


def test_failures_come_before_gaps_and_gaps_before_merits() -> None:
    """The reasons begin with what failed and end with what was found right."""
    checks = (CONTRACT, sample.check("a.skipped", outcome="not_run"), sample.check("a.failed", outcome="failed"))
    joined = "\n".join(verdict(checks).reasons)
    assert joined.index("a.failed failed") < joined.index("a.skipped") < joined.index("1 check passed")


def test_complete_keeps_the_declared_order() -> None:
    """Results come in declared order, cases in theirs, undeclared ones last."""
    first, second = sample.check("a.one"), sample.check("b.two", case="x")
    again, own = sample.check("b.two", case="y"), sample.check("mine.own")
    ordered = complete((own, second, again, first), declared=sample.declared((first, second)))
    assert ordered == (first, second, again, own)


def test_cause_reads_the_assertion() -> None:
    """The cause of a failure is its reason, else the assertion of its traceback, else its last line."""
    assert cause(sample.check(reason="a reason")) == "a reason"
    assert cause(sample.check(detail=sample.TRACEBACK)).startswith("AssertionError: hidden_states[3]")
    assert cause(sample.check(detail="first\nlast\n\n")) == "last"
    assert cause(sample.check()) == "no reason was given"


def test_listed_shortens_long_lists() -> None:
    """Four names are all shown; of five the last two are counted."""
    assert listed(["a"]) == "a"
    assert listed(list("abcd")) == "a, b, c and d"
    assert listed(list("abcde")) == "a, b, c and 2 more"


def test_a_slower_speed_is_told_once() -> None:
    """The check behind a failed timing says nothing that the timing does not; another check of speed does."""
    slow = sample.timing(name="images", outcome="failed", ratio=1.4)
    kept = sample.measurement(name="MB that a call keeps (images)", error=8.0, bound=0.25, passed=False)
    named = sample.measurement(name="images: time against plain torch forward", error=None, bound=None, passed=False)
    checks = tuple(
        sample.check(identifier, scope="throughput", outcome="failed", measurements=(one,))
        for identifier, one in (("throughput.forward_is_timed", named), ("throughput.calls_keep_no_memory", kept))
    )
    decision = verdict(checks, throughput=(slow,), asked=Asked(baseline=False, tasks=False, throughput=True))
    assert decision.verdict == "fail"
    assert sum("images" in reason for reason in decision.reasons) == 2
    assert sum("Throughput images failed: it takes 1.4" in reason for reason in decision.reasons) == 1
    assert sum("MB that a call keeps" in reason for reason in decision.reasons) == 1


def test_a_checkpoint_that_changed_is_inconclusive_at_best() -> None:
    """What was judged is not known: no pass, the files are named first, and what failed still fails."""
    decision = verdict((CONTRACT,), changed=("model.safetensors",))
    assert decision.exit_code == 10
    gap = "the checkpoint changed while it was judged: model.safetensors"
    assert decision.headline == f"inconclusive: could not judge contract ({gap}); no baseline, no tasks, no throughput"
    assert "Leave it alone and gate it again" in decision.reasons[0]
    failed = sample.check("chapter.broken", outcome="failed", measurements=(sample.failed_measurement(),))
    decision = verdict((CONTRACT, failed), changed=("model.safetensors",))
    assert decision.exit_code == 1
    assert "(model.safetensors)" in decision.reasons[0]
