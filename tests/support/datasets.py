"""A small dataset of plain coloured images, drawn in a test's own directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from clip_eval.paths import PathTemplate

__all__ = ["COLOURS", "SETTINGS", "TEMPLATE", "samples", "write_dataset"]

COLOURS = {"red": (220, 20, 20), "green": (20, 160, 20), "blue": (20, 20, 220)}
TEMPLATE = "{user}/{title}_{id}"
SETTINGS = """
template = "{user}/{title}_{id}"

[zero_shot]
prompts = ["a photo of a {}", "{} it is"]
classes = ["red", "green", "blue"]
"""


def samples(count: int) -> list[dict[str, object]]:
    """Return `count` samples of changing label, extension and group. Titles name another colour than labels do."""
    names = list(COLOURS)
    return [
        {
            "id": str(100 + index),
            "user": "Mira",
            "title": names[(index + 1) % 3],
            "extension": ("png", "jpg")[index % 2],
            "label": names[index % 3],
            "caption": f"something {names[index % 3]}",
            "group": str(index // 2),
        }
        for index in range(count)
    ]


def write_dataset(
    root: Path, entries: Sequence[Mapping[str, object]] | None = None, *, settings: str = SETTINGS
) -> Path:
    """Write dataset.toml, manifest.jsonl and an image for each entry; returns `root`."""
    entries = samples(6) if entries is None else entries
    template = PathTemplate(TEMPLATE)
    for index, entry in enumerate(entries):
        path = root / template.render(entry, extension=str(entry["extension"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + index % 7, 33), COLOURS[str(entry["label"])]).save(path)
    root.mkdir(exist_ok=True)
    (root / "dataset.toml").write_text(settings, encoding="utf-8")
    lines = [json.dumps(entry) for entry in entries]
    (root / "manifest.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return root
