"""The settings of image processors: which file has them, what absent ones mean, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from clip_eval.errors import CheckpointError
from clip_eval.oracle.preprocessing.image_processor import PixelSettings

LIBRARY = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor


def test_settings_saved_by_the_installed_release_are_read(tmp_path: Path) -> None:
    """What `save_pretrained` writes gives the settings back, `processor_config.json` of 5.x included."""
    saved = LIBRARY(
        size={"shortest_edge": 31}, crop_size={"height": 30, "width": 29}, resample=2, image_mean=[0.1, 0.2, 0.3]
    )
    saved.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    expected = PixelSettings(size=31, crop_height=30, crop_width=29, resample=2, image_mean=(0.1, 0.2, 0.3))
    assert PixelSettings.from_dict(raw) == expected
    assert PixelSettings.from_dict({"processor_class": "CLIPProcessor", "image_processor": raw}) == expected


def test_a_file_of_2021_is_read() -> None:
    """Plain integers for size and crop, no rescaling or conversion mentioned: the defaults of today."""
    raw = {
        "crop_size": 200,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 210,
    }
    assert PixelSettings.from_dict(raw) == PixelSettings(size=210, crop_height=200, crop_width=200)


def test_absent_settings_take_the_documented_defaults() -> None:
    """A file that only names the processor means CLIP as released."""
    assert PixelSettings.from_dict({"image_processor_type": "CLIPImageProcessor"}) == PixelSettings()


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"processor_class": "CLIPProcessor"},
        {"image_processor": "CLIPImageProcessor"},
        {"image_processor_type": "ViTImageProcessor"},
        {"do_resize": None},
        {"do_resize": 1},
        {"do_normalize": "false"},
        {"size": 0},
        {"size": 20.5},
        {"size": True},
        {"size": None},
        {"size": "224"},
        {"size": [1, 2, 3]},
        {"size": {"height": 20}},
        {"size": {"longest_edge": 20}},
        {"size": {"shortest_edge": 20, "longest_edge": 30}},
        {"size": {"shortest_edge": -1}},
        {"crop_size": {"shortest_edge": 20}},
        {"crop_size": {"height": 0, "width": 3}},
        {"resample": 9},
        {"resample": "bicubic"},
        {"resample": None},
        {"rescale_factor": 0},
        {"rescale_factor": float("nan")},
        {"image_mean": [0.5]},
        {"image_mean": [0.5, 0.5, None]},
        {"image_std": [0.0, 1.0, 1.0]},
        {"image_std": -1.0},
        {"image_std": "abc"},
    ],
    ids=str,
)
def test_nonsense_is_refused(raw: dict[str, object]) -> None:
    """A setting that is missing its meaning names the file and what to do, and no default is guessed."""
    with pytest.raises(CheckpointError) as caught:
        PixelSettings.from_dict(raw, where="preprocessor_config.json")
    assert caught.value.where == "preprocessor_config.json"
    assert caught.value.fix


def test_settings_are_read_from_the_file_that_has_them(tmp_path: Path) -> None:
    """processor_config.json counts where it has settings of pictures, else preprocessor_config.json does."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 31, "crop_size": 30}), encoding="utf-8")
    expected = PixelSettings(size=31, crop_height=30, crop_width=30)
    assert PixelSettings.from_directory(tmp_path) == expected
    whole = tmp_path / "processor_config.json"
    whole.write_text(json.dumps({"processor_class": "CLIPProcessor"}), encoding="utf-8")
    assert PixelSettings.from_directory(tmp_path) == expected
    whole.write_text(json.dumps({"image_processor": {"size": 29, "crop_size": 30}}), encoding="utf-8")
    assert PixelSettings.from_directory(tmp_path) == PixelSettings(size=29, crop_height=30, crop_width=30)
