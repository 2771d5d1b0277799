"""Ray's rate beside the local engine's: `python tools/benchmarks/bench_ray.py --images 60000`, with `clip-eval[ray]`.

Both engines embed the same synthetic JPEGs of 640 x 480 with the shipped small checkpoint, each into a new store, Ray
with two workers. A file is one of 256 pictures with its number behind the end of the image, which decoders pass over:
its content is another one, so nothing is computed once for two. The rate is that between the first and the last tenth,
the start-up what passes before the first image is told. The demand is 0.75 of the local rate over two minutes or more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

from bench_embedding import SHIPPED, write_photos

from clip_eval.embedding import engines
from clip_eval.embedding.fill import EmbedOptions

PICTURES = 256


@dataclass
class Watch:
    """Stands in for the progress that is shown: when how many images were done."""

    start: float = field(default_factory=time.perf_counter)
    seen: list[tuple[float, int]] = field(default_factory=list)

    def reach(self, done: int) -> None:
        """Note how many are done."""
        if done and (not self.seen or done > self.seen[-1][1]):
            self.seen.append((time.perf_counter() - self.start, done))

    def close(self) -> None:
        """Nothing is shown."""

    def rate(self, images: int) -> float:
        """Images a second between the first and the last tenth."""
        middle = [(at, done) for at, done in self.seen if images / 10 <= done <= 0.9 * images]
        if len(middle) < 2:
            raise SystemExit("too few images for a rate: name more with --images")
        (first_s, first), (last_s, last) = middle[0], middle[-1]
        return (last - first) / (last_s - first_s)


def write_files(root: Path, images: int) -> Path:
    """Write a manifest of so many JPEGs that differ."""
    pictures = write_photos(root / "pictures", min(images, PICTURES), captions_each=1)
    known = [file.read_bytes() for file in sorted((pictures / "photos").iterdir())]
    (root / "photos").mkdir()
    for number in range(images):
        (root / "photos" / f"{number}.jpg").write_bytes(known[number % len(known)] + number.to_bytes(4, "big"))
    lines = (f'{{"id": "{number}", "extension": "jpg", "caption": "picture {number}"}}\n' for number in range(images))
    (root / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    (root / "dataset.toml").write_text('template = "photos/{id}"\n', encoding="utf-8")
    return root


def watched(options: EmbedOptions) -> Watch:
    """Embed, and return when how many images were done."""
    watch = Watch()
    with mock.patch.object(engines, "Progress", return_value=watch):
        engines.fill(options)
    return watch


def main() -> None:
    """Measure, and print both rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000)
    images = parser.parse_args().images
    print("| engine | start-up, s | images a second | whole run, s |\n|---|---|---|---|", flush=True)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        local = EmbedOptions(
            model=str(SHIPPED),
            dataset=write_files(Path(folder) / "dataset", images),
            out=Path(folder) / "local",
            workers=2,
        )
        for options in (local, replace(local, out=Path(folder) / "ray", engine="ray")):
            watch = watched(options)
            rates[options.engine] = watch.rate(images)
            whole_s = time.perf_counter() - watch.start
            print(
                f"| {options.engine} | {watch.seen[0][0]:.1f} | {rates[options.engine]:.0f} | {whole_s:.0f} |",
                flush=True,
            )
    print(f"\nRay runs at {rates['ray'] / rates['local']:.2f} of the local engine's rate.")


if __name__ == "__main__":
    main()
