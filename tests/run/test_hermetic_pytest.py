"""The hermetic gate: what the child is started with, and that a child that dies is never a pass."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.gating import Ended, run_record

from clip_eval.errors import CheckpointError, OutputError, ProcessError, UsageError
from clip_eval.files.folder_lock import owned
from clip_eval.run import hermetic_pytest as hermetic
from clip_eval.run.hermetic_pytest import run_gate
from clip_eval.run.settings import REPORTS, Settings

CHOSEN = "baseline.acceptances_are_in_force"


@pytest.fixture(scope="module")
def selected(smallest: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The gate of one check, started as a module in a source tree."""
    directory = tmp_path_factory.mktemp("tree")
    shutil.copytree(hermetic.SUITE.parent, directory / "clip_eval")
    (directory / "clip_eval" / "version.py").write_text('__version__ = "0.0.tree"\n', encoding="utf-8")
    arguments = ("gate", str(smallest), "--out", "out", "--no-throughput", "-k", CHOSEN)
    done = subprocess.run(
        [sys.executable, "-m", "clip_eval", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr, directory / "out")


def test_a_selection_is_inconclusive(selected: Ended) -> None:
    """-k leaves checks undone, so the run cannot pass: the exit code is 10 and every other check was not run. An id
    selects its check.
    """
    assert selected.code == 10, selected.out + selected.err
    record = run_record(selected.reports)
    assert record["verdict"] == "inconclusive"
    (ran,) = [check for check in record["checks"] if check["outcome"] != "not_run"]
    assert (ran["id"], ran["outcome"]) == (CHOSEN, "not_applicable")
    assert {check["reason"] for check in record["checks"] if check is not ran} == {"deselected"}
    assert sorted(path.name for path in selected.reports.iterdir()) == sorted(REPORTS)
    beside = {path.name for path in selected.reports.parent.iterdir()}
    assert beside == {"clip_eval", "out"}, "and nothing else is written"


def test_a_source_tree_gates_with_its_own_code(selected: Ended) -> None:
    """`python -m clip_eval` in a source tree runs that tree's suite in the child too, whatever is installed."""
    assert run_record(selected.reports)["provenance"]["clip_eval"] == "0.0.tree"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program of a test's own in the place of the child."""

    def install(program: str) -> None:
        monkeypatch.setattr(hermetic, "_command", lambda *_: [sys.executable, "-c", program])

    return install


@pytest.fixture
def settings(smallest: Path, tmp_path: Path) -> Settings:
    """A gate whose reports go to a directory that holds those of an earlier, passing run."""
    (tmp_path / "out").mkdir()
    for name in REPORTS:
        (tmp_path / "out" / name).write_text("pass", encoding="utf-8")
    return Settings(model=str(smallest), out=tmp_path / "out")


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_child_that_dies_of_a_signal_is_no_verdict(
    settings: Settings, child: Callable[[str], None], number: str
) -> None:
    """A child killed for memory or by a crash is an internal error that names the signal, and earlier reports go."""
    child(f"import os, signal; os.kill(os.getpid(), signal.{number})")
    with pytest.raises(ProcessError, match=number) as caught:
        run_gate(settings)
    assert caught.value.exit_code == 3
    assert list((settings.out or Path()).iterdir()) == []


@pytest.mark.parametrize("code", [0, 1, 10])
def test_a_child_that_writes_nothing_is_no_verdict(settings: Settings, child: Callable[[str], None], code: int) -> None:
    """An exit code without a run record is none: neither `os._exit(0)` in a check nor an earlier record may pass."""
    child(f"import os; os._exit({code})")
    with pytest.raises(ProcessError, match="no run record"):
        run_gate(settings)


@pytest.mark.parametrize("code", [0, 1, 10])
def test_a_verdict_with_a_record_is_handed_on(settings: Settings, child: Callable[[str], None], code: int) -> None:
    """The child's verdict is the gate's where there is a record of it."""
    child(f"open({str((settings.out or Path()) / 'run.json')!r}, 'w').close(); raise SystemExit({code})")
    assert run_gate(settings) == code


@pytest.mark.parametrize("code", [2, 3, 5])
def test_other_codes_are_pytests(settings: Settings, child: Callable[[str], None], code: int) -> None:
    """Interruption and internal errors of pytest keep their exit codes."""
    child(f"raise SystemExit({code})")
    assert run_gate(settings) == code


def test_a_refusal_of_the_child_is_a_usage_error(settings: Settings, child: Callable[[str], None]) -> None:
    """What pytest says of a bad option reaches the user as the message of one error."""
    child("import sys; print('ERROR: a bad expression\\n', file=sys.stderr); sys.exit(4)")
    with pytest.raises(UsageError, match=r"^a bad expression\.$"):
        run_gate(settings)


def test_what_the_child_complains_of_is_shown(
    settings: Settings, child: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else the child writes to stderr, such as a crash's traceback, is passed on."""
    child("import sys; print('Fatal Python error', file=sys.stderr); sys.exit(3)")
    assert run_gate(settings) == 3
    assert capsys.readouterr().err == "Fatal Python error\n"


def test_a_report_that_cannot_be_removed_is_refused(settings: Settings, child: Callable[[str], None]) -> None:
    """Where an earlier report cannot go, a stale one could be read as this run's: nothing is run."""
    child("raise SystemExit(0)")
    assert settings.out is not None
    (settings.out / "run.json").unlink()
    (settings.out / "run.json" / "below").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"run\.json"):
        run_gate(settings)


def test_a_folder_of_another_run_is_refused(settings: Settings, child: Callable[[str], None]) -> None:
    """Of two gates with one folder the second is refused, and what is there stays the first one's."""
    child("raise SystemExit(0)")
    assert settings.out is not None
    with owned(settings.out), pytest.raises(OutputError, match="another run is writing there"):
        run_gate(settings)
    assert (settings.out / "run.json").read_text(encoding="utf-8") == "pass"


def test_a_refused_gate_leaves_no_earlier_pass(settings: Settings) -> None:
    """What is in the folder is of this run or nothing, also where the run is a usage error."""
    with pytest.raises(CheckpointError):
        run_gate(replace(settings, model="no-such-clip"))
    assert list((settings.out or Path()).iterdir()) == []


def test_the_child_owns_the_folder_too(settings: Settings, child: Callable[[str], None]) -> None:
    """The child inherits the lock, and takes none of its own."""
    child(f"""if True:
        import sys
        from clip_eval.files.folder_lock import owned
        with owned({str(settings.out)!r}) as lease:
            sys.exit(5 if lease.descriptors == () else 6)
    """)
    assert run_gate(settings) == 5


def test_a_full_disk_is_one_paragraph(settings: Settings, child: Callable[[str], None]) -> None:
    """Reports that cannot be written are an error with exit code 4, and none of them stays."""
    child(f"""if True:
        import sys
        open({str(settings.out)!r} + "/report.html", "w").close()
        print("ERROR: the file cannot be written (no space left on device): x.", file=sys.stderr)
        sys.exit(4)
    """)
    with pytest.raises(UsageError, match="no space left"):
        run_gate(settings)
    assert list((settings.out or Path()).iterdir()) == []


def test_no_room_for_temporary_files_is_one_paragraph(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that cannot make its scratch directory says so."""

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")

    monkeypatch.setattr(hermetic.tempfile, "mkdtemp", full)
    with pytest.raises(OutputError, match=r"no space left on device\): /tmp/x\. Make room there, or set TMPDIR"):
        run_gate(settings)


INTERRUPTED = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
from clip_eval.run import hermetic_pytest as hermetic
from clip_eval.cli.main import main

hermetic._command = lambda *_: [sys.executable, "-c", Path("child.py").absolute().read_text()]
main()
"""
WRITES = """
import signal, sys, time
def interrupted(*_):
    open(OUT + "/run.json", "w").close()
    sys.exit(2)
signal.signal(signal.SIGINT, interrupted)
print("ready", flush=True)
time.sleep(600)
"""
DIES = """
import time
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX systems do")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [WRITES, DIES], ids=["writes", "dies"])
def test_an_interrupted_gate_ends_with_2(smallest: Path, tmp_path: Path, program: str, number: int) -> None:
    """Ctrl-C, and a request to stop, reach the child once; it writes what there is, and the exit code is 2."""
    (tmp_path / "child.py").write_text(f"OUT = {str(tmp_path / 'out')!r}\n{program}", encoding="utf-8")
    (tmp_path / "out").mkdir()
    arguments = ["gate", str(smallest), "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(number)
        _, errors = parent.communicate(timeout=600)
    assert parent.returncode == 2
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "run.json").exists() is (program is WRITES)


def test_signal_handlers_are_put_back(settings: Settings, child: Callable[[str], None]) -> None:
    """A gate called from Python leaves the process's signal handlers as they were."""
    before = signal.getsignal(signal.SIGTERM)
    child("raise SystemExit(5)")
    run_gate(settings)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_gate_runs_in_a_thread(settings: Settings, child: Callable[[str], None]) -> None:
    """A gate can be called in a thread that is not the main one, where Python sets no signal handlers."""
    child("raise SystemExit(5)")
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run_gate(settings)))
    thread.start()
    thread.join()
    assert codes == [5]


