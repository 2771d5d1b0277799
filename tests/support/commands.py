"""The command line in this process: how a command ended, and what a refusal looks like. The fixtures `run` and
`nothing_runs` are made of `running` and `nothing_starts`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click
import pytest

from clip_eval.cli.main import cli, main

__all__ = ["Ended", "Run", "assert_refused", "nothing_starts", "parse_clip_eval", "running"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def running(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def ended(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["clip-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        return Ended(int(caught.value.code or 0), printed.out, printed.err)

    return ended


def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test process that is started fails the test: what is refused is refused before."""

    def started(command: list[str], **_: object) -> None:
        raise AssertionError(f"a process was started: {command}")

    monkeypatch.setattr(subprocess, "Popen", started)


def assert_refused(ended: Ended, *said: str) -> None:
    """One paragraph on stderr with exit code 4: what, where, what to do."""
    assert ended.code == 4
    assert ended.out == ""
    assert ended.err.startswith("clip-eval: ")
    assert "Traceback" not in ended.err
    lines = ended.err.removesuffix("\n").split("\n")
    assert all(line.strip() for line in lines), "one paragraph has no empty line"
    assert all(len(line) <= 80 or " " not in line for line in lines)
    text = " ".join(lines)
    assert text.endswith(".")
    assert [part for part in said if part not in text] == [], text


def parse_clip_eval(words: list[str]) -> None:
    """Let the real option parser read a command line of clip-eval. Raises what it raises."""
    command, rest = cli, words[1:]
    context = click.Context(cli, info_name="clip-eval")
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, list(rest))
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)  # type: ignore[assignment]
    command.make_context(str(command.name), list(rest), parent=context.parent)
