"""Path templates on measured cases and on cases worked by hand; their properties are in `tests/properties`."""

from __future__ import annotations

import ast
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import clip_eval.paths
from clip_eval.paths import (
    EXTENSIONS,
    PIXIV,
    TEXT,
    ExtensionError,
    LengthError,
    PathRegistry,
    PathTemplate,
    RecordError,
    TemplateError,
    choice,
    clean,
    flag,
    fold,
)

RULE = (
    "pixiv/{AI}/{user}/{series_id}{series_title}/{series_order}_{page_title}_{page_tag}_{type}_{tags_transl_only}_{id}"
)
GOLDEN = Path(__file__).parents[2] / "fixtures" / "path-templates" / "golden.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
RECORD: dict[str, object] = CASES[0]["record"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_measured_cases_match(case: dict[str, Any]) -> None:
    """Each path that was measured is rendered, its id read back, and its record found again and confirmed."""
    template = PathTemplate(case["template"])
    assert template.render(case["record"], extension=case["extension"]) == case["path"]
    assert template.parse_id(case["path"]) == case["record"]["id"]
    assert template.as_read(case["record"], extension=case["extension"]) in list(template.parse_all(case["path"]))
    expected = {name: case["record"][name] for name in template.names}
    assert template.parse(case["path"], given=case["record"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("..\\..", "..＼.."),
        ('\\/:?"<>*|~', "＼／：？＂＜＞＊｜～"),
        ("．．／", "．．／"),
        ("a\u200b\u202e\u2066\ufeff\x00\n\t\x85\u2028\u2029\ufdd0\uffff\ud800\U000e0041\u00adb", "ab"),
        ("👨\u200d👩", "👨👩"),
        ("e\u0301 \u212b ﬁ", "é Å ﬁ"),
        ("<\u0338", "＜\u0338"),
        ("❤\ufe0f", "❤\ufe0f"),
    ],
)
def test_values_are_cleaned(text: str, expected: str) -> None:
    """Values lose what no name may hold, keep what it may, and are composed, never compatibly."""
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("template", "record", "expected"),
    [
        ("a-{title}_{id}", {"id": "1"}, "a_1"),
        ("a - {title}b", {}, "a -b"),
        ("a_{title}-{user}_{id}", {"id": "1"}, "a_1"),
        ("{title}-_{user}", {"title": "-"}, "--"),
        ("--{title}{user}x", {}, "-x"),
        ("a+{title}{id}", {"id": "1"}, "a+1"),
        ("{title}_{id}", {"title": "\u200b", "id": "1"}, "_1"),
        ("a_{title}_{id}", {"title": "  ", "id": "1"}, "a_  _1"),
        ("{{{id}}}", {"id": "1"}, "{1}"),
        ("a//{title}/ /{id}", {"id": "1"}, "a/1"),
        ("_{title}/{id}", {"id": "1"}, "1"),
        ("/etc/{id}", {"id": "1"}, "etc/1"),
        ("C:\\{id}", {"id": "1"}, "C：＼1"),
        ("{title}", {"title": "..."}, "．.．"),
        ("{title}", {"title": " . "}, "．"),
        ("{title}", {"title": "con"}, "con[WindowsReservedName]"),
        ("{title}", {"title": "COM5"}, "COM5[WindowsReservedName]"),
        ("{title}", {"title": "lpt¹.tar.gz"}, "lpt¹．tar．gz"),
        ("{title}", {"title": "con .x"}, "con ．x"),
        ("{title}", {"title": "console"}, "console"),
        ("{title}", {"title": "conın$"}, "conın$"),
        ("com{id}", {"id": "7"}, "com7[WindowsReservedName]"),
        ("{user}/{id}", {"user": "x{type}y$&%s\\1", "id": "1"}, "x{type}y$&%s＼1/1"),
        ("{tags_transl_only}", {"tags_transl_only": ["a", "", "b\u200b", "a", "b"]}, "a,b"),
        ("{series_id}{series_order}", {"series_id": 12, "series_order": 0}, "12"),
        ("{AI}{user_id}", {"AI": True, "user_id": "007"}, "AI007"),
    ],
)
def test_rules_hold(template: str, record: dict[str, object], expected: str) -> None:
    """Separators, segments, dots, reserved names and fields are as the rules have them."""
    assert PathTemplate(template).render(record) == expected


