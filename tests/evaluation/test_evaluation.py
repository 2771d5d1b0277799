"""Evaluations of a model that sees colours only, on real files: verdicts, exit codes, reports, bad data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet as pq
from support.colour_clip import sees_colours
from support.commands import Run, assert_refused
from support.datasets import SETTINGS, samples, write_dataset

import clip_eval
from clip_eval.errors import CheckpointError
from clip_eval.evaluation import FILES, Evaluation, Options, run_evaluation, write_evaluation
from clip_eval.files.folder_lock import owned
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.task import all_tasks

TASKS = ("image_to_text", "text_to_image", "zero_shot")


def independent(count: int) -> list[dict[str, object]]:
    """Return samples of which none belongs to a group, each with a caption of its own."""
    return [
        {**{key: value for key, value in item.items() if key != "group"}, "caption": f"{item['caption']} {place}"}
        for place, item in enumerate(samples(count))
    ]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Thirty images of three colours."""
    return write_dataset(tmp_path / "data", independent(30))


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    sees_colours(monkeypatch, blind="blind")


def evaluated(model: Path, dataset: Path, **options: Any) -> Evaluation:
    """Evaluate zero-shot alone."""
    return run_evaluation(Options(model=str(model), dataset=str(dataset), tasks=("zero_shot",), **options)).evaluation


@pytest.fixture
def blind(model: Path, tmp_path: Path) -> Path:
    """The checkpoint under a name by which it takes red for blue, with a note that makes its files others."""
    other = tmp_path / "blind"
    other.mkdir()
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "logit_scale_init_value": 1.0}), encoding="utf-8")
    return other


def test_a_variant_is_evaluated_with_a_processor_elsewhere(model: Path, dataset: Path, tmp_path: Path) -> None:
    """--variant and --processor are those of the checkpoint; the other one is opened without them."""
    files, weights = tmp_path / "processor", tmp_path / "weights"
    shutil.copytree(model, files)
    weights.mkdir()
    for name, called in (("model.safetensors", "model.fp16.safetensors"), ("config.json", "config.json")):
        (files / name).rename(weights / called)
    found = evaluated(weights, dataset, variant="fp16", processor=str(files), against=str(model))
    assert (found.verdict, found.arguments["variant"]) == ("pass", "fp16")
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        evaluated(weights, dataset, variant="fp16")


def test_a_good_model_passes(run: Run, model: Path, dataset: Path, tmp_path: Path) -> None:
    """The table fits 80 columns and has each score, the command ends with 0, and every file is there."""
    ended = run("evaluate", model, "--dataset", dataset, "--task", "zero_shot", "--out", tmp_path / "out")
    assert (ended.code, "zero_shot_top1" in ended.out) == (0, True)
    assert all(len(line) <= 80 for line in ended.out.splitlines() if "/" not in line)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        name for name in FILES if "retrieval" not in name
    )
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert (data["verdict"], data["tasks"][0]["scores"][0]["score"]) == ("pass", 1.0)
    assert data["tasks"][0]["scores"][0]["interval_low"] < 1, "a perfect score is not certain"
    assert data["headline"] == "pass: zero_shot passed"


def test_an_approximate_search_says_so(model: Path, dataset: Path) -> None:
    """Retrieval has no median rank where FAISS does not find it, and a note says what the ranks are."""
    pytest.importorskip("faiss", reason="the extra clip-eval[faiss] is not installed")
    options = Options(model=str(model), dataset=str(dataset), tasks=("image_to_text",), approximate=True)
    found = run_evaluation(options).evaluation
    assert "approximate" in found.notes[-1]
    assert found.tasks[0].scores[0].name == "image_to_text_recall_at_1"


def test_every_task_that_the_dataset_serves_is_scored(model: Path, dataset: Path) -> None:
    """Without --task all are; those that it cannot serve are named with the reason."""
    found = run_evaluation(Options(model=str(model), dataset=str(dataset))).evaluation
    assert {task.name for task in found.tasks} >= set(TASKS)
    scored = {task.name for task in found.tasks} | {one.task for one in found.not_served}
    assert scored == {task.name for task in all_tasks()}
    assert all(f"{one.task} was not scored: {one.reason}." in found.notes for one in found.not_served)


def test_a_worse_model_fails(run: Run, model: Path, blind: Path, dataset: Path, tmp_path: Path) -> None:
    """Ten of thirty answers lost are a failure, with the samples and what each checkpoint answered in the reports."""
    arguments = ("--dataset", dataset, "--task", "zero_shot", "--against", model, "--out", tmp_path / "out")
    ended = run("evaluate", blind, *arguments)
    assert (ended.code, "worse" in ended.out) == (1, True)
    (task,) = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))["tasks"]
    compared = task["scores"][0]["comparison"]
    assert (compared["outcome"], compared["lost"], compared["gained"]) == ("worse", 10, 0)
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "zero_shot: worse than the other checkpoint" in page
    assert "answered: blue" in page
    assert page.count("data:image/jpeg;base64,") >= 8
    assert "http" not in page.replace("http-equiv", "")
    table = pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    assert len(table) == 30
    reds = [row for row in table if row["top1"] == 0]
    assert {(row["predicted"], row["other_predicted"], row["other_top1"]) for row in reds} == {("blue", "red", 1.0)}


