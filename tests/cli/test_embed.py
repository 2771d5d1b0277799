"""The `embed` command: what it says, its exit codes, and one paragraph for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import Run
from support.datasets import samples, write_dataset
from support.small_clip import write_small_clip

from clip_eval.embedding import pipeline


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random checkpoint with its processor."""
    return str(write_small_clip(tmp_path_factory.mktemp("small")))


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Four images; two of them have the same bytes as none other."""
    return str(write_dataset(tmp_path / "dataset", samples(4)))


def test_it_says_what_it_did(run: Run, checkpoint: str, dataset: str, tmp_path: Path) -> None:
    """What is in the store now, what of it is new, and where it is; a second time nothing is new."""
    out = str(tmp_path / "store")
    first = run("embed", checkpoint, "--dataset", dataset, "--out", out, "--batch-size", "2", "--workers", "1")
    assert (first.code, first.out.splitlines()[-1]) == (0, f"store: {out}")
    assert "4 images, 4 of them computed now" in first.out
    assert "clip-eval: 4 images of dataset" in first.err
    again = run("embed", checkpoint, "--dataset", dataset, "--out", out)
    assert (again.code, again.out.splitlines()[0]) == (
        0, "4 images, 0 of them computed now; 10 texts, 0 of them computed now"
    )  # fmt: skip


def test_what_is_left_out_is_exit_code_10(run: Run, checkpoint: str, dataset: str, tmp_path: Path) -> None:
    """It is named, and the rest is embedded."""
    next(Path(dataset).rglob("*.png")).write_bytes(b"no image")
    ended = run("embed", checkpoint, "--dataset", dataset, "--out", str(tmp_path / "store"))
    assert ended.code == 10
    assert "3 images, 3 of them computed now" in ended.out
    assert ".png: not an image that Pillow knows" in ended.out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--dataset": "no/such/dataset"}, "the dataset does not exist"),
        ({"--dataset": ""}, "--dataset is empty"),
        ({"--engine": "spark"}, "'spark' is not one of 'local', 'ray'"),
        ({"--address": "auto"}, "--address names a Ray cluster, and the engine is local"),
        ({"--dtype": "fp16"}, "float16"),
        ({"--attn": "flash"}, "no attention 'flash'"),
        ({"--device": "gpu"}, "device 'gpu'"),
        ({"--workers": "0"}, "0 is not in the range x>=1"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_paragraph(
    run: Run, checkpoint: str, dataset: str, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    """Exit code 4, before anything is written."""
    options = {"--dataset": dataset, "--out": str(tmp_path / "store"), **changed}
    ended = run("embed", checkpoint, *(word for option in options.items() for word in option))
    assert (ended.code, ended.out) == (4, "")
    assert said in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert not (tmp_path / "store").exists()


def test_a_wrong_place_is_one_paragraph(run: Run, checkpoint: str, dataset: str) -> None:
    """The store is a file, or the checkpoint is not there."""
    file = str(Path(dataset) / "dataset.toml")
    assert run("embed", checkpoint, "--dataset", dataset, "--out", file).code == 4
    ended = run("embed", "no/such/checkpoint", "--dataset", dataset, "--out", f"{dataset}-store")
    assert (ended.code, Path(f"{dataset}-store").exists()) == (4, False)


def test_an_interrupt_is_exit_code_2(
    run: Run, checkpoint: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the threads, and leaves no half shard."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "launched", interrupted)
    ended = run("embed", checkpoint, "--dataset", dataset, "--out", str(tmp_path / "store"))
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert list((tmp_path / "store").glob("images-*/*.parquet")) == []
