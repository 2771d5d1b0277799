"""The margins of a run: how near each check comes to its bound."""

from __future__ import annotations

import math

from support import sample_records as sample

from clip_eval.report.margins import margins


def test_the_largest_ratio_of_a_check_counts() -> None:
    """Of several measurements the one nearest to its bound, or farthest beyond it, is the check's margin."""
    checks = (
        sample.check("a.one", measurements=[sample.measurement(error=e, bound=b) for e, b in ((1.0, 4.0), (1.0, 2.0))]),
        sample.failed_check(measurements=(sample.failed_measurement(error=6.0, bound=2.0),)),
    )
    assert margins(sample.record(checks=checks)) == {"a.one": 0.5, checks[1].name: 3.0}


def test_what_must_be_exact_has_no_margin() -> None:
    """A bound of 0, or none, is left out; an error that is no number is infinite."""
    exact = sample.measurement(error=0.0, bound=0.0)
    plain = sample.measurement(error=None, bound=None)
    wrong = sample.failed_measurement(error=math.nan, bound=1.0)
    checks = (sample.check("a.one", measurements=(exact, plain)), sample.failed_check(measurements=(wrong,)))
    assert margins(sample.record(checks=checks)) == {checks[1].name: math.inf}
