"""What moved between two runs in words: one sentence, then tables, what a release is decided from first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clip_eval.report.moved import Difference, Moved, MovedChanges, MovedCheck, MovedScore, MovedSpeed
from clip_eval.report.summary import name_of
from clip_eval.report.text import OUTCOME_WORDS, clip
from clip_eval.verdict.changes import CONSEQUENCES, ChangeGroup
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.reasons import listed
from clip_eval.verdict.run_record import CheckOutcome, RunRecord, TaskResult, ThroughputResult

__all__ = ["Section", "sections", "sentence"]

_SHOWN = 4  # facts in the sentence
_DIGEST = 12  # characters of a fingerprint
_CHANGES = {
    "appeared": "Surface changes that appeared",
    "differs": "Surface changes to another value",
    "no longer accepted": "Surface changes that are no longer accepted",
    "now accepted": "Surface changes that are accepted now",
    "gone": "Surface changes that are gone",
}
_OTHER_CHECKS = {
    "mended": "Checks that hold again",
    "other": "Checks with another outcome",
    "appeared": "Checks that only B has",
    "gone": "Checks that only A has",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table.

    Attributes:
        id: its place in a page.
        title: its heading.
        columns: what is in them; the first names the row.
        rows: of texts, as many as columns.
        note: a sentence above the table; may be empty.
        count: what the heading counts, where that is not the rows.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    count: int | None = None


def sentence(moved: Moved) -> str:
    """What B differs in, the gravest first, or that it is the same."""
    checks = {kind: sum(check.direction == kind for check in moved.checks) for kind in ("fails", *_OTHER_CHECKS)}
    changes = {entry.direction: entry.count for entry in moved.changes}
    others = sum(checks.values()) - checks["fails"] - checks["mended"]
    counted = (
        (checks["fails"], "check that fails now", "checks that fail now"),
        (changes.get("appeared", 0), "surface change that appeared", "surface changes that appeared"),
        (changes.get("differs", 0), "surface change to another value", "surface changes to other values"),
        (changes.get("gone", 0), "surface change that is gone", "surface changes that are gone"),
        (
            changes.get("no longer accepted", 0) + changes.get("now accepted", 0),
            "acceptance of a surface change",
            "acceptances of surface changes",
        ),
        (sum(score.delta is not None for score in moved.scores), "score", "scores"),
        (sum(score.before is None for score in moved.scores), "score that only B has", "scores that only B has"),
        (sum(score.after is None for score in moved.scores), "score that only A has", "scores that only A has"),
        (sum(speed.apart for speed in moved.speeds), "speed", "speeds"),
        (checks["mended"], "check that holds again", "checks that hold again"),
        (others, "other outcome of a check", "other outcomes of checks"),
        (len(moved.margins), "margin", "margins"),
    )
    verdict = [f"the verdict ({one.before}, now {one.after})" for one in moved.verdict if one.name == "verdict"]
    scope = ["what could be judged"] if moved.verdict and not verdict else []
    told = [f"{count:,} {one if count == 1 else several}" for count, one, several in counted if count]
    where = [*_named("the checkpoint", moved.checkpoint), *_named("the environment", moved.environment)]
    parts = [*verdict, *scope, *told, *where]
    if not parts:
        return "B is the same as A: verdict, checks, margins, surface, scores, speeds, checkpoint and environment."
    return f"B differs from A in {_joined(parts)}."


def sections(moved: Moved) -> Sequence[Section]:
    """The tables that have rows."""
    found = (
        _runs(moved),
        _fails([check for check in moved.checks if check.direction == "fails"]),
        *map(_surface, moved.changes),
        _scores(moved.scores),
        _speeds(moved.speeds),
        _facts("checkpoint", "What differs in the checkpoint and how it was loaded", moved.checkpoint),
        _facts("environment", "What differs in the environment", moved.environment),
        _margins(moved),
        *(_others(kind, [one for one in moved.checks if one.direction == kind]) for kind in _OTHER_CHECKS),
    )
    return [section for section in found if section.rows]


def _named(what: str, differences: Sequence[Difference]) -> list[str]:
    names = [one.name for one in differences]
    rest = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return [f"{what} ({', '.join([*names[:_SHOWN], *rest])})"] if names else []


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]


def _runs(moved: Moved) -> Section:
    """Always there: which run is A and which B, then the scopes whose result differs."""
    first, second = _about(moved.before), _about(moved.after)
    rows = [(name, first[name], second[name]) for name in first]
    rows += [_row(one) for one in moved.verdict if one.name != "verdict"]  # the first row says it
    return Section(id="runs", title="The two runs", columns=("", "A", "B"), rows=tuple(rows))


def _about(record: RunRecord) -> dict[str, str]:
    return {
        "verdict": record.verdict,
        "model": name_of(record.candidate),
        "transformers": str(record.provenance["transformers"]),
        "started": record.started,
    }


def _row(difference: Difference) -> tuple[str, str, str]:
    return difference.name, _short(difference.before), _short(difference.after)


def _short(value: str | None) -> str:
    """A fact; of a fingerprint its beginning."""
    if value is None:
        return "none"
    head, space, last = value.rpartition(" ")
    is_digest = len(last) == 64 and all(character in "0123456789abcdef" for character in last)
    return f"{head}{space}{last[:_DIGEST]}" if is_digest else value


def _facts(place: str, title: str, differences: Sequence[Difference]) -> Section:
    # what the first table says is left out
    rows = tuple(_row(one) for one in differences if one.name not in ("model", "transformers"))
    return Section(id=place, title=title, columns=("", "A", "B"), rows=rows)


def _fails(checks: Sequence[MovedCheck]) -> Section:
    rows = tuple(
        (check.name, _outcome(check.before), _outcome(check.after), check.reason, _over(check)) for check in checks
    )
    columns = ("check", "A", "B", "why", "error over bound, A to B")
    return Section(id="fails", title="Checks that fail now", columns=columns, rows=rows)


def _others(kind: str, checks: Sequence[MovedCheck]) -> Section:
    """Checks with the same outcomes for the same reason share a row."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for check in checks:
        key = (_outcome(check.before), _outcome(check.after), check.reason)
        groups.setdefault(key, []).append(check.name)
    rows = tuple((listed(names), str(len(names)), before, after, why) for (before, after, why), names in groups.items())
    columns = ("checks", "number", "A", "B", "why")
    return Section(id=f"checks-{kind}", title=_OTHER_CHECKS[kind], columns=columns, rows=rows, count=len(checks))


