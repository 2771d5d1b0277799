"""Names in a policy that must exist: a misspelt one would demand, or excuse, nothing."""

from __future__ import annotations

from clip_eval.errors import UsageError
from clip_eval.nearest import nearest
from clip_eval.run.declared_checks import declared_checks, nearest_checks, primary_scores
from clip_eval.verdict.change_causes import CHANGE_CAUSES
from clip_eval.verdict.policy import Policy

__all__ = ["require_known_names"]


def require_known_names(policy: Policy, *, where: str) -> None:
    """Refuse a check, a declared cause or a task that there is not.

    Which scores a task has is known once it has run: a score that was not measured keeps the gate from passing.

    Raises:
        UsageError: with the nearest name.
    """
    checks, causes = [check.id for check in declared_checks()], [cause.id for cause in CHANGE_CAUSES]
    for entry in policy.warned:
        if entry.key == "check" and entry.name.partition("[")[0] not in checks:
            near = nearest_checks(entry.name)
            fix = f"The nearest is {', '.join(near)}" if near else "`clip-eval checks` lists them"
            raise UsageError(f"the policy lets the check {entry.name} warn, and there is none", where=where, fix=fix)
        if entry.key == "cause" and entry.name not in causes:
            near_cause = nearest(entry.name, causes)
            fix = f"The nearest is {near_cause}" if near_cause else "Reports name causes of changes; the rest are areas"
            raise UsageError(f"the policy lets the cause {entry.name} warn, and there is none", where=where, fix=fix)
    scores = primary_scores()
    for name in policy.tasks:
        if not any(name.startswith(f"{task}_") for task in scores):
            known = list(scores.values())
            fix = f"The nearest is {nearest(name, known) or known[0]}; run.json names all scores"
            raise UsageError(f"the policy asks something of {name}, and no task has such a score", where=where, fix=fix)
