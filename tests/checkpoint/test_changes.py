"""A checkpoint that changes while it is judged is noticed; one that is only touched is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.packs import changed_model, next_float

from clip_eval.checkpoint.changes import identities, watch
from clip_eval.checkpoint.checkpoint import open_checkpoint

WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(model, tmp_path / "clip"))


def _replaced(directory: Path, name: str, content: bytes) -> None:
    (directory / "new").write_bytes(content)
    (directory / "new").replace(directory / name)


def _other_weights(directory: Path) -> None:
    other = changed_model(directory, directory.parent / "other", next_float)
    _replaced(directory, WEIGHTS, (other / WEIGHTS).read_bytes())


def _in_place(directory: Path) -> None:
    with (directory / WEIGHTS).open("r+b") as handle:
        handle.seek(-4, os.SEEK_END)
        handle.write(b"\x00\x00\xc0\x7f")  # NaN
    seen = (directory / "config.json").stat()
    os.utime(directory / WEIGHTS, ns=(seen.st_atime_ns, seen.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "other weights": (_other_weights, (WEIGHTS,)),
    "weights in place": (_in_place, (WEIGHTS,)),
    "cut short": (lambda path: os.truncate(path / WEIGHTS, 100), (WEIGHTS,)),
    "tokenizer": (lambda path: _replaced(path, "tokenizer.json", b"{}"), ("tokenizer.json",)),
    "appeared": (lambda path: _replaced(path, "vocab.json", b"{}"), ("vocab.json",)),
    "gone": (lambda path: (path / "config.json").unlink(), ("config.json",)),
    "no file": (lambda path: ((path / WEIGHTS).unlink(), (path / WEIGHTS).mkdir()), (WEIGHTS,)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(copy: Path, name: str) -> None:
    """Whatever was read and is another now, or gone, or new, is named."""
    change, expected = CHANGES[name]
    watched = watch(open_checkpoint(copy))
    assert watched.changed() == ()
    change(copy)
    assert watched.changed() == expected


def test_a_checkpoint_that_is_gone(copy: Path) -> None:
    """Every file of it is named."""
    watched = watch(open_checkpoint(copy))
    names = tuple(sorted(watched.before))
    shutil.rmtree(copy)
    assert watched.changed() == names
    assert WEIGHTS in names


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: [file.touch() for file in path.iterdir()],
        lambda path: os.link(path / WEIGHTS, path.parent / "backup"),
        lambda path: [_replaced(path, file.name, file.read_bytes()) for file in list(path.iterdir())],
        lambda path: (path / "training.log").write_text("step 1", encoding="utf-8"),
        lambda path: shutil.rmtree(path) or shutil.copytree(path.parent / "original", path),
    ],
    ids=["touched", "linked", "written again", "a log", "downloaded again"],
)
def test_the_same_content_is_no_change(copy: Path, touch: Callable[[Path], object]) -> None:
    """Times, links, copies of the same bytes and files that no loader reads change nothing that was judged."""
    shutil.copytree(copy, copy.parent / "original")
    watched = watch(open_checkpoint(copy))
    touch(copy)
    assert watched.changed() == ()


def test_the_blobs_of_a_cache_are_looked_at(copy: Path, tmp_path: Path) -> None:
    """In the hub's cache files are links to blobs: another link to the same blob is no change, another blob is."""
    snapshot = tmp_path / "snapshots" / "one"
    snapshot.mkdir(parents=True)
    for file in copy.iterdir():
        (snapshot / file.name).symlink_to(file)
    watched = watch(open_checkpoint(snapshot))
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(Path(os.path.relpath(copy / WEIGHTS, snapshot)))
    assert watched.changed() == ()
    before = identities(watched.checkpoint)
    _other_weights(copy)
    assert identities(watched.checkpoint) != before
    assert watched.changed() == (WEIGHTS,)
