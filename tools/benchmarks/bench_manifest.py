"""What a long manifest costs `embed`: `python tools/benchmarks/bench_manifest.py --rows 1000000`.

A manifest of so many lines is embedded with the shipped small checkpoint, 1,000 small pictures over and over, in a
process of its own. Told are the seconds until the first features are there, the libraries loaded before, and the memory
of the process after a tenth of the entries, after half and at the end, beside a run over a thousand lines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_eval.dataset import open_dataset
from clip_eval.embedding.fill import EmbedOptions, embed_entries, embed_prompts, open_pipeline
from clip_eval.embedding.store import Collection
from clip_eval.subject.candidate import Candidate

SHIPPED = Path(__file__).parents[2] / "fixtures" / "shapes-clip"
PICTURES = 1_000


def write_manifest(root: Path, rows: int) -> Path:
    """Write a manifest of so many lines over a thousand pictures, with a caption each."""
    (root / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(min(rows, PICTURES)):
        values = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / "photos" / f"{number}.png", compress_level=1)
    (root / "dataset.toml").write_text('template = "photos/{pid}"\n', encoding="utf-8")
    with (root / "manifest.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(rows):
            picture = str(number % PICTURES)
            line = {"id": str(number), "extension": "png", "pid": picture, "caption": f"picture {picture}"}
            lines.write(json.dumps(line) + "\n")
    return root


def resident_mib() -> float:
    """Memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def measure(dataset: Path, store: Path, rows: int) -> None:
    """Embed, and print the seconds to the first features, the memory at each of the marks, and the seconds in all."""
    for library in ("pyarrow.parquet", "torch"):
        importlib.import_module(library)
    for name in ("CLIPModel", "CLIPImageProcessor", "CLIPTokenizerFast"):
        getattr(importlib.import_module("transformers"), name)  # imported when it is asked for
    start = time.perf_counter()
    first: list[float] = []
    original = Collection.add

    def add(self: Collection, keys: Sequence[bytes], names: Any, features: NDArray[np.float32]) -> None:
        first.append(time.perf_counter() - start)
        original(self, keys, names, features)

    Collection.add = add  # type: ignore[method-assign]
    marks = {rows // 10: 0.0, rows // 2: 0.0, rows: 0.0}

    def show(done: int) -> None:
        if done in marks:
            marks[done] = resident_mib()

    options = EmbedOptions(model=str(SHIPPED), dataset=dataset, out=store)
    pipeline = open_pipeline(options, Candidate(str(SHIPPED)), workers=None)
    opened = open_dataset(dataset)
    embed_prompts(pipeline, opened)
    embed_entries(pipeline, opened.entries(), show)
    memory = " | ".join(f"{one:.0f}" for one in marks.values())
    print(f"| {rows:,} | {first[0]:.1f} | {memory} | {time.perf_counter() - start:.0f} |", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)  # in the process that is measured
    asked = parser.parse_args()
    rows = asked.rows
    if asked.dataset is not None:
        measure(asked.dataset, asked.dataset / "store", rows)
        return
    print("| lines | first features, s | MiB after a tenth | half | all | whole run, s |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for count in (1_000, rows):
            dataset = write_manifest(Path(folder) / f"of-{count}", count)
            command = [sys.executable, __file__, "--rows", str(count), "--dataset", str(dataset)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
