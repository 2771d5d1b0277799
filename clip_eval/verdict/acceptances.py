"""Acceptances: the reviewed file that excuses changes against a pack, one by one.

    [[accepted]]
    id = "CLIPModel.get_text_features()"
    before = "Tensor model (texts, projection)"
    after = "BaseModelOutputWithPooling: last_hidden_state, pooler_output"
    reason = "Our code reads pooler_output since commit 1234"
    expires = 2027-01-31

An acceptance states both sides of a change, so that it cannot excuse a later, different change of the same thing. It
excuses surface changes only: other numbers under the same weights are a defect or another model.
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
_FORM = (
    "An entry is [[accepted]] with id, before, after, reason and optionally expires; a gate's summary.md has a draft"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One reviewed change.

    Attributes:
        id: the change's id.
        before: the value in the pack, as the gate writes it.
        after: the value now.
        reason: why the change is wanted.
        expires: the last day on which the change is excused; None for no end.
    """

    id: str
    before: str
    after: str
    reason: str
    expires: date | None = None

    @property
    def note(self) -> str:
        """The reason, with the last day if there is one."""
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
    """The changes, each with the reason that excuses it or None, and the acceptances that excuse nothing."""

    changes: tuple[SurfaceChange, ...]
    idle: tuple[Idle, ...]

    @property
    def open(self) -> tuple[SurfaceChange, ...]:
        """The changes without an acceptance."""
        return tuple(change for change in self.changes if change.accepted is None)


def read_acceptances(file: str | Path) -> tuple[Acceptance, ...]:
    """Read a file of acceptances, in its order.

    Raises:
        UsageError: the file cannot be read, is not TOML, an entry lacks a key, has an unknown one, or repeats an id;
            the message names entry and key.
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
    acceptances = tuple(_acceptance(entry, number, file) for number, entry in enumerate(entries, start=1))
    for identity, count in Counter(entry.id for entry in acceptances).items():
        if count > 1:
            _refuse(f"it accepts {_short(identity)} {count} times", file, fix="Keep one entry for each id")
    return acceptances


def rule(changes: Sequence[SurfaceChange], acceptances: Sequence[Acceptance], *, today: date) -> Ruling:
    """Match changes with acceptances.

    Args:
        changes: what differs from the pack.
        acceptances: what was accepted, each id once.
        today: the day that expiry is compared with.
    """
    changes_by_id = {change.id: change for change in changes}
    idle = {
        entry.id: Idle(entry, why)
        for entry in acceptances
        if (why := _idle(entry, changes_by_id.get(entry.id), today)) is not None
    }
    notes = {entry.id: entry.note for entry in acceptances if entry.id not in idle}
    return Ruling(
        tuple(replace(change, accepted=notes.get(change.id)) for change in changes),
        tuple(idle.values()),
    )


def draft(changes: Sequence[SurfaceChange]) -> str:
    """Return the text of a file that accepts `changes`, without the reasons; it is refused until they are written."""
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
    """Why an acceptance excuses nothing, as words after its id; None if it excuses `change`."""
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
        _refuse(f"entry {number} is not a table", file)
    name = entry["id"] if isinstance(entry.get("id"), str) else "without an id"
    known_keys = [field.name for field in fields(Acceptance)]
    where = f"entry {number} ({_short(name)})"
    if unknown := [key for key in entry if key not in known_keys]:
        _refuse(f"{where} has the unknown keys {_listed(unknown)}", file, fix=f"Known keys are {', '.join(known_keys)}")
    for key in ("id", "before", "after", "reason"):
        _check_text(entry, key, where, file)
    expires = entry.get("expires")
    # a datetime is a date too, but its time would be dropped
    if expires is not None and (not isinstance(expires, date) or isinstance(expires, datetime)):
        _refuse(f"{where} expires at {shown(expires)}", file, fix="Write a day without quotes, such as 2027-01-31")
    return Acceptance(**entry)


def _check_text(entry: dict[str, Any], key: str, where: str, file: str | Path) -> None:
    value = entry.get(key)
    if value is None:
        _refuse(f"{where} has no {key}", file)
    if not isinstance(value, str) or (key in ("id", "reason") and not value.strip()):
        what = "is empty" if isinstance(value, str) else "is not a text"
        _refuse(f"the {key} of {where} {what}", file, fix="Say why the change is wanted" if key == "reason" else _FORM)


def _listed(names: Iterable[str]) -> str:
    return _short(", ".join(names))


def _refuse(what: str, file: str | Path, *, fix: str = _FORM) -> NoReturn:
    raise UsageError(f"the file of acceptances cannot be used: {what}", where=file, fix=fix)


def _toml(text: str) -> str:
    """A TOML basic string: JSON's escapes, and one control character more that TOML escapes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
