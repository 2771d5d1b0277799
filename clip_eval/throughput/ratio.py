"""Speed as plain values: a ratio with its interval, what it was measured under, and how it is judged.

A ratio is the subject's time over that of its reference, measured in turns: above 1 is slower. Seconds are never
compared. The rules are those of the design: fail where even the interval's lower end exceeds the margin, pass where
its upper end stays below twice the margin, else inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from clip_eval.verdict.budgets import SPEED_MARGIN_AGAINST_PACK, SPEED_MARGIN_IN_RUN

__all__ = [
    "Conditions",
    "Judgement",
    "Ratio",
    "Speed",
    "SpeedOutcome",
    "SpeedVerdict",
    "against_pack",
    "against_policy",
    "in_one_run",
    "nearest_speed",
    "unjudged",
]

SpeedVerdict = Literal["faster", "same", "slower", "inconclusive"]
SpeedOutcome = Literal["passed", "failed", "inconclusive", "not_asked"]

_OUTCOMES: Mapping[SpeedVerdict, SpeedOutcome] = {
    "faster": "passed", "same": "passed", "slower": "failed", "inconclusive": "inconclusive"
}  # fmt: skip
_TYPES: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "str | None": (str, type(None))}
_ABSURD = 1e6  # no model is a million times as fast, or as slow, as the same computation in plain torch
_NO_INTERVAL = "too few pairs for an interval in the time allowed"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time over time: above 1 is slower.

    Attributes:
        value: the median over pairs.
        low: lower end of its 99 % interval; None where there were too few pairs for one.
        high: upper end; None where `low` is.

    Raises:
        ValueError: a number is not finite and positive, or the value lies outside of its interval.
    """

    value: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        numbers = [number for number in (self.low, self.value, self.high) if number is not None]
        if len(numbers) == 2 or not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError(f"{numbers} is not a ratio with an interval")
        if sorted(numbers) != numbers:
            raise ValueError(f"a ratio of {self.value} outside of its interval, {self.low} to {self.high}")

    @property
    def is_absurd(self) -> bool:
        """Whether a number is too far from 1 to have been measured."""
        numbers = (self.value, self.low or self.value, self.high or self.value)
        return not all(1 / _ABSURD < number < _ABSURD for number in numbers)

    def over(self, other: Ratio) -> Ratio:
        """Return this ratio over another, with the widest interval that their intervals allow, if both have one."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Ratio(self.value / other.value, None, None)
        return Ratio(self.value / other.value, self.low / other.high, self.high / other.low)

    def verdict(self, margin: float) -> SpeedVerdict:
        """Return the verdict on a slow-down of more than `margin`, such as 0.02 for 2 %."""
        if self.low is None or self.high is None:
            return "inconclusive"
        if self.low > 1 + margin:
            return "slower"
        if self.high < 1 / (1 + margin):
            return "faster"
        return "same" if self.high < 1 + 2 * margin else "inconclusive"

    def visible(self, margin: float) -> float | None:
        """Return the smallest slow-down, such as 0.031, that an interval of this width would have shown."""
        return None if self.low is None else (1 + margin) * self.value / self.low - 1

    def __str__(self) -> str:
        """Such as 1.172 (1.168 to 1.177)."""
        return f"{self.value:.3f}" + ("" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What must be equal before ratios of two days are compared.

    Attributes:
        cpu: the processor's model.
        cores: that the process may use.
        gpu: its name; None where the subject is on the CPU.
        torch: its release with the build, such as 2.13.0+cpu.
        dtype: of the subject.
        attention: the implementation that the subject really used.
        threads: of torch.
        trial: the revision of what is timed and of the plain forward.
    """

    cpu: str
    cores: int
    gpu: str | None
    torch: str
    dtype: str
    attention: str
    threads: int
    trial: int

    def differences(self, other: Conditions) -> list[str]:
        """Return what differs, such as "torch 2.6.0 instead of 2.13.0"; `other` is what it should be."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [f"{name} {own} instead of {theirs}" for name, own, theirs in pairs if own != theirs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """An approved release's speed on one machine, as its pack records it.

    Attributes:
        conditions: what it was measured under.
        transformers: the release that the subject ran in.
        recorded: when, ISO 8601.
        ratios: name of a timing, such as image_embeddings, to the subject's time over the plain forward's.
    """

    conditions: Conditions
    transformers: str
    recorded: str
    ratios: Mapping[str, Ratio]

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Speed:
        """Return the speed behind `dataclasses.asdict` of one.

        Raises:
            TypeError: the data has another form.
            ValueError: a ratio or the release is not valid.
        """
        _require_types(data)
        plain = Conditions(**data["conditions"]), {name: Ratio(**ratio) for name, ratio in data["ratios"].items()}
        try:
            Version(data["transformers"])
        except InvalidVersion as problem:
            raise ValueError(f"{data['transformers']!r} is not a release") from problem
        if absurd := [ratio for ratio in plain[1].values() if ratio.is_absurd]:
            raise ValueError(f"{absurd[0].value} cannot be a ratio of two times")
        return cls(**{**data, "conditions": plain[0], "ratios": plain[1]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The judgement of one ratio.

    Attributes:
        outcome: as in the run record.
        verdict: faster, same, slower or inconclusive; None where nothing was asked.
        ratio: what was judged.
        reference: what the subject was compared with.
        reason: one sentence behind the outcome.
        margin: the slow-down that is allowed; None where nothing was asked.
    """

    outcome: SpeedOutcome
    verdict: SpeedVerdict | None
    ratio: Ratio
    reference: str
    reason: str
    margin: float | None


