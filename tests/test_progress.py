"""A long command says on stderr what it does, how far it is and about how long it takes: live, or now and then."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time

import pytest

from clip_eval import progress
from clip_eval.processes import child_environment
from clip_eval.progress import Progress, counted, handed_on, hushed, is_handed_on, say, seconds_left

POSIX = pytest.mark.skipif(os.name != "posix", reason="descriptors are handed on as POSIX systems do")


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One at the start, and one where a while has passed: with what is done, how far, and how long."""
    monkeypatch.delenv("CLIP_EVAL_PROGRESS", raising=False)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shown = Progress("checks of clip", 100)
    for _ in range(100):
        clock[0] += 1.0
        shown.doing("checking pixels")
        shown.step()
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["clip-eval: 100 checks of clip", "clip-eval: 20 of 100, checking pixels, about 80 s left"]
    assert len(lines) == 6


def test_what_nobody_counted_beforehand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick stream is not spoken of; a slow one after five seconds, then now and then; nothing of it is lost."""
    monkeypatch.delenv("CLIP_EVAL_PROGRESS", raising=False)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert list(counted(range(5000), "records")) == list(range(5000))
    assert capsys.readouterr().err == ""
    for _ in counted(range(300), "records"):
        clock[0] += 0.125
    assert capsys.readouterr().err == "clip-eval: 40 records\nclip-eval: 200 records\n"


@pytest.mark.parametrize(
    ("done", "elapsed_s", "said"),
    [(0, 9.0, ""), (4, 9.0, ""), (50, 30.0, "about 30 s left"), (10, 60.0, "about 9 min left"), (100, 9.0, ""),
     (99, 0.1, "about 1 s left")],
)  # fmt: skip
def test_how_long_it_takes(done: int, elapsed_s: float, said: str) -> None:
    """As long a step as before; nothing is said of it before something is known."""
    assert seconds_left(done, 100, elapsed_s) == said


@POSIX
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_terminal_gets_one_line(columns: int) -> None:
    """It changes in place, fits the terminal, and is gone in the end."""
    program = (
        "import fcntl, struct, sys, termios\n"
        f"fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack('HHHH', 24, {columns}, 0, 0))\n"
        "from clip_eval.progress import Progress\n"
        "p = Progress('checks of clip', 50)\n"
        "for i in range(50):\n    p.doing('checking calling conventions'); p.step()\n"
        "p.close()\n"
    )
    ours, theirs = os.openpty()
    environment = {**child_environment(), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env=environment) as child:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux says so where the other side is closed
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    assert child.returncode == 0
    shown = said.decode().split("\r")
    assert "\n" not in said.decode()
    assert all(len(line) <= columns for line in shown)
    assert shown[-1].strip() == ""
    assert any("checking calling conventions: 30 of 50" in line for line in shown) or columns == 40


@POSIX
def test_a_child_writes_where_its_parent_does(capfd: pytest.CaptureFixture[str]) -> None:
    """Through a descriptor, since its own stderr is kept for errors; a child's child does so, too."""
    grandchild = "from clip_eval.progress import say; say('two')"
    child = (
        "import subprocess, sys; from clip_eval.progress import *; say('one')\n"
        "with handed_on() as stream:\n"
        f"    subprocess.run([sys.executable, '-c', {grandchild!r}], pass_fds=stream.descriptors,\n"
        "        env={**__import__('os').environ, **stream.environment()}, stderr=subprocess.DEVNULL)\n"
    )
    for wanted in (True, False):
        with handed_on(wanted) as stream:
            subprocess.run(
                [sys.executable, "-c", child], env={**child_environment(), **stream.environment()},
                pass_fds=stream.descriptors, stderr=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        assert capfd.readouterr().err == ("clip-eval: one\nclip-eval: two\n" if wanted else "")


@pytest.mark.parametrize("outer", [None, ""])
def test_nothing_is_shown_in_a_hushed_block(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, outer: str | None
) -> None:
    """Neither by this process nor by a child; afterwards all is as it was before."""
    monkeypatch.delenv("CLIP_EVAL_PROGRESS", raising=False)
    if outer is not None:
        monkeypatch.setenv("CLIP_EVAL_PROGRESS", outer)
    with hushed(), handed_on() as handed:
        say("recording")
        Progress("checks of clip", 100).close()
        assert handed.environment() == {"CLIP_EVAL_PROGRESS": ""}
    assert capsys.readouterr().err == ""
    assert os.environ.get("CLIP_EVAL_PROGRESS") == outer
    with hushed(False):
        say("recording")
    assert capsys.readouterr().err == ("clip-eval: recording\n" if outer is None else "")


def test_a_stream_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed stderr, none at all, and a descriptor that is no file: the work goes on."""
    closed = io.StringIO()
    closed.close()
    for found in (closed, None):
        monkeypatch.setattr(sys, "stderr", found)
        say("nothing")
        if found is None:
            Progress("steps", 2).step()
    monkeypatch.setattr(progress, "_OPENED", {})
    monkeypatch.setenv("CLIP_EVAL_PROGRESS", "none")
    say("nothing")
    assert is_handed_on()
