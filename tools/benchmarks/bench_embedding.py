"""How fast `embed` is, as ratios within one run: `python tools/benchmarks/bench_embedding.py --out reports/embedding`.

The legs take turns, on synthetic 640 x 480 JPEGs with five captions each, as COCO's and Flickr30k's have, through the
shipped small checkpoint, where decoding is the limit, and through a ViT-B/32 with random weights. Libraries and models
are loaded before:

- plain: the usual loop over batches of 64: open, processor with the texts padded to the model's length, two forwards
- ours: the pipeline into a new store, with two threads that decode
- opening: what of it does not depend on the number of images: weights read for their fingerprint, the store opened
- bare: the forward passes alone, on the batches that the pipeline made
- again: the pipeline into the store that is filled, with the weights read again

Each of plain, bare and the pipeline has a process of its own: none profits from what another sets in it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clip_eval.dataset import open_dataset
from clip_eval.embedding import pipeline as pipeline_module
from clip_eval.embedding import texts as texts_module
from clip_eval.embedding import threads
from clip_eval.embedding.fill import EmbedOptions, embed_entries, open_pipeline
from clip_eval.embedding.pipeline import Pipeline
from clip_eval.embedding.rows import key_of
from clip_eval.subject.candidate import Candidate
from clip_eval.subject.launch import launched

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "fixtures" / "shapes-clip"
WORDS = [
    "a",
    "red",
    "circle",
    "above",
    "the",
    "blue",
    "star",
    "with",
    "two",
    "small",
    "squares",
    "and",
    "one",
    "triangle",
]
BATCH, WORKERS = 64, 2
PROCESS_OF = {"plain": "plain", "ours": "pipeline", "opening": "pipeline", "bare": "bare", "again": "pipeline"}


@dataclass(frozen=True)
class Leg:
    """Seconds of each round, on the clock and of processor time."""

    name: str
    clock_s: list[float]
    processor_s: list[float]


def write_photos(root: Path, count: int, captions_each: int) -> Path:
    """Write a manifest with JPEGs of about the detail of photographs, and captions of 4 to 20 words."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((640, 480), 3)
        fine = rng.normal(0, 6, (480, 640, 1))
        pixels = np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8)
        (root / "photos").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "photos" / f"{number}.jpg", quality=90)
        captions = [" ".join(rng.choice(WORDS, rng.integers(4, 21))) + f" {number}" for _ in range(captions_each)]
        lines.append(json.dumps({"id": str(number), "extension": "jpg", "captions": captions}))
    (root / "dataset.toml").write_text('template = "photos/{id}"\n', encoding="utf-8")
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def write_vit_b_32(directory: Path) -> Path:
    """Write a CLIP of the published sizes with random weights, and the shipped checkpoint's tokenizer."""
    from transformers import CLIPConfig, CLIPModel

    shutil.copytree(SHIPPED, directory)
    ids = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))["text_config"]
    text = {name: ids[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in ids}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(directory)
    for name, changed in (
        ("preprocessor_config.json", {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}),
        ("tokenizer_config.json", {"model_max_length": 77}),
    ):
        file = directory / name
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changed}), encoding="utf-8")
    return directory


