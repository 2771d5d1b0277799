"""What the reviewed entries of a user's files have in common: a reason, and the last day on which they hold."""

from __future__ import annotations

from datetime import date, datetime

from clip_eval.files.untrusted import shown

__all__ = ["expired", "last_day", "stated", "with_last_day"]


def stated(value: object) -> str:
    """Return a text that must say something. Raises ValueError with what it is instead."""
    if not isinstance(value, str):
        raise ValueError("is missing" if value is None else "is not a text")
    if not value.strip():
        raise ValueError("is empty")
    return value


def last_day(value: object) -> date | None:
    """Return the last day of an entry, None for none. Raises ValueError with what it is instead of a day."""
    # a datetime is a date too, but its time would be dropped
    if value is not None and (not isinstance(value, date) or isinstance(value, datetime)):
        raise ValueError(f"expires at {shown(value)}")
    return value


def with_last_day(reason: str, expires: date | None) -> str:
    """Return the reason, with the last day if there is one."""
    return reason if expires is None else f"{reason} (until {expires})"


def expired(expires: date | None, today: date) -> str | None:
    """Return that an entry is out of date, as words after its name; None if it is not."""
    return f"expired on {expires}" if expires is not None and expires < today else None
