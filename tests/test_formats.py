"""Every example of FORMATS.md is opened by the code that opens a user's file."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from support.history_runs import RUN
from support.saved_datasets import coloured, write_saved

from clip_eval.baseline import open_pack
from clip_eval.dataset import open_dataset
from clip_eval.embedding.store import Collection
from clip_eval.families.clip.family import CLIP
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.history.database import SCHEMA_VERSION, add
from clip_eval.history.runs import KINDS, Measured
from clip_eval.paths import PathTemplate
from clip_eval.run.policy_names import require_known_names
from clip_eval.verdict.acceptances import Acceptance, GroupAcceptance, draft, read_acceptances
from clip_eval.verdict.change_causes import declared_cause
from clip_eval.verdict.policy import Policy, Threshold, project_policy, read_policy
from clip_eval.verdict.run_record import SCOPES, RunRecord, SurfaceChange

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "FORMATS.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\w+ ([^\n]+)\n(.*?)^```", PAGE, re.M | re.S))
"""The examples by the words after the language of their fences."""

NUMBERS = {
    "s0.cls": "0",
    "s1.cls": "1",
    "s2.cls": "1",
    "nshards.txt": "2",
    "a.txt": "a circle\nround\n",
    "classes.txt": "red circle\nstar\n",
    "Ann_17.txt": "round\n",
}


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
        "policy", "pyproject.toml", "acceptances", "history", "records", "dataset.toml", "manifest.jsonl",
        "classnames.txt",
        "zeroshot_classification_templates.txt", "tree manifest", "tree folders", "tree shards", "tree pack",
        "original", "tree store", "read embeddings",
        "tree named", "named.toml", "saved.toml", "tree coco", "coco.toml", "captions_val2017.json",
    }  # fmt: skip


def test_the_policy(tmp_path: Path) -> None:
    """The policy is read as the page says, and its table names every scope."""
    file = tmp_path / "policy.toml"
    file.write_text(BLOCKS["policy"], encoding="utf-8")
    policy = read_policy(file)
    assert (policy.require, policy.least_efficiency) == (("baseline", "tasks"), 0.6)
    assert policy.uses == ("CLIPModel", "get_image_features", "AutoProcessor")
    assert policy.warn == ("throughput", "surface")
    assert policy.tasks["zero_shot_top1"] == Threshold(least=0.9, most_loss=0.01)
    assert policy.tasks["image_to_text_median_rank"] == Threshold(most=5.0, by="score", warn=True)
    assert [(entry.key, entry.expires) for entry in policy.warned] == [("check", date(2027, 1, 31)), ("area", None)]
    require_known_names(policy, where=str(file))
    assert [field.name for field in fields(Threshold) if f".{field.name}`" not in PAGE] == []
    assert ", ".join(f"`{scope}`" for scope in SCOPES) in PAGE


def test_the_policy_of_a_project(tmp_path: Path) -> None:
    """The table of a pyproject.toml is found and read as the page says."""
    file = tmp_path / "pyproject.toml"
    file.write_text(BLOCKS["pyproject.toml"], encoding="utf-8")
    assert project_policy(tmp_path) == file
    assert read_policy(file) == Policy(require=("tasks",), tasks={"zero_shot_top1": Threshold(least=0.9)})


def test_the_acceptances(tmp_path: Path) -> None:
    """The acceptances are read as the page says, in the form of a gate's own draft."""
    file = tmp_path / "accepted.toml"
    file.write_text(BLOCKS["acceptances"], encoding="utf-8")
    first, second, third = read_acceptances(file)
    assert isinstance(first, Acceptance)
    assert isinstance(third, GroupAcceptance)
    assert declared_cause(third.id) is not None
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


