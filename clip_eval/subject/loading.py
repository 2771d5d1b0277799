"""What transformers says about the weights that it loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clip_eval.errors import CheckpointError
from clip_eval.subject.releases import belongs_to, canonical_name

__all__ = ["LoadingReport", "complete", "report_of"]


@dataclass(frozen=True, slots=True)
class LoadingReport:
    """What transformers said about the weights when it loaded a model; all three are empty for a healthy load.

    Names are canonical. Tensors that belong to parts which the class does not have (the other tower) are not
    unexpected.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True where every weight of the model came from the file."""
        return not (self.missing or self.unexpected or self.mismatched)


def report_of(info: Mapping[str, Any], model_class: str) -> LoadingReport:
    """Read output_loading_info of 4.x (lists) and 5.x (sets; mismatched entries are tuples of name and shapes)."""

    def names(key: str) -> tuple[str, ...]:
        entries = [entry if isinstance(entry, str) else entry[0] for entry in info.get(key) or ()]
        return tuple(sorted(canonical_name(entry, model_class) for entry in entries))

    unexpected = tuple(
        name
        for name in names("unexpected_keys")
        if belongs_to(name, model_class) and not name.endswith(".position_ids")
    )
    return LoadingReport(names("missing_keys"), unexpected, names("mismatched_keys"))


def complete(model: Any, report: LoadingReport, where: Path) -> Any:
    """Return the model if all its weights came from the file, else raise CheckpointError."""
    if not report.complete:
        raise CheckpointError(
            f"transformers {version('transformers')} did not load {type(model).__name__} completely: {_named(report)}",
            where=where,
            fix="Nothing computed from these weights means anything; see check weights.every_weight_is_loaded",
        )
    return model


def _named(report: LoadingReport) -> str:
    parts = []
    for label, tensors in (
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("mismatched", report.mismatched),
    ):
        if tensors:
            more = f" and {len(tensors) - 5} more" if len(tensors) > 5 else ""
            parts.append(f"{label} {', '.join(tensors[:5])}{more}")
    return "; ".join(parts)
