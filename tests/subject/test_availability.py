"""Which attention implementations there are."""

from __future__ import annotations

from clip_eval.subject.availability import _registered_names, _written_names


def test_the_names_in_the_source_are_those_that_transformers_registers() -> None:
    """A misspelt attention is refused without an import of transformers, by the names of the installed release."""
    assert sorted(_written_names()) == sorted(_registered_names())