DEVICES = ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
DEVICES += [port + digit for port in ("com", "lpt") for digit in "0123456789¹²³"]


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_of_windows_is_renamed(name: str) -> None:
    """Each reserved name, in any case, alone and with an extension, as a folder and as a file; longer names are not."""
    template = PathTemplate("{user}/{title}")
    for device in (name, name.upper(), name.title(), name.swapcase()):
        record = {"user": device, "title": f"{device}.tar.gz"}
        assert template.render(record, extension="png") == f"{device}[WindowsReservedName]/{device}．tar．gz.png"
        assert template.render({"user": f"{device}x", "title": f"x{device}"}) == f"{device}x/x{device}"


@pytest.mark.parametrize("separator", "-_ ,&#")
def test_an_empty_field_takes_one_separator_before_it(separator: str) -> None:
    """One of the six separators goes, the nearest, and none behind the field."""
    assert PathTemplate(f"a{separator}{{title}}").render({}) == "a"
    assert PathTemplate(f"a{separator}{separator}{{title}}b").render({}) == f"a{separator}b"
    assert PathTemplate(f"a{{title}}{separator}b").render({}) == f"a{separator}b"
    assert PathTemplate(f"a{separator}{{title}}{separator}b").render({}) == f"a{separator}b"


@pytest.mark.parametrize("literal", "+.=@;!'()[]、・＿－\u3000")
def test_other_literal_text_stays(literal: str) -> None:
    """What is none of the six separators stays where a field is empty, look as it may."""
    assert PathTemplate(f"a{literal}{{title}}b").render({}) == f"a{literal}b"


@pytest.mark.parametrize(
    ("template", "record", "expected"),
    [
        ("{user}/{id}", {"user": "x{type}y", "type": "Manga"}, "x{type}y/1"),
        ("{user}/{id}", {"user": "$&$1$`$'/../"}, "$&$1$`$'／..／/1"),
        ("{user}/{id}", {"user": "COM5"}, "COM5[WindowsReservedName]/1"),
        ("a/{user}/{id}", {"user": "\u3000\u3000"}, "a/1"),
        ("{user}/{id}", {"user": "夏" * 120}, "夏" * 78 + "…/1"),
        ("{title}_{id}", {"title": "夏" * 120}, "夏" * 78 + "…_1"),
    ],
)
def test_what_is_unsafe_elsewhere_is_safe_here(template: str, record: dict[str, object], expected: str) -> None:
    """Values that a known program reads twice, lets through or gives up for an id are written as they are, and fit."""
    path = PathTemplate(template).render({**record, "id": "1"})
    assert path == expected
    assert max(len(name.encode()) for name in path.split("/")) <= 239


def test_a_device_with_an_extension_of_its_own_is_renamed() -> None:
    """A file is no device: its name is finished before the extension is added."""
    template = PathTemplate("{title}")
    assert template.render({"title": "nul"}, extension="jpg") == "nul[WindowsReservedName].jpg"
    assert template.render({"title": "nul."}, extension="jpg") == "nul．.jpg"
    assert template.render({"title": "a. "}, extension="jpg") == "a．.jpg"


def test_tags_are_shortened_first_and_at_a_separator() -> None:
    """Whole tags are dropped from the end; titles stay, and so do order, type and id."""
    record = {**RECORD, "tags_transl_only": [f"花火{number}" for number in range(40)]}
    name = PathTemplate(RULE).render(record, extension="jpg").rpartition("/")[2]
    tags = ",".join(f"花火{number}" for number in range(20))
    assert name == f"#3_#初音ミク - pixiv_初音ミク_Manga_{tags}…_123456789_p0.jpg"
    assert len(name.encode()) <= 239 < len(name.encode()) + len(",花火20".encode())


