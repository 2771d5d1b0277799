"""Properties of the decision on drawn runs: a pass covers everything, and bad news never improves a verdict."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support import sample_records as sample

from clip_eval.verdict.decide import Asked, decide
from clip_eval.verdict.run_record import CheckResult

_OUTCOMES = ["passed", "failed", "warned", "error", "not_run", "not_applicable", "deviation"]
_SCOPES = ["contract", "baseline", "tasks", "throughput"]
_TRIALS = ["passed", "failed", "warned", "inconclusive", "not_asked"]
_RANK = {"pass": 0, "inconclusive": 1, "fail": 2}

_checks = st.lists(
    st.builds(
        lambda number, outcome, scope: sample.check(f"{scope}.check_{number}", outcome=outcome, scope=scope),
        st.integers(0, 5),
        st.sampled_from(["passed", "passed", *_OUTCOMES]),
        st.sampled_from(["contract", "contract", *_SCOPES]),
    ),
    max_size=8,
)
_declared = st.lists(st.integers(0, 5), max_size=4, unique=True).map(
    lambda numbers: sample.declared([sample.check(f"contract.check_{number}") for number in numbers])
)
_runs = st.fixed_dictionaries(
    {
        "checks": _checks,
        "declared": _declared,
        "surface_changes": st.lists(
            st.sampled_from([None, "reviewed"]).map(lambda why: sample.change(accepted=why)), max_size=2
        ),
        "tasks": st.lists(st.sampled_from(_TRIALS).map(lambda outcome: sample.task(outcome=outcome)), max_size=2),
        "throughput": st.lists(
            st.sampled_from(_TRIALS).map(lambda outcome: sample.timing(outcome=outcome)), max_size=2
        ),
        "asked": st.builds(Asked, baseline=st.booleans(), tasks=st.booleans(), throughput=st.booleans()),
        "new_weights": st.booleans(),
    }
)
_deterministic = settings(derandomize=True, deadline=None, max_examples=300)


@_deterministic
@given(run=_runs)
def test_a_pass_covers_every_declared_contract_check(run: dict[str, object]) -> None:
    """A pass means that each declared check has a result, and each result is right or excused."""
    decision = decide(**run)  # type: ignore[arg-type]
    if decision.verdict != "pass":
        return
    checks: list[CheckResult] = run["checks"]  # type: ignore[assignment]
    contract = [check for check in checks if check.scope == "contract"]
    assert {item.id for item in run["declared"]} <= {check.id for check in contract}  # type: ignore[attr-defined]
    assert {check.outcome for check in contract} <= {"passed", "warned", "deviation", "not_applicable"}
    assert any(check.outcome in ("passed", "warned", "deviation") for check in contract)


@_deterministic
@given(run=_runs, scope=st.sampled_from(_SCOPES))
def test_a_failure_more_always_fails(run: dict[str, object], scope: str) -> None:
    """A failed check added to any run makes it fail."""
    checks: list[CheckResult] = run["checks"]  # type: ignore[assignment]
    failed = sample.check("added.failed", outcome="failed", scope=scope)
    assert decide(**{**run, "checks": [*checks, failed]}).verdict == "fail"  # type: ignore[arg-type]


@_deterministic
@given(run=_runs, scope=st.sampled_from(_SCOPES), outcome=st.sampled_from(["failed", "error", "not_run"]))
def test_bad_news_never_improves_a_verdict(run: dict[str, object], scope: str, outcome: str) -> None:
    """A check that failed, crashed or was not run never makes a verdict better."""
    checks: list[CheckResult] = run["checks"]  # type: ignore[assignment]
    added = sample.check("added.bad", outcome=outcome, scope=scope)
    before = decide(**run)  # type: ignore[arg-type]
    after = decide(**{**run, "checks": [*checks, added]})  # type: ignore[arg-type]
    assert _RANK[after.verdict] >= _RANK[before.verdict]


@_deterministic
@given(run=_runs)
def test_what_only_warns_is_in_the_headline(run: dict[str, object]) -> None:
    """A verdict that passes over a failure says so in its headline."""
    checks: list[CheckResult] = run["checks"]  # type: ignore[assignment]
    decision = decide(**run)  # type: ignore[arg-type]
    assert ("which only warns" in decision.headline) >= any(check.outcome == "warned" for check in checks)


@_deterministic
@given(run=_runs)
def test_every_decision_explains_itself(run: dict[str, object]) -> None:
    """A decision has a reason, an entry for each scope, and a headline that begins with the verdict."""
    decision = decide(**run)  # type: ignore[arg-type]
    assert decision.reasons
    assert [entry.name for entry in decision.scope] == _SCOPES
    assert decision.headline.startswith(f"{decision.verdict}: ")
    assert all(entry.reason for entry in decision.scope if entry.status == "could_not")
