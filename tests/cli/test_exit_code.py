"""The exit code survives `python -i` and PYTHONINSPECT, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from clip_eval.cli.exit_code import ends_the_process

PROGRAM = "import sys\nfrom clip_eval.cli.exit_code import ends_the_process\nends_the_process(lambda: {body})()"


@pytest.mark.parametrize("inspect", ["-i", "PYTHONINSPECT", "neither"])
@pytest.mark.parametrize(("body", "code"), [("sys.exit(10)", 10), ("sys.exit()", 0), ("None", 0), ("sys.exit('x')", 1)])
def test_the_exit_code_is_the_commands(inspect: str, body: str, code: int) -> None:
    """With every way to ask for a prompt after the program; what was printed is there."""
    options = ["-i"] if inspect == "-i" else []
    variables = {"PYTHONINSPECT": "1"} if inspect == "PYTHONINSPECT" else {}
    done = subprocess.run(
        [sys.executable, *options, "-c", f"print('said')\n{PROGRAM.format(body=body)}"],
        env={**os.environ, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stdout == "said\n"
    assert done.stderr == ("x\n" if body == "sys.exit('x')" else "")


@pytest.mark.parametrize("command", [["checks", "no.such.check"], ["--version"]])
def test_the_command_line_is_left_so(command: list[str]) -> None:
    """`python -i -m clip_eval` ends with the command's code, and says no more than without -i."""
    ended = [
        subprocess.run(
            [sys.executable, *options, "-m", "clip_eval", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        for options in ([], ["-i"])
    ]  # fmt: skip
    assert ended[0].returncode == ended[1].returncode == (4 if command[0] == "checks" else 0)
    assert (ended[0].stdout, ended[0].stderr) == (ended[1].stdout, ended[1].stderr)


def test_other_errors_are_not_touched() -> None:
    """A bug keeps its traceback."""

    def broken() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        ends_the_process(broken)()