def test_the_child_starts_in_an_empty_directory(
    settings: Settings, child: Callable[[str], None], tmp_path: Path
) -> None:
    """The child's working directory is empty and gone afterwards."""
    child(f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(f'{{os.getcwd()}} {{os.listdir()}}'); os._exit(5)")
    run_gate(settings)
    directory, _, listing = (tmp_path / "seen").read_text(encoding="utf-8").partition(" ")
    assert listing == "[]"
    assert not Path(directory).exists()


def test_the_environment_of_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables of pytest and those that change the interpreter go; import paths become absolute, and the working
    directory is none that was not named.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "vendor", "/absolute"]))
    found = hermetic._environment()
    assert [name for name in found if name.startswith("PYTEST_")] == ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
    assert "PYTHONWARNINGS" not in found
    assert found["OMP_NUM_THREADS"] == "1"
    entries = found["PYTHONPATH"].split(os.pathsep)
    assert entries[-2:] == [str(tmp_path / "vendor"), "/absolute"]
    assert all(Path(entry).is_absolute() and entry != str(tmp_path) for entry in entries)


def test_the_child_gets_its_settings_as_one_file(tmp_path: Path) -> None:
    """The command names the settings file and nothing that the file holds; an expression is pytest's own option."""
    command = hermetic._command(tmp_path / "settings.json", "a or b")
    assert command[-4:] == ["--clip-settings", str(tmp_path / "settings.json"), "-k", "a or b"]
    assert [word for word in command if word.startswith("--clip-")] == ["--clip-settings"]


