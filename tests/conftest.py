"""Fixtures that the tests of several packages share. What takes time is made once a worker, or once a run: a test that
changes a checkpoint or a pack takes a copy.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import commands
from support.gating import SMALLEST
from support.packs import changed_copy, record_small, session_on
from support.shared import made_once
from support.small_clip import write_small_clip

from clip_eval.run.session import Session

try:
    from hypothesis import settings
except (
    ImportError
):  # pytest reads this file in a clone also where the shipped suite alone is run, without the tests' needs
    pass
else:  # Derandomised: a failure on one machine is one on all. No deadline: an example may meet a busy machine.
    settings.register_profile(
        "quick", derandomize=True, deadline=None, database=None, print_blob=True, max_examples=200
    )
    settings.load_profile("quick")

run = pytest.fixture(commands.running)
nothing_runs = pytest.fixture(commands.nothing_starts)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with a processor: 16 tokens, widths 32 and 48, projection 24."""
    return write_small_clip(tmp_path_factory.mktemp("model") / "clip")


@pytest.fixture(scope="session")
def bare_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a processor."""
    return write_small_clip(tmp_path_factory.mktemp("bare-model") / "clip", processor=False)


@pytest.fixture(scope="session")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a processor and one layer a tower."""
    return write_small_clip(tmp_path_factory.mktemp("smallest") / "smallest-clip", **SMALLEST)


@pytest.fixture(scope="session")
def pack_path(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of `model`, recorded without the gate."""
    return made_once(tmp_path_factory, "packs", lambda directory: record_small(model, directory / "clip")) / "clip"


@pytest.fixture
def damaged(pack_path: Path, tmp_path: Path) -> Path:
    """A copy of the pack, to be damaged."""
    return changed_copy(pack_path, tmp_path / "pack")


@pytest.fixture(scope="session")
def session(model: Path, pack_path: Path) -> Session:
    """The checkpoint against its own pack."""
    return session_on(model, pack=pack_path)
