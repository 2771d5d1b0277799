"""The `report` command: what it writes where, and one paragraph for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import sample_records as sample
from support.commands import Run, assert_refused

import clip_eval
from clip_eval.files.folder_lock import owned
from clip_eval.report import render_ctrf, render_html, render_junit, render_markdown
from clip_eval.report.moved_pages import render_moved_html, render_moved_markdown
from clip_eval.verdict.run_record import RunRecord, dump, load


def passing() -> RunRecord:
    """The passing run as it is read from its file."""
    return load(dump(sample.passing_record()))


def failing() -> RunRecord:
    """The failing run as it is read from its file."""
    return load(dump(sample.failing_record()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a passing run, without reports."""
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "run.json").write_text(dump(passing()), encoding="utf-8")
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The run.json of a failing run."""
    file = tmp_path / "other" / "run.json"
    file.parent.mkdir()
    file.write_text(dump(failing()), encoding="utf-8")
    return file


@pytest.mark.parametrize("named", ["folder", "file"])
def test_html_is_written_beside_the_run(run: Run, folder: Path, named: str) -> None:
    """The page of a gate, in the folder of the run, which may be named instead of run.json; again is no error."""
    for _ in range(2):
        ended = run("report", folder if named == "folder" else folder / "run.json")
        assert (ended.code, ended.out, ended.err) == (0, "", f"wrote {folder / 'report.html'}\n")
    assert (folder / "report.html").read_text(encoding="utf-8") == render_html(passing())
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "run.json"]


RENDERERS = {"markdown": render_markdown, "junit": render_junit, "ctrf": render_ctrf}


@pytest.mark.parametrize("form", RENDERERS)
def test_texts_are_printed_or_written(run: Run, folder: Path, tmp_path: Path, form: str) -> None:
    """Text formats go to stdout, so that they can be piped, or to --out, where an older report is replaced."""
    expected = RENDERERS[form](passing())
    ended = run("report", folder, "--format", form)
    assert (ended.code, ended.out, ended.err) == (0, expected, "")
    file = tmp_path / "new" / "report"
    for _ in range(2):
        assert run("report", folder, "--format", form, "--out", file).code == 0
    assert file.read_text(encoding="utf-8") == expected


def test_two_runs_are_compared(run: Run, folder: Path, other: Path) -> None:
    """What moved as Markdown on stdout, or as a page beside the second run."""
    records = (passing(), failing())
    assert run("report", folder, other).out == render_moved_markdown(*records)
    ended = run("report", folder, other, "--format", "html")
    page = other.with_name("compared.html")
    assert (ended.code, ended.err) == (0, f"wrote {page}\n")
    assert page.read_text(encoding="utf-8") == render_moved_html(*records)
    assert run("report", folder, other, "--out", page, "--format", "html").code == 0


def test_the_hub_gets_two_files(run: Run, folder: Path, tmp_path: Path) -> None:
    """The head of the card on stdout, or the files in the folder of a model, which must not be there."""
    printed = run("report", folder, "--format", "hub", "--dataset-id", "org/shapes")
    assert printed.out.startswith("---\nmodel-index:\n")
    out = tmp_path / "card"
    assert run("report", folder, "--format", "hub", "--dataset-id", "org/shapes", "--out", out).code == 0
    assert (out / "README.md").read_text(encoding="utf-8") == printed.out
    again = run("report", folder, "--format", "hub", "--dataset-id", "org/shapes", "--out", out)
    assert_refused(again, "the file is there already", "README.md")


@pytest.mark.parametrize("form", ["html", "markdown", "junit", "ctrf"])
def test_what_is_not_ours_is_kept(run: Run, folder: Path, tmp_path: Path, form: str) -> None:
    """A file that is no report of clip-eval is not replaced, whether text or not."""
    for content in (b"# My notes on pass: and fail:\n", b"\xff\xfe", b""):
        file = tmp_path / "mine"
        file.write_bytes(content)
        assert_refused(run("report", folder, "--format", form, "--out", file), "no report of clip-eval", "mine")
        assert file.read_bytes() == content
    (folder / "report.html").write_text("<p>mine", encoding="utf-8")
    assert_refused(run("report", folder), "no report of clip-eval", "report.html")


def test_a_folder_that_a_run_owns_is_left_alone(run: Run, folder: Path) -> None:
    """While a gate writes there, no page is put beside its run.json."""
    with owned(folder):
        assert_refused(run("report", folder), "another run is writing there")
    assert [file.name for file in folder.iterdir()] == ["run.json"]


WRONG = {
    "the format 'jnit'. The nearest is junit": ("--format", "jnit"),
    "a run does not know the id of its dataset": ("--format", "hub"),
    "this is no id of a dataset on the hub": ("--format", "hub", "--dataset-id", "a b"),
    "--dataset-id goes with the format hub": ("--dataset-id", "a/b"),
    "--out is empty": ("--out", ""),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_one_paragraph(run: Run, folder: Path, said: str) -> None:
    """A misspelt format, or one that lacks something, is refused and nothing is written."""
    assert_refused(run("report", folder, *WRONG[said]), said)
    assert [file.name for file in folder.iterdir()] == ["run.json"]


def test_two_runs_have_fewer_formats(run: Run, folder: Path, other: Path) -> None:
    """What only one run has is refused for two."""
    ended = run("report", folder, other, "--format", "junit")
    assert_refused(ended, "no report of two runs in the format 'junit'", "Choose from html, markdown")


def damaged(text: str, damage: str) -> str:
    """The text of a run.json, spoilt."""
    data = json.loads(text)
    if damage == "newer":
        return json.dumps({**data, "schema_version": 2})
    if damage == "incomplete":
        del data["verdict"]
    if damage == "contradicts":
        data["checks"][0]["outcome"] = "lost"
    return text[: len(text) // 2] if damage == "cut" else json.dumps(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("newer", "schema_version 2 and this clip-eval reads up to 1"),
        ("incomplete", "'verdict' is a required property"),
        ("contradicts", "the run record is invalid at checks"),
        ("cut", "is not JSON"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(run: Run, folder: Path, damage: str, said: str) -> None:
    """A newer record names the remedy, a damaged one the place, as first and as second run."""
    file = folder / "run.json"
    whole = folder / "whole.json"
    whole.write_bytes(file.read_bytes())
    file.write_text(damaged(file.read_text(encoding="utf-8"), damage), encoding="utf-8")
    assert_refused(run("report", folder), said, "run.json")
    assert_refused(run("report", whole, folder), said, "run.json")


def test_a_run_that_is_not_there_is_refused(run: Run, folder: Path) -> None:
    """A misspelt path names the nearest."""
    assert_refused(run("report", folder.with_name("reprots")), "cannot be read", "reports")


def test_a_record_of_before_renders(run: Run, folder: Path) -> None:
    """What earlier releases did not write may be absent: the surface of a pack, the cause of a change."""
    record = failing()
    data = json.loads(dump(record))
    for subject in (data["candidate"], data["baseline"]):
        del subject["surface"]
    for change in data["surface_changes"]:
        del change["cause"]
    (folder / "run.json").write_text(json.dumps(data), encoding="utf-8")
    assert run("report", folder, "--format", "markdown").out == render_markdown(record)


def test_it_needs_no_torch(folder: Path, other: Path) -> None:
    """Each format is rendered without torch or transformers being imported; matplotlib, which draws, needs NumPy."""
    program = f"""