def plain(candidate: Candidate, dataset: Path) -> NDArray[Any]:
    """The usual loop; returns the features of the images."""
    model, processor = candidate.subject.model("CLIPModel"), candidate.runtime.processors.load()
    positions = candidate.checkpoint.config.text.max_position_embeddings
    samples = list(open_dataset(dataset).samples())
    found = []
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        images = [Image.open(io.BytesIO((dataset / sample.path).read_bytes())) for sample in part]
        texts = [caption for sample in part for caption in sample.captions]
        batch = processor(text=texts, images=images, padding="max_length", max_length=positions, return_tensors="pt")
        with torch.no_grad():
            features = model.get_image_features(pixel_values=batch["pixel_values"])
            model.get_text_features(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        found.append(getattr(features, "pooler_output", features))
    return np.asarray(torch.cat(found).numpy())


def opening(candidate: Candidate, dataset: Path, store: Path) -> Pipeline:
    """The pipeline into a store."""
    options = EmbedOptions(model=str(candidate.checkpoint.path), dataset=dataset, out=store, batch_size=BATCH)
    candidate.runtime.checkpoint._cache.clear()  # the weights are read again
    return open_pipeline(options, candidate, workers=WORKERS)


def ours(candidate: Candidate, dataset: Path, store: Path) -> Pipeline:
    """The pipeline into a store, run."""
    pipeline = opening(candidate, dataset, store)
    embed_entries(pipeline, open_dataset(dataset).entries(), lambda done: None)
    return pipeline


def features_in(pipeline: Pipeline, dataset: Path) -> NDArray[Any]:
    """The features of the images that the pipeline keeps."""
    samples = open_dataset(dataset).samples()
    return pipeline.images.read([key_of((dataset / sample.path).read_bytes()) for sample in samples])


def recorded(candidate: Candidate, dataset: Path, store: Path) -> list[tuple[Any, Mapping[str, Any]]]:
    """The batches that the pipeline makes."""
    batches: list[tuple[Any, Mapping[str, Any]]] = []

    def keeping(runtime: Any, entry: Any, arrays: Mapping[str, Any]) -> Any:
        batches.append((entry, arrays))
        return launched(runtime, entry, arrays)

    with (
        mock.patch.object(pipeline_module, "launched", keeping),
        mock.patch.object(texts_module, "launched", keeping),
        mock.patch.object(threads, "hold_heap"),  # the usual program does not do that
    ):
        ours(candidate, dataset, store)
    return batches


def bare(candidate: Candidate, batches: list[tuple[Any, Mapping[str, Any]]]) -> None:
    """The forward passes alone."""
    model = candidate.subject.model("CLIPModel")
    with torch.no_grad():
        for entry, arrays in batches:
            getattr(model, entry.method)(**{name: torch.from_numpy(values) for name, values in arrays.items()})


def serve(name: str, pipe: Connection, checkpoint: Path, dataset: Path, scratch: Path) -> None:
    """In a process of its own: load everything, send the features of the images, and run legs when asked."""
    candidate = Candidate(str(checkpoint))
    last = [scratch / "first"]

    def into_a_new_one() -> None:
        last[:] = [scratch / f"store-{time.monotonic_ns()}"]
        ours(candidate, dataset, last[0])

    legs: dict[str, Callable[[], object]]
    if name == "plain":
        pipe.send(plain(candidate, dataset))
        legs = {"plain": lambda: plain(candidate, dataset)}
    elif name == "bare":
        batches = recorded(candidate, dataset, scratch / "recorded")
        bare(candidate, batches)
        pipe.send(None)
        legs = {"bare": lambda: bare(candidate, batches)}
    else:
        pipe.send(features_in(ours(candidate, dataset, last[0]), dataset))
        legs = {
            "ours": into_a_new_one,
            "opening": lambda: opening(candidate, dataset, scratch / f"empty-{time.monotonic_ns()}"),
            "again": lambda: ours(candidate, dataset, last[0]),
        }
    for asked in iter(pipe.recv, None):
        clock, processor = time.perf_counter(), time.process_time()
        legs[asked]()
        pipe.send((time.perf_counter() - clock, time.process_time() - processor))


def measured(checkpoint: Path, dataset: Path, scratch: Path, rounds: int) -> list[Leg]:
    """Run the legs in turns."""
    context = get_context("spawn")
    pipes, processes, features = {}, [], {}
    for name in dict.fromkeys(PROCESS_OF.values()):
        pipes[name], theirs = context.Pipe()
        (scratch / name).mkdir(parents=True)
        process = context.Process(target=serve, args=(name, theirs, checkpoint, dataset, scratch / name), daemon=True)
        process.start()
        theirs.close()  # so that `recv` raises EOFError if the process ends
        processes.append(process)
        features[name] = pipes[name].recv()
    np.testing.assert_allclose(features["pipeline"], features["plain"], rtol=1e-3, atol=1e-3)
    found = [Leg(name, [], []) for name in PROCESS_OF]
    for _ in range(rounds):
        for leg in found:
            pipe = pipes[PROCESS_OF[leg.name]]
            pipe.send(leg.name)
            clock_s, processor_s = pipe.recv()
            leg.clock_s.append(clock_s)
            leg.processor_s.append(processor_s)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return found


def bench(name: str, checkpoint: Path, dataset: Path, scratch: Path, rounds: int) -> list[str]:
    """Return the table of one checkpoint."""
    legs = measured(checkpoint, dataset, scratch, rounds)
    base = legs[0]
    images = sum(1 for _ in open_dataset(dataset).samples())
    captions = sum(len(sample.captions) for sample in open_dataset(dataset).samples())
    lines = [f"## {name}, {images} images and {captions} captions, {rounds} rounds in turns", ""]
    lines += ["| leg | s, median | relative to plain, clock | the same, processor time |", "|---|---|---|---|"]
    for leg in legs:
        clock, processor = (
            median(one / other for one, other in zip(mine, theirs, strict=True))
            for mine, theirs in ((leg.clock_s, base.clock_s), (leg.processor_s, base.processor_s))
        )
        lines.append(f"| {leg.name} | {median(leg.clock_s):.2f} | {clock:.3f} | {processor:.3f} |")
    _, mine, opened, forward, again = (leg.clock_s for leg in legs)
    rounds_of = list(zip(forward, mine, opened, again, strict=True))
    rate, apart = median(f / m for f, m, _, _ in rounds_of), median(f / (m - o) for f, m, o, _ in rounds_of)
    factor = median(m / a for _, m, _, a in rounds_of)
    return [
        *lines,
        "",
        f"Ours runs at {rate:.2f} of the bare forward's rate, at {apart:.2f} of it without opening.",
        f"A second run is {factor:.0f} times as fast.",
    ]


def main() -> None:
    """Measure, print, and write bench.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=2048, metavar="N", help="images through the shipped checkpoint")
    parser.add_argument("--large", type=int, default=128, metavar="N", help="images through the ViT-B/32; 0 for none")
    parser.add_argument("--captions", type=int, default=5, metavar="N", help="of each image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown"
    cores = os.cpu_count()
    lines = [
        "# Embedding, ratios in one run",
        "",
        f"{platform.machine()}, {cores} cores, {load}; torch {torch.__version__}, {torch.get_num_threads()} threads,",
        f"and {WORKERS} that decode. Written by tools/benchmarks/bench_embedding.py, which says what the legs are.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photos = write_photos(root / "photos", max(asked.small, asked.large), asked.captions)
        if asked.small:
            small = cut(photos, root / "small", asked.small)
            lines += [*bench("Shipped checkpoint", SHIPPED, small, root / "s", asked.rounds), ""]
        if asked.large:
            large = cut(photos, root / "large", asked.large)
            lines += [*bench("ViT-B/32", write_vit_b_32(root / "vit"), large, root / "l", asked.rounds), ""]
    print("\n".join(lines))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "bench.md").write_text("\n".join(lines), encoding="utf-8")


def cut(photos: Path, root: Path, count: int) -> Path:
    """Return a dataset of the first photos."""
    root.mkdir()
    (root / "photos").symlink_to(photos / "photos")
    (root / "dataset.toml").write_bytes((photos / "dataset.toml").read_bytes())
    lines = (photos / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


if __name__ == "__main__":
    main()
