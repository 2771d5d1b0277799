"""Properties of rendered paths."""

from __future__ import annotations

import copy
import json
import ntpath
import os
import pickle
import posixpath
import subprocess
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from clip_eval.paths import PIXIV, LengthError, PathTemplate, RecordError, TemplateError, fold
from clip_eval.paths.cleaning import ELLIPSIS

from . import reference
from .reference import attempt
from .strategies import ANY_TEXT, APART, EXTENSION, IDS, NASTY, RECORDS, RULE, SHORT_RECORDS, TEMPLATES

Record = dict[str, object]


def rendered(template: str, record: Record, extension: str | None = None) -> str:
    """Return the path of `record`; an example without a path, for a documented reason, is no example."""
    try:
        return PathTemplate(template).render(record, extension=extension)
    except (LengthError, RecordError):
        reject()


@given(TEMPLATES, RECORDS, EXTENSION)
def test_rendering_raises_only_documented_errors(template: str, record: Record, extension: str | None) -> None:
    """Any record of the right kinds renders, or is refused for its length or because nothing names a file."""
    path = attempt(PathTemplate(template).render, record, extension=extension)
    if isinstance(path, RecordError):
        assert path.field is None
        assert reference.render(template, record) == ""
    else:
        assert isinstance(path, (str, LengthError))


@given(
    st.dictionaries(
        st.sampled_from(sorted(PIXIV)), st.one_of(ANY_TEXT, st.integers(), st.floats(), st.lists(st.none()))
    )
)
def test_records_of_other_kinds_are_refused_by_field(record: Record) -> None:
    """A record with values of any kind renders, or the error names a field of the template."""
    path = attempt(PathTemplate(RULE).render, record)
    if isinstance(path, RecordError):
        assert path.field in PIXIV
    else:
        assert isinstance(path, (str, LengthError))


@given(RECORDS, EXTENSION)
def test_every_whole_record_has_a_path_under_the_rule(record: Record, extension: str | None) -> None:
    """Under the rule of this project no record of the right kinds is refused, whatever its texts are."""
    assert PathTemplate(RULE).render(record, extension=extension)


@given(TEMPLATES, SHORT_RECORDS)
def test_paths_are_those_of_the_reference(template: str, record: Record) -> None:
    """Where nothing has to be shortened, the path is what the rules, written down a second time, give."""
    expected = reference.render(template, record)
    assume(expected)
    assume(all(len(name.encode()) <= 239 for name in expected.split("/")))
    assert PathTemplate(template).render(record) == expected


@given(TEMPLATES, RECORDS, EXTENSION)
def test_paths_are_safe(template: str, record: Record, extension: str | None) -> None:
    """A path stays under its root, its segments are valid names and no more than the template's, and rendering it
    changes nothing. One test for all of this: to draw an example takes longer than to render it.
    """
    before = copy.deepcopy(record)
    path = rendered(template, record, extension)
    _stays_under_its_root(path)
    _has_valid_names(path)
    assert path.count("/") <= template.count("/"), "values never add folders"
    assert record == before
    again = pickle.loads(pickle.dumps(PathTemplate(template)))
    assert again == PathTemplate(template)
    assert again.render(record, extension=extension) == path


def _stays_under_its_root(path: str) -> None:
    """On both systems a path is relative, has no drive, and normalising it changes nothing."""
    assert posixpath.normpath(path) == path
    assert ntpath.normpath(path) == path.replace("/", "\\")
    assert not PurePosixPath(path).is_absolute()
    assert PureWindowsPath(path).anchor == ""
    assert Path("/root", path).resolve().is_relative_to("/root")


def _has_valid_names(path: str) -> None:
    """Each segment is a name that NTFS, APFS and ext4 accept and give back, with room for 16 more bytes."""
    for name in path.split("/"):
        assert name
        assert len(name.encode()) <= 239
        assert not any(character in reference.NARROW or reference.is_deleted(character) for character in name)
        assert name == name.strip() == name.strip(".")
        assert not reference.is_reserved(name)


@given(TEMPLATES, RECORDS, st.sampled_from(["jpg", "webm", "txt"]))
def test_extension_comes_last_and_adds_nothing_else(template: str, record: Record, extension: str) -> None:
    """A path ends with its extension; before it stands the path without extension, or a shorter one."""
    stem, dot, observed = rendered(template, record, extension).rpartition(".")
    assert (dot, observed) == (".", extension)
    folder = rendered(template, record)
    assert stem == folder or ELLIPSIS in stem


@given(APART, RECORDS, RECORDS, IDS, IDS)
def test_different_ids_have_different_paths(template: str, left: Record, right: Record, one: str, other: str) -> None:
    """Where a template identifies, records with different ids never share a path, in no letter case."""
    assume(one != other)
    paths = [rendered(template, {**record, "id": name}) for record, name in ((left, one), (right, other))]
    assert fold(paths[0]) != fold(paths[1])