def test_the_same_model_is_the_same(model: Path, dataset: Path) -> None:
    """A checkpoint against itself loses nothing, however few the samples are."""
    (task,) = evaluated(model, dataset, against=str(model)).tasks
    compared = task.scores[0].comparison
    assert compared is not None
    assert (task.outcome, compared.outcome, compared.lost, compared.gained) == ("passed", "same", 0, 0)


def test_another_model_without_a_change_needs_samples(model: Path, blind: Path, tmp_path: Path) -> None:
    """Where other weights answer alike on six images, that is no proof, and the report says how many would be one."""
    greens = [item for item in independent(60) if item["label"] == "green"][:6]
    found = evaluated(blind, write_dataset(tmp_path / "greens", greens), against=str(model))
    compared = found.tasks[0].scores[0].comparison
    assert compared is not None
    assert (compared.outcome, compared.lost, compared.needed is not None) == ("inconclusive", 0, True)
    assert (found.verdict, found.exit_code) == ("inconclusive", 10)
    assert f"about {compared.needed:,} samples would decide" in found.reasons[0]


def truncated(data: Path) -> None:
    """Cut an image in half."""
    file = sorted(data.rglob("*.png"))[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def missing(data: Path) -> None:
    """Remove an image."""
    sorted(data.rglob("*.jpg"))[0].unlink()


def no_sample(data: Path) -> None:
    """Break a line of the manifest."""
    lines = (data / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    (data / "manifest.jsonl").write_text("\n".join(['{"id": ', *lines[1:]]), encoding="utf-8")


@pytest.mark.parametrize("spoil", [truncated, missing, no_sample])
def test_what_cannot_be_read_is_counted_and_named(model: Path, dataset: Path, spoil: Callable[[Path], None]) -> None:
    """The others are scored, the verdict is no pass, and the place is told."""
    spoil(dataset)
    found = evaluated(model, dataset)
    assert (found.images, len(found.unreadable), found.verdict) == (29, 1, "inconclusive")
    assert found.tasks[0].scores[0].score == 1.0
    assert "1 of 30 images could not be read" in found.headline
    assert found.unreadable[0] in found.reasons[-1]


def test_a_caption_that_is_too_long_is_counted_and_named(model: Path, tmp_path: Path) -> None:
    """Three hundred words are no text of a model: the sample takes no part, the others do."""
    entries = independent(30)
    entries[4]["caption"] = "a red picture " * 100
    data = write_dataset(tmp_path / "data", entries)
    found = run_evaluation(Options(model=str(model), dataset=str(data), tasks=("image_to_text",))).evaluation
    assert found.tasks[0].samples == 29
    assert any(note.startswith("1 caption has more tokens than the model takes") for note in found.notes)
    assert "a red picture" in " ".join(found.notes)


def test_a_class_without_images_is_counted_and_named(model: Path, tmp_path: Path) -> None:
    """It is a note: the other classes are what is scored."""
    entries = [item for item in independent(30) if item["label"] != "green"]
    found = evaluated(model, write_dataset(tmp_path / "data", entries))
    assert "1 class has no image that can be read: green." in found.notes
    assert found.verdict == "pass"


def test_an_empty_dataset_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    """There is nothing to score, and no report is made."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.toml").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "data" / "manifest.jsonl").write_text("", encoding="utf-8")
    ended = run("evaluate", model, "--dataset", tmp_path / "data", "--out", tmp_path / "out")
    assert_refused(ended, "the dataset holds no sample")
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_cannot_be_read_at_all_is_refused(run: Run, model: Path, dataset: Path) -> None:
    """Said of the first sample, before anything is loaded, and not that no sample has a caption."""
    (dataset / "dataset.toml").write_text(SETTINGS.replace("{user}", "{user}_"), encoding="utf-8")
    ended = run("evaluate", model, "--dataset", dataset, "--task", "image_to_text")
    assert_refused(ended, "not one of 30 samples can be read, the first one is Mira_/green_100.png: No such file")


def test_embeddings_that_are_not_finite_fail(monkeypatch: pytest.MonkeyPatch, model: Path, dataset: Path) -> None:
    """They count as wrong, as in the gate, and the samples are named."""
    sees_colours(monkeypatch, broken=("103", "104"))
    found = evaluated(model, dataset)
    (task,) = found.tasks
    assert (found.verdict, task.not_finite, task.scores[0].score) == ("fail", 2, pytest.approx(28 / 30))
    assert "2 of 30 values are missing, an embedding being NaN or infinite: 103, 104" in found.reasons[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "zeroshot"], ("zeroshot", "The nearest is zero_shot")),
        (["--margin", "0.02"], ("--against",)),
        (["--margin", "2", "--against", "MODEL"], ("--margin 2",)),
        (["--against", "nowhere"], ("nowhere",)),
        (["--device", "cuda:7"], ("cuda:7",)),
        (["--attn", "sdpaa"], ("sdpaa", "sdpa")),
        (["--dtype", "float31"], ("float32",)),
    ],
)
def test_a_bad_option_is_refused(
    run: Run, model: Path, dataset: Path, tmp_path: Path, arguments: Sequence[str], said: tuple[str, ...]
) -> None:
    """Nothing is embedded and nothing written."""
    given = [str(model) if word == "MODEL" else word for word in arguments]
    assert_refused(run("evaluate", model, "--dataset", dataset, "--out", tmp_path / "out", *given), *said)
    assert not (tmp_path / "out").exists()


def test_a_task_that_the_dataset_cannot_serve_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    """Asked for by name, with what the dataset lacks."""
    data = write_dataset(tmp_path / "data", settings=SETTINGS.partition("[zero_shot]")[0])
    ended = run("evaluate", model, "--dataset", data, "--task", "zero_shot", "--out", tmp_path / "out")
    assert_refused(ended, "zero_shot: the dataset sets no zero-shot task")


def test_a_checkpoint_without_a_processor_is_refused(run: Run, bare_model: Path, dataset: Path) -> None:
    """Nothing can be read with it."""
    ended = run("evaluate", bare_model, "--dataset", dataset)
    assert_refused(ended, "no tokenizer and no image processor")


def test_an_id_that_occurs_twice_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    """Samples are paired by their ids."""
    entries = independent(6)
    entries[5]["id"] = entries[4]["id"]
    ended = run("evaluate", model, "--dataset", write_dataset(tmp_path / "data", entries), "--out", tmp_path / "out")
    assert_refused(ended, "occurs a second time")


def test_a_folder_belongs_to_one_run(run: Run, model: Path, dataset: Path, tmp_path: Path) -> None:
    """While another run writes there, nothing is done."""
    with owned(tmp_path / "out"):
        assert_refused(
            run("evaluate", model, "--dataset", dataset, "--out", tmp_path / "out"), "another run is writing"
        )


def test_ctrl_c_ends_with_2(
    run: Run, model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation that is interrupted leaves no file, not even of an earlier one."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "evaluation.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("clip_eval.embedding.embedded.embed_dataset", interrupted)
    assert run("evaluate", model, "--dataset", dataset, "--out", tmp_path / "out").code == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_files_are_written_all_or_none(
    model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one report cannot be rendered, none is written."""
    finished = run_evaluation(Options(model=str(model), dataset=str(dataset), tasks=("zero_shot",)))
    monkeypatch.setattr("clip_eval.evaluation.write.markdown", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_evaluation(finished, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_are_text(model: Path, tmp_path: Path) -> None:
    """A class, a caption or an id is no HTML, and no link of Markdown."""
    entries = independent(30)
    for item in entries[:3]:
        item["caption"] = "<script>alert(1)</script> [a](http://b) " + str(item["id"])
    options = Options(
        model=str(model), dataset=str(write_dataset(tmp_path / "data", entries)), tasks=("image_to_text",)
    )
    write_evaluation(run_evaluation(options), tmp_path / "out")
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_gate_and_evaluate_agree(model: Path, dataset: Path) -> None:
    """The same scores, intervals and judgement against chance, task by task."""
    session = Session(Settings(model=str(model), dataset=str(dataset)))
    found = run_evaluation(Options(model=str(model), dataset=str(dataset))).evaluation
    for task in found.tasks:
        (kind,) = (one for one in all_tasks() if one.name == task.name)
        results = judge(session.scored(kind))
        assert (task.outcome, task.reason) == (results[0].outcome, results[0].reason)
        assert [(one.name, one.score, one.interval_low, one.interval_high) for one in task.scores] == [
            (one.name, one.score, one.interval_low, one.interval_high) for one in results
        ]


def test_clip_benchmark_s_results(model: Path, dataset: Path, tmp_path: Path) -> None:
    """One file a task of theirs, with their keys: what `clip_benchmark build` reads."""
    write_evaluation(run_evaluation(Options(model=str(model), dataset=str(dataset))), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "clip_benchmark_zeroshot_classification.json").read_text(encoding="utf-8"))
    assert list(found) == ["dataset", "model", "pretrained", "task", "metrics", "language"]
    assert (found["task"], found["dataset"], found["metrics"]["acc1"]) == ("zeroshot_classification", "data", 1.0)
    found = json.loads((tmp_path / "out" / "clip_benchmark_zeroshot_retrieval.json").read_text(encoding="utf-8"))
    assert set(found["metrics"]) == {"image_retrieval_recall@5", "text_retrieval_recall@5"}


def test_in_python(model: Path, dataset: Path, tmp_path: Path) -> None:
    """The function returns the record and writes the reports."""
    found = clip_eval.evaluate(model, dataset=dataset, tasks=["zero_shot"], out=tmp_path / "out", quiet=True)
    assert (found.verdict, found.tasks[0].scores[0].score) == ("pass", 1.0)
    assert (tmp_path / "out" / "evaluation.html").is_file()
    with pytest.raises(clip_eval.ClipEvalError, match="takes a list of names"):
        clip_eval.evaluate(model, dataset=dataset, tasks="zero_shot", out=tmp_path / "out")