def test_a_folder_that_is_named_by_a_template(tmp_path: Path) -> None:
    """Labels, groups and captions are read back as the page says."""
    root = laid_out("named", tmp_path)
    (root / "dataset.toml").write_text(BLOCKS["named.toml"], encoding="utf-8")
    dataset = open_dataset(root)
    assert dataset.require_complete() == 2
    assert [(sample.label, sample.group, sample.captions) for sample in dataset.samples()] == [
        ("red circle", "Ann", ("round",)), ("star", "Bo Li", ()),
    ]  # fmt: skip


def test_a_directory_of_save_to_disk(tmp_path: Path) -> None:
    """The columns and the split of the page are found by its settings."""
    columns = coloured(0)
    named = {
        "picture": columns["image"],
        "kind": columns["label"],
        "words": columns["caption"],
        "artist": columns["label"],
    }
    write_saved(tmp_path / "test", [named])
    features = {"picture": {}, "kind": {"names": ["a", "b", "c"]}, "words": {}, "artist": {}}
    (tmp_path / "test/dataset_info.json").write_text(json.dumps({"features": features}), encoding="utf-8")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}', encoding="utf-8")
    (tmp_path / "dataset.toml").write_text(BLOCKS["saved.toml"], encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert dataset.require_complete() == 3
    assert [(sample.label, sample.group) for sample in dataset.samples()] == [("a", "0"), ("b", "1"), ("c", "2")]
    assert dataset.zero_shot is not None
    assert f'"{dataset.zero_shot.prompts[0].replace("{}", "{c}")}"' in PAGE


@pytest.mark.parametrize("settings", [None, "coco.toml"])
def test_captions_of_coco(tmp_path: Path, settings: str | None) -> None:
    """The tree is found by itself, and by the settings of the page."""
    root = laid_out("coco", tmp_path)
    if settings is not None:
        (root / "dataset.toml").write_text(BLOCKS[settings], encoding="utf-8")
    dataset = open_dataset(root)
    assert dataset.require_complete() == 2
    assert [sample.captions for sample in dataset.samples()] == [("a dog", "one dog"), ("a cat",)]


def test_records_of_paths() -> None:
    """The record gives the path that the page states, by the template that it states."""
    record = json.loads(BLOCKS["records"])
    stated = re.search(r"With the template `([^`]+)` that is `([^`]+)`", PAGE)
    assert stated is not None
    assert PathTemplate(stated[1]).render(record, extension=record["extension"]) == stated[2]


def test_the_original_of_a_conversion() -> None:
    """The config of the original is read by its names: it is that of CLIP's ViT-B/32."""
    (source,) = CLIP.sources
    settings = source.settings(json.loads(BLOCKS["original"]), where="open_clip_config.json")
    default = ClipConfig(TextConfig(), VisionConfig())
    sections = {"": default, "text_config": default.text, "vision_config": default.vision}
    for field, stated in settings.config.items():
        section, _, name = field.rpartition(".")
        assert stated.value == (None if name == "eos_token_id" else getattr(sections[section], name)), field
    assert not settings.foreign


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


def test_the_history(tmp_path: Path) -> None:
    """The query of the page runs, and the page names every column."""
    add(tmp_path / "runs", replace(RUN, measured={("margin", "a.b"): Measured(0.75), ("margin", "c.d"): Measured(0.1)}))
    with closing(sqlite3.connect(tmp_path / "runs")) as database:
        assert database.execute(BLOCKS["history"]).fetchall() == [(RUN.started, "a.b", 0.75)]
        columns = [row[1] for table in ("run", "measured") for row in database.execute(f"PRAGMA table_info({table})")]
    assert [name for name in columns if f"`{name}`" not in PAGE] == []
    assert f"`PRAGMA user_version` is {SCHEMA_VERSION};" in PAGE
    assert [kind for kind in KINDS if f"`{kind}`" not in PAGE] == []


def test_the_run_record() -> None:
    """The page tells every field of a run record that a reader decides by."""
    names = {field.name for field in fields(RunRecord)} - {"started", "duration_s", "schema_version", "notes"}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []
