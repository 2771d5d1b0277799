"""Shards in the layout of CLIP_benchmark, written in a test's own directory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from support.datasets import COLOURS

__all__ = ["entries", "image_bytes", "write_shard", "write_shards"]

Members = Sequence[tuple[str, bytes]]


def image_bytes(colour: str, kind: str = "webp") -> bytes:
    """Return an image file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (24, 20), COLOURS[colour]).save(file, format=kind)
    return file.getvalue()


def entries(count: int, *, kind: str = "webp", start: int = 0) -> list[tuple[str, bytes]]:
    """Return the members of `count` entries, image and number of the class, whose classes take turns."""
    members = []
    for index in range(start, start + count):
        key, label = f"s{index:07d}", index % len(COLOURS)
        members.append((f"{key}.{kind}", image_bytes(list(COLOURS)[label], kind)))
        members.append((f"{key}.cls", str(label).encode()))
    return members


def write_shard(path: Path, members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> Path:
    """Write a tar file of members in order, files by name and content, or others by their headers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def write_shards(
    root: Path, *, texts: Mapping[str, str] | None = None, shards: Sequence[Members] | None = None
) -> Path:
    """Write a dataset of two shards of three entries each, with class names and prompts; returns `root`."""
    shards = [entries(3), entries(3, kind="png", start=3)] if shards is None else shards
    for number, members in enumerate(shards):
        write_shard(root / "test" / f"{number}.tar", members)
    (root / "test" / "nshards.txt").write_text(f"{len(shards)}\n", encoding="utf-8")
    named = {
        "classnames.txt": "\n".join(COLOURS) + "\n",
        "zeroshot_classification_templates.txt": "a photo of a {c}.\na drawing of a {c}.\n",
    }
    for name, text in (named if texts is None else texts).items():
        (root / name).write_text(text, encoding="utf-8")
    return root
