"""What the hub is told: huggingface_hub reads it back as it was meant, under both lines of transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from support import sample_records as sample

from clip_eval.errors import UsageError
from clip_eval.report.hub import RESULTS_FILE, hub_card, hub_files
from clip_eval.verdict.run_record import RunRecord

KNOWS_ENTRIES = hasattr(huggingface_hub, "EvalResultEntry")
"""Not before huggingface_hub 1.0, which transformers 4 excludes."""


def scored(**changes: object) -> RunRecord:
    """A run with a score of every task, one that was not measured, and the dataset's directory."""
    names = (
        *("zero_shot_top1", "zero_shot_top5", "zero_shot_mean_per_class_recall", "caption_choice_accuracy"),
        *("linear_probe_accuracy", "multi_label_mean_average_precision", "image_to_text_recall_at_1"),
        *("text_to_image_recall_at_1", "own_task_score"),
    )
    tasks = [sample.task(name=name, score=0.5 + place / 100) for place, name in enumerate(names)]
    record = sample.record(tasks=(*tasks, sample.task(name="zero_shot_gone", score=None)))
    arguments = {**record.arguments, "dataset": "/data/shapes-dataset"}
    return dataclasses.replace(record, arguments=arguments, **changes)


def test_the_hubs_parser_reads_every_score_back() -> None:
    """Task, dataset, metric and value of each score are what was written, to the last digit."""
    record = scored()
    card = ModelCard(hub_card(record, dataset_id="org/shapes@main"))
    assert card.data.model_name == "checkpoints/candidate-2025-06"
    results = {result.metric_name: result for result in card.data.eval_results or ()}
    assert {result.metric_value for result in results.values()} == {
        task.score for task in record.tasks if task.score is not None
    }
    assert results["Zero shot top1"] == EvalResult(
        task_type="zero-shot-image-classification",
        task_name="Zero-shot image classification",
        dataset_type="org/shapes",
        dataset_name="shapes-dataset",
        dataset_revision="main",
        metric_type="accuracy",
        metric_name="Zero shot top1",
        metric_value=0.5,
    )
    assert results["Image to text recall at 1"].task_type == "information-retrieval"
    assert results["Own task score"].metric_type == "own_task_score"


def test_it_can_be_written_again() -> None:
    """What the hub's parser read gives the same text."""
    text = hub_card(scored(), dataset_id="org/shapes")
    again = ModelCard(text).data.to_yaml()
    assert f"---\n{again}\n---\n" == text


@pytest.mark.skipif(not KNOWS_ENTRIES, reason="this huggingface_hub has no entries of .eval_results")
def test_the_entries_are_read_back() -> None:
    """Each score is an entry with value, date and interval; the file is YAML that huggingface_hub's parser takes."""
    record = scored()
    files = hub_files(record, dataset_id="org/shapes@main")
    entries = huggingface_hub.parse_eval_result_entries(yaml.safe_load(files[RESULTS_FILE]))
    measured = [task for task in record.tasks if task.score is not None]
    assert [(entry.task_id, entry.value) for entry in entries] == [(task.name, task.score) for task in measured]
    assert {(entry.dataset_id, entry.dataset_revision, entry.date) for entry in entries} == {
        ("org/shapes", "main", record.started)
    }
    assert entries[0].notes == "95 % interval 0.9646 to 0.9901; 480 values"


@pytest.mark.skipif(KNOWS_ENTRIES, reason="this huggingface_hub has entries of .eval_results")
def test_without_entries_the_card_is_written() -> None:
    """An older huggingface_hub gives the card alone."""
    assert list(hub_files(scored(), dataset_id="org/shapes")) == ["README.md"]


@pytest.mark.parametrize("dataset_id", ["", "a b", "a/b/c", "https://huggingface.co/datasets/a/b", "../x"])
def test_an_id_that_is_none_is_refused(dataset_id: str) -> None:
    """The message says how an id is written."""
    with pytest.raises(UsageError, match="ORG/NAME"):
        hub_card(scored(), dataset_id=dataset_id)


def test_a_run_without_scores_is_refused() -> None:
    """Nothing is invented where nothing was measured, or is not a number."""
    for tasks in ((), (sample.task(score=None),), (sample.task(score=float("nan")),)):
        with pytest.raises(UsageError, match="no score for the hub"):
            hub_card(sample.record(tasks=tasks), dataset_id="org/shapes")


HOSTILE = ["a: b\n- c", "</script>", "\u202eright to left", "---\nx", "'\"#{}[]&*!|>%@`", "y" * 9999]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_one_value(text: str, tmp_path: Path) -> None:
    """Whatever a model, a dataset or a score is called is one value of the YAML and breaks nothing."""
    record = scored(candidate=sample.subject(source=f"/models/{text}"))
    record = dataclasses.replace(
        record, arguments={"dataset": f"/data/{text}"}, tasks=(sample.task(name=f"zero_shot_{text}"),)
    )
    file = tmp_path / "README.md"
    file.write_text(hub_card(record, dataset_id="org/shapes"), encoding="utf-8")
    card = ModelCard.load(file)
    (result,) = card.data.eval_results or ()
    assert (result.metric_value, len(str(result.metric_name)) <= 260) == (0.9812, True)
    assert card.text.strip() == ""
