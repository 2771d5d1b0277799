"""`report.html`: one self-contained file for people. No script, and nothing is fetched."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from clip_eval.report import bars as figures
from clip_eval.report import text
from clip_eval.report.failure_text import failure_lines
from clip_eval.verdict.deviations import declared_deviation
from clip_eval.verdict.measurement import format_number, worst
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.reasons import by_area, by_cause, cause, deviating
from clip_eval.verdict.run_record import RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_html"]


def render_html(record: RunRecord) -> str:
    """The run as one HTML file: verdict, reasons, scope, what failed, changes, tasks, speed, all checks, provenance."""
    failed = {check.name: f"failed-{place}" for place, check in enumerate(record.checks) if check.outcome == "failed"}
    page = _environment().get_template("report.html.j2")
    return page.render(
        record=record,
        broken=by_cause(record.checks),
        open_changes=[change for change in record.surface_changes if change.accepted is None],
        accepted_changes=[change for change in record.surface_changes if change.accepted is not None],
        chapters=text.by_chapter(record.checks),
        deviations=deviating(record.checks),
        because={check.name: failed.get(check.because) for check in record.checks if check.because},
        anchors={check.name: f"failed-{position}" for position, check in enumerate(record.checks)},
        parts=_fingerprint_parts(record),
    )


@cache
def _environment() -> Environment:
    # imported here, as the plugin imports this package in every pytest run and few render anything
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("clip_eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=format_number, title_of=text.title, json_text=_json_text, index=text.index_text)
    environment.globals.update(
        bound_percent=figures.BOUND_PERCENT,
        by_area=by_area,
        cause=cause,
        count_outcomes=text.count_outcomes,
        declared_deviation=declared_deviation,
        error_bar=figures.error_bar,
        failure_lines=failure_lines,
        interval_bar=figures.interval_bar,
        scope_words=text.scope_words,
        outcome_words=text.OUTCOME_WORDS,
        times_over=text.times_over,
        worst=worst,
    )
    return environment


def _cleaned(value: object) -> object:
    # Exactly str: Markup is a str whose HTML is already safe and must stay Markup.
    return text.clean(value) if type(value) is str else value


def _json_text(value: Json) -> str:
    """A provenance value for people: text as it is, null as "none", the rest as JSON."""
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _fingerprint_parts(record: RunRecord) -> tuple[str, ...]:
    """The fingerprinted parts of candidate and baseline, in the candidate's order first."""
    known = dict.fromkeys(record.candidate.fingerprints)
    if record.baseline is not None:
        known.update(dict.fromkeys(record.baseline.fingerprints))
    return tuple(known)
