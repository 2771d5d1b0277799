"""Acceptances: the reviewed file that excuses changes against a pack, one by one or cause by cause.

    [[accepted]]
    id = "CLIPModel.get_text_features()"
    before = "Tensor model (texts, projection)"
    after = "BaseModelOutputWithPooling: last_hidden_state, pooler_output"
    reason = "Our code reads pooler_output since commit 1234"
    expires = 2027-01-31

    [[accepted]]
    cause = "towers-are-flat"
    changes = 15
    digest = "6f0c3a54f3e8d9b1"
    reason = "Nothing here reads modules or state_dict names of a tower"

An acceptance states both sides of a change, or count and digest of the changes of a declared cause or an area, so that
it cannot excuse a later, different change of the same thing. It excuses surface changes only: other numbers under the
same weights are a defect or another model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, NoReturn

from clip_eval.errors import UsageError
from clip_eval.files.read_write import read_text
from clip_eval.files.toml_lines import line_of
from clip_eval.files.untrusted import REVIEWED_BYTES, complaint, parse_toml
from clip_eval.verdict.changes import ChangeGroup, area, grouped
from clip_eval.verdict.reviewed import expired, last_day, with_last_day
from clip_eval.verdict.run_record import SurfaceChange

__all__ = ["Acceptance", "GroupAcceptance", "Idle", "Ruling", "draft", "read_acceptances", "rule"]

_TABLE = "accepted"
_FORM = (
    "An entry is [[accepted]] with id, before and after, or with cause or area, changes and digest, and with reason "
    "and optionally expires; a gate's summary.md has a draft"
)
_UNUSED = "nothing that the policy's [surface] uses names"
_FEW = 3  # so many open changes are drafted one by one, with their values


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
        return with_last_day(self.reason, self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAcceptance:
    """All changes of one declared cause, or of one kind in one area, reviewed together.

    Attributes:
        key: what the name is of.
        id: the name, as reports write it above the changes.
        changes: how many there are.
        digest: of their ids and values, as reports write it.
        reason: why the changes are wanted.
        expires: the last day on which they are excused; None for no end.
    """

    key: Literal["cause", "area"]
    id: str
    changes: int
    digest: str
    reason: str
    expires: date | None = None

    @property
    def note(self) -> str:
        """The reason, with the last day if there is one."""
        return with_last_day(self.reason, self.expires)


@dataclass(frozen=True, slots=True)
class Idle:
    """An acceptance that excuses nothing, and why."""

    acceptance: Acceptance | GroupAcceptance
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


def read_acceptances(file: str | Path) -> tuple[Acceptance | GroupAcceptance, ...]:
    """Read a file of acceptances, in its order.

    Raises:
        UsageError: the file cannot be read, is not TOML, an entry lacks a key, has an unknown one, or repeats an id;
            the message names entry, key and line.
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
    acceptances = tuple(_placed(entry, number, file, text) for number, entry in enumerate(entries, start=1))
    for (identity, _), count in Counter((entry.id, type(entry)) for entry in acceptances).items():
        if count > 1:
            _refuse(f"it accepts {_short(identity)} {count} times", file, fix="Keep one entry for each id")
    return acceptances


def rule(
    changes: Sequence[SurfaceChange],
    acceptances: Sequence[Acceptance | GroupAcceptance],
    *,
    today: date,
    uses: Sequence[str] = (),
) -> Ruling:
    """Match changes with acceptances; an entry for a change comes before one for its group.

    Changes of what nobody uses are accepted, too, with that reason.

    Args:
        changes: what differs from the pack.
        acceptances: what was accepted, each id once.
        today: the day that expiry is compared with.
        uses: names that the user's code uses; empty for all. A change of the checkpoint's own files is never left out.
    """
    changes_by_id = {change.id: change for change in changes}
    groups = {group.name: group for group in grouped(changes)}
    notes = {change.id: _UNUSED for change in changes if uses and not _is_used(change, uses)}
    idle = []
    for entry in sorted(acceptances, key=lambda entry: isinstance(entry, Acceptance)):
        if isinstance(entry, Acceptance):
            why = _idle(entry, changes_by_id.get(entry.id), today)
            excused = [entry.id]
        else:
            group = groups.get(entry.id)
            why = _idle_group(entry, group, today)
            excused = [] if group is None else [change.id for change in group.changes]
        if why is None:
            notes |= dict.fromkeys(excused, entry.note)
        else:
            idle.append(Idle(entry, why))
    order = {id(entry): place for place, entry in enumerate(acceptances)}
    return Ruling(
        tuple(replace(change, accepted=notes.get(change.id)) for change in changes),
        tuple(sorted(idle, key=lambda item: order[id(item.acceptance)])),
    )


