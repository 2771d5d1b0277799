"""Reading paths back, on cases worked by hand: ambiguity, given values, assumptions, and searches that have to end."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path

import pytest

from clip_eval.paths import USUAL, AmbiguousPath, Assumptions, MismatchError, PathTemplate, RecordError, SearchError

RULE = (
    "pixiv/{AI}/{user}/{series_id}{series_title}/{series_order}_{page_title}_{page_tag}_{type}_{tags_transl_only}_{id}"
)
GOLDEN = Path(__file__).parents[2] / "fixtures" / "path-templates" / "golden.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
RECORD: dict[str, object] = CASES[0]["record"]


def test_records_of_a_template_that_does_not_identify_can_collide() -> None:
    """What `identifies` denies does happen: two ids, one path, and reading it says so."""
    template = PathTemplate("{id}_{title}")
    assert template.render({"id": "7", "title": "p0_x"}) == template.render({"id": "7_p0", "title": "x"}) == "7_p0_x"
    with pytest.raises(AmbiguousPath) as caught:
        template.parse_id("7_p0_x")
    assert caught.value.candidates == ("7", "7_p0")


def test_the_rule_is_ambiguous_without_help() -> None:
    """No separator stands between number and title of a series, so a path alone has more than one record."""
    template = PathTemplate(RULE)
    with pytest.raises(AmbiguousPath) as caught:
        template.parse(CASES[0]["path"])
    assert len(caught.value.candidates) == 15
    assert caught.value.complete
    assert all(
        template.render(candidate, extension="jpg") == CASES[0]["path"]
        for candidate in caught.value.candidates
        if isinstance(candidate, dict)
    )
    found = template.parse(
        CASES[0]["path"], given={name: RECORD[name] for name in ("page_title", "page_tag")}, assume=USUAL
    )
    assert found == {name: RECORD[name] for name in template.names}


def test_what_is_given_has_to_be_in_the_path() -> None:
    """A given value that the path does not hold is a mismatch; one that was shortened in it is not."""
    template = PathTemplate("{user}/{title}_{id}")
    with pytest.raises(MismatchError):
        template.parse("a/b_1.jpg", given={"title": "c"})
    title = "花" * 200
    path = template.render({"title": title, "id": "1"}, extension="jpg")
    assert template.parse(path, given={"title": title}) == {"user": "", "title": title, "id": "1"}
    with pytest.raises(MismatchError):
        template.parse(path, given={"title": "花" * 70})


def test_a_text_that_vanished_but_for_its_ellipsis_is_found_again() -> None:
    """Blank texts shrink to an ellipsis, however long they were, and what is given beside them is confirmed."""
    record: dict[str, object] = {"page_title": "a" * 300, "page_tag": " " * 300, "tags_transl_only": [" " * 300, "a"]}
    record |= {"type": "Manga", "id": "7"}
    template = PathTemplate(RULE)
    path = template.render(record, extension="jpg")
    assert path.endswith("…_…_Manga_…_7.jpg")
    known = {"page_title": record["page_title"], "series_title": None, "user": None}
    assert all(template.render(found, extension="jpg") == path for found in template.parse_all(path, given=known))
    assert any(template.parse_all(path, given=known))


def test_a_blank_field_is_confirmed_where_it_comes_twice() -> None:
    """White space that one edge of a name lost, and the middle kept, is the given value."""
    template = PathTemplate("{user}{AI}{user}{AI}")
    record = {"user": "\u3000", "AI": True}
    assert template.render(record) == "AI\u3000AI"
    assert template.parse("AI\u3000AI", given=record) == record


def test_a_list_of_candidates_ends() -> None:
    """An error carries the first candidates, and says that there are more."""
    with pytest.raises(AmbiguousPath) as caught:
        PathTemplate("{title}{user}").parse("a" * 100)
    assert (len(caught.value.candidates), caught.value.complete) == (16, False)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/1.jpg", "absolute"), ("a//1.jpg", "empty"), ("../1.jpg", "dots"), ("a?/1.jpg", "unclean"), ("con/1", "device")],
)
def test_paths_that_were_never_rendered_are_refused(path: str, why: str) -> None:
    """A path that rendering cannot give has no record and no id."""
    template = PathTemplate("{user}/{id}")
    assert list(template.parse_all(path)) == [], why
    with pytest.raises(MismatchError):
        template.parse(path)
    with pytest.raises(MismatchError):
        template.parse_id(path)


def test_unknown_names_are_errors_with_the_nearest() -> None:
    """A field that is given or assumed, and that the field set does not know, is an error at once."""
    template = PathTemplate("{user}/{id}")
    with pytest.raises(RecordError, match="'user'"):
        template.parse("a/1", given={"usr": "a"})
    with pytest.raises(RecordError, match="'title'"):
        template.parse_all("a/1", assume=Assumptions(present=frozenset({"titel"})))
    assert template.parse("a/1", given={"title": "not in the template"}) == {"user": "a", "id": "1"}


def test_assumptions_narrow_the_records() -> None:
    """Each assumption leaves out the records that it denies."""
    template = PathTemplate("{user}/{series_id}{series_title}/{id}")
    assert len(list(template.parse_all("a/12b/3"))) == 3
    present = Assumptions(present=frozenset({"series_id"}))
    assert [found["series_id"] for found in template.parse_all("a/12b/3", assume=present)] == ["1", "12"]
    whole = Assumptions(whole=frozenset({"series_id"}))
    assert [found["series_id"] for found in template.parse_all("a/12b/3", assume=whole)] == [None, "12"]
    together = Assumptions(together=(frozenset({"series_id", "series_title"}),))
    assert [found["series_title"] for found in template.parse_all("a/12b/3", assume=together)] == ["2b", "b"]


DEEP = PathTemplate("{title}{user}{page_title}{page_tag}{series_title}")


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{title}{user}{page_title}{page_tag}", "a" * 300),
        ("{title}_{user}_{page_title}_{page_tag}", "_" * 300),
        ("{user}" + "/{title}" * 60, "/".join("a" * 30)),
        ("/{title}/{user}/{page_title}/{page_tag}/{series_title}" * 8, "/".join("a" * 21)),
        (
            "{user}/{title}/{user}{title}{page_tag}/{page_title}{page_tag}",
            f"{'x' * 50}/y/{'x' * 50}y{'z' * 50}/{'z' * 99}_",
        ),
        (DEEP.text, "\u0301\u0301" * 40),
    ],
)
def test_reading_ends_soon(template: str, path: str) -> None:
    """A path of which there are more readings than atoms, none of them a record, is read or refused at once."""
    start = time.process_time()
    with pytest.raises((MismatchError, AmbiguousPath)):
        PathTemplate(template).parse(path, folder=True)
    assert time.process_time() - start < 5  # a minute or more, if every reading were tried


def test_a_search_that_leads_nowhere_is_given_up() -> None:
    """Where nothing tells the readings apart before they are tried, the search ends with an error that says so."""
    path = "e\u0301" * 60 + "x"
    with pytest.raises(SearchError, match="more given values help"):
        DEEP.parse(path, folder=True)
    with pytest.raises(SearchError):
        list(DEEP.parse_all(path, folder=True))
    found = DEEP.parse_all("ab" * 60, folder=True)
    assert sum(1 for _ in islice(found, 30_000)) == 30_000, "what finds something goes on"


def test_a_field_that_is_cut_in_one_place_is_confirmed() -> None:
    """A field that comes twice, whole in one segment and cut in the other beside another cut text, is read back."""
    template = PathTemplate("{user}/{tags_transl_only}{user}")
    record = {"user": "a" * 200, "tags_transl_only": ["a" * 200]}
    path = template.render(record)
    assert template.parse(path, given=record, folder=True) == record
    assert template.render(template.as_read(record)) == path


def test_a_text_that_ends_in_an_ellipsis_need_not_be_cut() -> None:
    """Beside texts that were cut, one that ends as cut texts do may be whole: a given text still holds."""
    template = PathTemplate("{page_title}_{page_tag}_{tags_transl_only}_{id}")
    record = {"page_title": ".." + "a" * 232, "page_tag": ".." + "a" * 232, "tags_transl_only": ["0 …"], "id": "0"}
    path = template.render(record, extension="jpg")
    assert "…_0 …_0" in path
    for name in ("page_title", "page_tag"):
        found = list(template.parse_all(path, given={name: record[name]}))
        assert found
        assert all(template.render(one, extension="jpg") == path for one in found)
