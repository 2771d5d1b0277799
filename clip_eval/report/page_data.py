"""The checks of a run as compact JSON inside the HTML report, of which its script makes rows when they are asked for.

Eleven thousand measurements as HTML are 7 MB and 185,000 elements; as data they are 1 MB, and the page opens with what
a person reads first. What recurs, such as promises and rules of bounds, is in a table once. A measurement that passed
as exactly equal is its name alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from clip_eval.report.anchors import anchor
from clip_eval.report.text import OUTCOME_WORDS, by_chapter, clean, index_text
from clip_eval.verdict.measurement import EXACT_RULE, Measurement, format_number
from clip_eval.verdict.run_record import CheckResult, RunRecord

__all__ = ["page_data", "rules"]

_PLACES = 2  # decimals of seconds


def rules(record: RunRecord) -> Sequence[str]:
    """The rules behind the bounds of a run, those of most measurements first; report and data number them from 1."""
    counts: dict[str, int] = {}
    for check in record.checks:
        for measurement in check.measurements:
            counts[measurement.budget] = counts.get(measurement.budget, 0) + 1
    return sorted(counts, key=lambda rule: (-counts[rule], rule))


def page_data(record: RunRecord) -> str:
    """The data as text that may stand in a script element: no character of it ends one or begins a comment."""
    promises = list(dict.fromkeys(check.promise for check in record.checks))
    numbers = {rule: number for number, rule in enumerate(rules(record), start=1)}
    places = {promise: place for place, promise in enumerate(promises)}
    chapters = [[_check(check, places, numbers) for check in chapter.checks] for chapter in by_chapter(record.checks)]
    data = {"outcomes": OUTCOME_WORDS, "promises": [clean(promise) for promise in promises], "chapters": chapters}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _check(check: CheckResult, promises: dict[str, int], numbers: dict[str, int]) -> dict[str, Any]:
    """One check: name, promise, outcome, seconds, measurements, and the texts that it has."""
    name, place = clean(check.name), anchor("check", check.name)
    texts = {
        "reason": check.reason,
        "because": check.because,
        "deviation": check.deviation,
        "module": check.diverges_at,
        "rerun": check.rerun,
    }
    return {
        "name": name,
        "promise": promises[check.promise],
        "outcome": check.outcome,
        "seconds": round(check.duration_s, _PLACES),
        **({} if place == f"check-{name}" else {"anchor": place}),
        **({"because_anchor": anchor("check", check.because)} if check.because else {}),
        **{key: clean(value) for key, value in texts.items() if value},
        "measured": [_measurement(one, numbers[one.budget]) for one in check.measurements],
    }


def _measurement(measurement: Measurement, rule: int) -> str | list[Any]:
    """Its name if it was exactly equal, else name, rule, error and bound, and what was observed if it failed."""
    name = clean(measurement.name)
    if measurement.passed and measurement.budget == EXACT_RULE and not measurement.error:
        return name
    unit = f" {measurement.unit}" if measurement.unit else ""
    numbers = [rule, f"{format_number(measurement.error)}{unit}", f"{format_number(measurement.bound)}{unit}"]
    ratio = measurement.ratio
    row = [name, *numbers, None if ratio is None else min(round(ratio, 4), 1e9)]
    if measurement.passed:
        return row
    return [*row, *_cleaned((index_text(measurement.worst_index), measurement.observed, measurement.expected))]


def _cleaned(texts: Iterable[str]) -> list[str]:
    return [clean(text) for text in texts]
