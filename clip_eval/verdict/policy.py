"""Policies: a reviewed file with a team's demands on a gate beyond its own rules.

require = ["baseline", "throughput"]  # scopes that must be judged; else the verdict is inconclusive
warn = ["throughput"]                 # what fails or is undecided there is told first, and blocks nothing

[throughput]
least_efficiency = 0.6  # time of the plain torch forward over the subject's, where no pack knows this machine

[surface]
uses = ["CLIPModel", "get_image_features", "AutoProcessor"]  # changes of other things are left out

[tasks.zero_shot_top1]
least = 0.9             # of the score
most_loss = 0.01        # against the baseline; [tasks.NAME] has most and most_relative_loss too, see `Threshold`

[[warned]]
check = "retention.memory_is_given_back"
reason = "Known since release 12, fixed in 13"
expires = 2027-01-31

A file named pyproject.toml holds all of it below [tool.clip-eval].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from clip_eval.errors import UsageError
from clip_eval.files.read_write import read_text
from clip_eval.files.toml_lines import line_of
from clip_eval.files.untrusted import REVIEWED_BYTES, complaint, parse_toml, shown
from clip_eval.nearest import listed
from clip_eval.verdict.policy_info import PolicyInfo
from clip_eval.verdict.reviewed import last_day, stated, with_last_day
from clip_eval.verdict.run_record import SCOPES, Scope

__all__ = ["PROJECT_FILE", "Part", "Policy", "Threshold", "Warned", "project_policy", "read_policy"]

PROJECT_FILE = "pyproject.toml"
"""The file that holds a policy among other tools' settings, below [tool.clip-eval]."""

Part = Literal["surface", "tasks", "throughput"]
"""What may warn as a whole: never the contract, nor numbers against the baseline."""

