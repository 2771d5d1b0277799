"""A gate looks at its library before long work: a bad one is a usage error."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.datasets import records, write_library

from clip_eval.errors import LibraryError
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings


def look(library: Path) -> None:
    """Look at a run with this library; the checkpoint is left out of it."""
    session = Session(Settings(model="nowhere", library=str(library)))
    session.candidate.__dict__["checkpoint"] = None
    session.look()


def test_a_sound_library_passes_the_look(tmp_path: Path) -> None:
    """Nothing is raised, and no image is opened."""
    library = write_library(tmp_path, records(3))
    next(library.glob("Mira/*")).write_bytes(b"no image")
    look(library)


@pytest.mark.parametrize("broken", ["manifest.jsonl", "library.toml", "Mira"])
def test_a_bad_library_is_refused(tmp_path: Path, broken: str) -> None:
    """A missing manifest, missing settings and missing images each stop the run before it starts."""
    library = write_library(tmp_path / "library")
    (library / broken).rename(tmp_path / broken)
    with pytest.raises(LibraryError):
        look(library)
