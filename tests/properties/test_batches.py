"""Properties of whole libraries: no collisions, findings, and the real file system as the judge."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clip_eval.paths import PathRegistry, PathTemplate, fold

from .reference import attempt, render
from .strategies import ANY_TEXT, APART, IDS, NASTY, RECORDS, RULE, SHORT_TEXT, records
from .test_render import Record

BATCHES = st.lists(RECORDS, max_size=4, unique_by=lambda record: str(record["id"]))
# Texts that differ by case or normalisation alone, so that only their ids can keep records apart.
ALIKE = records(
    st.sampled_from(["é", "e\u0301", "É", "E\u0301", "ß", "SS", "ss", "ſs", "a", "A", "\ufe0f", "", "\u3000"])
)
ALIKE_BATCHES = st.lists(ALIKE, max_size=5, unique_by=lambda record: str(record["id"]))

# Examples of what is slow; where hours are given, as many as of everything else.
_MOST = settings().max_examples
FEWER = _MOST if _MOST >= 100_000 else _MOST // 4


@given(APART, st.one_of(BATCHES, ALIKE_BATCHES))
def test_records_with_different_ids_never_collide(template: str, batch: list[Record]) -> None:
    """Under a template that identifies, records with different ids never are one file on any file system."""
    findings = list(PathTemplate(template).lint(batch, extension="jpg"))
    assert [finding for finding in findings if finding.kind in ("same path", "same file")] == []


@given(st.lists(RECORDS, max_size=4))
def test_lint_finds_records_without_a_path_and_shortened_paths(batch: list[Record]) -> None:
    """Records without a path, and with a shortened path, are found exactly where the reference has no or long names."""
    text = "{user}/{title}-{series_order}"
    template = PathTemplate(text)
    paths = [attempt(template.render, record) for record in batch]
    sizes = [max(len(name.encode()) for name in render(text, record).split("/")) for record in batch]
    findings = list(template.lint(batch))
    assert [f.index for f in findings if f.kind == "no path"] == [n for n, size in enumerate(sizes) if size == 0]
    assert [f.index for f in findings if f.kind == "shortened"] == [n for n, size in enumerate(sizes) if size > 239]
    assert all(finding.path == paths[finding.index] for finding in findings if finding.kind != "no path")


@given(st.lists(RECORDS, max_size=3))
def test_lint_names_the_earliest_record_of_a_clash(batch: list[Record]) -> None:
    """Records that come twice clash when they come again, each once and with the first whose file is the same one: by
    its path, or by one of other letters.
    """
    template = PathTemplate(RULE)
    findings = [finding for finding in template.lint([*batch, *batch]) if finding.kind in ("same path", "same file")]
    again = [finding for finding in findings if finding.index >= len(batch)]
    assert [finding.index for finding in again] == list(range(len(batch), 2 * len(batch)))
    paths = [template.render(record) for record in batch]
    files = [fold(path) for path in paths]
    assert [finding.other for finding in again] == [files.index(file) for file in files]
    assert [paths[files.index(fold(path))] == path for path in paths] == [f.kind == "same path" for f in again]


@settings(max_examples=FEWER)
@given(st.lists(RECORDS, min_size=1, max_size=4, unique_by=lambda record: str(record["id"])))
def test_files_are_created_listed_and_found_again(batch: list[Record]) -> None:
    """On the real file system every path can be made, is listed as it is, and opens its own file."""
    template = PathTemplate(RULE)
    root = Path(tempfile.mkdtemp())
    try:
        paths = [template.render(record, extension="jpg") for record in batch]
        for number, path in enumerate(paths):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with (root / path).open("x", encoding="ascii") as file:
                file.write(str(number))
        listed = [
            Path(folder, name).relative_to(root).as_posix() for folder, _, names in os.walk(root) for name in names
        ]
        assert sorted(listed) == sorted(paths)
        assert [(root / path).read_text(encoding="ascii") for path in paths] == [str(n) for n in range(len(paths))]
        assert sorted(template.parse_id(path) for path in listed) == sorted(str(record["id"]) for record in batch)
    finally:
        shutil.rmtree(root)


def test_every_nasty_text_is_created_listed_and_found_again(tmp_path: Path) -> None:
    """All nasty texts, each as user, title and tag of a record, make one library on the real file system."""
    template = PathTemplate(RULE)
    batch: list[Record] = [
        {
            "user": text,
            "series_title": text,
            "page_title": text,
            "tags_transl_only": [text],
            "type": "Manga",
            "id": str(number),
        }
        for number, text in enumerate(NASTY)
    ]
    paths = {template.render(record, extension="png") for record in batch}
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch(exist_ok=False)
    listed = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.png")}
    assert listed == paths
    assert {template.parse_id(path) for path in listed} == {str(number) for number in range(len(NASTY))}


_NAMES = st.sampled_from(["a", "A", "b", "é", "e\u0301", "É", "ß", "SS", "a\ufe0f", "x.jpg", "X.JPG"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)


class RegistryMachine(RuleBasedStateMachine):
    """The registry against a list of all paths so far."""

    @initialize()
    def begin(self) -> None:
        """Begin with no path."""
        self.registry = PathRegistry()
        self.paths: list[str] = []

    def _expected(self, path: str) -> tuple[str, int] | None:
        keys = [fold(earlier) for earlier in self.paths]
        key = fold(path)
        if key in keys:
            first = keys.index(key)
            return ("same path" if self.paths[first] == path else "same file", first)
        nested = [n for n, other in enumerate(keys) if other.startswith(key + "/") or key.startswith(other + "/")]
        return ("file and folder", nested[0]) if nested else None

    @rule(
        path=st.one_of(
            _PATHS, SHORT_TEXT.map(lambda text: text.strip("/") or "x"), ANY_TEXT.map(lambda text: "u/" + text)
        )
    )
    def add(self, path: str) -> None:
        """A path clashes with the earliest path that is the same file, or else with the earliest that nests with it."""
        expected = self._expected(path)
        clash = self.registry.add(path)
        assert (clash and (clash.kind, clash.first)) == expected
        self.paths.append(path)

    @rule(path=_PATHS)
    def add_in_other_letters(self, path: str) -> None:
        """A path in other letter case is the same file."""
        self.add(path)
        clash = self.registry.add(path.swapcase())
        self.paths.append(path.swapcase())
        assert clash is not None
        assert clash.kind in ("same path", "same file")

    @rule(path=_PATHS)
    def ask(self, path: str) -> None:
        """The registry knows how a path was added: as it is, in other letters, or not at all."""
        if path in self.paths:
            expected = "as it is"
        else:
            expected = "in other letters" if fold(path) in map(fold, self.paths) else None
        assert self.registry.holds(path) == expected

    @invariant()
    def counts_all(self) -> None:
        """The registry counts every path once."""
        assert len(self.registry) == len(self.paths)


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(stateful_step_count=12, max_examples=FEWER)


@given(st.lists(st.tuples(IDS, SHORT_TEXT), max_size=6))
def test_the_registry_takes_any_str(pairs: list[tuple[str, str]]) -> None:
    """Any str is added without an error, and the same str again is the same path."""
    registry = PathRegistry()
    for name, text in pairs:
        registry.add(f"{text}/{name}")
    for name, text in pairs:
        clash = registry.add(f"{text}/{name}")
        assert clash is not None
        assert clash.kind in ("same path", "same file")
