"""The part of the surface that tells of pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from clip_eval.baseline.surface.image_cases import ARRAYS, CALLS, OTHERS, PICTURES
from clip_eval.baseline.surface.images import observe_pictures
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import quiet, resizes_with_torchvision
from clip_eval.verdict.plain_values import Json

CHECKPOINT = Path(__file__).parents[3] / "fixtures" / "shapes-clip"


def observed(checkpoint: Path = CHECKPOINT, dtype: str = "float32") -> dict[str, Any]:
    """The entries of a checkpoint."""
    session = Session(Settings(model=str(checkpoint), dtype=dtype))
    with quiet():
        found: dict[str, Json] = observe_pictures(session.candidate.clip)
    return found


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    """The entries of the shipped checkpoint."""
    return observed()


def test_every_probe_has_an_entry(entries: dict[str, Any]) -> None:
    """Each picture, array and call is told of, in a few words."""
    for group, given in (("picture", PICTURES), ("array", ARRAYS), ("other", OTHERS), ("picture, options", CALLS)):
        told = entries[f"image_processor({group})[*]"]
        assert list(told) == list(given)
        assert all(isinstance(text, str) and 0 < len(text) < 120 for text in told.values())


def test_what_the_contract_settles_reads_as_kept(entries: dict[str, Any]) -> None:
    """Opaque modes are as Pillow has them, sizes have names, and a batch is its pictures."""
    pictures = entries["image_processor(picture)[*]"]
    for mode in ("1", "L", "P", "RGB", "CMYK", "I;16", "F"):
        assert pictures[f"mode {mode}"] == "ndarray float32 (1, 3, side, side), as Pillow has it"
    assert entries["image_processor(other)[*]"]["list"] == "ndarray float32 (5, 3, side, side), each as alone"
    assert entries["image_processor(other)[*]"]["number"] == "raises TypeError"


def test_it_is_the_same_again_and_in_other_dtypes(entries: dict[str, Any]) -> None:
    """Nothing depends on the run, nor on the dtype that the model has."""
    assert observed(dtype="bfloat16") == entries


def test_levels_tell_of_another_resize(entries: dict[str, Any], monkeypatch: MonkeyPatch) -> None:
    """Pixels that library and Pillow agree on, but differ from before, change the lists of levels and no reading."""
    from PIL import Image

    original = Image.Image.resize

    def resize(self: Image.Image, size: Any, resample: Any = None, *args: Any, **kwargs: Any) -> Image.Image:
        return original(self, size, 1 if resample == 3 else resample, *args, **kwargs)

    session = Session(Settings(model=str(CHECKPOINT), dtype="float32"))
    if resizes_with_torchvision(session.candidate.clip.processors.load("CLIPImageProcessor")):
        pytest.skip("torchvision's levels are not told: they depend on the machine")
    monkeypatch.setattr(Image.Image, "resize", resize)
    changed = observed()
    assert changed["image_processor(picture)[*]"] == entries["image_processor(picture)[*]"]
    assert changed["image_processor(picture).levels"] != entries["image_processor(picture).levels"]


def test_without_files_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """A checkpoint without an image processor has no such entries."""
    copy = tmp_path / "copy"
    shutil.copytree(CHECKPOINT, copy)
    (copy / "preprocessor_config.json").unlink()
    assert observed(copy) == {}
