"""What the user asked for: the options of a run, as plain values that every process of it shares."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from clip_eval.errors import UsageError
from clip_eval.measurement import Json
from clip_eval.nearest import DTYPE_ALIASES, listed

__all__ = ["DTYPES", "REPORTS", "Settings", "named", "require_dtype", "require_utf8"]

DTYPES = ("float32", "bfloat16", "float16")

REPORTS = ("report.html", "summary.md", "junit.xml", "run.json")
"""What a run writes to `Settings.out`, in this order: run.json comes last and says that the others are there."""


def named(value: object, option: str) -> str:
    """Return the text of a path, id or name that a user gave.

    Args:
        value: a text or a path.
        option: what it was given for, as the user would write it.

    Raises:
        UsageError: it is something else, empty, or no name that a file system takes. An empty text would name the
            working directory, and a shell variable that is not set is one.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        what = f"{option} takes a text or a path, and this is of type {type(value).__name__}"
        raise UsageError(what, fix="Give the path or the name itself")
    if not value.strip():
        raise UsageError(f"{option} is empty", fix="Give it a value; if a shell variable stands there, it is not set")
    if problem := _unheard_of(value):
        raise UsageError(f"{option} is no name of a file ({problem})", where=value[:80].replace("\0", "\\0"))
    return value


def _unheard_of(value: str) -> str | None:
    """Why no file system takes a name; None where it does, whether the file is there or not."""
    try:
        os.lstat(value)
    except ValueError:
        return "it holds a NUL character"
    except OSError as problem:
        return "it is too long" if problem.errno == errno.ENAMETOOLONG else None
    return None


def require_dtype(dtype: object) -> None:
    """Raise UsageError, with the nearest name, unless `dtype` is one of `DTYPES`."""
    if not isinstance(dtype, str):
        what = f"a dtype is given by its name, and this is of type {type(dtype).__name__}"
        raise UsageError(what, where=dtype, fix=listed(str(dtype), DTYPES, DTYPE_ALIASES))
    if dtype not in DTYPES:
        raise UsageError(f"there is no dtype {dtype!r} to run in", fix=listed(dtype, DTYPES, DTYPE_ALIASES))


def require_utf8(values: Iterable[object]) -> None:
    """Raise UsageError unless every text of `values` can be written to a report.

    Names on disk may hold bytes that are no UTF-8, which Python keeps as surrogates.
    """
    for value in values:
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            shown = value.encode("utf-8", "backslashreplace").decode()
            fix = "Rename it, or name a symbolic link to it"
            raise UsageError("a name that is not UTF-8 cannot be written to a report", where=shown, fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one run.

    Attributes:
        model: a checkpoint directory, or a hub id with or without @revision.
        baseline: a pack directory.
        accepted: a file of acceptances, which excuse differences from the pack.
        library: an evaluation set.
        dtype: one of `DTYPES`; None for the dtype the checkpoint is stored in.
        device: a torch device.
        attention: an attention implementation; None for the library's default.
        new_weights: the candidate has other weights than the pack, on purpose.
        throughput: time the model.
        compile: judge the model under torch.compile, too.
        policy: a file that says what is asked beyond the rules.
        baseline_python: another interpreter, in which the checkpoint is timed in turns with this one.
        repro: directory for what shows each failed check without pytest; None writes none.
        out: directory for the reports; None writes none.

    Raises:
        UsageError: the dtype is none of `DTYPES`; the nearest is named. Or a name is not UTF-8.
    """

    model: str
    baseline: str | None = None
    accepted: str | None = None
    library: str | None = None
    dtype: str | None = None
    device: str = "cpu"
    attention: str | None = None
    new_weights: bool = False
    throughput: bool = True
    compile: bool = False
    policy: str | None = None
    baseline_python: str | None = None
    repro: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None:
            require_dtype(self.dtype)
        require_utf8(self.arguments().values())

    def arguments(self) -> dict[str, Json]:
        """Return every option with its value, for the run record."""
        return {**asdict(self), "out": None if self.out is None else str(self.out)}

    def options(self, prefix: str) -> list[str]:
        """Return the command-line options that give these settings, without model and out.

        Args:
            prefix: "--" for clip-eval, "--clip-" for pytest.
        """
        named = {
            "baseline": self.baseline,
            "accepted": self.accepted,
            "library": self.library,
            "dtype": self.dtype,
            "attn": self.attention,
            "device": None if self.device == "cpu" else self.device,
            "policy": self.policy,
            "baseline-python": self.baseline_python,
            "repro": self.repro,
        }
        options = [part for name, value in named.items() if value is not None for part in (f"{prefix}{name}", value)]
        switches = {"new-weights": self.new_weights, "no-throughput": not self.throughput, "compile": self.compile}
        return options + [f"{prefix}{name}" for name, on in switches.items() if on]

    def pytest_options(self) -> list[str]:
        """Return the options that give pytest this checkpoint and these settings, without out."""
        return ["--clip-model", self.model, *self.options("--clip-")]

    def rerun(self, function: str) -> str:
        """Return the command that runs the checks whose name contains `function`."""
        return shlex.join(["clip-eval", "gate", self.model, *self.options("--"), "-k", function])
