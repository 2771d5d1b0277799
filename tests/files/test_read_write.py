"""Files are there whole or not at all, and what cannot be written is said before and without traces."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from clip_eval.errors import CheckpointError, OutputError, PackError
from clip_eval.files import read_write as files
from clip_eval.files.read_write import (
    lacks_room,
    new_directory,
    read_json,
    read_text,
    replacing,
    writable_directory,
    write_bytes,
    write_json,
    write_text,
)


def tree(directory: Path) -> list[str]:
    """Every path below a directory, relative to it."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def fail_fsync(descriptor: int) -> None:
    """A disk that is full when the data are flushed."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted_write(target: Path) -> None:
    """A writer that is stopped when half is written."""
    with replacing(target) as handle:
        handle.write(b"new")
        raise KeyboardInterrupt


def interrupted_directory(target: Path) -> None:
    """The same for a directory."""
    with new_directory(target) as temporary:
        (temporary / "f").write_bytes(b"1")
        raise KeyboardInterrupt


def test_written_content_is_read_back(tmp_path: Path) -> None:
    """Bytes, text and JSON come back as they were, in directories made on the way."""
    write_bytes(tmp_path / "a" / "b.bin", b"\x00\xff")
    write_text(tmp_path / "t.txt", "häkel\r\nn")
    write_json(tmp_path / "j.json", {"z": [1, 2.5, "ü"], "a": None})
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "t.txt").read_bytes() == "häkel\r\nn".encode()
    assert list(json.loads(read_text(tmp_path / "j.json", error=PackError))) == ["z", "a"]
    assert tree(tmp_path) == ["a", "a/b.bin", "j.json", "t.txt"]


def test_failure_within_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    """Whatever goes wrong while writing, the old content stays and no temporary file does."""
    target = tmp_path / "f.txt"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(target)
    assert target.read_text(encoding="utf-8") == "old"
    assert tree(tmp_path) == ["f.txt"]


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up is an OutputError that names the file and the reason."""
    target = tmp_path / "f.txt"
    write_text(target, "old")
    monkeypatch.setattr(files.os, "fsync", fail_fsync)
    with pytest.raises(OutputError, match="no space left on device") as caught:
        write_text(target, "new")
    assert str(target) in str(caught.value)
    assert target.read_text(encoding="utf-8") == "old"
    assert tree(tmp_path) == ["f.txt"]


def test_failure_removes_directories_made_for_it(tmp_path: Path) -> None:
    """A failed write leaves no empty directories behind either."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a" / "f.json", float("nan"))
    with pytest.raises(RuntimeError), replacing(tmp_path / "a" / "b" / "f"):
        raise RuntimeError
    assert tree(tmp_path) == []


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    """Writing through a link changes the file that it points to."""
    (tmp_path / "real.txt").write_text("old", encoding="utf-8")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text(encoding="utf-8") == "new"


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    """Others can read a report as they could one written plainly: temporary files are not private."""
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "written", b"")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writable_directory_leaves_nothing(tmp_path: Path) -> None:
    """The trial answers with the absolute path and removes what it made, existing directories stay."""
    assert writable_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert writable_directory(tmp_path) == tmp_path
    assert tree(tmp_path) == []
    assert tmp_path.is_dir()


def test_directory_under_a_file_is_refused(tmp_path: Path) -> None:
    """A path that is a file, or leads through one, cannot be written; the file is left alone."""
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            writable_directory(path)
        assert str(path) in str(caught.value)
        with pytest.raises(OutputError):
            write_text(path / "report.txt", "")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"
    assert tree(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that takes no files from anybody")
def test_directory_that_takes_no_files_is_refused() -> None:
    """A directory of the kernel's exists but takes no files, not even from an administrator."""
    with pytest.raises(OutputError, match="cannot be written"):
        writable_directory("/proc/self")


def test_new_directory_appears_whole(tmp_path: Path) -> None:
    """The target is not there while it is being filled, and complete afterwards; an empty one is taken over."""
    target = tmp_path / "out"
    target.mkdir()
    with new_directory(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "f").write_bytes(b"1")
        assert tree(target) == []
    assert tree(tmp_path) == ["out", "out/sub", "out/sub/f"]


def test_new_directory_vanishes_on_failure(tmp_path: Path) -> None:
    """A failure leaves neither the target, nor the temporary directory, nor parents made for it."""
    with pytest.raises(KeyboardInterrupt):
        interrupted_directory(tmp_path / "a" / "out")
    assert tree(tmp_path) == []


def test_filled_directory_is_refused(tmp_path: Path) -> None:
    """A directory with anything in it is never written into."""
    (tmp_path / "kept").write_bytes(b"")
    with pytest.raises(OutputError, match="not empty"), new_directory(tmp_path):
        raise AssertionError
    assert tree(tmp_path) == ["kept"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": ', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "file is nested"),
        (None, "no such file"),
    ],
)
def test_unreadable_json_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """A damaged or missing file is an error of the caller's kind with the file's name."""
    file = tmp_path / "x.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_json(file, error=CheckpointError)
    assert str(file) in str(caught.value)


def test_a_full_disk_is_told_from_other_failures() -> None:
    """In the words of Python and of safetensors, also as the cause of what a library raises."""
    full = OSError(errno.ENOSPC, "No space left on device")
    assert lacks_room(full)
    assert not lacks_room(OSError(errno.EACCES, "Permission denied"))
    caused = RuntimeError("cannot save")
    caused.__cause__ = full
    assert lacks_room(caused)
    with pytest.raises(SafetensorError) as caught:
        save_file({"x": np.zeros(1)}, "/dev/full/x")
    assert not lacks_room(caught.value)
    assert lacks_room(SafetensorError("I/O error: No space left on device (os error 28)"))
    assert not lacks_room(AssertionError("(os error 28)"))
