"""Pixel values by level, against the processor alone: the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.embedding import pixels as module
from clip_eval.embedding.pixels import Pixels
from clip_eval.subject import Subject


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint with its processor."""
    return write_small_clip(tmp_path_factory.mktemp("small"))


def images() -> list[Image.Image]:
    """Every mode that a file may have, larger and smaller than the model's pictures, and very long ones."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (47, 61), dtype=np.uint8))
    colours = Image.fromarray(rng.integers(0, 256, (90, 50, 3), dtype=np.uint8))
    modes = [noise, colours, *(colours.convert(mode) for mode in ("RGBA", "P", "1", "CMYK", "LA", "YCbCr"))]
    sizes = [colours.resize(size) for size in ((1, 1), (7, 5), (400, 3), (32, 32), (33, 32))]
    return [*modes, *sizes, Image.fromarray(np.arange(6000, dtype=np.uint16).reshape(60, 100))]


def subject_with(checkpoint: Path, tmp_path: Path, **settings: object) -> Subject:
    """The checkpoint with other settings of its image processor."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    names = [tmp_path / name for name in ("preprocessor_config.json", "processor_config.json")]
    for file in names:
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            content.get("image_processor", content).update(settings)
            file.write_text(json.dumps(content), encoding="utf-8")
    return Subject(open_checkpoint(tmp_path), "float32")


@pytest.mark.parametrize(
    "settings",
    [{}, {"resample": 2}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127},
     {"do_resize": False}, {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.7, 0.5]}],
    ids=str,
)  # fmt: skip
def test_pixels_are_those_of_the_processor(checkpoint: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    """Bit for bit, whatever the settings and the image."""
    subject = subject_with(checkpoint, tmp_path, **settings)
    pixels, processor = Pixels(subject), subject.processors.load()
    for image in images():
        expected = alone(subject, processor, image)
        if expected is None:
            assert image.size == (1, 1)
            with pytest.raises(ValueError, match=r"elements|the processor makes 1 x"):
                pixels(image)
        else:
            assert np.array_equal(pixels(image), expected), (image.mode, image.size)


def alone(subject: Subject, processor: Any, image: Image.Image) -> NDArray[np.float32] | None:
    """What the processor makes of one image; None where transformers 4 takes a pixel for one channel of three."""
    try:
        batch = subject.processors.process(processor, images=[image], return_tensors="pt")
    except ValueError:
        return None
    values: NDArray[np.float32] = batch["pixel_values"].numpy()[0]  # (3, 32, 32)
    return values if len(values) == 3 else None


def test_levels_are_used(checkpoint: Path) -> None:
    """The quick way is the one that is taken: a processor that does as CLIP's does has levels."""
    assert Pixels(Subject(open_checkpoint(checkpoint), "float32")).load().levels is not None
    assert Pixels(Subject(open_checkpoint(checkpoint), "float32")).load().edge_px == 32


def test_a_processor_that_does_more_is_called_in_full(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pixel depends on more than its level, the probe shows it."""
    subject = Subject(open_checkpoint(checkpoint), "float32")
    original = module._processed

    def with_vignette(processor: Any, image: Image.Image, **options: bool) -> Any:
        found = original(processor, image, **options)
        return found if options else found * np.linspace(0.5, 1, found.shape[-1], dtype=np.float32)

    monkeypatch.setattr(module, "_processed", with_vignette)
    pixels = Pixels(subject)
    assert pixels.load().levels is None
    assert np.array_equal(pixels(images()[1]), with_vignette(pixels.load().processor, images()[1]))


def test_another_size_than_the_models_is_a_problem(checkpoint: Path, tmp_path: Path) -> None:
    """Without a crop, sizes differ from image to image."""
    pixels = Pixels(subject_with(checkpoint, tmp_path, do_center_crop=False))
    with pytest.raises(ValueError, match="the processor makes 3 x 57 x 32 values of it, and the model takes 3 x 32 x"):
        pixels(images()[1])
