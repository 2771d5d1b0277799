"""Decoding: order, modes, and problems that are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from support.datasets import samples, write_dataset

from clip_eval.dataset import decode, open_dataset
from clip_eval.errors import DatasetError


def test_images_come_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    """Samples keep their order and their own image."""
    dataset = open_dataset(write_dataset(tmp_path, samples(9)))
    found = list(map(decode, dataset.entries()))
    assert [item.sample.id for item in found if item.sample] == [str(100 + index) for index in range(9)]
    assert [item.image.size for item in found if item.image] == [(40 + index % 7, 33) for index in range(9)]


def test_modes_are_those_of_the_file(tmp_path: Path) -> None:
    """Conversion is the processor's business: palette and alpha arrive as they are stored."""
    dataset = open_dataset(write_dataset(tmp_path, samples(3)))
    paths = [dataset.root / sample.path for sample in dataset.samples()]
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(paths[0])
    Image.new("P", (9, 9)).save(paths[2])
    assert [item.image.mode for item in map(decode, dataset.entries()) if item.image] == ["RGBA", "RGB", "P"]


def test_problems_are_told_and_nothing_is_dropped(tmp_path: Path) -> None:
    """A missing, a truncated and a foreign file each keep their place, with a reason instead of an image."""
    dataset = open_dataset(write_dataset(tmp_path, samples(4)))
    missing, truncated, foreign, _ = [dataset.root / sample.path for sample in dataset.samples()]
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-300])
    foreign.write_bytes(b"no image at all")
    found = list(map(decode, dataset.entries()))
    assert [item.image is None for item in found] == [True, True, True, False]
    problems = [item.problem or "" for item in found]
    assert problems[0] == "No such file or directory"
    assert "truncated" in problems[1].lower()
    assert problems[2] == "not an image that Pillow knows"
    assert found[3].problem is None


def test_a_decoder_may_raise_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a kind that nobody foresaw is a problem of that image, not the end of the walk."""
    dataset = open_dataset(write_dataset(tmp_path, samples(2)))

    def broken(*_: object) -> None:
        raise KeyError("table")

    monkeypatch.setattr(Image, "open", broken)
    assert [item.problem for item in map(decode, dataset.entries())] == ["KeyError: 'table'"] * 2


def test_a_broken_line_keeps_its_place(tmp_path: Path) -> None:
    """A line that is no sample is a problem among the others, with its place and without a sample."""
    root = write_dataset(tmp_path, samples(3))
    lines = (root / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (root / "manifest.jsonl").write_bytes(b"".join([lines[0], b"{\n", *lines[1:]]))
    found = list(map(decode, open_dataset(root).entries()))
    assert [item.sample is None for item in found] == [False, True, False, False]
    assert found[1].where == "line 2 of manifest.jsonl"
    assert "it is not JSON" in str(found[1].problem)


def test_a_manifest_that_vanished_ends_the_walk(tmp_path: Path) -> None:
    """Where the manifest itself cannot be read there is nothing to count: an error."""
    dataset = open_dataset(write_dataset(tmp_path, samples(3)))
    (dataset.root / "manifest.jsonl").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        list(map(decode, dataset.entries()))
