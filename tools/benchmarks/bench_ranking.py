"""Exact ranks against the bare matrix product, 5,000 x 25,000 x 512, in turn in every round:

    python -m pytest tools/benchmarks/bench_ranking.py -s

Either direction alone, and both together, which evaluate and the gate ask for, from one product. Captions lie near
their image, as those of a model that retrieves do; in the last case they lie anywhere, and every image has thousands of
rivals, which costs more. Both sides take as many threads as NumPy's product takes by itself. Ratios are those of the
clock and of processor time, which other processes disturb less; each is a median over rounds. The product is written to
memory that is there already. Nothing compares seconds of different runs.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from clip_eval.embedding.ranking import first_hits, first_hits_both

IMAGES, CAPTIONS_EACH, WIDTH = 5_000, 5, 512
NOISE = 2.0
"""Length of what is added to an image's unit vector: the cosine of a caption with its own image is about 0.45."""
ROUNDS = 5
LIMIT = 1.1
LIMIT_BYTES = 2**30

Vectors = NDArray[np.float32]


def vectors(noise: float) -> tuple[Vectors, Vectors]:
    """Return unit vectors of images, (images, 512), and of their captions, (captions, 512), with so much noise."""
    random = np.random.default_rng(0)
    images = _unit(random.standard_normal((IMAGES, WIDTH), dtype=np.float32))
    away = random.standard_normal((IMAGES * CAPTIONS_EACH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
    near = 0 if noise == np.inf else np.repeat(images, CAPTIONS_EACH, axis=0)
    return images, _unit(near + away * np.float32(min(noise, 1e3)))


def _unit(found: Vectors) -> Vectors:
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return what a call takes by the clock, and of processor time."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


@pytest.mark.parametrize(
    ("direction", "noise"),
    [("image to text", NOISE), ("text to image", NOISE), ("both", NOISE), ("both", np.inf)],
    ids=["image to text", "text to image", "both", "both, unrelated"],
)
def test_ranks_take_hardly_more_than_the_product(benchmark: BenchmarkFixture, direction: str, noise: float) -> None:
    """At most 1.1 of the processor time of one bare float32 product, and 1 GiB above the inputs."""
    images, texts = vectors(noise)
    texts_of: Sequence[Sequence[int]] = [range(at, at + CAPTIONS_EACH) for at in range(0, len(texts), CAPTIONS_EACH)]
    images_of = [[place // CAPTIONS_EACH] for place in range(len(texts))]
    queries, gallery = (texts, images) if direction == "text to image" else (images, texts)
    ranks: dict[str, Callable[[], Any]] = {
        "image to text": lambda: first_hits(images, texts, texts_of),
        "text to image": lambda: first_hits(texts, images, images_of),
        "both": lambda: first_hits_both(images, texts, texts_of),
    }
    tracemalloc.start()
    ranks[direction]()
    above_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    product = np.ones((len(queries), len(gallery)), dtype=np.float32)  # its pages are there
    ratios: list[tuple[float, float]] = []

    def one_round() -> None:
        bare = seconds(lambda: np.matmul(queries, gallery.T, out=product))
        asked = seconds(ranks[direction])
        ratios.append((asked[0] / bare[0], asked[1] / bare[1]))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    by_clock, by_work = (sorted(side) for side in zip(*ratios, strict=True))
    benchmark.extra_info["ratio"] = statistics.median(by_work)
    name = direction if noise == NOISE else f"{direction}, unrelated"
    for what, found in (("the clock", by_clock), ("processor time", by_work)):
        print(f"{name}: {statistics.median(found):.3f} of the product by {what} ({found[0]:.3f} to {found[-1]:.3f})")
    print(f"{name}: {above_bytes / 2**20:.0f} MiB above the inputs at most")
    assert noise != NOISE or statistics.median(by_work) <= LIMIT
    assert above_bytes <= LIMIT_BYTES
