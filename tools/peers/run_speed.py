"""Run by `bench_peers` with a peer's interpreter: images and captions to embeddings, as often as a line comes on stdin.

`run_speed.py clip_benchmark SHARDS` or `run_speed.py sentence_transformers CHECKPOINT MANIFEST`. Everything is loaded
and used once before "ready" is printed; each line that comes is answered by seconds on the clock and of processor time,
workers included. It imports nothing of clip-eval.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

BATCH = 64
NUM_WORKERS = 2  # that decode, as ours has; each needs a shard of its own


def clip_benchmark(shards: str) -> Callable[[], object]:
    """CLIP_benchmark's retrieval, with open_clip's ViT-B/32 and its own preprocessing and tokenizer."""
    import open_clip
    from clip_benchmark.datasets.builder import build_wds_dataset
    from clip_benchmark.metrics import zeroshot_retrieval

    root = Path(shards)
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    model.eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32-quickgelu")

    def run() -> object:
        dataset = build_wds_dataset(root.name, transform, split="test", data_dir=str(root))
        loader = torch.utils.data.DataLoader(
            dataset.batched(BATCH), batch_size=None, shuffle=False, num_workers=NUM_WORKERS
        )
        return zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[5])

    return run


def sentence_transformers(checkpoint: str, manifest: str) -> Callable[[], object]:
    """Its `encode` on opened images and on all captions."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import CLIPModel

    model = SentenceTransformer(modules=[CLIPModel.load(checkpoint)], device="cpu")
    lines = [json.loads(line) for line in Path(manifest).read_text(encoding="utf-8").splitlines()]
    files = [Path(manifest).parent / "photos" / f"{line['id']}.{line['extension']}" for line in lines]

    def run() -> object:
        images = model.encode([Image.open(file) for file in files], batch_size=BATCH)
        texts = model.encode([caption for line in lines for caption in line["captions"]], batch_size=BATCH)
        return images, texts

    return run


def _processor_s() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _declare_operators() -> None:
    """PyPI's torchvision is built for CUDA and asks for two operators that torch's CPU build has not."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, arguments in (
        ("nms", "Tensor dets, Tensor scores, float iou"),
        ("qnms", "Tensor dets, Tensor scores, float iou"),
    ):
        if f"torchvision::{name}" not in torch._C._dispatch_get_all_op_names():
            library.define(f"{name}({arguments}) -> Tensor")
    _kept.append(library)  # what it declares is gone with it


_kept: list[torch.library.Library] = []


def main(name: str, arguments: list[str]) -> None:
    """Load, run once, and run again for each line."""
    if name == "clip_benchmark":
        _declare_operators()
    run = {"clip_benchmark": clip_benchmark, "sentence_transformers": sentence_transformers}[name](*arguments)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter(), _processor_s()
        run()
        print(time.perf_counter() - start[0], _processor_s() - start[1], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
