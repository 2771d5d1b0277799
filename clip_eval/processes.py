"""Run this package in another process, or in another interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from clip_eval.errors import ProcessError, UsageError
from clip_eval.progress import HandedOn
from clip_eval.version import __version__

__all__ = [
    "ChildEnd",
    "child_environment",
    "clean_environment",
    "memory_file",
    "output_of",
    "record_with",
    "require_clip_eval",
    "run_to_the_end",
    "usable_cores",
]

# Python's own variables (https://docs.python.org/3/using/cmdline.html#environment-variables) that a child does not get.
# Kept are those that say
# - where modules lie: PYTHONPATH, PYTHONHOME, PYTHONUSERBASE, PYTHONNOUSERSITE, PYTHONSAFEPATH, PYTHONPLATLIBDIR,
#   PYTHONEXECUTABLE; without them the child may not start, or imports other packages than this process;
# - where bytecode goes: PYTHONPYCACHEPREFIX, PYTHONDONTWRITEBYTECODE;
# - how text is encoded and shown: PYTHONUTF8, PYTHONIOENCODING, PYTHONCOERCECLOCALE, PYTHON_COLORS, PYTHONUNBUFFERED;
# - what the interpreter has of the machine: PYTHON_CPU_COUNT, PYTHON_GIL, PYTHON_JIT;
# and PYTHONHASHSEED, which makes a run repeatable, and PYTHONFAULTHANDLER, which says where one crashed.
_CLEARED = frozenset(
    (
        *("PYTHONINSPECT", "PYTHONSTARTUP"),  # a prompt waits after the run, and the exit code is lost
        *("PYTHONOPTIMIZE", "PYTHONINTMAXSTRDIGITS"),  # removes asserts, which changes the program
        *(
            "PYTHONWARNINGS",
            "PYTHONDEVMODE",
            "PYTHONWARNDEFAULTENCODING",
        ),  # warnings of libraries become errors or noise
        *("PYTHONMALLOC", "PYTHONMALLOCSTATS", "PYTHONTRACEMALLOC"),  # slower memory, which distorts timings
        *("PYTHONPERFSUPPORT", "PYTHON_PERF_JIT_SUPPORT", "PYTHONPROFILEIMPORTTIME"),  # slower, and noise on stderr
        *("PYTHONVERBOSE", "PYTHONDEBUG", "PYTHONDUMPREFS", "PYTHONDUMPREFSFILE", "PYTHONTHREADDEBUG"),  # noise
        *("PYTHONBREAKPOINT", "PYTHON_PRESITE", "PYTHONASYNCIODEBUG"),  # code of a debugging session
        *("PYTHONCASEOK",),  # modules with another spelling are imported
    )
)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that change how a child's Python or pytest behaves."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name not in _CLEARED
    }


def child_environment(python: str = sys.executable) -> dict[str, str]:
    """Return the environment for a child that runs `-m clip_eval` in any working directory, quietly.

    Relative entries of PYTHONPATH become absolute. If this package runs from a source tree, the tree comes first; an
    installed package must be installed for the child's interpreter too. Idle threads of torch sleep, unless
    OMP_WAIT_POLICY says otherwise: if they spin, a gate beside one busy process takes three times as long.

    Args:
        python: the child's interpreter; another interpreter has its own standard library.
    """
    kept = clean_environment()
    if python != sys.executable:
        kept.pop("PYTHONHOME", None)
    path = [str(Path(entry).absolute()) for entry in kept.get("PYTHONPATH", "").split(os.pathsep) if entry]
    here = str(Path(__file__).resolve().parents[1])
    if here not in (*site.getsitepackages(), site.getusersitepackages()):  # run from a source tree
        path.insert(0, here)
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    return {"OMP_WAIT_POLICY": "passive", **kept, **quiet, "PYTHONPATH": os.pathsep.join(path)}


# Runs on any Python since 2.7. It looks for modules without importing them, which would take seconds.
_QUESTION = """
import json, re, sys
answer = {"python": list(sys.version_info[:2]), "version": None, "missing": []}
try:
    from importlib.util import find_spec
    spec = find_spec("clip_eval")
    if spec is not None and spec.origin:
        source = open(spec.origin.replace("__init__.py", "version.py")).read()
        answer["version"] = re.search("__version__ *= *.([0-9A-Za-z.+!-]*)", source).group(1)
    answer["missing"] = [name for name in sys.argv[1:] if find_spec(name) is None]
except Exception:
    answer["version"] = None
