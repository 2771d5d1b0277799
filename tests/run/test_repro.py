"""What a failed check can leave behind: a script that shows it without pytest."""

from __future__ import annotations

import runpy
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.forked import run_program

from clip_eval.run.repro import bundle_name, remove_bundles, write_bundle
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.verdict.compare import EXACT_RULE, Compare, Expected, Mismatch, Numbers


@pytest.fixture(scope="module")
def session(bare_model: Path) -> Session:
    """A small random CLIP."""
    return Session(Settings(model=str(bare_model)))


def _numbers(session: Session, shift: float) -> Numbers:
    """Right numbers whose expected values were moved by so much."""
    out = session.candidate.clip.text_model(texts=3, attention="eager", output_hidden_states=True)
    expected = session.candidate.oracle.text(texts=3).hidden_states[2]
    moved = replace(expected, value=expected.value + shift)
    return Numbers(out.hidden_states[2], moved, session.candidate.clip.real(3)[:, :, None])


def _exit_code(script: Path) -> object:
    """Run the script in this process, which has torch loaded."""
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (1.0, 1)])
def test_the_script_says_whether_it_fails(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: float, code: int
) -> None:
    """The script calls the model as the check did, prints the worst element, and exits with 1 while it fails."""
    line = write_bundle(tmp_path, "one", title="what", numbers=_numbers(session, shift), clip=session.candidate.clip)
    script = tmp_path / "one" / "repro.py"
    assert line == f"python {script}"
    assert sorted(file.name for file in script.parent.iterdir()) == [
        "expected.npz", "inputs.npz", "observed.npz", "repro.py",
    ]  # fmt: skip
    assert _exit_code(script) == code
    said = capsys.readouterr().out
    assert "observed" in said
    assert "bound" in said
    assert "output.hidden_states[2]" in script.read_text()
    assert "attn_implementation='eager'" in script.read_text()


def test_a_transpose_is_shown_too(session: Session, tmp_path: Path) -> None:
    """A view of a returned tensor that the check took is taken by the script, which a process of its own runs."""
    out = session.candidate.clip.forward(images=2, texts=3)
    expected = session.candidate.oracle.forward(images=2, texts=3).logits_per_text.transposed
    numbers = Numbers(out.logits_per_text.T, expected, None)
    write_bundle(tmp_path, "one", title="what", numbers=numbers, clip=session.candidate.clip)
    done = run_program([str(tmp_path / "one" / "repro.py")], directory=tmp_path)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (1.0, 1)])
def test_a_call_of_the_check_itself_is_shown(session: Session, tmp_path: Path, shift: float, code: int) -> None:
    """A call with tensors of another layout, tracked for gradients, is written down with both; so is a part of rows."""
    subject = session.candidate.clip.subject
    subject.calls = deque()
    try:
        pixels = subject.tensors(session.candidate.clip.images(2))["pixel_values"]  # (images, channels, side, side)
        given = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
        out = subject.call("CLIPVisionModel", pixel_values=given, gradients=True)
        given.data.zero_()  # what a check does to its inputs afterwards does not matter
        expected = session.candidate.oracle.vision(images=1).pooler_output
        numbers = Numbers(out.pooler_output[:1], replace(expected, value=expected.value + shift), None)
        write_bundle(tmp_path, "one", title="what", numbers=numbers, clip=session.candidate.clip)
    finally:
        subject.calls = None
    script = (tmp_path / "one" / "repro.py").read_text()
    assert "new_empty_strided((2, 3, " in script
    assert "requires_grad_()" in script
    assert "enable_grad" in script
    assert "output.pooler_output[:1]" in script
    assert _exit_code(tmp_path / "one" / "repro.py") == code


def test_two_calls_beside_each_other_leave_a_note(session: Session, tmp_path: Path) -> None:
    """What is compared bit for bit with another call is shown by neither alone."""
    subject = session.candidate.clip.subject
    subject.calls = deque()
    try:
        out = subject.answer("CLIPVisionModel", session.candidate.clip.images(1))
        value = np.zeros(out.pooler_output.shape)  # (images, width)
        numbers = Numbers(out.pooler_output, Expected(value, value, EXACT_RULE), None)
        line = write_bundle(tmp_path, "one", title="what", numbers=numbers, clip=session.candidate.clip)
    finally:
        subject.calls = None
    assert line.startswith("none:")


def test_what_no_call_returned_leaves_a_note(session: Session, tmp_path: Path) -> None:
    """Where no script can be made, a note stands in its place and the line says so."""
    value = np.ones((2, 2))  # (rows, columns)
    for numbers in (None, Numbers(value, Expected(value, value, "rule"), None)):
        line = write_bundle(tmp_path, "one", title="what", numbers=numbers, clip=session.candidate.clip)
        assert line.startswith("none:")
        assert [file.name for file in (tmp_path / "one").iterdir()] == ["no-bundle.txt"]


def test_a_bundle_takes_the_place_of_an_older_one(session: Session, tmp_path: Path) -> None:
    """A bundle is written whole, over what an earlier failure of the check left."""
    write_bundle(tmp_path, "one", title="what", numbers=None, clip=session.candidate.clip)
    write_bundle(tmp_path, "one", title="what", numbers=_numbers(session, 1.0), clip=session.candidate.clip)
    assert not (tmp_path / "one" / "no-bundle.txt").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_a_bundle_that_cannot_be_written_is_told(session: Session, tmp_path: Path) -> None:
    """A directory that takes no files ends no run: the line says what is wrong."""
    (tmp_path / "file").write_text("")
    line = write_bundle(tmp_path / "file", "one", title="what", numbers=None, clip=session.candidate.clip)
    assert line.startswith("not written:")


def test_only_bundles_are_removed(session: Session, tmp_path: Path) -> None:
    """Bundles of an earlier run go; a user's own files stay."""
    write_bundle(tmp_path, "one", title="what", numbers=_numbers(session, 1.0), clip=session.candidate.clip)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "repro.py").write_text("")
    (tmp_path / "mine" / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    remove_bundles(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "mine"]


def test_names_are_plain() -> None:
    """A bundle is called like its check and case, in characters that every file system takes."""
    assert bundle_name("towers.text", None) == "towers.text"
    assert bundle_name("towers.text", "padding-a/b c") == "towers.text-padding-a_b_c"


def test_a_mismatch_carries_its_numbers() -> None:
    """What was compared travels with the failure; a plain value has no numbers."""
    value = np.zeros((2, 2))  # (rows, columns)
    compare = Compare(lambda measurement: None)
    with pytest.raises(Mismatch) as found:
        compare.close(value + 1, Expected(value, value, "rule"), name="x")
    assert found.value.numbers is not None
    assert found.value.numbers.observed.sum() == 4
    with pytest.raises(Mismatch) as plain:
        compare.equal(1, 2, name="x")
    assert plain.value.numbers is None
