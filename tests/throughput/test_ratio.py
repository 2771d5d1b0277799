"""Speeds as values: intervals, verdicts on either side of a margin, and which entry of a pack applies."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
from support.timing_stand_ins import CONDITIONS, a_speed

from clip_eval.throughput.ratio import Ratio, Speed, against_pack, against_policy, in_one_run, nearest_speed, unjudged


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.021, 1.05, "slower"),
        (1.02, 1.03, "same"),
        (0.99, 1.039, "same"),
        (0.99, 1.041, "inconclusive"),
        (1.019, 1.06, "inconclusive"),
        (0.95, 0.98, "faster"),
        (0.95, 0.99, "same"),
    ],
)
def test_verdict_is_that_of_the_interval(low: float, high: float, verdict: str) -> None:
    """Slower where the lower end exceeds the margin, same where the upper end is below twice the margin, else open."""
    ratio = Ratio((low + high) / 2, low, high)
    assert ratio.verdict(0.02) == verdict
    outcome = {"slower": "failed", "inconclusive": "inconclusive"}.get(verdict, "passed")
    assert in_one_run(ratio, "it").outcome == outcome


def test_without_an_interval_nothing_is_decided() -> None:
    """Too few pairs decide neither way, however far the median is off."""
    judged = in_one_run(Ratio(3.0, None, None), "it")
    assert (judged.outcome, judged.verdict) == ("inconclusive", "inconclusive")
    assert judged.reason == "too few pairs for an interval in the time allowed"


@pytest.mark.parametrize(
    "numbers", [(0.0, 0.0, 0.0), (1.0, 1.1, 1.2), (1.0, 0.9, None), (math.nan, 0.9, 1.1), (1.0, 0.9, math.inf)]
)
def test_a_ratio_has_its_interval_around_it(numbers: tuple[float, float | None, float | None]) -> None:
    """What is not positive, finite and in order is refused."""
    with pytest.raises(ValueError):
        Ratio(*numbers)


def test_the_smallest_visible_slow_down() -> None:
    """With the width of this interval a slow-down of 4 % would just have exceeded the margin of 2 %."""
    assert Ratio(1.0, 1.02 / 1.04, 1.03).visible(0.02) == pytest.approx(0.04)
    assert "a slow-down of 4.0% would have shown" in in_one_run(Ratio(1.0, 1.02 / 1.04, 1.03), "it").reason
    assert Ratio(1.0, None, None).visible(0.02) is None


@pytest.mark.parametrize(
    ("value", "outcome"), [(1.2, "passed"), (1.3, "passed"), (1.38, "inconclusive"), (1.56, "failed")]
)
def test_against_a_pack_the_margin_is_ten_per_cent(value: float, outcome: str) -> None:
    """The ratio to the floor is held against the approved one, with the farthest ends that both intervals allow."""
    judged = against_pack(Ratio(value, 0.95 * value, 1.05 * value), Ratio(1.2, 1.19, 1.21), "the approved release")
    assert judged.outcome == outcome
    assert judged.ratio.value == pytest.approx(value / 1.2)
    assert judged.ratio.low == pytest.approx(0.95 * value / 1.21)
    assert judged.ratio.high == pytest.approx(1.05 * value / 1.19)
    assert "the approved release 1.200 (1.190 to 1.210)" in judged.reason


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(1.1, 1.9, "passed"), (1.9, 2.1, "inconclusive"), (2.1, 2.2, "failed")]
)
def test_a_policy_states_the_least_efficiency(low: float, high: float, outcome: str) -> None:
    """Efficiency is the floor's time over the subject's; a policy that asks for a half allows a ratio of two."""
    assert against_policy(Ratio((low + high) / 2, low, high), 0.5).outcome == outcome
    assert against_policy(Ratio(1.0, None, None), 0.5).outcome == "inconclusive"


def test_nothing_to_hold_it_against_is_not_asked() -> None:
    """A ratio that nothing limits is told and not judged."""
    judged = unjudged(Ratio(1.2, 1.1, 1.3), "no pack")
    assert (judged.outcome, judged.verdict, judged.margin, judged.reason) == ("not_asked", None, None, "no pack")


@pytest.mark.parametrize(
    "change",
    [{"cpu": "x"}, {"cores": 4}, {"gpu": "x"}, {"torch": "2.6.0"}, {"dtype": "bfloat16"}, {"attention": "eager"},
     {"threads": 2}, {"trial": 2}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_an_entry_applies_under_its_own_conditions_only(change: dict[str, object]) -> None:
    """Other hardware, torch, dtype, attention, threads or trial: the entry says nothing; and what differs is named."""
    other = a_speed(**change)
    assert nearest_speed([other], CONDITIONS, "5.23.0") is None
    assert nearest_speed([other, a_speed()], CONDITIONS, "5.23.0") == a_speed()
    (name, value), *_ = change.items()
    assert other.conditions.differences(CONDITIONS) == [f"{name} {value} instead of {getattr(CONDITIONS, name)}"]


def test_the_own_release_comes_before_the_newest() -> None:
    """Among entries for this machine that of the candidate's transformers is taken, else the newest by version."""
    known = [a_speed("4.57.6", 1.0), a_speed("5.9.0", 1.1), a_speed("5.10.0", 1.2)]
    assert nearest_speed(known, CONDITIONS, "4.57.6") == known[0]
    assert nearest_speed(known, CONDITIONS, "6.0.0") == known[2]
    assert nearest_speed([], CONDITIONS, "6.0.0") is None


def test_speeds_survive_json() -> None:
    """What a pack holds is read back as it was."""
    speed = a_speed(gpu="Some GPU")
    assert Speed.from_data(json.loads(json.dumps(asdict(speed)))) == speed


@pytest.mark.parametrize(
    "change",
    [{"transformers": "new"}, {"conditions": {}}, {"ratios": {"x": {"value": -1, "low": None, "high": None}}},
     {"ratios": []}, {"more": 1}],
)  # fmt: skip
def test_a_damaged_entry_is_refused(change: dict[str, object]) -> None:
    """An entry of another form, or with what can be no ratio, is an error and no speed."""
    with pytest.raises((AttributeError, TypeError, ValueError)):
        Speed.from_data({**asdict(a_speed()), **change})


def test_conditions_are_compared_field_by_field() -> None:
    """Equal conditions have no differences; two differences are both named."""
    assert CONDITIONS.differences(CONDITIONS) == []
    assert len(replace(CONDITIONS, threads=2, dtype="float16").differences(CONDITIONS)) == 2