print("clip-eval:" + json.dumps(answer))
"""
_NEEDED = (
    "click", "huggingface_hub", "jinja2", "jsonschema", "numpy", "packaging", "PIL", "pytest", "pytest_benchmark",
    "regex", "safetensors", "scipy", "torch", "transformers",
)  # fmt: skip
_LEAST_PYTHON = (3, 10)
_ANSWER_S, _ANSWER_BYTES = 60.0, 1 << 16  # a first start from a network drive is slow


def require_clip_eval(python: str) -> None:
    """Raise unless an interpreter has the same clip-eval; takes seconds.

    Raises:
        UsageError: the program does not exist, is not Python, is too old, or lacks this release of clip-eval or its
            dependencies; the message says how to install it.
    """
    fix = "Name the Python of an environment in which clip-eval is installed"
    if shutil.which(python) is None:
        raise UsageError("the interpreter does not exist", where=python, fix=fix)
    answer = _answer(python)
    if answer is None:
        raise UsageError("this program is not a working Python", where=python, fix=fix)
    install = f"Run {shlex.quote(python)} -m pip install clip-eval=={__version__}"
    if tuple(answer["python"]) < _LEAST_PYTHON:
        version = ".".join(map(str, answer["python"]))
        raise UsageError(f"the interpreter is Python {version}, and clip-eval needs 3.10", where=python)
    if answer["version"] is None:
        raise UsageError("the interpreter has no clip-eval", where=python, fix=install)
    if answer["version"] != __version__:
        here = __version__
        raise UsageError(
            f"the interpreter has clip-eval {answer['version']}, and this is {here}", where=python, fix=install
        )
    if missing := answer["missing"]:
        what = f"the interpreter lacks {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}"
        raise UsageError(what, where=python, fix=install)


def _answer(python: str) -> dict[str, Any] | None:
    """The interpreter's answer to `_QUESTION`; None if there is none."""
    try:
        process = subprocess.Popen(
            [python, "-c", _QUESTION, *_NEEDED], env=child_environment(python),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, ValueError) as problem:
        raise _not_started(python, problem) from problem
    patience = threading.Timer(_ANSWER_S, process.kill)
    patience.start()
    try:
        assert process.stdout is not None
        output = process.stdout.read(_ANSWER_BYTES).decode(errors="replace")
    finally:
        patience.cancel()
        process.kill()
        process.communicate()
    answers = [line for line in output.splitlines() if line.startswith("clip-eval:")]
    try:
        answer = json.loads(answers[-1].removeprefix("clip-eval:")) if answers else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def record_with(python: str, model: str, pack: Path, *options: str, stream: HandedOn | None = None) -> None:
    """Record a pack with another interpreter, as the baseline of its environment.

    Args:
        python: the interpreter's executable; the same clip-eval must be installed for it.
        model: a checkpoint directory or hub id.
        pack: a new directory.
        options: of `clip-eval record`.
        stream: for its progress; None for none.

    Raises:
        UsageError: the interpreter cannot be started.
        ProcessError: no pack was recorded; the message has the last output.
        KeyboardInterrupt: the user interrupted it; it has ended.
    """
    stream = stream or HandedOn()
    command = [python, "-m", "clip_eval", "record", model, "--out", str(pack), *options]
    with memory_file() as errors, memory_file() as output:
        try:
            ended = run_to_the_end(
                command,
                environment={**child_environment(python), **stream.environment()},
                errors=errors,
                output=output,
                descriptors=stream.descriptors,
            )
        except OSError as problem:
            raise _not_started(python, problem) from problem
        words = output_of(output) or output_of(errors)
    if ended.interrupted:
        raise KeyboardInterrupt
    if ended.code:
        raise ProcessError(
            f"the other interpreter recorded no baseline ({' '.join(words.split())[:600]})", where=python
        )


def _not_started(python: str, problem: OSError | ValueError) -> UsageError:
    reason = getattr(problem, "strerror", None) or str(problem)
    fix = "Name the Python of an environment in which clip-eval is installed"
    return UsageError(f"the interpreter cannot be started ({reason})", where=python, fix=fix)


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: its exit code, negative for a signal, and whether the user interrupted it."""

    code: int
    interrupted: bool


def run_to_the_end(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    errors: IO[bytes],
    output: IO[bytes] | None,
    directory: str | None = None,
    descriptors: Sequence[int] = (),
) -> ChildEnd:
    """Run a child until it ends.

    It has a session of its own, so that Ctrl-C reaches it once, from here; it then writes its results and ends. A shell
    starts background jobs with SIGINT ignored, so SIGINT is reset for the child.

    Args:
        command: program and arguments.
        environment: of the child.
        errors: file for its stderr.
        output: file for its stdout; None for this process's.
        directory: its working directory; None for this process's.
        descriptors: files that it inherits (POSIX).

    Raises:
        OSError: the program cannot be started.
    """
    with _stopped_like_interrupted(), contextlib.ExitStack() as stack:
        with _signals_held() as held:
            child = stack.enter_context(
                subprocess.Popen(
                    command, cwd=directory, env=dict(environment), stdout=output, stderr=errors, start_new_session=True,
                    pass_fds=tuple(descriptors) if os.name == "posix" else (),
                )
            )  # fmt: skip
            stack.callback(child.kill)  # no effect on a child that has ended
        interrupted = bool(held)
        if interrupted:
            _interrupt(child)
        while (code := _wait(child)) is None:
            interrupted = True
    return ChildEnd(code, interrupted)


def memory_file() -> IO[bytes]:
    """A file for a child's output; in memory if the system can, so that a full disk can be reported."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("clip-eval"), "w+b")
    return tempfile.TemporaryFile()


def output_of(file: IO[bytes]) -> str:
    """Return a child's output."""
    file.seek(0)
    return file.read().decode(errors="replace").strip()


@contextlib.contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Yield the signals that arrive while a child starts: raised within Popen, one would leave a child behind that
    nobody stops.

    The child starts without the handlers, so SIGINT is not ignored there, though it may be here.
    """
    held: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        if before[number] is not signal.SIG_IGN:
            held.append(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (None, signal.SIG_DFL):
                before[number] = signal.getsignal(number)
                signal.signal(number, note)
    try:
        yield held
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":  # on Windows the console interrupts all its processes
        child.send_signal(signal.SIGINT)


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    """The child's exit code; None after an interrupt, when it must be waited for again."""
    try:
        return child.wait()
    except KeyboardInterrupt:
        _interrupt(child)
        return None


@contextlib.contextmanager
def _stopped_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C in the block, so that the child is interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
