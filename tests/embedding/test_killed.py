"""A run that is killed goes on where it was: the same bits, and no finished shard twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import samples, write_dataset
from support.small_clip import write_small_clip
from support.stores import shards, stored

from clip_eval.dataset import open_dataset
from clip_eval.embedding import pipeline, store
from clip_eval.embedding.engines import fill
from clip_eval.embedding.fill import EmbedOptions
from clip_eval.processes import child_environment

IMAGES, BLOCK, BATCH = 40, 10, 3
BATCH_S = 0.02
SHARDS = 21  # 16 batches of images, the prompts, and the captions of 4 blocks

# Each batch is a shard and takes a while, so that there is something to interrupt.
PROGRAM = f"""
import sys, time
from pathlib import Path
import torch, transformers, pyarrow.parquet
from clip_eval.embedding import pipeline, store
from clip_eval.embedding.engines import fill
from clip_eval.embedding.fill import EmbedOptions

def slow(*arguments, launched=pipeline.launched):
    time.sleep({BATCH_S})
    return launched(*arguments)

pipeline.BLOCK, store._SHARD_S, pipeline.launched = {BLOCK}, 0.0, slow
model, dataset, out = sys.argv[1:]
options = EmbedOptions(model=model, dataset=Path(dataset), out=Path(out), batch_size={BATCH})
print("ready", flush=True)
fill(options, quiet=True)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> EmbedOptions:
    """A checkpoint, and images that differ, each with a caption of its own."""
    root = tmp_path_factory.mktemp("killed")
    entries = [{**sample, "caption": f"{'cat ' * (n % 5)}{n}"} for n, sample in enumerate(samples(IMAGES))]
    dataset = write_dataset(root / "dataset", entries)
    rng = np.random.default_rng(3)
    for sample in open_dataset(dataset).samples():
        Image.fromarray(rng.integers(0, 256, (33, 41, 3), dtype=np.uint8)).save(dataset / sample.path)
    model = write_small_clip(root / "checkpoint")
    return EmbedOptions(model=str(model), dataset=dataset, out=root / "undisturbed", batch_size=BATCH)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps here as in the program."""
    monkeypatch.setattr(pipeline, "BLOCK", BLOCK)
    monkeypatch.setattr(store, "_SHARD_S", 0.0)


def killed(options: EmbedOptions, after_shards: int, after_s: float) -> None:
    """Start a run and kill it when it has written so many shards, and a moment later."""
    command = [sys.executable, "-c", PROGRAM, options.model, str(options.dataset), str(options.out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment()) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        while run.poll() is None and written(options.out) < after_shards:
            time.sleep(0.001)
        time.sleep(after_s)
        run.kill()
        run.wait()


def written(store: Path) -> int:
    """How many shards there are; the run makes its directory, and removes it again, to see whether it can."""
    try:
        return len(list(store.glob("*/*.parquet")))
    except FileNotFoundError:
        return 0


def test_a_killed_run_goes_on(options: EmbedOptions, tmp_path: Path) -> None:
    """After about a half of it."""
    goes_on(options, tmp_path, [(9, BATCH_S / 2)])


@pytest.mark.slow
def test_a_killed_run_goes_on_from_ten_random_points(options: EmbedOptions, tmp_path: Path) -> None:
    """Before the first shard, within one, between two, near the last."""
    rng = random.Random(5)
    goes_on(options, tmp_path, [(rng.randint(0, SHARDS), rng.uniform(0, 2 * BATCH_S)) for _ in range(10)])


def goes_on(options: EmbedOptions, tmp_path: Path, points: list[tuple[int, float]]) -> None:
    """Kill a run at each of the points, and compare what the next one makes of it with a run that nothing disturbed."""
    fill(options, quiet=True)
    expected = {kind: stored(options.out, kind) for kind in ("images", "texts")}
    assert sum(len(shards(options.out, kind)) for kind in expected) == SHARDS
    interrupted = 0
    for number, point in enumerate(points):
        own = replace(options, out=tmp_path / str(number))
        killed(own, *point)
        before = {shard: shard.read_bytes() for kind in expected for shard in shards(own.out, kind)}
        finished = {kind: stored(own.out, kind) for kind in expected}
        interrupted += 0 < len(finished["images"]) < IMAGES
        tally = fill(own, quiet=True)
        assert tally.new_images == IMAGES - len(finished["images"])
        assert tally.new_texts == len(expected["texts"]) - len(finished["texts"])
        assert {kind: stored(own.out, kind) for kind in expected} == expected
        assert {shard: shard.read_bytes() for shard in before} == before
    assert interrupted