def test_the_longest_title_is_shortened_at_a_grapheme() -> None:
    """Where tags are not enough, the longest text is cut between graphemes, and shorter ones stay."""
    template = PathTemplate("{page_title}_{title}_{tags_transl_only}_{id}")
    record = {
        "page_title": "e\u0323\u0302x\u0323" * 99,
        "title": "short",
        "tags_transl_only": ["one", "two"],
        "id": "7_p0",
    }
    name = template.render(record, extension="png")
    title, *rest = name.split("_")
    assert rest == ["short", "one…", "7", "p0.png"]
    assert title == "\u1ec7x\u0323" * 35 + "\u1ec7" + "…"
    assert len(name.encode()) == 238


def test_titles_are_shortened_to_one_level() -> None:
    """Two long texts are cut to the same size; neither is given up for the other."""
    name = PathTemplate("{page_title}_{title}_{id}").render({"page_title": "a" * 300, "title": "b" * 200, "id": "7"})
    assert name == "a" * 115 + "…_" + "b" * 115 + "…_7"


def test_folders_are_shortened_too() -> None:
    """Every segment has 255 bytes less 16 of reserve; the extension counts in the last one."""
    path = PathTemplate("{user}/{title}").render({"user": "a" * 300, "title": "b" * 300}, extension="jpeg")
    folder, name = path.split("/")
    assert folder == "a" * 236 + "…"
    assert name == "b" * 231 + "….jpeg"


def test_what_cannot_be_shortened_is_an_error() -> None:
    """An id is never touched: where it alone is too long, there is no path."""
    with pytest.raises(LengthError, match="239 are allowed"):
        PathTemplate("{title}{id}").render({"id": "1" * 250, "title": "x" * 9})
    assert PathTemplate("{id}").render({"id": "1" * 239})


@pytest.mark.parametrize("extension", ["exe", "JPG", ".jpg", "", "jpg/../x", "j\u200bpg"])
def test_extensions_are_those_of_the_list(extension: str) -> None:
    """Only listed extensions are added, as they are listed; a wrong one is an error with the nearest."""
    with pytest.raises(ExtensionError):
        PathTemplate("{id}").render({"id": "1"}, extension=extension)
    assert {"jpg", "png", "gif", "webm", "mp4", "txt"} <= EXTENSIONS


def test_extension_errors_name_the_nearest() -> None:
    """The error for an extension in capitals says how it is written."""
    with pytest.raises(ExtensionError, match="'jpg'"):
        PathTemplate("{id}").render({"id": "1"}, extension=".JPG")


def test_field_sets_are_data() -> None:
    """Report folders use the same class with fields of their own."""
    fields = {
        "model": TEXT,
        "dtype": choice("float32", "bfloat16", "int8/4"),
        "device": replace(TEXT, required=True),
        "big": flag("L"),
    }
    template = PathTemplate("{model}/{dtype}-{device}_{big}", fields=fields)
    record: dict[str, object] = {"model": "openai/clip", "dtype": "float32", "device": "cuda:0"}
    assert template.render(record) == "openai／clip/float32-cuda：0"
    expected = {"model": "openai／clip", "dtype": "float32", "device": "cuda：0", "big": False}
    assert template.parse("openai／clip/float32-cuda：0", folder=True) == expected
    assert template.render({**record, "dtype": "int8/4", "big": True}) == "openai／clip/int8／4-cuda：0_L"
    assert template.parse("a/int8／4-b", folder=True)["dtype"] == "int8/4"
    assert not template.identifies
    with pytest.raises(TemplateError, match="identifies records"):
        template.parse_id("a/float32-b")
    with pytest.raises(RecordError, match="one of float32, bfloat16, int8/4"):
        template.render({**record, "dtype": "float16"})
    with pytest.raises(TemplateError) as caught:
        PathTemplate("{id}", fields=fields)
    assert caught.value.nearest is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (RULE, True),
        ("{title}_{id}", True),
        ("{title}-{id}", True),
        ("{id}-{title}", True),
        ("{id} {title}", True),
        ("{id}", True),
        ("{user}/{id}", True),
        ("a{id}/{user}", True),
        ("{title}{id}", False),
        ("{id}{title}", False),
        ("{id}_{title}", False),
        ("{title}p{id}", False),
        ("{title}_{id}_{user}", False),
        ("{user}/{id}/{title}", False),
        ("{id}-{title}{user}", False),
        ("{id}-\ufe0f{title}{user}", True),
        ("{id}\ufe0f{title}", False),
        ("{title}", False),
    ],
)
def test_templates_that_identify_are_known(template: str, expected: bool) -> None:
    """A template identifies where nothing beside the id can be taken for a part of it."""
    assert PathTemplate(template).identifies is expected


