"""A runtime that has `Runtime.run` and nothing beyond it: transformers' numbers, by field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import ClipEvalError, NotApplicable
from clip_eval.families.family import EntryPoint
from clip_eval.oracle.precision import Precision
from clip_eval.subject import LoadingReport, Subject
from clip_eval.subject.processors import Processors
from clip_eval.subject.runtime import Capability, Runtime

__all__ = ["RunAlone", "exported"]


class RunAlone:
    """What a runtime must have; anything else that is asked of it is an AttributeError.

    Args:
        subject: computes the numbers.
        fields: the only fields it gives, by entry point as reports print it; None for all of every one.
    """

    name = "a runtime that only runs"
    capabilities: frozenset[Capability] = frozenset()
    attention_used = None

    def __init__(self, subject: Subject, fields: Mapping[str, Collection[str]] | None = None) -> None:
        self._subject = subject
        self._fields = fields

    @property
    def checkpoint(self) -> Checkpoint:
        """The subject's."""
        return self._subject.checkpoint

    @property
    def dtype(self) -> str:
        """The subject's."""
        return self._subject.dtype

    @property
    def device(self) -> str:
        """The subject's."""
        return self._subject.device

    @property
    def precision(self) -> Precision:
        """The subject's."""
        return self._subject.precision

    @property
    def processors(self) -> Processors:
        """The subject's."""
        return self._subject.processors

    def loading_report(self, model_class: str) -> LoadingReport:
        """The subject's."""
        return self._subject.loading_report(model_class)

    def loading_finding(self, model_class: str) -> ClipEvalError | None:
        """The subject's."""
        return self._subject.loading_finding(model_class)

    def run(self, entry: EntryPoint, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The subject's numbers; NotApplicable for an entry point that is not given."""
        if self._fields is None:
            return self._subject.run(entry, arrays)
        if str(entry) not in self._fields:
            raise NotApplicable(f"{self.name} has no {entry}")
        return {
            name: array for name, array in self._subject.run(entry, arrays).items() if name in self._fields[str(entry)]
        }


def exported(fields: Mapping[str, Collection[str]] | None = None) -> Callable[..., Runtime]:
    """What `RUNTIMES` holds for such a runtime."""
    return lambda *arguments, **options: RunAlone(Subject(*arguments, **options), fields)
