"""The published shapes of CLIP, and `clip-eval bench` on each, with random weights: speed does not ask what they say.

`PYTHONPATH=tests:tools python -m timing.published reports/gpu --device cuda:0 --dtype bfloat16 --dtype float16 --dtype
float32` benches all three; `--shape` picks one, and every other option is passed on to the command.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from support.small_clip import write_model

from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig

__all__ = ["SHAPES"]

SHAPES: Mapping[str, ClipConfig] = {
    "vit-b-32": ClipConfig(text=TextConfig(), vision=VisionConfig()),
    "vit-b-16": ClipConfig(text=TextConfig(), vision=VisionConfig(patch_size=16)),
    "vit-l-14": ClipConfig(
        text=TextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
        vision=VisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
        ),
        projection_dim=768,
    ),
}
"""Radford et al. 2021, table 20, by the names of their files."""


def main() -> int:
    """Write each checkpoint to a folder that is thrown away, bench it, and keep its reports in a folder of its name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder for the reports, one folder a shape")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="all by default")
    options, passed_on = parser.parse_known_args()
    for name in options.shape or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            config = SHAPES[name]
            towers = {"text_config": asdict(config.text), "vision_config": asdict(config.vision)}
            write_model(Path(folder, name), {"projection_dim": config.projection_dim, **towers})
            # In that folder, so that the reports hold the checkpoint's name and no path of this machine.
            command = [sys.executable, "-m", "clip_eval", "bench", name, "--out", str((options.out / name).resolve())]
            done = subprocess.run([*command, *passed_on], cwd=folder, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