def draft(changes: Sequence[SurfaceChange]) -> str:
    """Return the text of a file that accepts what is open of `changes`, without the reasons.

    It is refused until they are written. A few changes have an entry each, many an entry for each cause or area.

    Args:
        changes: every difference from the pack; those that are accepted count for the digests only.
    """
    few = sum(change.accepted is None for change in changes) <= _FEW
    return (
        "\n\n".join(
            _group_entry(group) if len(group.open) > 1 and not few else "\n\n".join(map(_entry, group.open))
            for group in grouped(changes)
            if group.open
        )
        + "\n"
    )


def _is_used(change: SurfaceChange, uses: Sequence[str]) -> bool:
    """Whether a change's id has one of the names as a whole word, or is about the checkpoint's own files."""
    names = (rf"(?<!\w){re.escape(name)}(?!\w)" for name in uses)
    return area(change) == "files of the checkpoint" or any(re.search(name, change.id) for name in names)


def _entry(change: SurfaceChange) -> str:
    values = (f"{key} = {_toml(getattr(change, key))}" for key in ("id", "before", "after"))
    return "\n".join((f"[[{_TABLE}]]", *values, 'reason = ""'))


def _group_entry(group: ChangeGroup) -> str:
    example = f"{len(group.changes)} changes, such as {group.worst.id}"
    return "\n".join(
        (
            *(f"# {_comment(text)}" for text in (group.sentence, example) if text),
            f"[[{_TABLE}]]",
            f"{'cause' if group.declared else 'area'} = {_toml(group.name)}",
            f"changes = {len(group.changes)}",
            f"digest = {_toml(group.digest)}",
            'reason = ""',
        )
    )


def _comment(text: str) -> str:
    """The text in one line that TOML takes as a comment."""
    return "".join(character if character.isprintable() else " " for character in text)


def _idle_group(entry: GroupAcceptance, group: ChangeGroup | None, today: date) -> str | None:
    """Why an acceptance excuses nothing, as words after its name; None if it excuses the changes of `group`."""
    if group is None or group.declared != (entry.key == "cause"):
        return "matches no change"
    if (entry.changes, entry.digest) != (len(group.changes), group.digest):
        was, now = f"{entry.changes} of digest '{_short(entry.digest)}'", f"{len(group.changes)} of '{group.digest}'"
        return f"accepts other changes, {was}, and there are now {now}"
    return expired(entry.expires, today)


def _idle(entry: Acceptance, change: SurfaceChange | None, today: date) -> str | None:
    """Why an acceptance excuses nothing, as words after its id; None if it excuses `change`."""
    if change is None:
        return "matches no change"
    if entry.after != change.after:
        return f"accepts '{_short(entry.after)}', and it is now '{_short(change.after)}'"
    if entry.before != change.before:
        return f"accepts a change from '{_short(entry.before)}', and it was '{_short(change.before)}'"
    return expired(entry.expires, today)


def _placed(entry: object, number: int, file: str | Path, text: str) -> Acceptance | GroupAcceptance:
    """The entry, or the error with the line at which it begins."""
    try:
        return _acceptance(entry, number, file)
    except UsageError as problem:
        line = line_of(text, (_TABLE, number - 1))
        if line is None:
            raise
        raise UsageError(problem.what, where=f"{file}, line {line}", fix=problem.fix) from problem


def _acceptance(entry: object, number: int, file: str | Path) -> Acceptance | GroupAcceptance:
    if not isinstance(entry, dict):
        _refuse(f"entry {number} is not a table", file)
    key: Literal["cause", "area", "id"] = "cause" if "cause" in entry else "area" if "area" in entry else "id"
    name = entry[key] if isinstance(entry.get(key), str) else f"without an {key}"
    where = f"entry {number} ({_short(name)})"
    if key == "id":
        known_keys = [field.name for field in fields(Acceptance)]
    else:
        known_keys = [key, "changes", "digest", "reason", "expires"]
    if unknown := [key for key in entry if key not in known_keys]:
        _refuse(f"{where} has the unknown keys {_listed(unknown)}", file, fix=f"Known keys are {', '.join(known_keys)}")
    for required in (key, *(("before", "after") if key == "id" else ("digest",)), "reason"):
        _check_text(entry, required, where, file)
    try:
        last_day(entry.get("expires"))
    except ValueError as problem:
        _refuse(f"{where} {problem}", file, fix="Write a day without quotes, such as 2027-01-31")
    if key == "id":
        return Acceptance(**entry)
    if type(entry.get("changes")) is not int:
        _refuse(f"the changes of {where} are not a number", file)
    return GroupAcceptance(key=key, id=entry.pop(key), **entry)


def _check_text(entry: dict[str, Any], key: str, where: str, file: str | Path) -> None:
    value = entry.get(key)
    if value is None:
        _refuse(f"{where} has no {key}", file)
    if not isinstance(value, str) or (key not in ("before", "after") and not value.strip()):
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
