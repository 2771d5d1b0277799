"""What a parent hands to its child: the inputs that it has opened, which nobody opens a second time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.open_clip import write_original
from support.packs import SOME_SURFACE, record_small
from support.small_clip import write_small_clip

from clip_eval.errors import CheckpointError
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings

DATASET = Path(__file__).parents[2] / "fixtures" / "shapes-dataset"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A checkpoint, its original, a pack, a dataset, acceptances and a policy of this test's own."""
    model = write_small_clip(tmp_path / "clip", processor=False)
    record_small(model, tmp_path / "pack", SOME_SURFACE)
    shutil.copytree(DATASET, tmp_path / "dataset")
    (tmp_path / "policy.toml").write_text('require = ["baseline"]', encoding="utf-8")
    (tmp_path / "accepted.toml").write_text(
        '[[accepted]]\nid = "x"\nbefore = "a"\nafter = "b"\nreason = "wanted"\nexpires = 2030-01-31\n', encoding="utf-8"
    )
    write_original(model, tmp_path / "original")
    names = {"baseline": "pack", "dataset": "dataset", "accepted": "accepted.toml", "policy": "policy.toml"}
    names["converted_from"] = "original"
    return Settings(model=str(model), **{name: str(tmp_path / file) for name, file in names.items()})


def test_a_child_opens_nothing_again(settings: Settings, tmp_path: Path) -> None:
    """The child's session holds what the parent read, though all of it is gone from the disk by then."""
    parent = Session(settings)
    parent.open_inputs()
    (tmp_path / "handed").mkdir()
    file = parent.hand_over(tmp_path / "handed")
    for name in ("clip", "pack", "dataset", "original"):
        shutil.rmtree(tmp_path / name)
    for name in ("policy.toml", "accepted.toml"):
        (tmp_path / name).unlink()
    child = Session.handed_over(file)
    child.open_inputs()
    assert child.settings == settings
    assert child.candidate.checkpoint.fingerprints() == parent.candidate.checkpoint.fingerprints()
    assert child.candidate.checkpoint is child.watched.checkpoint
    assert child.pack is not None
    assert parent.pack is not None
    assert child.pack.digest == parent.pack.digest
    assert (child.dataset, child.policy, child.acceptances) == (parent.dataset, parent.policy, parent.acceptances)
    assert child.original is not None
    assert child.original == parent.original
    with pytest.raises(CheckpointError):
        Session(settings).open_inputs()


def test_a_change_before_the_child_starts_is_seen(settings: Settings, tmp_path: Path) -> None:
    """The checkpoint is watched from the parent's first look on, and compared with what was read then."""
    parent = Session(replace(settings, baseline=None, accepted=None))
    parent.open_inputs()
    (tmp_path / "handed").mkdir()
    file = parent.hand_over(tmp_path / "handed")
    assert Session.handed_over(file).watched.changed() == ()
    weights = tmp_path / "clip" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert Session.handed_over(file).watched.changed() == ("model.safetensors",)


def test_a_change_of_the_original_is_seen(settings: Settings, tmp_path: Path) -> None:
    """The original is compared with what was opened, too."""
    session = Session(replace(settings, baseline=None, accepted=None, dataset=None))
    session.open_inputs()
    assert session.changed() == ()
    weights = tmp_path / "original" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert session.changed() == (str(weights),)