@pytest.mark.parametrize("changed", [True, False])
def test_what_changes_before_the_child_dies_is_named(
    settings: Settings, child: Callable[[str], None], tmp_path: Path, changed: bool
) -> None:
    """A child that dies while the checkpoint changes is the checkpoint's error, else the process's."""
    copy = shutil.copytree(settings.model, tmp_path / "clip")
    change = f"open({str(copy / 'config.json')!r}, 'a').write(' ');" if changed else ""
    child(f"import os, signal; {change} os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(CheckpointError if changed else ProcessError, match="SIGKILL"):
        run_gate(replace(settings, model=str(copy)))


PLANTED = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    from transformers import CLIPModel
    original = CLIPModel.forward
    if getattr(original, "planted", False):
        return
    def forward(self, *args, **kwargs):
        output = original(self, *args, **kwargs)
        output.logits_per_text = output.logits_per_text * 1.01
        return output
    forward.planted = True
    CLIPModel.forward = forward
"""


@pytest.fixture(scope="module")
def planted(smallest: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The gate where logits per text are 1 % too large, run for both cases of one check, in 80 columns."""
    directory = tmp_path_factory.mktemp("planted")
    (directory / "planted.py").write_text(PLANTED, encoding="utf-8")
    program = textwrap.dedent("""
        from clip_eval.run import hermetic_pytest as hermetic
        from clip_eval.cli.main import main
        command = hermetic._command
        hermetic._command = lambda *given: [*command(*given), "-p", "planted"]
        main()
    """)
    arguments = ["gate", str(smallest), "--out", "out", "--no-throughput", "-k", "logits_follow_from_embeddings"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=directory,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, directory / "out")


def test_a_failure_speaks_in_five_lines(planted: Ended, smallest: Path) -> None:
    """A mismatch prints promise, worst element, error against bound, where it diverges and how to rerun it, in 80
    columns, instead of a traceback.
    """
    assert planted.code == 1, planted.out + planted.err
    lines = planted.out.splitlines()
    assert all(len(line) <= 80 or str(smallest) in line or line.startswith("reports: ") for line in lines)
    assert "Traceback" not in planted.out
    starts = [lines.index(next(line for line in lines if line.startswith(label))) for label in
              ("promise   ", "worst     ", "error     ", "diverges  ", "rerun     ")]  # fmt: skip
    assert starts == sorted(starts)
    said = " ".join(" ".join(lines[starts[0] :]).split())
    assert "Logits per text are exp(logit_scale) times the cosines of the returned embeddings" in said
    assert "worst logits_per_text[" in said
    assert "observed" in said
    assert "expected" in said
    assert "would have passed" in said
    assert "diverges logit_scale" in said
    assert "-k logits_follow_from_embeddings" in said.replace("\\ ", "")


def test_a_failure_is_recorded_in_full(planted: Ended) -> None:
    """The record holds the measurement, the module and the rerun line of the failed check, and the verdict is fail."""
    record = run_record(planted.reports)
    failed = [check for check in record["checks"] if check["outcome"] == "failed"]
    assert record["verdict"] == "fail"
    assert len(failed) == 2
    for check in failed:
        last = check["measurements"][-1]
        assert check["diverges_at"] == "logit_scale"
        assert last["passed"] is False
        assert last["error"] > last["bound"]
        assert check["rerun"].startswith("clip-eval gate ")