def _outcome(outcome: CheckOutcome | None) -> str:
    return "not there" if outcome is None else OUTCOME_WORDS[outcome]


def _over(check: MovedCheck) -> str:
    if check.margin_before is None and check.margin_after is None:
        return ""
    return f"{format_number(check.margin_before)} to {format_number(check.margin_after)}"


def _surface(moved: MovedChanges) -> Section:
    rows = tuple(
        (group.label, CONSEQUENCES[group.consequence], str(len(group.changes)), _example(group))
        for group in moved.groups
    )
    columns = ("cause or area", "what it means", "changes", "such as")
    place = f"surface-{moved.direction.replace(' ', '-')}"
    run = "A" if moved.direction == "gone" else "B"
    note = f"One change of each cause or area is shown; the report of run {run} has all of them."
    return Section(id=place, title=_CHANGES[moved.direction], columns=columns, rows=rows, count=moved.count, note=note)


def _example(group: ChangeGroup) -> str:
    worst = group.worst
    said = f"{group.sentence} " if group.sentence else ""
    return f"{said}{clip(worst.id)}: {clip(worst.before, limit=120)}, now {clip(worst.after, limit=120)}"


def _scores(scores: Iterable[MovedScore]) -> Section:
    rows = []
    for score in scores:
        delta = score.delta
        moved = "" if delta is None else f"{delta:+.4f}"
        rows.append((score.name, _trial(score.before), _trial(score.after), moved, _meaning(score)))
    columns = ("score", "A, 95 % interval", "B, 95 % interval", "B minus A", "")
    return Section(id="scores", title="Scores that moved", columns=columns, rows=tuple(rows))


def _meaning(score: MovedScore) -> str:
    if score.other_data:
        return "other datasets: not comparable"
    known = score.after or score.before
    if score.delta is None or known is None or score.delta == 0:
        outcomes = [trial.outcome if trial else "not there" for trial in (score.before, score.after)]
        return " to ".join(outcomes).replace("_", " ")
    return "better" if (score.delta > 0) == known.higher_is_better else "worse"


def _speeds(speeds: Iterable[MovedSpeed]) -> Section:
    rows = []
    for speed in speeds:
        first = speed.before.ratio if speed.before else None
        second = speed.after.ratio if speed.after else None
        factor = f"{second / first:.3f}" if first and second else ""
        rows.append((speed.name, _trial(speed.before), _trial(speed.after), factor, _apart(speed)))
    columns = ("timing", "A, time over the reference's", "B, time over the reference's", "B over A", "")
    return Section(id="speed", title="Speed", columns=columns, rows=tuple(rows))


def _apart(speed: MovedSpeed) -> str:
    if speed.before is None or speed.after is None:
        return "in one run only"
    if speed.before.reference != speed.after.reference:
        return f"against {speed.before.reference or 'none'}, now {speed.after.reference or 'none'}"
    if speed.before.outcome != speed.after.outcome:
        return f"{speed.before.outcome}, now {speed.after.outcome}".replace("_", " ")
    return "intervals are apart" if speed.apart else "intervals overlap"


def _trial(trial: TaskResult | ThroughputResult | None) -> str:
    if trial is None:
        return "not there"
    value = trial.score if isinstance(trial, TaskResult) else trial.ratio
    low, high = trial.interval_low, trial.interval_high
    if low is None or high is None:
        return format_number(value, digits=4)
    return f"{format_number(value, digits=4)} ({format_number(low, digits=4)} to {format_number(high, digits=4)})"


def _margins(moved: Moved) -> Section:
    rows = tuple(
        (one.name, format_number(one.before), format_number(one.after), f"{one.after - one.before:+.3g}")
        for one in moved.margins
    )
    columns = ("check", "A", "B", "B minus A")
    note = "Largest error of a check over its bound, which is 1 at the bound, of checks whose outcome is the same."
    return Section(id="margins", title="Margins that moved", columns=columns, rows=rows, note=note)
