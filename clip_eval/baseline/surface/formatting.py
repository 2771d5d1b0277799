"""Values, signatures and members of transformers' objects as short text, the same in every run."""

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
    """Format a value: a plain one as Python does, a class or function by its name, any other by its class."""
    if value is None or isinstance(value, (bool, int, float, str, Enum)):
        return repr(value)
    if inspect.isclass(value) or inspect.isroutine(value):
        return str(value.__name__)
    return _collection(_as_mapping(value)) or type(value).__name__


def signature(function: Callable[..., Any]) -> str:
    """Format the parameters of a function or class, with defaults, without annotations and self."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return "no signature"
    named = [parameter for parameter in parameters if parameter.name != "self"]
    texts: list[str] = []
    for parameter in named:
        mark = _MARKS.get(parameter.kind, "")
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not any(text.startswith("*") for text in texts):
            texts.append("*")
        default = "" if parameter.default is inspect.Parameter.empty else f"={spelled(parameter.default)}"
        texts.append(f"{mark}{parameter.name}{default}")
    return f"({', '.join(texts)})"


def members(owner: Any, names: Iterable[str] | None = None) -> dict[str, Json]:
    """Format the public attributes of an object or class: signatures of callables, values of the rest.

    Args:
        owner: an object or a class.
        names: which; by default every public name in `dir`.
    """
    public = (name for name in dir(owner) if not name.startswith("_")) if names is None else names
    return {name: attempt(_member, owner, name) for name in sorted(public)}


def _member(owner: Any, name: str) -> str:
    return surface_of(getattr(owner, name))


def surface_of(value: Any) -> str:
    """Format a function or class by its signature, any other value by `spelled`."""
    return signature(value) if inspect.isroutine(value) else spelled(value)


def attempt(read: Callable[..., str], *arguments: Any) -> str:
    """Return what `read` returns for `arguments`, or the name of the exception that it raises, as a user sees it.

    Raises:
        NotAskable: another check judges why this cannot run.
    """
    try:
        return read(*arguments)
    except NotAskable:
        raise
    except Exception as error:
        return f"raises {type(error).__name__}"


def kept_apart(found: Mapping[str, Json], *others: Mapping[str, Json]) -> dict[str, Json]:
    """Return the entries that none of `others` has with the same text, so that inherited ones appear once."""
    return {name: value for name, value in found.items() if all(other.get(name) != value for other in others)}


def agreed(values: Mapping[str, str]) -> str:
    """Return the common value if all agree, else each value: one cause is one change."""
    texts = set(values.values())
    return texts.pop() if len(texts) == 1 else "; ".join(f"{name}: {text}" for name, text in values.items())


def _as_mapping(value: Any) -> Any:
    """The fields of a dataclass that are not None, as a mapping; any other value unchanged."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    present = {field.name: getattr(value, field.name) for field in fields(value)}
    return _Named(type(value).__name__, {name: item for name, item in present.items() if item is not None})


@dataclass(frozen=True, slots=True)
class _Named:
    """A mapping with the name of its class."""

    kind: str
    items: Mapping[str, Any]


def _collection(value: Any) -> str | None:
    """The items of a small collection; None for anything else. Sets are sorted, and a subclass of dict has its name."""
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
