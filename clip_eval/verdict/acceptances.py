"""Acceptances: the reviewed file that excuses changes against a pack, one by one.

    [[accepted]]
    id = "CLIPModel.get_text_features()"
    before = "Tensor model (texts, projection)"
    after = "BaseModelOutputWithPooling: last_hidden_state, pooler_output"
    reason = "Our code reads pooler_output since commit 1234"
    expires = 2027-01-31

An acceptance states both sides of what it accepts, so that it cannot excuse a later, different change of the same
thing. It excuses
differences of the surface only: other numbers under the same weights are a defect or another model, and nothing here
speaks of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, NoReturn

from clip_eval.errors import UsageError
from clip_eval.files.read_write import read_text
from clip_eval.files.untrusted import REVIEWED_BYTES, complaint, parse_toml, shown
from clip_eval.verdict.run_record import SurfaceChange

__all__ = ["Acceptance", "Idle", "Ruling", "draft", "read_acceptances", "rule"]

_TABLE = "accepted"
_FORM = "An entry is [[accepted]] with id, before, after, reason and perhaps expires; a gate's summary.md holds a draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One change that somebody has looked at.

    Attributes:
        id: the change's id.
        before: what the changed thing was, as the gate writes it.
        after: what it is now.
        reason: why that is wanted.
        expires: the last day on which the change is excused; None for no end.
    """

    id: str
    before: str
    after: str
    reason: str
    expires: date | None = None

    @property
    def note(self) -> str:
        """The reason, with the last day where there is one."""
        return self.reason if self.expires is None else f"{self.reason} (until {self.expires})"


@dataclass(frozen=True, slots=True)
class Idle:
    """An acceptance that excuses nothing, and why."""

    acceptance: Acceptance
    why: str

    def __str__(self) -> str:
        """Return the id and why, for a sentence."""
        return f"{self.acceptance.id} {self.why}"


@dataclass(frozen=True, slots=True)
class Ruling:
    """Changes, each with the reason that excuses it or None, and the acceptances that excuse none of them."""

    changes: tuple[SurfaceChange, ...]
    idle: tuple[Idle, ...]

    @property
    def open(self) -> tuple[SurfaceChange, ...]:
        """The changes that nothing excuses."""
        return tuple(change for change in self.changes if change.accepted is None)


def read_acceptances(file: str | Path) -> tuple[Acceptance, ...]:
    """Read a file of acceptances, in its order.

    Raises:
        UsageError: the file cannot be read, is not TOML, or an entry lacks something, repeats an id or says something
            unknown; the entry and the key are named.
    """
    text = read_text(file, error=UsageError, limit_bytes=REVIEWED_BYTES)
    try:
        data = parse_toml(text)
    except ValueError as problem:
        raise UsageError(f"the file of acceptances {complaint(problem, 'TOML')}", where=file, fix=_FORM) from problem
    entries = data.pop(_TABLE, [])
    if data or not isinstance(entries, list):
        _refuse(f"it holds {_listed(data) or 'no'} beside [[{_TABLE}]] tables", file)
    if not entries:
        _refuse(f"it holds no [[{_TABLE}]] table", file, fix="Add one, or leave --accepted out")
    found = tuple(_acceptance(entry, number, file) for number, entry in enumerate(entries, start=1))
    for identity, count in Counter(entry.id for entry in found).items():
        if count > 1:
            _refuse(f"it accepts {_short(identity)} {count} times", file, fix="Keep one entry for each id")
    return found


def rule(changes: Sequence[SurfaceChange], acceptances: Sequence[Acceptance], *, today: date) -> Ruling:
    """Say which changes are excused and which acceptances are idle.

    Args:
        changes: what differs from the pack.
        acceptances: what was accepted, each id once.
        today: the day on which they have to be in force.
    """
    found = {change.id: change for change in changes}
    idle = {
        entry.id: Idle(entry, why)
        for entry in acceptances
        if (why := _idle(entry, found.get(entry.id), today)) is not None
    }
    notes = {entry.id: entry.note for entry in acceptances if entry.id not in idle}
    return Ruling(
        tuple(replace(change, accepted=notes.get(change.id)) for change in changes),
        tuple(idle.values()),
    )


def draft(changes: Sequence[SurfaceChange]) -> str:
    """Return the text of a file that accepts `changes`, but for the reasons: until those are written it is refused."""
    entries = (
        "\n".join(
            (
                f"[[{_TABLE}]]",
                *(f"{key} = {_toml(getattr(change, key))}" for key in ("id", "before", "after")),
                'reason = ""',
            )
        )
        for change in changes
    )
    return "\n\n".join(entries) + "\n"


def _idle(entry: Acceptance, change: SurfaceChange | None, today: date) -> str | None:
    """Why an acceptance excuses nothing, to follow its id; None where it excuses `change`."""
    if change is None:
        return "matches no change"
    if entry.after != change.after:
        return f"accepts '{_short(entry.after)}', and it is now '{_short(change.after)}'"
    if entry.before != change.before:
        return f"accepts a change from '{_short(entry.before)}', and it was '{_short(change.before)}'"
    if entry.expires is not None and entry.expires < today:
        return f"expired on {entry.expires}"
    return None


def _acceptance(entry: object, number: int, file: str | Path) -> Acceptance:
    if not isinstance(entry, dict):
        _refuse(f"entry {number} is no table", file)
    name = entry["id"] if isinstance(entry.get("id"), str) else "without an id"
    known = [field.name for field in fields(Acceptance)]
    where = f"entry {number} ({_short(name)})"
    if unknown := [key for key in entry if key not in known]:
        _refuse(f"{where} says {_listed(unknown)}", file, fix=f"Known keys are {', '.join(known)}")
    for key in ("id", "before", "after", "reason"):
        _check_text(entry, key, where, file)
    expires = entry.get("expires")
    # A datetime is a date, and a time of day would be dropped.
    if expires is not None and (not isinstance(expires, date) or isinstance(expires, datetime)):
        _refuse(f"{where} expires at {shown(expires)}", file, fix="Write a day without quotes, such as 2027-01-31")
    return Acceptance(**entry)


def _check_text(entry: dict[str, Any], key: str, where: str, file: str | Path) -> None:
    value = entry.get(key)
    if value is None:
        _refuse(f"{where} has no {key}", file)
    if not isinstance(value, str) or (key in ("id", "reason") and not value.strip()):
        what = "is empty" if isinstance(value, str) else "is no text"
        _refuse(f"the {key} of {where} {what}", file, fix="Say why the change is wanted" if key == "reason" else _FORM)


def _listed(names: Iterable[str]) -> str:
    return _short(", ".join(names))


def _refuse(what: str, file: str | Path, *, fix: str = _FORM) -> NoReturn:
    raise UsageError(f"the file of acceptances cannot be used: {what}", where=file, fix=fix)


def _toml(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for one control character that JSON leaves alone."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
