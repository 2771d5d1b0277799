"""Every example of FORMATS.md is opened by the code that opens a user's file."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image

from clip_eval.baseline import open_pack
from clip_eval.dataset import open_dataset
from clip_eval.embedding.store import Collection
from clip_eval.paths import PathTemplate
from clip_eval.verdict.acceptances import draft, read_acceptances
from clip_eval.verdict.policy import read_policy
from clip_eval.verdict.run_record import SCOPES, RunRecord, SurfaceChange

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "FORMATS.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\w+ ([^\n]+)\n(.*?)^```", PAGE, re.M | re.S))
"""The examples by the words after the language of their fences."""

NUMBERS = {"s0.cls": "0", "s1.cls": "1", "s2.cls": "1", "nshards.txt": "2", "a.txt": "a circle\nround\n"}


def paths(tree: str) -> Iterator[str]:
    """The paths of a drawn tree, by its indentation; those of directories end in a slash, except a tar file's."""
    above: list[tuple[int, str]] = []
    for line in tree.splitlines():
        depth, name = len(line) - len(line.lstrip()), line.strip()
        above = [entry for entry in above if entry[0] < depth]
        yield "".join(f"{parent.rstrip('/')}/" for _, parent in above) + name
        above.append((depth, name))


def content(name: str) -> bytes:
    """A picture for the name of one, else what the page says that the file holds."""
    if name.endswith(".png"):
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(picture, "PNG")
        return picture.getvalue()
    return (BLOCKS[name] if name in BLOCKS else NUMBERS[name]).encode()


def laid_out(name: str, below: Path) -> Path:
    """Write the tree of this name; return its top directory."""
    found = list(paths(BLOCKS[f"tree {name}"]))
    for path in found:
        tar, inside, member = path.partition(".tar/")
        if inside:
            with tarfile.open(below / f"{tar}.tar", "a") as archive:
                entry = tarfile.TarInfo(member)
                entry.size = len(content(member))
                archive.addfile(entry, io.BytesIO(content(member)))
        elif path.endswith("/"):
            (below / path).mkdir(parents=True)
        elif not path.endswith(".tar"):
            (below / path).write_bytes(content(path.rpartition("/")[2]))
    return below / found[0]


def test_every_example_is_used() -> None:
    """No example of the page goes without a test: each has a name, and the tests below know it."""
    assert PAGE.count("\n```") == 2 * len(BLOCKS)
    assert set(BLOCKS) == {
        "policy", "acceptances", "records", "dataset.toml", "manifest.jsonl", "classnames.txt",
        "zeroshot_classification_templates.txt", "tree manifest", "tree folders", "tree shards", "tree pack",
        "tree store", "read embeddings",
    }  # fmt: skip


def test_the_policy(tmp_path: Path) -> None:
    """The policy is read as the page says, and its table names every scope."""
    file = tmp_path / "policy.toml"
    file.write_text(BLOCKS["policy"], encoding="utf-8")
    policy = read_policy(file)
    assert (policy.require, policy.least_efficiency) == (("baseline", "tasks"), 0.6)
    assert ", ".join(f"`{scope}`" for scope in SCOPES) in PAGE


def test_the_acceptances(tmp_path: Path) -> None:
    """The acceptances are read as the page says, in the form of a gate's own draft."""
    file = tmp_path / "accepted.toml"
    file.write_text(BLOCKS["acceptances"], encoding="utf-8")
    first, second = read_acceptances(file)
    assert first.id == "CLIPModel.get_text_features()"
    assert (first.expires, second.expires) == (None, date(2027, 1, 31))
    change = SurfaceChange(
        id=first.id, what="", before=first.before, after=first.after, check="", accepted=None
    )  # fmt: skip
    assert BLOCKS["acceptances"].startswith(draft([change]).partition("reason")[0])


@pytest.mark.parametrize(
    ("name", "labels", "prompts"),
    [
        ("manifest", ["cat", "dog"], ("a photo of a {}", "a drawing of a {}")),
        ("folders", ["red circle", "red circle", "yellow star"], ("a photo of a {}", "a drawing of a {}")),
        ("shards", ["red circle", "yellow star", "yellow star"], ("a photo of a {}", "a drawing of a {}")),
    ],
)
def test_a_dataset_of_each_layout(tmp_path: Path, name: str, labels: list[str], prompts: tuple[str, ...]) -> None:
    """Every layout is found complete, with the labels and prompts that the page gives it."""
    dataset = open_dataset(laid_out(name, tmp_path))
    assert dataset.require_complete() == len(labels)
    assert [sample.label for sample in dataset.samples()] == labels
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.prompts == prompts


def test_a_dataset_without_its_text_files(tmp_path: Path) -> None:
    """Without the two text files, classes are the directories' names and the prompt is the page's."""
    root = laid_out("folders", tmp_path)
    for name in ("classnames.txt", "zeroshot_classification_templates.txt"):
        (root / name).unlink()
    task = open_dataset(root).zero_shot
    assert task is not None
    assert task.classes == ("red circle", "star")
    assert f'"{task.prompts[0].replace("{}", "{c}")}"' in PAGE


def test_records_of_paths() -> None:
    """The record gives the path that the page states, by the template that it states."""
    record = json.loads(BLOCKS["records"])
    stated = re.search(r"With the template `([^`]+)` that is `([^`]+)`", PAGE)
    assert stated is not None
    assert PathTemplate(stated[1]).render(record, extension=record["extension"]) == stated[2]


def test_the_pack() -> None:
    """The shipped pack has the files, keys and arrays of the page, and nothing that it does not speak of."""
    directory = ROOT / "fixtures" / "baselines" / "shapes-clip"
    pack = open_pack(directory)
    drawn = {path.rpartition("/")[2] for path in paths(BLOCKS["tree pack"]) if not path.endswith("/")}
    found = {file.name for file in directory.iterdir()}
    assert {re.sub(r"^surface-.*", "surface", name) for name in found} <= {
        re.sub(r"^surface-.*", "surface", name) for name in drawn
    }
    manifest = json.loads((directory / "pack.json").read_text(encoding="utf-8"))
    assert [key for key in manifest if f"`{key}`" not in PAGE] == []
    assert pack.recorded_in.file in found


def test_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store writes is laid out as drawn, and the lines of the page read it; names with `_` are passed over."""
    monkeypatch.chdir(tmp_path)
    drawn = [path for path in paths(BLOCKS["tree store"]) if not path.endswith("/")]
    for folder, column in (("images-6b6de5ed569612483fdf2ef7", "id"), ("texts-cfb34fac839808832111eb7e", "text")):
        rows = Collection(tmp_path / "embeddings" / folder, {"dtype": "float32"})
        rows.add([bytes(16)], {column: ["a"]}, np.ones((1, 3), dtype=np.float32))
        rows.flush()
        (rows.folder / "_x.parquet.damaged").write_bytes(b"")
        kinds = {re.sub(r"[0-9]{20}-[0-9a-f]{8}", "SHARD", path.rpartition("/")[2]) for path in drawn if folder in path}
        assert {re.sub(r"[0-9]{20}-[0-9a-f]{8}", "SHARD", file.name) for file in rows.folder.iterdir()} == {
            *kinds, "_x.parquet.damaged"
        }  # fmt: skip
    names: dict[str, pyarrow.Table] = {}
    exec(BLOCKS["read embeddings"], names)
    assert names["table"].column_names == ["key", "id", "embedding"]


def test_the_run_record() -> None:
    """The page tells every field of a run record that a reader decides by."""
    names = {field.name for field in fields(RunRecord)} - {"started", "duration_s", "schema_version", "notes"}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []
