"""The scores of CLIP_benchmark beside ours: `PYTHONPATH=tests:tools python -m peers.against_clip_benchmark OUT PYTHON`.

PYTHON is an interpreter with CLIP_benchmark, made as reports/peers/README.md says. The shipped dataset is written as
WebDataset shards, which both read with their own code: once for classification, and twice for retrieval, with one
caption an image and with three. Captions that two images share are left out of both, as CLIP_benchmark counts the other
image as wrong; what that makes of the whole dataset is stated apart. Ends with 1 where a score differs in any digit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from support.shards import write_shards

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.dataset import Entry, Sample, open_dataset
from clip_eval.embedding.embedded import embed_dataset
from clip_eval.subject import Subject
from clip_eval.tasks.task import all_tasks

FIXTURES = Path(__file__).parents[2] / "fixtures"
CHECKPOINT, DATASET = FIXTURES / "shapes-clip", FIXTURES / "shapes-dataset"
CHILD = Path(__file__).with_name("run_clip_benchmark.py")
SHARD = 200
OURS = {
    "acc1": "zero_shot_top1",
    "acc5": "zero_shot_top5",
    "mean_per_class_recall": "zero_shot_mean_per_class_recall",
    "image_retrieval_recall@5": "text_to_image_recall_at_5",
    "text_retrieval_recall@5": "image_to_text_recall_at_5",
}
"""CLIP_benchmark's name of a score, and ours: its `text_retrieval` is image to text."""

Captions = Callable[[Sample], Sequence[str]]


def main(out: Path, peer: str) -> int:
    """Run both on every set and write clip_benchmark.md and .json."""
    report: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, root in _sets(Path(temporary)).items():
            theirs = json.loads(_output([peer, str(CHILD), str(CHECKPOINT), str(root)]))
            ours = _ours(root)
            report[name] = {score: [theirs[score], _as_theirs(score, ours[OURS[score]])] for score in theirs}
        versions = _output([peer, str(CHILD), "versions"]).strip()
    out.mkdir(parents=True, exist_ok=True)
    (out / "clip_benchmark.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    text = _render(report, versions)
    (out / "clip_benchmark.md").write_text(text, encoding="utf-8")
    print(text)
    compared = [pair for name, scores in report.items() if "shared" not in name for pair in scores.values()]
    return int(any(repr(theirs) != repr(ours) for theirs, ours in compared))


def _sets(below: Path) -> dict[str, Path]:
    """The datasets by what they ask, written as shards."""
    entries = [entry for entry in open_dataset(DATASET).entries() if entry.sample is not None]
    counts = Counter(caption for entry in entries for caption in _sample(entry).captions)
    alone = [entry for entry in entries if all(counts[caption] == 1 for caption in _sample(entry).captions)]
    several: Captions = lambda sample: [  # noqa: E731 - one of three like it
        text for caption in sample.captions for text in (caption, f"a picture of {caption}", f"{caption}, drawn")
    ]
    return {
        "classification": _classification(below / "classification", entries),
        "retrieval, one caption an image": _retrieval(below / "one", alone, lambda sample: sample.captions),
        "retrieval, three captions an image": _retrieval(below / "three", alone, several),
        "retrieval, captions shared by images": _retrieval(below / "all", entries, lambda sample: sample.captions),
    }


def _classification(root: Path, entries: Sequence[Entry]) -> Path:
    task = open_dataset(DATASET).zero_shot
    assert task is not None
    texts = {
        "classnames.txt": "\n".join(task.classes) + "\n",
        "zeroshot_classification_templates.txt": "".join(p.replace("{}", "{c}") + "\n" for p in task.prompts),
    }
    return _write(root, entries, texts, "cls", lambda sample: str(task.classes.index(str(sample.label))))


def _retrieval(root: Path, entries: Sequence[Entry], captions: Captions) -> Path:
    texts = {"dataset_type.txt": "retrieval\n"}
    return _write(root, entries, texts, "txt", lambda sample: "\n".join(captions(sample)))


def _write(
    root: Path, entries: Sequence[Entry], texts: dict[str, str], ending: str, text: Callable[[Sample], str]
) -> Path:
    root.mkdir()
    (root / "test").mkdir()
    members = []
    for number, entry in enumerate(entries):
        sample = _sample(entry)
        assert entry.image is not None
        image = (f"s{number:06d}{Path(sample.path).suffix}", entry.image)
        members += [image, (f"s{number:06d}.{ending}", text(sample).encode())]
    shards = [members[start : start + 2 * SHARD] for start in range(0, len(members), 2 * SHARD)]
    return write_shards(root, texts=texts, shards=shards)


def _sample(entry: Entry) -> Sample:
    assert entry.sample is not None
    return entry.sample


def _ours(root: Path) -> dict[str, float]:
    """Our scores by name, of every task that the dataset can serve."""
    dataset = open_dataset(root)
    embedded = embed_dataset(Subject(open_checkpoint(CHECKPOINT), "float32"), dataset)
    served = [task for task in all_tasks() if task.lacks(dataset) is None and task.name in " ".join(OURS.values())]
    return {f"{task.name}_{score.name}": score.value for task in served for score in task.score(embedded).scores}


def _as_theirs(score: str, value: float) -> float:
    """CLIP_benchmark takes the mean of its recalls in float32, and writes all of its digits."""
    return float(np.float32(value)) if "recall@" in score else value


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().rpartition("\n")[2]


def _render(report: dict[str, dict[str, list[float]]], versions: str) -> str:
    lines = [
        "# CLIP_benchmark and clip-eval on the shipped checkpoint and dataset",
        "",
        "Written by `tools/peers/against_clip_benchmark.py`. The checkpoint runs in float32 on the CPU, with its own",
        "tokenizer and image processor; CLIP_benchmark loads the shards and counts with its own functions.",
        "",
        f"Environment of CLIP_benchmark: {versions}.",
        "",
        "| dataset | score | CLIP_benchmark | clip-eval | |",
        "|---|---|---|---|---|",
    ]
    for name, scores in report.items():
        for score, (theirs, ours) in scores.items():
            same = "equal" if repr(theirs) == repr(ours) else f"differs by {ours - theirs:+.2g}"
            lines.append(f"| {name} | {score} | {theirs!r} | {ours!r} | {same} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