@given(RECORDS)
def test_shortening_leaves_the_rest_alone(record: Record) -> None:
    """However long its texts are, the file name keeps order, type and id; only free texts end in an ellipsis."""
    path = PathTemplate(RULE).render(record, extension="jpg")
    name = path.rpartition("/")[2]
    assert name.startswith(reference.written("series_order", record["series_order"]))
    assert name.endswith(f"_{record['id']}.jpg")
    assert f"_{record['type']}_" in name
    expected = reference.render(RULE, record)
    names = expected.split("/")
    if max(len(part.encode()) for part in names[:-1]) <= 239 and len(names[-1].encode()) <= 235:
        assert path == expected + ".jpg"


@given(st.lists(ANY_TEXT, min_size=1, max_size=30), IDS)
def test_tags_are_cut_at_a_separator(tags: list[str], name: str) -> None:
    """Where tags alone are too long, whole tags go from the end; the first tag alone may lose a part."""
    whole = reference.written("tags_transl_only", tags)
    path = PathTemplate("x{tags_transl_only}_{id}").render({"tags_transl_only": tags, "id": name})
    kept = path[1 : -len(name) - 1]
    first = next((tag for tag in map(reference.clean, tags) if tag), "")
    if kept != whole:
        assert len(f"x{whole}_{name}".encode()) > 239
        head = kept.removesuffix(ELLIPSIS)
        assert whole.startswith(head)
        assert whole[len(head) :].lstrip().startswith(",") or len(f"x{first}…_{name}".encode()) > 239


@given(ANY_TEXT, IDS)
def test_a_single_title_is_as_long_as_it_can_be(title: str, name: str) -> None:
    """A shortened title leaves less room than its next grapheme needs."""
    template = PathTemplate("x{title}_{id}")
    record: Record = {"title": title, "id": name}
    path = template.render(record)
    cleaned = reference.clean(title)
    kept = path[1 : -len(name) - 1]
    if kept != cleaned:
        head = kept.removesuffix(ELLIPSIS)
        assert cleaned.startswith(head)
        rest = cleaned[len(head) :]
        assert len(path.encode()) + len(rest.encode()) > 239
        if cleaned.isascii() and not rest.startswith(" "):
            assert len(path.encode()) == 239


@given(ANY_TEXT)
def test_any_text_is_a_template_or_an_error_at_a_brace(text: str) -> None:
    """Any str compiles, or the error points at a brace, at overlong literal text, or at the start of nothing."""
    template = attempt(PathTemplate, text)
    if isinstance(template, TemplateError):
        at = text[template.position : template.position + 1]
        assert at in ("{", "}") or "literal text" in template.what or template.position == 0
        assert template.template == text
    else:
        assert isinstance(template, PathTemplate)
        assert all(f"{{{name}}}" in text for name in template.names)


@given(ANY_TEXT)
def test_literal_text_is_safe(text: str) -> None:
    """Literal text, its braces escaped, becomes a path under the root, with no folder but for its slashes."""
    literal = text.replace("{", "{{").replace("}", "}}")
    template = attempt(PathTemplate, literal + "{id}")
    assume(isinstance(template, PathTemplate))
    assert isinstance(template, PathTemplate)
    path = rendered(template.text, {"id": "7"})
    assert path.count("/") <= text.count("/")
    assert [part for part in path.split("/") if part in ("", ".", "..")] == []
    assert path.endswith(("7", "7[WindowsReservedName]"))


@given(TEMPLATES, st.data())
def test_a_broken_brace_is_pointed_at(template: str, data: st.DataObject) -> None:
    """A brace put into a template that compiles is an error at a brace, or makes another template that compiles."""
    at = data.draw(st.integers(0, len(template)))
    broken = template[:at] + data.draw(st.sampled_from("{}")) + template[at:]
    error = attempt(PathTemplate, broken)
    if isinstance(error, TemplateError):
        assert broken[error.position] in "{}"


@given(st.sampled_from(sorted(PIXIV)), st.integers(0, 20), st.sampled_from(["x", "_", "0"]), TEMPLATES)
def test_a_misspelt_field_is_named(name: str, at: int, letter: str, before: str) -> None:
    """A field with one letter too many is an error at its brace, and the nearest name is one that is as near."""
    wrong = name[:at] + letter + name[at:]
    assume(wrong not in PIXIV and len(name) > 3)
    with pytest.raises(TemplateError) as caught:
        PathTemplate(f"{before}{{{wrong}}}")
    assert caught.value.position == len(before)
    assert caught.value.nearest in PIXIV


def test_paths_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """Another process, with another hash seed, renders every nasty text to the same paths."""
    records: list[Record] = [
        {"user": text, "tags_transl_only": [text, "b", text], "title": text, "type": "Manga", "id": "1_p0"}
        for text in NASTY
    ]
    template = PathTemplate(RULE)
    source = tmp_path / "records.json"
    source.write_text(json.dumps([RULE, records]), encoding="utf-8")
    code = (
        "import json, sys; from clip_eval.paths import PathTemplate; rule, records = json.load(open(sys.argv[1]));"
        "template = PathTemplate(rule); print(json.dumps([template.render(r, extension='jpg') for r in records]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, check=True, env=environment)
    assert json.loads(done.stdout) == [template.render(record, extension="jpg") for record in records]
