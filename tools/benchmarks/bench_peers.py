"""How fast `embed` is beside other programs: ratios in one run, each program in its own process and environment.

    python tools/benchmarks/bench_peers.py --clip-benchmark PYTHON --sentence-transformers PYTHON --out reports/peers

The two interpreters are made as reports/peers/README.md says. The same synthetic 640 x 480 JPEGs with five captions
each go through a ViT-B/32 with random weights, in turns:

- plain: the usual loop over batches of 64, texts padded to 77, as in bench_embedding
- ours: the pipeline into a new store
- CLIP_benchmark: its retrieval on WebDataset shards with open_clip's ViT-B/32, two workers that decode
- sentence-transformers: its `encode`, on opened images and on captions
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from bench_embedding import serve, write_photos, write_vit_b_32

CHILD = Path(__file__).parents[1] / "peers" / "run_speed.py"
SHARD = 64

Seconds = tuple[float, float]
"""On the clock and of processor time."""


def write_shards(photos: Path, root: Path) -> Path:
    """Write the photos as CLIP_benchmark's layout for retrieval."""
    lines = (photos / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    (root / "test").mkdir(parents=True)
    shards = [lines[start : start + SHARD] for start in range(0, len(lines), SHARD)]
    for number, part in enumerate(shards):
        with tarfile.open(root / "test" / f"{number}.tar", "w") as archive:
            for sample in map(json.loads, part):
                stem = f"s{int(sample['id']):06d}"
                captions = photos / f"{stem}.txt"
                captions.write_text("\n".join(sample["captions"]), encoding="utf-8")
                archive.add(photos / "photos" / f"{sample['id']}.jpg", f"{stem}.jpg")
                archive.add(captions, captions.name)
    (root / "test" / "nshards.txt").write_text(str(len(shards)), encoding="utf-8")
    (root / "dataset_type.txt").write_text("retrieval\n", encoding="utf-8")
    return root


def here(leg: str, checkpoint: Path, photos: Path, scratch: Path) -> Callable[[], Seconds]:
    """Return what runs one of our own legs, in a process that has loaded everything and run once."""
    context = get_context("spawn")
    pipe, theirs = context.Pipe()
    scratch.mkdir()
    process = {"plain": "plain", "ours": "pipeline"}[leg]
    context.Process(target=serve, args=(process, theirs, checkpoint, photos, scratch), daemon=True).start()
    theirs.close()  # so that `recv` raises EOFError if the process ends
    pipe.recv()
    atexit.register(pipe.send, None)
    return lambda: _asked(pipe, leg)


def _asked(pipe: Connection, leg: str) -> Seconds:
    pipe.send(leg)
    clock_s, processor_s = pipe.recv()
    return clock_s, processor_s


def elsewhere(python: Path, *arguments: str) -> Callable[[], Seconds]:
    """Return what runs a peer, in a process of its own interpreter that has loaded everything and run once."""
    child = subprocess.Popen(
        [python, CHILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    lines, asking = iter(child.stdout.readline, ""), child.stdin
    if not any(line == "ready\n" for line in lines):
        raise SystemExit(f"{arguments[0]} ended before it was ready: run {python} {CHILD} {' '.join(arguments)}")

    def run() -> Seconds:
        asking.write("\n")
        asking.flush()
        clock_s, processor_s = map(float, next(lines).split())
        return clock_s, processor_s

    return run


def versions(python: Path, *packages: str) -> str:
    """Return the releases that an interpreter has."""
    program = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run([python, "-c", program, *packages], check=True, capture_output=True, text=True).stdout
    return ", ".join(f"{name} {release}" for name, release in zip(packages, found.split(), strict=True))


def table(legs: dict[str, list[Seconds]]) -> list[str]:
    """Return the rows, and ours over each other leg."""
    ours = legs["ours"]
    lines = ["| leg | s, median | ours relative to it, clock | the same, processor time |", "|---|---|---|---|"]
    for name, rounds in legs.items():
        clock, processor = (
            median(mine[which] / other[which] for mine, other in zip(ours, rounds, strict=True)) for which in (0, 1)
        )
        lines.append(f"| {name} | {median(one for one, _ in rounds):.2f} | {clock:.3f} | {processor:.3f} |")
    return lines


def main() -> None:
    """Measure, print, and write speed.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip-benchmark", type=Path, metavar="PYTHON", help="with CLIP_benchmark and open_clip")
    parser.add_argument("--sentence-transformers", type=Path, metavar="PYTHON")
    parser.add_argument("--images", type=int, default=128, metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photos = write_photos(root / "photos", asked.images, captions_each=5)
        checkpoint = write_vit_b_32(root / "vit")
        legs = {leg: here(leg, checkpoint, photos, root / leg) for leg in ("plain", "ours")}
        releases: list[str] = []
        if asked.clip_benchmark is not None:
            shards = write_shards(photos, root / "shards")
            legs["CLIP_benchmark"] = elsewhere(asked.clip_benchmark, "clip_benchmark", str(shards))
            releases.append(versions(asked.clip_benchmark, "clip-benchmark", "open_clip_torch", "torchvision"))
        if asked.sentence_transformers is not None:
            manifest = str(photos / "manifest.jsonl")
            peer = elsewhere(asked.sentence_transformers, "sentence_transformers", str(checkpoint), manifest)
            legs["sentence-transformers"] = peer
            releases.append(versions(asked.sentence_transformers, "sentence-transformers", "transformers"))
        turns = [{leg: run() for leg, run in legs.items()} for _ in range(asked.rounds)]
    text = "\n".join(
        [
            "# The speed of other programs, ratios in one run",
            "",
            f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start; torch {torch.__version__}.",
            "Written by tools/benchmarks/bench_peers.py, which says what the legs are.",
            "; ".join(releases) + ".",
            "",
            f"ViT-B/32, {asked.images} images and {5 * asked.images} captions, {asked.rounds} rounds in turns:",
            "",
            *table({leg: [turn[leg] for turn in turns] for leg in legs}),
            "",
        ]
    )
    print(text)
    if asked.out is not None:
        (asked.out / "speed.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
