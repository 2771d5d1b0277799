"""A folder of reports belongs to one run at a time: locks held by real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clip_eval.errors import OutputError
from clip_eval.files import folder_lock as run_folder
from clip_eval.files.folder_lock import LOCK, clear, owned, reserved
from clip_eval.processes import child_environment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the kernel's locks are POSIX systems'")

OWNER = """
import subprocess, sys, time
from clip_eval.files.folder_lock import owned
with owned(sys.argv[1]) as lease:
    if len(sys.argv) > 2:  # a child that inherits the lock and outlives its parent
        subprocess.Popen([sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"],
                         pass_fds=lease.descriptors)
    else:
        print("ready", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def owner(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that owns the folder, in a group of its own that is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), *arguments],
        env=child_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    """The message names the folder, and the process, machine and start of the run that owns it; nothing is touched."""
    (tmp_path / "kept").touch()
    with owner(tmp_path) as process:
        with pytest.raises(OutputError, match="another run is writing there") as caught, owned(tmp_path):
            pass
        assert caught.value.exit_code == 4
        said = str(caught.value)
        assert f"process {process.pid}, on {os.uname().nodename}, since 20" in said
        assert f": {tmp_path}." in said
    assert (tmp_path / "kept").exists()


def test_a_killed_owner_leaves_the_folder_free(tmp_path: Path) -> None:
    """The lock file of a run that died of SIGKILL stays, and keeps nobody out."""
    with owner(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / LOCK).exists()
        with owned(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_child_that_outlives_its_parent_still_owns_the_folder(tmp_path: Path) -> None:
    """A gate whose parent is killed goes on in the child, so the folder is not free before that has ended."""
    with owner(tmp_path, "with a child") as process:
        process.kill()
        process.wait()
        with pytest.raises(OutputError, match="another run"), owned(tmp_path):
            pass
        os.killpg(process.pid, signal.SIGKILL)
        with owned(tmp_path, patience_s=600):
            pass


def test_the_child_of_a_run_owns_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent owns is not taken again, and not given back, by a child that knows the run's token."""
    with owned(tmp_path) as lease:
        monkeypatch.setenv(*next(iter(lease.environment().items())))
        with owned(tmp_path) as inner:
            assert inner.descriptors == ()
        assert (tmp_path / LOCK).exists()
        monkeypatch.delenv(next(iter(lease.environment())))
        with pytest.raises(OutputError, match="another run"), owned(tmp_path):
            pass


def test_folders_that_were_made_go_again(tmp_path: Path) -> None:
    """A run that writes nothing leaves nothing; what has a file in it stays; the same folder may be named twice."""
    with owned(tmp_path / "a" / "b", tmp_path / "c", tmp_path / "a" / ".." / "c"):
        (tmp_path / "c" / "run.json").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 5000, b'{"pid": "x"}', b"\xff"])
def test_a_leftover_that_may_only_be_read_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Whatever is in it and whosever it was: a file that nobody locks is no lock."""
    (tmp_path / LOCK).write_bytes(content)
    (tmp_path / LOCK).chmod(0o444)
    opened = os.open

    def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and path.exists():  # a superuser is refused nothing
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, mode)

    monkeypatch.setattr(run_folder.os, "open", refusing)
    with owned(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_of_many_gets_it(tmp_path: Path) -> None:
    """Of threads that want a folder at the same time, each with a descriptor of its own, one owns it at a time.

    Each makes the folder and its parents and takes them away again, also while another is between two steps.
    """
    inside: list[int] = []
    most: list[int] = []

    def take() -> None:
        for _ in range(20):
            with owned(tmp_path / "packs" / "clip" / "out", patience_s=600):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert most == [1] * 80


@pytest.mark.parametrize("lives", [True, False])
def test_without_locks_the_file_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool) -> None:
    """On a file system without locks a live owner's file refuses and says what to remove, a dead owner's does not."""
    monkeypatch.setattr(run_folder, "_flock", lambda _: None)
    with owner(tmp_path / "other") as process:
        holder = (tmp_path / "other" / LOCK).read_text(encoding="utf-8")
        (tmp_path / LOCK).write_text(holder, encoding="utf-8")
        if not lives:
            process.kill()
            process.wait()
            with owned(tmp_path):
                pass
            return
        with pytest.raises(OutputError, match="if that run is gone, remove"), owned(tmp_path):
            pass
        other = json.dumps({**json.loads(holder), "host": "elsewhere", "pid": 2**22})
        (tmp_path / LOCK).write_text(other, encoding="utf-8")
        with pytest.raises(OutputError, match="on elsewhere"), owned(tmp_path):
            pass


def test_a_path_can_be_reserved(tmp_path: Path) -> None:
    """What is still to be made is reserved by a file beside it, which goes in the end."""
    with reserved(tmp_path / "packs" / "clip"):
        with pytest.raises(OutputError, match="another run"), reserved(tmp_path / "packs" / "clip"):
            pass
        with reserved(tmp_path / "packs" / "other"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_clear_removes_half_written_files_too(tmp_path: Path) -> None:
    """Reports of an earlier run and what a killed process left of one go; nothing else does."""
    for name in ("run.json", f".run.json.{'0' * 16}.tmp", "mine.json", ".run.json.tmp"):
        (tmp_path / name).touch()
    clear(tmp_path, ("run.json", "absent.md"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.json.tmp", "mine.json"]