def test_lint_names_each_break() -> None:
    """Every kind of finding, with its record and the record it clashes with."""
    records: list[dict[str, object]] = [
        {"user": "É", "title": "a", "id": "1"},
        {"user": "e\u0301", "title": "A", "id": "1"},
        {"user": "É", "title": "a", "id": "1"},
        {"user": "b", "title": "x" * 300, "id": "2"},
        {"user": "b", "id": "no"},
        {"user": "", "title": "É", "id": "3"},
        {"user": "É_3.jpg", "title": "c", "id": "4"},
    ]
    findings = list(PathTemplate("{user}/{title}_{id}").lint(records, extension="jpg"))
    observed = [(finding.kind, finding.index, finding.other) for finding in findings]
    assert observed == [
        ("same file", 1, 0),
        ("same path", 2, 0),
        ("shortened", 3, None),
        ("no path", 4, None),
        ("file and folder", 6, 5),
    ]
    assert findings[3].path is None
    assert "'id'" in findings[3].what


def test_lint_asks_for_the_extension_of_each_record() -> None:
    """A function may say which extension a record has; one that is not allowed is a record without a path."""
    records = [{"id": "1", "as": "png"}, {"id": "1", "as": "jpg"}, {"id": "2", "as": "exe"}]
    findings = list(PathTemplate("{id}").lint(records, extension=lambda record: str(record["as"])))
    assert [(finding.kind, finding.index) for finding in findings] == [("no path", 2)]


def test_a_file_inside_a_file_is_a_clash() -> None:
    """A path cannot be both a file and a folder, whichever comes first."""
    registry = PathRegistry()
    assert registry.add("a/b") is None
    inside = registry.add("A/B/c")
    assert inside is not None
    assert (inside.kind, inside.first) == ("file and folder", 0)
    outside = registry.add("a")
    assert outside is not None
    assert (outside.kind, outside.first) == ("file and folder", 0)
    assert len(registry) == 3


def test_folded_paths_are_equal_where_a_file_system_may_think_so() -> None:
    """Case, composition and invisible characters do not count; all else does."""
    assert fold("É/ß.JPG") == fold("e\u0301/SS.jpg") == fold("É\ufe0f/ß.jpg")
    assert fold("ａ") != fold("a")


def test_templates_compare_by_text_and_fields() -> None:
    """Equal texts and fields make equal templates, which can be keys and can travel between processes."""
    assert PathTemplate(RULE) == PathTemplate(RULE) != PathTemplate("{id}")
    assert {PathTemplate(RULE), PathTemplate(RULE, PIXIV)} == {PathTemplate(RULE)}
    other = PathTemplate("{a}", {"a": TEXT})
    assert pickle.loads(pickle.dumps(other)) == other


def test_a_template_may_be_as_long_as_one_likes() -> None:
    """Thousands of fields exhaust no stack, neither in rendering nor in reading back."""
    template = PathTemplate("{id}" + "/{title}{AI}" * 2000)
    assert template.identifies
    assert template.parse_id(template.render({"id": "7"})) == "7"
    assert template.parse("7", folder=True) == {"id": "7", "title": "", "AI": False}


def test_the_module_stands_alone() -> None:
    """No file of the module imports another part of the package, torch or NumPy."""
    imported = set()
    for file in Path(clip_eval.paths.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
    own = {name for name in imported if name.startswith("clip_eval")}
    assert all(name.startswith("clip_eval.paths") for name in own)
    assert not {"torch", "numpy", "transformers"} & {name.partition(".")[0] for name in imported}
