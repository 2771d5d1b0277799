"""Properties of reading paths back."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from clip_eval.paths import USUAL, AmbiguousPath, MismatchError, PathTemplate, SearchError
from clip_eval.paths.cleaning import ELLIPSIS

from .reference import attempt, first_records
from .strategies import ANY_TEXT, APART, ID_TEMPLATES, RECORDS, RULE, SHORT_RECORDS, SHORT_TEXT, TEMPLATES, records
from .test_render import Record, rendered

# A path of n characters may have n records for each free field: what is searched in full has to be small.
MANY = 3_000
SMALL = st.text(alphabet="_-, #.．…1é\u3000", max_size=3)
SMALL_RECORDS = records(SMALL)


@given(APART, RECORDS, st.sampled_from([None, "jpg"]))
def test_the_id_is_read_back(template: str, record: Record, extension: str | None) -> None:
    """Where a template identifies, the id of every rendered path is read back."""
    path = rendered(template, record, extension)
    assert PathTemplate(template).parse_id(path, folder=extension is None) == record["id"]


@given(RECORDS)
def test_the_id_is_read_back_under_the_rule(record: Record) -> None:
    """Of the rule of this project the id is read back from every path."""
    template = PathTemplate(RULE)
    assert template.parse_id(template.render(record, extension="png")) == record["id"]


@given(ID_TEMPLATES, SMALL_RECORDS)
def test_the_id_is_never_read_wrongly(template: str, record: Record) -> None:
    """Of any template with an id, the right id is read back, or it is among those of the error."""
    found = attempt(PathTemplate(template).parse_id, rendered(template, record), folder=True)
    assert record["id"] in (found.candidates if isinstance(found, AmbiguousPath) else [found])


@given(TEMPLATES, SMALL_RECORDS, st.sampled_from([None, "jpg"]))
def test_the_true_record_is_among_those_of_its_path(template: str, record: Record, extension: str | None) -> None:
    """Reading a path back yields the record as the path holds it, and only records that render to the path."""
    compiled = PathTemplate(template)
    path = rendered(template, record, extension)
    found = list(islice(compiled.parse_all(path, folder=extension is None), MANY))
    assert all(compiled.render(candidate, extension=extension) == path for candidate in found)
    assert len({repr(candidate) for candidate in found}) == len(found)
    if len(found) < MANY:
        assert compiled.as_read(record, extension=extension) in found


@given(TEMPLATES, RECORDS, st.sampled_from([None, "jpg"]))
def test_a_record_as_read_has_the_same_path(template: str, record: Record, extension: str | None) -> None:
    """The record as its path holds it renders to that path, and reads as itself. With all values given, a path gives
    them back, however long and strange they are.
    """
    compiled = PathTemplate(template)
    path = rendered(template, record, extension)
    as_read = compiled.as_read(record, extension=extension)
    assert tuple(as_read) == compiled.names
    assert compiled.render(as_read, extension=extension) == path
    assert compiled.as_read(as_read, extension=extension) == as_read
    expected = {name: record[name] for name in compiled.names}
    assert compiled.parse(path, given=record, folder=extension is None) == expected


@given(TEMPLATES, SHORT_RECORDS, SHORT_RECORDS)
def test_a_wrong_record_confirms_no_path(template: str, record: Record, other: Record) -> None:
    """With all values of another record given, a path is confirmed only where that record has the same path."""
    compiled = PathTemplate(template)
    path, other_path = rendered(template, record), rendered(template, other)
    found = list(compiled.parse_all(path, given=other, folder=True))
    assert bool(found) == (path == other_path)


@given(TEMPLATES, SMALL_RECORDS, st.data())
def test_given_values_narrow_the_records(template: str, record: Record, data: st.DataObject) -> None:
    """With some values given, what is left are the records of the path that have them, the true one among them."""
    compiled = PathTemplate(template)
    path = rendered(template, record)
    names = data.draw(st.sets(st.sampled_from(compiled.names))) if compiled.names else set()
    given_values = {name: record[name] for name in names}
    found = list(islice(compiled.parse_all(path, given=given_values, folder=True), MANY))
    assert all(compiled.render(candidate) == path for candidate in found)
    texts = [str(candidate[name]) for candidate in found for name in names if candidate[name] != record[name]]
    assert all(ELLIPSIS in text for text in texts)
    if len(found) < MANY:
        assert {**compiled.as_read(record), **given_values} in found


@given(RECORDS, st.sets(st.sampled_from(["user", "series_title", "page_title", "page_tag", "tags_transl_only"])))
def test_given_values_hold_in_shortened_paths(record: Record, names: set[str]) -> None:
    """Given any of the free texts, of a path where texts may be shortened, every record found renders to the path."""
    template = PathTemplate(RULE)
    path = template.render(record, extension="jpg")
    found = list(islice(template.parse_all(path, given={name: record[name] for name in names}), 20))
    assert found
    assert all(template.render(candidate, extension="jpg") == path for candidate in found)


ANY_PATH = st.one_of(ANY_TEXT, st.lists(SHORT_TEXT, max_size=4).map("/".join))


@given(TEMPLATES, ANY_PATH)
def test_any_text_is_read_or_refused(template: str, path: str) -> None:
    """Any str is read as a path without any error but the documented ones; what is found renders to it."""
    compiled = PathTemplate(template)
    found = first_records(compiled.parse_all(path, folder=True), 20)
    assert all(compiled.render(candidate) == path for candidate in found)
    record = attempt(compiled.parse, path, folder=True)
    if isinstance(record, SearchError):
        assert len(found) <= 16
    elif isinstance(record, AmbiguousPath):
        assert len(found) > 1
        assert list(record.candidates) == found[:16]
        assert record.complete == (len(found) <= 16)
    else:
        assert found == ([] if isinstance(record, MismatchError) else [record])


@given(ID_TEMPLATES, ANY_PATH)
def test_an_id_is_found_in_any_text_or_refused(template: str, path: str) -> None:
    """Looking for an id in any str raises only documented errors."""
    found = attempt(PathTemplate(template).parse_id, path)
    assert isinstance(found, (AmbiguousPath, MismatchError)) or str(found).strip("0123456789_p") == ""


@given(SHORT_RECORDS)
def test_all_records_of_a_path_of_the_rule_have_its_id(record: Record) -> None:
    """Under the rule, whatever else is unsure, every record of a path has the true id."""
    template = PathTemplate(RULE)
    found = islice(template.parse_all(template.render(record, extension="jpg")), 200)
    assert {candidate["id"] for candidate in found} == {record["id"]}


_WORDS = st.text(alphabet="abé花火の夜", min_size=1, max_size=8)
_NO_SERIES: Record = {"series_id": None, "series_title": None, "series_order": None}
_SERIES = st.fixed_dictionaries(
    {
        "series_id": st.integers(1, 10**7).map(str),
        "series_title": _WORDS,
        "series_order": st.integers(1, 99),
    }
)


@given(records(_WORDS), _WORDS, st.one_of(st.just(_NO_SERIES), _SERIES))
def test_usual_records_are_read_back_whole(record: Record, user: str, series: Record) -> None:
    """With page title and page tag given, and all else as usual, a path of the rule has one record."""
    template = PathTemplate(RULE)
    record = {**record, "user": user, **series}
    path = template.render(record, extension="jpg")
    known = {name: record[name] for name in ("page_title", "page_tag")}
    expected = {**template.as_read(record, extension="jpg"), **known}
    assert template.parse(path, given=known, assume=USUAL) == expected
