"""How many threads compute: of torch for a batch on the CPU while others decode images, of NumPy for a product.

Threads of OpenMP wait for each other by spinning, and take the cores from those that decode. A small model computes a
batch in less time than decoding its images takes, so one thread is enough; a ViT-B/32 needs every core. The count
follows from the model and the machine, not from the number of threads that decode, since a matrix product may round in
another way with another number of threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clip_eval.families.config import ClipConfig
from clip_eval.processes import usable_cores
from clip_eval.subject.runtime import Runtime
from clip_eval.subject.runtimes.transformers import Subject
from clip_eval.throughput.clock import hold_heap
from clip_eval.throughput.roofline import image_operations, text_operations

__all__ = ["compute_threads", "computing", "products_in_one_thread"]

_DECODING_OPERATIONS = 3e8  # of a forward in float32 in the time that it takes to decode and resize 640 x 480 pixels
_USUAL_TOKENS = 16  # of a caption


def compute_threads(config: ClipConfig, kind: str, cores: int) -> int:
    """Return how many of the cores a tower can use while images are decoded: its share of the work, at least one.

    Args:
        config: of the model.
        kind: "images" or "texts".
        cores: of the machine.
    """
    tokens = min(_USUAL_TOKENS, config.text.max_position_embeddings)
    operations = image_operations(config) if kind == "images" else text_operations(config, tokens)
    return max(1, round(cores * operations / (operations + _DECODING_OPERATIONS)))


@contextlib.contextmanager
def computing(runtime: Runtime, kind: str) -> Iterator[None]:
    """On a CPU let torch use no more threads than `compute_threads` says in the block, and keep the heap for good.

    A batch of 64 has activations of 40 MB, which glibc maps anew for each layer: a tenth of a ViT-B/32's time.
    """
    if not isinstance(runtime, Subject) or not runtime.device.startswith("cpu"):
        yield
        return
    import torch

    hold_heap()
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, compute_threads(runtime.checkpoint.config, kind, usable_cores())))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def products_in_one_thread() -> Iterator[int]:
    """Let each of NumPy's matrix products take one thread in the block, for callers that start several at once.

    Yields:
        How many threads a product took before: what the caller may start. 1 where NumPy's library is not known.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library.num_threads for library in blas.lib_controllers), default=1)
    with blas.limit(limits=1):
        yield threads
