"""Faults of output objects as users handle them: indexing, searching, copying, making and changing them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import modeling, wrap

INDEXED = "output_handling.outputs_are_indexed_like_tuples"
READ = "output_handling.outputs_are_read_like_dicts"
FIELDS = "output_handling.fields_of_the_class"
COPIES = "output_handling.copies_are_the_same"
SET = "output_handling.fields_can_be_set"


def _base() -> Any:
    from transformers.utils import ModelOutput

    return ModelOutput


@in_transformers(INDEXED)
def negative_positions_count_absent_fields(patch: MonkeyPatch) -> None:
    """Positions from the end of an output count the fields that it does not have."""

    def item(original: Any, self: Any, key: Any) -> Any:
        if isinstance(key, int) and key < 0:
            return [getattr(self, field.name) for field in fields(self)][key]
        return original(self, key)

    wrap(patch, _base(), "__getitem__", item)


@in_transformers(INDEXED)
def slices_leave_out_the_last(patch: MonkeyPatch) -> None:
    """Slices of an output that have no end leave out its last field."""

    def item(original: Any, self: Any, key: Any) -> Any:
        found = original(self, key)
        return found[:-1] if isinstance(key, slice) and key.stop is None and key.step is None else found

    wrap(patch, _base(), "__getitem__", item)


@in_transformers(READ)
def absent_fields_read_as_none(patch: MonkeyPatch) -> None:
    """An output gives None for a name that it does not have, where a KeyError would tell of a typing error."""

    def item(original: Any, self: Any, key: Any) -> Any:
        return getattr(self, key, None) if isinstance(key, str) else original(self, key)

    wrap(patch, _base(), "__getitem__", item)


@in_transformers(READ)
def length_counts_absent_fields(patch: MonkeyPatch) -> None:
    """The length of an output counts the fields that it does not have."""
    patch.setattr(_base(), "__len__", lambda self: len(fields(self)))


@in_transformers(FIELDS)
def fields_by_position_change_places(patch: MonkeyPatch) -> None:
    """CLIPTextModelOutput takes last_hidden_state before text_embeds where it is made by position."""

    def make(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args[1::-1], *args[2:], **kwargs)

    wrap(patch, modeling().CLIPTextModelOutput, "__init__", make)


@in_transformers(COPIES)
def pickles_lose_hidden_states(patch: MonkeyPatch) -> None:
    """What comes out of a pickle or a copy of CLIPVisionModelOutput has no hidden states."""

    def reduce(self: Any) -> Any:
        kept = {name: value for name, value in self.items() if name != "hidden_states"}
        return (_made, (type(self), kept))

    patch.setattr(modeling().CLIPVisionModelOutput, "__reduce__", reduce)
    patch.setattr(modeling().CLIPVisionModelOutput, "__reduce_ex__", lambda self, protocol: reduce(self))


@in_transformers(SET)
def fields_set_by_name_stay_as_attributes(patch: MonkeyPatch) -> None:
    """A field of an output that is set by attribute keeps its old value by name and in the tuple."""
    patch.setattr(_base(), "__setattr__", object.__setattr__)


def _made(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**values)
