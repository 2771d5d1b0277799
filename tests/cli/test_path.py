"""`clip-eval path`: streams for programs, tables for people, errors in a paragraph, and each way to break a dataset."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.path_commands import Ended, Run, json_lines, running

from clip_eval.cli.path import path
from clip_eval.cli.terminal import columns

run = pytest.fixture(running)

FIXTURES = Path(__file__).parents[2] / "fixtures"
SHAPES = FIXTURES / "shapes-dataset"
RULE = (
    "pixiv/{AI}/{user}/{series_id}{series_title}/{series_order}_{page_title}_{page_tag}_{type}_{tags_transl_only}_{id}"
)
GOLDEN = [
    json.loads(line) for line in (FIXTURES / "path-templates/golden.jsonl").read_text(encoding="utf-8").splitlines()
]


def at_a_terminal(*arguments: object) -> Ended:
    """Run `clip-eval path` in a process of its own, at a terminal of 80 columns."""
    reader, writer = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "clip_eval", "path", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=writer, stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    out = b""
    while True:
        try:
            part = os.read(reader, 2**16)
        except OSError:  # how Linux says that the other end was closed
            break
        if not part:
            break
        out += part
    os.close(reader)
    err = process.stderr.read() if process.stderr else b""
    if process.stderr:
        process.stderr.close()
    return Ended(process.wait(), out.decode().replace("\r\n", "\n"), err.decode())


def test_the_shipped_dataset_is_clean(run: Run) -> None:
    """Linting the shipped dataset against its files prints nothing and ends with 0, whichever way it is named."""
    assert run("lint", RULE, "--records", SHAPES / "manifest.jsonl", "--root", SHAPES) == Ended(0, "", "")
    assert run("lint", "--dataset", SHAPES) == Ended(0, "", "")
    ended = run("lint", "--dataset", SHAPES, "--format", "table")
    assert (ended.code, ended.out) == (0, "528 records and 528 files: no finding\n")


def test_a_dataset_without_a_manifest_has_nothing_to_compare(run: Run, tmp_path: Path) -> None:
    """A folder that is named by a template alone is refused in a paragraph that says what names its wrong paths."""
    (tmp_path / "dataset.toml").write_text('template = "{id}"\n[fields]\n', encoding="utf-8")
    ended = run("lint", "--dataset", tmp_path)
    assert (ended.code, ended.out) == (4, "")
    assert "the dataset has no manifest.jsonl" in " ".join(ended.err.split())


def test_measured_cases_are_rendered(run: Run) -> None:
    """The rule of this project, given records in a pipe, writes the paths that were measured."""
    cases = [case for case in GOLDEN if case["template"] == RULE]
    entries = [{**case["record"], "extension": case["extension"]} for case in cases]
    ended = run("render", RULE, stdin=json_lines(entries))
    assert (ended.code, ended.err) == (0, "")
    assert [line["path"] for line in ended.lines] == [case["path"] for case in cases]
    assert [line["id"] for line in ended.lines] == [case["record"]["id"] for case in cases]
    assert [line["line"] for line in ended.lines] == list(range(1, len(cases) + 1))


def test_rendered_lines_can_be_parsed(run: Run) -> None:
    """What render writes is what parse reads: each id comes back."""
    rendered = run("render", RULE, "--records", SHAPES / "manifest.jsonl")
    ended = run("parse", RULE, "--id", "-", stdin=rendered.out)
    assert ended.code == 0
    assert [line["id"] for line in ended.lines] == [line["id"] for line in rendered.lines]
    assert [line["path"] for line in ended.lines] == [line["path"] for line in rendered.lines]


def test_render_answers_every_line(run: Run) -> None:
    """A record without a path has its line in the output, with the reason; the exit code is 1, stderr says how many."""
    lines = ['{"id": "1", "user": "é"}', "", '{"id": "x"}', "[]", "{", '{"id": "2", "extension": 3}']
    ended = run("render", "{user}/{id}", "--extension", "png", "--records", "-", stdin="\n".join(lines))
    assert ended.code == 1
    assert ended.err == "clip-eval: 4 of 5 records have no path.\n"
    assert ended.lines[0] == {"line": 1, "id": "1", "path": "é/1.png"}
    assert [line["line"] for line in ended.lines] == [1, 3, 4, 5, 6]
    assert ["path" in line for line in ended.lines] == [True] + [False] * 4
    said = ["work number", "not a JSON object", "it is not JSON (Expecting", "'extension' must be text"]
    assert all(text in line["error"] for text, line in zip(said, ended.lines[1:], strict=True))


def test_parse_reads_paths_in_any_form(run: Run) -> None:
    """Arguments, lines of text, and objects with given values are read alike."""
    expected = [{"path": "a/{b}_7.jpg", "record": {"user": "a", "title": "{b}", "id": "7"}}]
    assert run("parse", "{user}/{title}_{id}", "a/{b}_7.jpg").lines == expected
    assert run("parse", "{user}/{title}_{id}", stdin="a/{b}_7.jpg\r\n\n").lines == expected
    known = json_lines([{"path": "a/{b}_7.jpg", "given": {"title": "{b}"}}])
    assert run("parse", "{user}/{title}_{id}", "-", stdin=known).lines == expected
    folder = run("parse", "{user}/{title}_{id}", "--folder", "a.png/b_7")
    assert folder.lines[0]["record"] == {"user": "a.png", "title": "b", "id": "7"}


def test_parse_says_what_is_unsure(run: Run) -> None:
    """An ambiguous path has its candidates, a wrong one its reason, each in its place; the exit code is 1."""
    questions = ["a_b_c_7", "nonsense", '{"line": 3}', '{"path": "a_b_c_7", "given": {"user": 3}}', "a_b_7", "\udcff_7"]
    data = "\n".join(questions).encode(errors="surrogateescape")
    ended = run("parse", "{user}_{title}_{id}", "--folder", "--given", "user=a_b", stdin=data)
    assert ended.code == 1
    assert ended.err == "clip-eval: 4 of 6 paths have no single record.\n"
    assert ended.lines[0]["record"] == {"user": "a_b", "title": "c", "id": "7"}
    assert [line.get("error") for line in ended.lines] == [None, "mismatch", "no path", "mismatch", None, "mismatch"]
    ambiguous = run("parse", "{user}_{title}_{id}", "--folder", "a_b_c_7").lines[0]
    assert ambiguous["error"] == "ambiguous"
    assert {"user": "a_b", "title": "c", "id": "7"} in ambiguous["candidates"]
    assert ambiguous["complete"] is True
    ids = run("parse", "{id}_{title}", "--folder", "--id", "7_p0_x").lines[0]
    assert ids["candidates"] == ["7", "7_p0"]


def test_given_values_and_usual_records_narrow_a_path(run: Run) -> None:
    """With page title and tag as they stand in the path, and --usual, the measured path has its one record."""
    case = GOLDEN[0]
    ended = run(
        *("parse", RULE, "--usual", "--given", "page_title=#初音ミク - pixiv", "--given", "page_tag=初音ミク"),
        *("--given", "series_order=#3", "--given", "AI=AI", case["path"]),
    )
    assert ended.code == 0
    record = ended.lines[0]["record"]
    assert record == {name: case["record"][name] for name in record}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("render 'a/{usr}' --records -", ("position 2", "a/{usr}", "nearest field is {user}")),
        ("render '{id' --records -", ("unclosed brace at position 0",)),
        ("render '{id}' --records nowhere.jsonl", ("nowhere.jsonl", "No such file", "pipe them in")),
        ("render '{id}' --records .", ("directory",)),
        ("render '{id}' --extension JPG --records -", ("--extension", "'jpg'")),
        ("render '{id}' --record x", ("--record",)),
        ("render", ("TEMPLATE",)),
        ("parse '{id}' --given usr=3 1", ("usr=3", "nearest field is user")),
        ("parse '{id}' --given series_order=3 1", ("series_order must be a whole number",)),
        ("lint", ("TEMPLATE", "--dataset")),
        ("lint '{id}' --dataset x", ("--dataset stands for",)),
        ("lint --dataset nowhere", ("nowhere",)),
        ("lint '{id}' --records - --root nowhere", ("nowhere", "does not exist")),
        ("lint '{id}' --records -", ("there are no records",)),
        ("lint '{id}' --ignore long --records -", ("'long'", "shortened")),
        ("lint --dataset ''", ("--dataset is empty",)),
        ("render '{id}' --records ''", ("--records is empty",)),
    ],
)
def test_a_bad_command_is_refused(run: Run, arguments: str, said: tuple[str, ...]) -> None:
    """Each mistake is one paragraph with exit code 4 that says what would be right."""
    ended = run(*shlex.split(arguments))
    assert (ended.code, ended.out) == (4, "")
    text = " ".join(ended.err.split())
    assert text.startswith("clip-eval: ")
    assert text.endswith((".", "--help."))
    assert "\n\n" not in ended.err
    assert [part for part in said if part not in text] == [], text


@pytest.mark.parametrize("name", sorted(path.commands))
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    """Help fits 80 columns and shows an example that the command can parse."""
    ended = run(name, "--help")
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    example = next(line.strip() for line in ended.out.splitlines() if line.strip().startswith("Example: "))
    words = shlex.split(example.removeprefix("Example: "))
    assert words[:3] == ["clip-eval", "path", name]
    path.commands[name].make_context(name, words[3:])


def test_tables_are_for_terminals() -> None:
    """At a terminal the same commands write tables within 80 columns, wide characters counted."""
    manifest = SHAPES / "manifest.jsonl"
    rendered = at_a_terminal("render", RULE, "--records", manifest)
    assert (rendered.code, rendered.err) == (0, "")
    lines = rendered.out.splitlines()
    assert lines[0] == "  line  path"
    assert max(map(columns, lines)) <= 80
    assert (
        "".join(line[8:] for line in lines[1:3])
        == json.loads(
            subprocess.run(
                [sys.executable, "-m", "clip_eval", "path", "render", RULE, "--records", manifest],
                capture_output=True,
                check=True,
            ).stdout.splitlines()[0]
        )["path"]
    )
    linted = at_a_terminal("lint", "--dataset", SHAPES)
    assert (linted.code, linted.out) == (0, "528 records and 528 files: no finding\n")
    parsed = at_a_terminal("parse", "{user}/{title}_{id}", "山/b_7.jpg")
    assert parsed.out == "山/b_7.jpg\n    user              山\n    title             b\n    id                7\n"
    unsure = at_a_terminal("parse", "{user}_{title}_{id}", "--folder", "a_b_c_7")
    assert "ambiguous: each of these has this path" in unsure.out
    assert "user a_b, title c" in unsure.out


@pytest.mark.parametrize("arguments", ["render '{id}'", "parse '{id}'", "lint '{id}'"])
def test_nothing_waits_at_a_terminal(arguments: str) -> None:
    """A command without input at a terminal says so instead of waiting for it."""
    ended = at_a_terminal(*shlex.split(arguments))
    assert ended.code == 4
    assert "there are no" in ended.err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`| head` ends the command quietly, as it ends other filters, in the middle of a stream without end."""
    program = f"yes '{{\"id\": \"1\"}}' | {sys.executable} -m clip_eval path render '{{id}}' | head -n 2"
    done = subprocess.run(
        ["bash", "-c", f'{program}; echo "${{PIPESTATUS[1]}}"'], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        '{"line": 1, "id": "1", "path": "1"}',
        '{"line": 2, "id": "1", "path": "1"}',
        "141",
    ]
