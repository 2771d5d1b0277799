"""`report.html`: one self-contained file for people. Nothing is fetched, and the only script is this package's own.

What decides, verdict, reasons, failures and changes, is HTML and needs no script. The rows of all checks are made from
data in the page when a reader opens them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from clip_eval.report import summary, text, trials
from clip_eval.report.anchors import anchor, linked
from clip_eval.report.failure_text import failure_lines
from clip_eval.report.page import page_environment, page_script
from clip_eval.report.page_data import page_data, rules
from clip_eval.report.pictures import Picture
from clip_eval.report.pictures.answers import calibration_picture, confusions_picture
from clip_eval.report.pictures.intervals import score_rows, scores_picture, speeds_picture
from clip_eval.report.pictures.layers import layers_picture
from clip_eval.report.pictures.margins import closest, margins_of, margins_picture
from clip_eval.report.samples import samples_of, similarity_of
from clip_eval.report.trends import Trend, drawn, words
from clip_eval.verdict.acceptances import draft
from clip_eval.verdict.changes import CONSEQUENCES, by_consequence, grouped
from clip_eval.verdict.deviations import declared_deviation
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.reasons import deviating, findings, of_changes, of_merits, of_scope
from clip_eval.verdict.run_record import CheckResult, RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_html"]


def render_html(record: RunRecord, trends: Sequence[Trend] = ()) -> str:
    """The run as one HTML file: verdict, what to do, what failed, changes, tasks, speed, all checks, provenance.

    Args:
        record: of the run.
        trends: of its model over the last runs; none without a history.
    """
    from markupsafe import Markup

    counting = summary.counting(record)
    broken = findings(check for check in record.checks if check not in counting)
    groups = grouped(record.surface_changes)
    script = page_script("tables.js", "report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            broken=broken,
            broken_count=sum(1 + len(followers) for _, followers in broken),
            counting=counting,
            softened=_softened(record),
            consequences=by_consequence([group for group in groups if group.open]),
            accepted=[group for group in groups if not group.open],
            draft=draft(record.surface_changes),
            targets=_targets(record),
            pressing=_pressing(record),
            merits=[one for one in record.reasons if of_merits(one)],
            chapters=text.by_chapter(record.checks),
            deviations=deviating(record.checks),
            pictures=[picture for picture in (margins_picture(record), layers_picture(record)) if picture],
            numbers_first=any(one.kind == "failed" for one in margins_of(record.checks)),
            closest=closest(record),
            alike=similarity_of(record),
            task_pictures=[picture for picture in _task_pictures(record) if picture],
            speeds=speeds_picture(record),
            parts=_fingerprint_parts(record),
            rules=rules(record),
            trends=trends,
            trend_pictures=drawn(trends),
            data=Markup(page_data(record)),  # it holds no character that HTML reads
            script=script.text,
            script_digest=script.digest,
        )
    )


def _task_pictures(record: RunRecord) -> Iterator[Picture | None]:
    """The scores, and what is known of the answers behind them."""
    yield scores_picture(score_rows(record.tasks))
    for task in record.tasks:
        yield confusions_picture(task.details)
        yield calibration_picture(task.details)


def _pressing(record: RunRecord) -> list[str]:
    """The reasons that no other part of the page tells: failures, what changed, what a verdict covers, what passed."""
    cards = tuple(f"{check.name} failed: " for check in record.checks if check.outcome == "failed")
    told = (of_changes, of_merits, of_scope)
    return [one for one in record.reasons if not one.startswith(cards) and not any(tells(one) for tells in told)]


def _softened(record: RunRecord) -> list[CheckResult]:
    """Checks that failed and only warn, but for those that count changes, which are told as such."""
    told = {change.check for change in record.surface_changes}
    return [check for check in record.checks if check.outcome == "warned" and check.id not in told]


def _targets(record: RunRecord) -> dict[str, str]:
    """Where the names in a sentence lead: to the failure, and to the row of a check that was not run."""
    told = (check for check in record.checks if check.outcome in ("failed", "warned", "error", "not_run"))
    return {check.name: anchor("check", check.name) for check in told}


@cache
def _environment() -> Environment:
    environment = page_environment()
    environment.filters.update(
        clip=text.clip,
        json_text=_json_text,
        number=format_number,
        title_of=text.title,
    )
    environment.globals.update(
        CONSEQUENCES=CONSEQUENCES,
        count_outcomes=text.count_outcomes,
        declared_deviation=declared_deviation,
        failure_lines=failure_lines,
        linked=linked,
        noted=text.noted,
        outcome_words=text.OUTCOME_WORDS,
        samples_of=samples_of,
        policy_rules=text.policy_rules,
        scope_words=text.scope_words,
        speed_facts=trials.speed_facts,
        summary=summary,
        times_over=text.times_over,
        trial_words=trials.outcome_words,
        trend_words=words,
        worst_classes=trials.worst_classes,
    )
    return environment


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
