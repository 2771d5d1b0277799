"""Which names of a policy must exist, and where a policy is found that nobody names."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.errors import UsageError
from clip_eval.run.policy_names import require_known_names
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.verdict.policy import Policy, Threshold, Warned


def test_known_names_are_taken() -> None:
    """Checks with and without a case, declared causes, any area, and scores of every task."""
    entries = (
        Warned(key="check", name="contrastive_head.logits_are_symmetric[padding]", reason="x"),
        Warned(key="check", name="zero_shot.top1_is_above_chance", reason="x"),
        Warned(key="cause", name="towers-are-flat", reason="x"),
        Warned(key="area", name="tokenizer: values differ", reason="x"),
    )
    scores = {"zero_shot_top5": Threshold(least=0.5), "image_to_text_recall_at_1": Threshold(least=0.5)}
    require_known_names(Policy(warned=entries, tasks=scores), where="policy.toml")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            Policy(warned=(Warned(key="check", name="contrastive_head.logits_are_symetric", reason="x"),)),
            "logits_are_symetric warn, and there is none.*nearest is contrastive_head.logits_are_symmetric",
        ),
        (Policy(warned=(Warned(key="cause", name="tower-is-flat", reason="x"),)), "nearest is towers-are-flat"),
        (Policy(tasks={"zeroshot_top1": Threshold(least=1)}), "no task has such a score.*nearest is zero_shot_top1"),
    ],
)
def test_a_misspelt_name_is_refused(policy: Policy, said: str) -> None:
    """A name that nothing has would demand, or excuse, nothing."""
    with pytest.raises(UsageError, match=said):
        require_known_names(policy, where="policy.toml")


def test_a_policy_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory's pyproject.toml is read unless a policy is named; the rerun line says so."""
    monkeypatch.chdir(tmp_path)
    assert Settings(model="clip").with_project_policy().policy is None
    (tmp_path / "pyproject.toml").write_text('[tool.clip-eval]\nwarn = ["throughput"]\n', encoding="utf-8")
    settings = Settings(model="clip").with_project_policy()
    assert "--policy pyproject.toml" in settings.rerun("x")
    assert Session(settings.absolute()).policy == Policy(warn=("throughput",))
    assert Settings(model="clip", policy="other.toml").with_project_policy().policy == "other.toml"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert Settings(model="clip").with_project_policy().policy is None
