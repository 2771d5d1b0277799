"""Policies: what a file may ask, and every reason to refuse one."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.errors import UsageError
from clip_eval.verdict.policy import Policy, read_policy


def written(directory: Path, text: str) -> Path:
    """Write a policy."""
    file = directory / "policy.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_policy_says_what_is_asked(tmp_path: Path) -> None:
    """Scopes that must be judged, and the least efficiency; either alone is enough."""
    both = written(tmp_path, 'require = ["tasks", "throughput"]\n[throughput]\nleast_efficiency = 0.6\n')
    assert read_policy(both) == Policy(require=("tasks", "throughput"), least_efficiency=0.6)
    assert read_policy(written(tmp_path, 'require = ["tasks"]')) == Policy(require=("tasks",))
    assert read_policy(written(tmp_path, "[throughput]\nleast_efficiency = 1")) == Policy(least_efficiency=1.0)
    assert read_policy(written(tmp_path, '[surface]\nuses = ["CLIPModel"]')) == Policy(uses=("CLIPModel",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("require = []", "is empty"),
        ("require = [", "not TOML"),
        ('require = "tasks"', "not a list"),
        ('require = ["speed"]', "'speed', and the scopes are contract, baseline, tasks, throughput"),
        ("[throughput]\nleast = 1", "other keys than least_efficiency"),
        ("throughput = 1", "other keys than least_efficiency"),
        ("[throughput]\nleast_efficiency = 0", "least_efficiency is 0"),
        ("[throughput]\nleast_efficiency = true", "least_efficiency is True"),
        ("[throughput]\nleast_efficiency = nan", "least_efficiency is nan"),
        ('[throughput]\nleast_efficiency = "1"', "least_efficiency is '1'"),
        ("[surface]\nuses = []", "is empty"),
        ('[surface]\nuses = "CLIPModel"', "uses is 'CLIPModel'"),
        ('[surface]\nuses = ["", "CLIPModel"]', "uses is"),
        ("[surface]\nunused = []", "other keys than uses"),
        ('require = ["tasks"]\nforbid = 1', "an unknown key, forbid"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A policy that is empty, or has an unknown key or value, is refused with the place."""
    with pytest.raises(UsageError, match=said) as refused:
        read_policy(written(tmp_path, text))
    assert str(tmp_path) in str(refused.value)


def test_a_missing_policy_is_refused(tmp_path: Path) -> None:
    """A policy that was named and is not there is a usage error."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")
