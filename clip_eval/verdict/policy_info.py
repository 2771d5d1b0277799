"""What a run record says of the policy of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clip_eval.verdict.plain_values import Json, plain

__all__ = ["PolicyInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInfo:
    """The policy of a run: where it stands, and its rules as the file has them, days as texts."""

    source: str
    rules: Mapping[str, Json]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", plain(self.rules))
