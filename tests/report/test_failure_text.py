"""A failure speaks in five lines, in 80 columns."""

from __future__ import annotations

import pytest
from support import sample_records as sample

from clip_eval.report import terminal_failure
from clip_eval.report.failure_text import failure_lines


def test_five_lines_in_order() -> None:
    """Promise, worst element, error against bound and rule, first divergence, rerun."""
    lines = {line.label: line.text for line in failure_lines(sample.failed_check())}
    assert list(lines) == ["promise", "worst", "error", "diverges", "rerun"]
    assert lines["worst"] == "hidden_states[3][0, 17, 95]: observed 1.284071, expected 1.241978"
    assert lines["error"] == (
        "0.0421 against 1.31e-05, 3,200 times the bound (budget whole_model.float32); "
        "a bound of 0.0421 would have passed"
    )
    assert lines["diverges"] == "vision_model.encoder.layers.2.mlp.activation_fn"
    assert lines["rerun"] == sample.RERUN


def test_the_failed_measurement_speaks() -> None:
    """A passed measurement is never shown as the worst element, however near its bound it is."""
    structure = sample.failed_measurement(name="type", error=None, bound=None, required=None, worst_index=None)
    check = sample.failed_check(measurements=(sample.measurement(error=1.3e-5), structure))
    lines = {line.label: line.text for line in failure_lines(check)}
    assert lines["worst"].startswith("type: observed")
    assert lines["error"] == "not numeric (budget whole_model.float32)"


def test_a_plain_assertion_has_its_cause() -> None:
    """A check that measured nothing says what was asserted, and has no line on an error."""
    lines = {line.label: line.text for line in failure_lines(sample.failed_check(measurements=(), diverges_at=None))}
    assert list(lines) == ["promise", "cause", "rerun"]
    assert lines["cause"] == "AssertionError: hidden_states[3] differs by 0.0421, bound 1.31e-05"


def test_a_passed_measurement_is_no_cause() -> None:
    """A check that failed beside its measurements says what was asserted."""
    lines = failure_lines(sample.failed_check(measurements=(sample.measurement(),)))
    assert [line.label for line in lines] == ["promise", "cause", "diverges", "rerun"]


def test_a_deviation_is_named() -> None:
    """A check that asserted a deviation says so beside its promise."""
    first = failure_lines(sample.failed_check(deviation="loss_shape_is_one"))[0]
    assert first.text.endswith("(asserted instead: declared deviation loss_shape_is_one)")


@pytest.mark.parametrize("width", [80, 60, 100])
def test_terminal_text_fits(width: int) -> None:
    """Every row fits the terminal."""
    long = sample.failed_measurement(observed="a" * 300, expected="b c " * 100)
    text = terminal_failure(sample.failed_check(measurements=(long,)), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_a_wrapped_command_can_be_pasted() -> None:
    """The command is cut between arguments and continued with backslashes, so a shell reads it whole."""
    command = terminal_failure(sample.failed_check()).partition("rerun     ")[2]
    rows = [row.strip() for row in command.splitlines()]
    assert all(row.endswith(" \\") for row in rows[:-1])
    assert " ".join(row.removesuffix(" \\") for row in rows) == sample.RERUN


def test_a_long_argument_stays_whole() -> None:
    """A path that is wider than the terminal is not cut."""
    path = "/models/" + "deep/" * 30
    assert path in terminal_failure(sample.failed_check(rerun=f"clip-eval gate {path} -k x"))


def test_terminal_text_has_no_control_characters() -> None:
    """Colours and control characters in observed values do not reach the terminal."""
    check = sample.failed_check(measurements=(sample.failed_measurement(observed="\x1b[31mred\x1b[0m\x07\nline"),))
    text = terminal_failure(check)
    assert "observed red line" in " ".join(text.split())
    assert all(character.isprintable() or character == "\n" for character in text)
