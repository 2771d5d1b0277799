"""What a template, a record or a path is refused for: where, and with which nearest name."""

from __future__ import annotations

import pickle

import pytest

from clip_eval.paths import (
    AmbiguousPath,
    MismatchError,
    PathError,
    PathTemplate,
    RecordError,
    TemplateError,
)


@pytest.mark.parametrize(
    ("text", "position", "nearest"),
    [
        ("a/{usr}", 2, "user"),
        ("{TITLE}", 0, "title"),
        ("{tags}", 0, "tags_transl_only"),
        ("{user.name}", 0, "user"),
        ("{id!r}", 0, "id"),
        ("{id:>9}", 0, "id"),
        ("{user[0]}", 0, "user"),
        ("山/{0}", 2, None),
        ("{}", 0, None),
        ("{id", 0, None),
        ("{id}}", 4, None),
        ("{{id}", 4, None),
        ("}", 0, None),
        ("a{b{id}", 1, None),
        ("{ id }", 0, "id"),
        ("", 0, None),
        (" / \u200b/", 0, None),
        ("{id}/" + "x" * 240, 5, None),
    ],
)
def test_template_errors_point_at_the_place(text: str, position: int, nearest: str | None) -> None:
    """An error has the position of the brace, and the nearest field where one is near."""
    with pytest.raises(TemplateError) as caught:
        PathTemplate(text)
    assert (caught.value.position, caught.value.nearest) == (position, nearest)
    assert f"position {position} of" in str(caught.value)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({}, "id"),
        ({"id": ""}, "id"),
        ({"id": "12_p"}, "id"),
        ({"id": "../12"}, "id"),
        ({"id": "１２"}, "id"),
        ({"id": True}, "id"),
        ({"id": "1", "user": 5}, "user"),
        ({"id": "1", "AI": "yes"}, "AI"),
        ({"id": "1", "series_id": "12a"}, "series_id"),
        ({"id": "1", "series_order": -1}, "series_order"),
        ({"id": "1", "series_order": True}, "series_order"),
        ({"id": "1", "type": "manga"}, "type"),
        ({"id": "1", "type": None}, "type"),
        ({"id": "1", "type": "Manga", "tags_transl_only": "a,b"}, "tags_transl_only"),
        ({"id": "1", "type": "Manga", "tags_transl_only": [1]}, "tags_transl_only"),
    ],
)
def test_values_of_another_kind_are_errors(record: dict[str, object], field: str) -> None:
    """A value that a field cannot hold is named with its field, and never written."""
    template = PathTemplate("{id}{user}{AI}{series_id}{series_order}{type}{tags_transl_only}")
    with pytest.raises(RecordError) as caught:
        template.render(record)
    assert caught.value.field == field


def test_a_record_without_any_name_is_an_error() -> None:
    """Where every segment is empty there is no path, not even one with an extension."""
    with pytest.raises(RecordError, match="every segment") as caught:
        PathTemplate("{user}/{title}").render({"title": "\u3000"}, extension="jpg")
    assert caught.value.field is None


@pytest.mark.parametrize(
    "error",
    [
        TemplateError("w", template="{x}", position=0, nearest="id"),
        RecordError("w", "id"),
        AmbiguousPath("w", ({"id": "1"}, {"id": "2"}), complete=False),
        MismatchError("w"),
    ],
)
def test_errors_survive_pickling(error: PathError) -> None:
    """Errors travel between processes with all that they know."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
