"""Values, signatures and members of the library's objects as short text that is the same in every run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from clip_eval.errors import NotAskable
from clip_eval.verdict.plain_values import Json

__all__ = ["agreed", "attempt", "kept_apart", "members", "signature", "spelled", "surface_of"]

_LONGEST = 300
_MARKS: Mapping[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def spelled(value: Any) -> str:
    """Spell a value: a plain one as Python does, a class or function by its name, anything else by its class."""
    if value is None or isinstance(value, (bool, int, float, str, Enum)):
        return repr(value)
    if inspect.isclass(value) or inspect.isroutine(value):
        return str(value.__name__)
    return _collection(_as_mapping(value)) or type(value).__name__


def signature(function: Callable[..., Any]) -> str:
    """Spell the parameters of a function or class, with defaults and without annotations; self is left out."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return "no signature"
    named = [parameter for parameter in parameters if parameter.name != "self"]
    found: list[str] = []
    for parameter in named:
        mark = _MARKS.get(parameter.kind, "")
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not any(text.startswith("*") for text in found):
            found.append("*")
        default = "" if parameter.default is inspect.Parameter.empty else f"={spelled(parameter.default)}"
        found.append(f"{mark}{parameter.name}{default}")
    return f"({', '.join(found)})"


def members(owner: Any, names: Iterable[str] | None = None) -> dict[str, Json]:
    """Spell the public attributes of an object or class: signatures of what can be called, values of the rest.

    Args:
        owner: an object or a class.
        names: which; by default every public name that `dir` gives.
    """
    public = (name for name in dir(owner) if not name.startswith("_")) if names is None else names
    return {name: attempt(_member, owner, name) for name in sorted(public)}


def _member(owner: Any, name: str) -> str:
    return surface_of(getattr(owner, name))


def surface_of(value: Any) -> str:
    """Spell a function or class by its signature, anything else as it is."""
    return signature(value) if inspect.isroutine(value) else spelled(value)


def attempt(read: Callable[..., str], *arguments: Any) -> str:
    """Return what `read` spells of `arguments`, or the exception that it raises: that is what a user sees.

    Raises:
        NotAskable: a check of its own says that it cannot be asked.
    """
    try:
        return read(*arguments)
    except NotAskable:
        raise
    except Exception as error:
        return f"raises {type(error).__name__}"


def kept_apart(found: Mapping[str, Json], *others: Mapping[str, Json]) -> dict[str, Json]:
    """Return the entries that none of `others` has with the same text, so that what is inherited is told once."""
    return {name: value for name, value in found.items() if all(other.get(name) != value for other in others)}


def agreed(told: Mapping[str, str]) -> str:
    """Return what all say where they say the same, else what each says: one cause is one change."""
    texts = set(told.values())
    return texts.pop() if len(texts) == 1 else "; ".join(f"{name}: {text}" for name, text in told.items())


def _as_mapping(value: Any) -> Any:
    """The fields of a dataclass that are not None, as those that stand for a dict are read; another value as it is."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    found = {field.name: getattr(value, field.name) for field in fields(value)}
    return _Named(type(value).__name__, {name: item for name, item in found.items() if item is not None})


@dataclass(frozen=True, slots=True)
class _Named:
    """A mapping with the name of the class that it comes from."""

    kind: str
    items: Mapping[str, Any]


def _collection(value: Any) -> str | None:
    """The items of a small collection; None for anything else. Sets are sorted, and a kind of dict names its class."""
    if isinstance(value, (list, tuple)):
        text = ", ".join(map(spelled, value))
        text = f"[{text}]" if isinstance(value, list) else f"({text})"
    elif isinstance(value, (set, frozenset)):
        text = f"{{{', '.join(sorted(map(spelled, value)))}}}"
    elif isinstance(value, (Mapping, _Named)):
        kind = value.kind if isinstance(value, _Named) else "" if type(value) is dict else type(value).__name__
        items = value.items if isinstance(value, _Named) else value
        text = f"{kind}{{{', '.join(f'{spelled(key)}: {spelled(item)}' for key, item in items.items())}}}"
    else:
        return None
    return text if len(text) <= _LONGEST else value.kind if isinstance(value, _Named) else type(value).__name__