import contextlib, io, sys
from clip_eval.cli.main import main
for form in ("html", "markdown", "junit", "ctrf", "hub --dataset-id a/b", "html {other}", "markdown {other}"):
    sys.argv[1:] = ["report", {str(folder)!r}, "--format", *form.split()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            assert end.code == 0, (form, end.code)
print(*[name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_from_python(folder: Path, other: Path, tmp_path: Path) -> None:
    """`clip_eval.render` takes paths and records, returns the text and writes it where it is asked to."""
    first, second = passing(), failing()
    assert clip_eval.render(folder) == render_html(first)
    assert clip_eval.render(first, other) == render_moved_markdown(first, second)
    assert clip_eval.render(second, format="junit", out=tmp_path / "junit.xml") == render_junit(second)
    assert (tmp_path / "junit.xml").read_text(encoding="utf-8") == render_junit(second)
    clip_eval.render(first, format="hub", dataset_id="org/shapes", out=tmp_path / "card")
    assert (tmp_path / "card" / "README.md").is_file()
    with pytest.raises(clip_eval.UsageError, match="run takes a text or a path"):
        clip_eval.render(3)  # type: ignore[arg-type]
    with pytest.raises(clip_eval.UsageError, match="run is None"):
        clip_eval.render(None)  # type: ignore[arg-type]