_PARTS: tuple[Part, ...] = get_args(Part)
_TABLE = ("tool", "clip-eval")
# outside, a subject would be a thousand times slower, or faster, than the same computation in plain torch
_LEAST, _MOST = 0.001, 1_000
_BOUNDS = ("least", "most", "most_loss", "most_relative_loss")
_KEYS = {
    "": ("require", "warn", "throughput", "surface", "tasks", "warned"),
    "throughput": ("least_efficiency",),
    "surface": ("uses",),
    "tasks": (*_BOUNDS, "by", "warn"),
    "warned": ("check", "cause", "area", "reason", "expires"),
}
_FORM = (
    "A policy holds require and warn, lists of scopes, [throughput] with least_efficiency, [surface] with uses, "
    "[tasks.SCORE] with thresholds, and [[warned]] entries; FORMATS.md has an example"
)
_TO_WARN = (
    "Write tasks, throughput or surface. What a model computes blocks always; a single check may warn for a time, in a "
    "[[warned]] entry with reason and expires"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What is asked of one score; None for what is not.

    Attributes:
        least: the score is at least this.
        most: the score is at most this, as of a rank or an error.
        most_loss: against the baseline it is worse by at most this, in the score's unit and whichever direction is
            better; below 0, better by at least as much.
        most_relative_loss: the same as a share of the baseline's score.
        by: "interval" compares the 95 % interval: what lies outside of the threshold fails, what lies across it is
            undecided, and the gate inconclusive. "score" compares the score itself, as MLflow does.
        warn: a score that is not as asked warns, and blocks nothing.
    """

    least: float | None = None
    most: float | None = None
    most_loss: float | None = None
    most_relative_loss: float | None = None
    by: Literal["interval", "score"] = "interval"
    warn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """One reviewed failure that warns, and blocks nothing.

    Attributes:
        key: what the name is of.
        name: a check's id, with or without a case, or the declared cause or the area of surface changes.
        reason: why it may stay.
        expires: the last day; None for no end, which only changes may have.
    """

    key: Literal["check", "cause", "area"]
    name: str
    reason: str
    expires: date | None = None

    @property
    def note(self) -> str:
        """The reason, with the last day if there is one."""
        return with_last_day(self.reason, self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Demands beyond the gate's own rules.

    Attributes:
        require: scopes that must be judged.
        warn: parts in which nothing blocks.
        least_efficiency: least time of the plain torch forward over the subject's; None if only a pack judges speed.
        uses: names of the interface that the team's code uses; empty for all of it.
        tasks: score, as run records name it, to what is asked of it.
        warned: reviewed failures.
        info: what the run record says of it; None for a policy that is in no file.
    """

    require: tuple[Scope, ...] = ()
    warn: tuple[Part, ...] = ()
    least_efficiency: float | None = None
    uses: tuple[str, ...] = ()
    tasks: Mapping[str, Threshold] = field(default_factory=dict)
    warned: tuple[Warned, ...] = ()
    info: PolicyInfo | None = field(default=None, compare=False)

    @property
    def blocking_scores(self) -> tuple[str, ...]:
        """The scores that must be shown to be as asked, where tasks block."""
        return tuple(name for name, asked in self.tasks.items() if not asked.warn)


def project_policy(directory: Path) -> Path | None:
    """Return the pyproject.toml of a directory if it holds a policy; that of a parent directory does not count.

    Raises:
        UsageError: it speaks of clip-eval and cannot be read.
    """
    file = directory / PROJECT_FILE
    if not file.is_file():
        return None
    source = _Source.read(file)
    return file if source.has_table else None


def read_policy(file: str | Path) -> Policy:
    """Read a policy: a file of its own, or the table [tool.clip-eval] of a pyproject.toml.

    Raises:
        UsageError: the file cannot be read, is not TOML, is empty, or has an unknown key or a value that means nothing;
            the message names the line.
    """
    source = _Source.read(file)
    data = source.policy()
    source.check_keys(data, "")
    policy = Policy(
        require=_scopes(source, data),
        warn=_parts(source, data),
        least_efficiency=_least_efficiency(source, data),
        uses=_uses(source, data),
        tasks=_thresholds(source, data),
        warned=_warned(source, data),
        info=PolicyInfo(source=source.called, rules=_plain(data)),
    )
    if policy == Policy():
        source.refuse("is empty")
    return policy


@dataclass(frozen=True, slots=True)
class _Source:
    """A policy's file, whose errors name the line."""

    file: str | Path
    text: str
    data: dict[str, Any]

    @classmethod
    def read(cls, file: str | Path) -> _Source:
        text = read_text(file, error=UsageError, limit_bytes=REVIEWED_BYTES)
        if Path(file).name == PROJECT_FILE and _TABLE[1] not in text:
            return cls(file, text, {})
        try:
            return cls(file, text, parse_toml(text))
        except ValueError as problem:
            raise UsageError(f"the policy {complaint(problem, 'TOML')}", where=file, fix=_FORM) from problem

    @property
    def within(self) -> tuple[str, ...]:
        return _TABLE if Path(self.file).name == PROJECT_FILE else ()

    @property
    def called(self) -> str:
        return f"{self.file}, [tool.clip-eval]" if self.within else str(self.file)

    @property
    def has_table(self) -> bool:
        tool = self.data.get(_TABLE[0])
        return isinstance(tool, dict) and _TABLE[1] in tool

    def policy(self) -> dict[str, Any]:
        if not self.within:
            return self.data
        if not self.has_table:
            what = "the file holds no policy"
            raise UsageError(what, where=self.file, fix="Write it below [tool.clip-eval], or name another file")
        return self.table(self.data[_TABLE[0]], _TABLE[1])

    def table(self, data: Mapping[str, Any], key: str, *path: str | int) -> dict[str, Any]:
        """Return a table in `data`, which stands at `path`; empty if it is not there."""
        value = data.get(key, {})
        if not isinstance(value, dict):
            self.refuse(f"has {shown(value)} for {key}, which is a table", *path, key)
        return value

    def check_keys(self, data: Mapping[str, Any], table: str, *path: str | int) -> None:
        for key in data:
            if key not in _KEYS[table]:
                where = f" in [{table}]" if table else ""
                self.refuse(f"has an unknown key{where}, {shown(key)}", *path, key, fix=listed(key, _KEYS[table]))

    def refuse(self, what: str, *path: str | int, fix: str = _FORM) -> NoReturn:
        line = line_of(self.text, (*self.within, *path)) if path else None
        where = self.called if line is None else f"{self.file}, line {line}"
        raise UsageError(f"the policy {what}", where=where, fix=fix)


def _scopes(source: _Source, data: Mapping[str, Any]) -> tuple[Scope, ...]:
    require = data.get("require", [])
    if not isinstance(require, list):
        source.refuse("has a require that is not a list", "require")
    for name in require:
        if name not in SCOPES:
            source.refuse(f"requires {shown(name)}, and the scopes are {', '.join(SCOPES)}", "require")
    return tuple(require)


def _parts(source: _Source, data: Mapping[str, Any]) -> tuple[Part, ...]:
    warn = data.get("warn", [])
    if not isinstance(warn, list):
        source.refuse("has a warn that is not a list", "warn", fix=_TO_WARN)
    for name in warn:
        if name not in _PARTS:
            source.refuse(f"cannot let {shown(name)} warn", "warn", fix=_TO_WARN)
    return tuple(warn)


def _least_efficiency(source: _Source, data: Mapping[str, Any]) -> float | None:
    speed = source.table(data, "throughput")
    source.check_keys(speed, "throughput", "throughput")
    least = speed.get("least_efficiency")
    if least is None:
        return None
    if not _is_number(least) or not _LEAST <= least <= _MOST:
        fix = f"Write a number from {_LEAST:g} to {_MOST:g}"
        source.refuse(f"has the least_efficiency {shown(least)}", "throughput", "least_efficiency", fix=fix)
    return float(least)


def _uses(source: _Source, data: Mapping[str, Any]) -> tuple[str, ...]:
    surface = source.table(data, "surface")
    source.check_keys(surface, "surface", "surface")
    names = surface.get("uses", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        source.refuse(f"has the uses {shown(names)}", "surface", "uses", fix="Write a list of names")
    return tuple(names)


def _thresholds(source: _Source, data: Mapping[str, Any]) -> dict[str, Threshold]:
    scores = source.table(data, "tasks")
    return {name: _threshold(source, source.table(scores, name, "tasks"), name) for name in scores}


def _threshold(source: _Source, asked: Mapping[str, Any], name: str) -> Threshold:
    path = ("tasks", name)
    source.check_keys(asked, "tasks", *path)
    for key in _BOUNDS:
        if key in asked and not _is_number(asked[key]):
            source.refuse(f"has {shown(asked[key])} for {key}", *path, key, fix="Write a number")
    if asked.get("by", "interval") not in ("interval", "score"):
        source.refuse(f"has {shown(asked['by'])} for by", *path, "by", fix='Write "interval" or "score"')
    if not isinstance(asked.get("warn", False), bool):
        source.refuse(f"has {shown(asked['warn'])} for warn", *path, "warn", fix="Write true or false")
    if not any(key in asked for key in _BOUNDS):
        source.refuse(f"asks nothing of {shown(name)}", *path, fix=f"Write one of {', '.join(_BOUNDS)}")
    bounds = {key: float(asked[key]) for key in _BOUNDS if key in asked}
    return Threshold(**bounds, by=asked.get("by", "interval"), warn=asked.get("warn", False))


def _warned(source: _Source, data: Mapping[str, Any]) -> tuple[Warned, ...]:
    entries = data.get("warned", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        source.refuse("has a warned that is not [[warned]] tables", "warned")
    return tuple(_warned_entry(source, entry, place) for place, entry in enumerate(entries))


def _warned_entry(source: _Source, entry: Mapping[str, Any], place: int) -> Warned:
    source.check_keys(entry, "warned", "warned", place)
    named = [key for key in ("check", "cause", "area") if key in entry]
    if len(named) != 1:
        source.refuse("has a [[warned]] entry without one of check, cause and area", "warned", place)
    name, reason = (_stated(source, entry, key, place) for key in (named[0], "reason"))
    try:
        expires = last_day(entry.get("expires"))
    except ValueError as problem:
        source.refuse(
            f"has a [[warned]] entry that {problem}", "warned", place, "expires",
            fix="Write a day without quotes, such as 2027-01-31",
        )  # fmt: skip
    if named[0] == "check" and expires is None:
        fix = "Write expires, the last day: a check that fails may not stay so for good"
        source.refuse(f"lets {shown(name)} warn without an end", "warned", place, fix=fix)
    return Warned(key=named[0], name=name, reason=reason, expires=expires)  # type: ignore[arg-type] # one of the three


def _stated(source: _Source, entry: Mapping[str, Any], key: str, place: int) -> str:
    try:
        return stated(entry.get(key))
    except ValueError as problem:
        inside = (key,) if key in entry else ()
        source.refuse(f"has a [[warned]] entry whose {key} {problem}", "warned", place, *inside)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def _plain(value: Any) -> Any:
    """The policy as JSON can hold it; a day is its text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
