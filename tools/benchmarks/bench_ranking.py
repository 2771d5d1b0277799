"""Exact ranks against the bare matrix product, 5,000 x 25,000 x 512, in turn in every round:

    OMP_NUM_THREADS=1 python -m pytest tools/benchmarks/bench_ranking.py -s

Either direction alone, and both together, which evaluate and the gate ask for, from one product. Times are those of the
process at work, since other processes wait for the same cores; a ratio is a median over rounds. The product is written
to memory that is there already. Nothing compares seconds of different runs.
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
ROUNDS = 5
LIMIT = 1.1
LIMIT_BYTES = 2**30

Vectors = NDArray[np.float32]


def vectors(count: int) -> Vectors:
    """Return random unit vectors, (count, 512)."""
    found = np.random.default_rng(count).standard_normal((count, WIDTH), dtype=np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("direction", ["image to text", "text to image", "both"])
def test_ranks_take_hardly_more_than_the_product(benchmark: BenchmarkFixture, direction: str) -> None:
    """At most 1.1 of one bare float32 product, and 1 GiB above the inputs."""
    images, texts = vectors(IMAGES), vectors(IMAGES * CAPTIONS_EACH)
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
    ratios = []

    def one_round() -> None:
        bare = seconds(lambda: np.matmul(queries, gallery.T, out=product))
        ratios.append(seconds(ranks[direction]) / bare)

    benchmark.pedantic(one_round, rounds=ROUNDS)
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    print(f"{direction}: {statistics.median(ratios):.3f} of the product ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"{direction}: {above_bytes / 2**20:.0f} MiB above the inputs at most")
    assert statistics.median(ratios) <= LIMIT
    assert above_bytes <= LIMIT_BYTES
