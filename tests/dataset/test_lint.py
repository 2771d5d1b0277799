"""A gate opens its dataset before long work: a bad one is a usage error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support.datasets import samples, write_dataset

from clip_eval.errors import DatasetError
from clip_eval.families.holding import HOLDINGS
from clip_eval.families.roles import WHOLE
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings


def opened(dataset: Path) -> None:
    """Open the inputs of a run with this dataset; the checkpoint is left out of it."""
    session = Session(Settings(model="nowhere", dataset=str(dataset)))
    session.candidate.__dict__["checkpoint"] = SimpleNamespace(holds=HOLDINGS[WHOLE])
    session.__dict__["watched"] = None
    session.open_inputs()


def test_a_sound_dataset_is_opened(tmp_path: Path) -> None:
    """Nothing is raised, and no image is opened."""
    dataset = write_dataset(tmp_path, samples(3))
    next(dataset.glob("Mira/*")).write_bytes(b"no image")
    opened(dataset)


@pytest.mark.parametrize("broken", ["manifest.jsonl", "dataset.toml", "Mira"])
def test_a_bad_dataset_is_refused(tmp_path: Path, broken: str) -> None:
    """A missing manifest, missing settings and missing images each stop the run before it starts."""
    dataset = write_dataset(tmp_path / "dataset")
    (dataset / broken).rename(tmp_path / broken)
    with pytest.raises(DatasetError):
        opened(dataset)
