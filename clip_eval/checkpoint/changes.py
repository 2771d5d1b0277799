"""Detects changes of a checkpoint's files during a run, so that what was judged is what was fingerprinted.

The cheap test is the file system's view of a file: path, size and times. Only if that differs is the content compared,
since a copy of the same bytes, a new link, or another name of a blob in the hub's cache changes nothing.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.checkpoint.hub import ALLOWED_FILES, TEXT_FILES
from clip_eval.errors import ClipEvalError

__all__ = ["Identity", "Watched", "identities", "identity_of", "watch"]

_TEXT_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Identity:
    """The file system's view of a file, through symbolic links. Writing or replacing changes it."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A checkpoint at the start of a run.

    Attributes:
        checkpoint: with its fingerprints, taken then.
        before: name of each file to its identity.
        texts: name of each text file to the sha256 of its bytes.
    """

    checkpoint: Checkpoint
    before: Mapping[str, Identity]
    texts: Mapping[str, str | None]

    def changed(self) -> tuple[str, ...]:
        """Return the names of the files with other content than before, or that are missing or new."""
        now = identities(self.checkpoint)
        suspects = sorted(name for name in {*self.before, *now} if self.before.get(name) != now.get(name))
        weights = [name for name in suspects if Path(name).name not in TEXT_FILES]
        same_weights = not weights or self._same_weights()
        return tuple(
            name
            for name in suspects
            if not (name in now and name in self.before)
            or (not same_weights if name in weights else _digest(self.checkpoint.path / name) != self.texts[name])
        )

    def _same_weights(self) -> bool:
        try:
            again = open_checkpoint(self.checkpoint.path, variant=self.checkpoint.variant)
            return again.digests() == self.checkpoint.digests()
        except (ClipEvalError, OSError):
            return False


def watch(checkpoint: Checkpoint) -> Watched:
    """Record the state of a checkpoint before it is judged. Takes its fingerprints, which reads every tensor once.

    Raises:
        CheckpointError: a file of it cannot be read, or is damaged.
    """
    before = identities(checkpoint)
    texts = {name: _digest(checkpoint.path / name) for name in before if Path(name).name in TEXT_FILES}
    checkpoint.fingerprints()
    return Watched(checkpoint, before, texts)


def identities(checkpoint: Checkpoint) -> dict[str, Identity]:
    """Return the identity of each existing file of a checkpoint that a loader reads.

    By name, or by path where the processor's files are elsewhere.
    """
    names = {file.name for pattern in ALLOWED_FILES for file in checkpoint.path.glob(pattern)}
    names |= {entry.file.name for entry in checkpoint.tensors.values()}
    if (elsewhere := checkpoint.processor_directory) is not None:
        names |= {str(elsewhere / name) for name in TEXT_FILES}
    by_name = {name: identity_of(checkpoint.path / name) for name in sorted(names)}
    return {name: identity for name, identity in by_name.items() if identity is not None}


def identity_of(file: Path) -> Identity | None:
    """Return the identity of a regular file; None if it is not there."""
    try:
        seen = file.stat()
    except OSError:
        return None
    if not stat.S_ISREG(seen.st_mode):
        return None
    return Identity(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _digest(file: Path) -> str | None:
    """The sha256 of the file's bytes; None if it cannot be read, which equals no digest."""
    try:
        with file.open("rb") as handle:
            return hashlib.sha256(handle.read(_TEXT_BYTES)).hexdigest()
    except OSError:
        return None