def _require_types(data: Mapping[str, Any]) -> None:
    """Raise TypeError for a condition, a release or a day that has not the type of its field."""
    stated = {"recorded": data["recorded"], "transformers": data["transformers"], **data["conditions"]}
    for field in (*fields(Conditions), *fields(Speed)):
        value, allowed = stated.get(field.name), _TYPES.get(str(field.type))
        if field.name in stated and allowed is not None and type(value) not in allowed:
            raise TypeError(f"{field.name} is {value!r}")


def nearest_speed(known: Iterable[Speed], conditions: Conditions, transformers: str) -> Speed | None:
    """Return the entry for exactly these conditions: of this transformers release, else of the newest; or None."""
    fitting = [speed for speed in known if speed.conditions == conditions]
    return max(
        fitting,
        key=lambda speed: (speed.transformers == transformers, Version(speed.transformers)),
        default=None,
    )


def in_one_run(ratio: Ratio, reference: str) -> Judgement:
    """Judge a subject that was timed in turns with its reference, in one run."""
    return _against(ratio, ratio, SPEED_MARGIN_IN_RUN, reference, "")


def against_pack(ratio: Ratio, approved: Ratio, reference: str) -> Judgement:
    """Judge a subject's ratio to the plain forward against the approved release's on the same kind of machine."""
    compared = f"{ratio} times the plain torch forward, the approved release {approved}; "
    return _against(ratio, ratio.over(approved), SPEED_MARGIN_AGAINST_PACK, reference, compared)


def against_policy(ratio: Ratio, least_efficiency: float) -> Judgement:
    """Judge a subject's efficiency, the plain forward's time over its own, against the least that a policy allows."""
    most = Ratio(1 / least_efficiency, 1 / least_efficiency, 1 / least_efficiency)
    relative = ratio.over(most)
    verdict: SpeedVerdict = "inconclusive"
    if relative.low is not None and relative.high is not None:
        verdict = "slower" if relative.low > 1 else "same" if relative.high <= 1 else "inconclusive"
    compared = f"efficiency {1 / ratio.value:.3f}, and the policy asks for {least_efficiency:.3f}"
    return Judgement(
        outcome=_OUTCOMES[verdict],
        verdict=verdict,
        ratio=ratio,
        reference="plain torch forward",
        reason=f"{compared}; {_NO_INTERVAL}" if ratio.low is None else compared,
        margin=0.0,
    )


def unjudged(ratio: Ratio, reason: str) -> Judgement:
    """Return the judgement of a ratio for which there is no limit."""
    return Judgement(
        outcome="not_asked", verdict=None, ratio=ratio, reference="plain torch forward", reason=reason, margin=None
    )


def _against(own: Ratio, judged: Ratio, margin: float, reference: str, compared: str) -> Judgement:
    verdict = judged.verdict(margin)
    return Judgement(
        outcome=_OUTCOMES[verdict],
        verdict=verdict,
        ratio=judged,
        reference=reference,
        reason=compared + (_explained(judged, verdict, margin) if own.low is not None else _NO_INTERVAL),
        margin=margin,
    )


def _explained(judged: Ratio, verdict: SpeedVerdict, margin: float) -> str:
    least = judged.visible(margin) or 0.0
    limit = f"margin {margin:.0%}"
    if verdict == "inconclusive":
        return f"the interval {judged.low:.3f} to {judged.high:.3f} does not decide ({limit})"
    return f"{verdict} ({limit}); a slow-down of {least:.1%} would have shown"
