"""What transformers reports about the weights that it loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import CheckpointError
from clip_eval.families.family import Family
from clip_eval.subject.releases import load_class, quiet

__all__ = ["LoadingReport", "Shapes", "complete", "first_refused_so", "one_line", "report_of", "unlike_shapes"]

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Shapes that differ, by canonical name: in the file, and in the model that the class builds."""

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class LoadingReport:
    """What transformers reports about the weights when it loaded a model; empty for a healthy load.

    Names are canonical. Tensors of parts that the class does not have (the other tower) do not count as unexpected.

    Attributes:
        missing: tensors that the model has and the file has not.
        unexpected: tensors that the file has and the model has not.
        mismatched: tensors of another shape.
        refusal: what from_pretrained raised, in one line; None where it returned a model.
        shapes: of the mismatched tensors, if transformers reports them.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    refusal: str | None = None
    shapes: Shapes = field(default_factory=dict, compare=False)

    @property
    def complete(self) -> bool:
        """True where every weight of the model came from the file."""
        return not (self.missing or self.unexpected or self.mismatched or self.refusal)

    @property
    def in_words(self) -> str:
        """What is wrong, such as "missing logit_scale"; of many tensors the first five."""
        return _named(self) or f"it raises {self.refusal}"


def report_of(info: Mapping[str, Any], family: Family, model_class: str) -> LoadingReport:
    """Read output_loading_info of 4.x (lists) and 5.x (sets; mismatched entries are tuples of name and shapes)."""

    def names(key: str) -> tuple[str, ...]:
        entries = [entry if isinstance(entry, str) else entry[0] for entry in info.get(key) or ()]
        return tuple(sorted(family.canonical_name(entry, model_class) for entry in entries))

    unexpected = tuple(
        name
        for name in names("unexpected_keys")
        if family.belongs_to(name, model_class) and not name.endswith(".position_ids")
    )
    shapes = {
        family.canonical_name(entry[0], model_class): (tuple(entry[1]), tuple(entry[2]))
        for entry in info.get("mismatched_keys") or ()
        if not isinstance(entry, str)
    }
    return LoadingReport(names("missing_keys"), unexpected, names("mismatched_keys"), shapes=shapes)


def unlike_shapes(checkpoint: Checkpoint, model_class: str) -> Shapes:
    """Return the tensors of a checkpoint that have another shape in the model that a class builds from its config.

    Nothing is allocated. If the class cannot be built, the mapping is empty: its error is reported instead.
    """
    import torch

    family = checkpoint.family
    owner = load_class(family, model_class)
    try:
        with quiet(), torch.device("meta"):
            model = owner(owner.config_class.from_pretrained(str(checkpoint.path), local_files_only=True))
    except Exception:  # from_pretrained has raised before, which is reported
        return {}
    built = {family.canonical_name(name, model_class): tuple(value.shape) for name, value in model.state_dict().items()}
    held = {name: tuple(checkpoint.tensors[name].shape) for name in built if name in checkpoint.tensors}
    return {name: (shape, built[name]) for name, shape in held.items() if shape != built[name]}


def one_line(error: BaseException) -> str:
    """Return an exception in one line of at most 300 characters: its type and the first lines of its message."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def first_refused_so(model_class: str, report_of: Callable[[str], LoadingReport], classes: Sequence[str]) -> str:
    """Return the first class whose loading raises the same, its own name aside; this class if none before it does.

    Args:
        model_class: the class.
        report_of: loads a class if that has not happened yet.
        classes: those that load this checkpoint, in order.
    """
    refusal = report_of(model_class).refusal
    if refusal is None or model_class not in classes:
        return model_class
    for name in classes[: classes.index(model_class)]:
        report = report_of(name)
        same = (report.refusal or "").replace(name, "") == refusal.replace(model_class, "")
        if same and not report.shapes:
            return name
    return model_class


def complete(model: Any, report: LoadingReport, where: Path) -> Any:
    """Return the model if all its weights came from the file, else raise CheckpointError."""
    if not report.complete:
        raise CheckpointError(
            f"transformers {version('transformers')} did not load {type(model).__name__} completely: {report.in_words}",
            where=where,
            fix="Nothing computed from these weights means anything",
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
