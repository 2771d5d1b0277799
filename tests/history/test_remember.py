"""What a gate leaves in its history, and what it tells where it cannot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support import sample_records as sample

from clip_eval.history.database import read
from clip_eval.history.remember import remember, run_of
from clip_eval.report import render_html
from clip_eval.report.margins import margins


def test_the_numbers_of_a_record() -> None:
    """Scores and ratios with their intervals, and the largest error over bound of every check with one."""
    record = sample.failing_record()
    run = run_of(record)
    assert (run.model, run.dtype, run.device) == (record.candidate.source, "float32", "cpu")
    assert (run.verdict, run.headline, run.transformers) == (record.verdict, record.headline, "5.23.0")
    score = run.measured["score", "zero_shot_top1"]
    assert (score.value, score.low, score.high) == (0.912, 0.883, 0.934)
    assert run.measured["ratio", "text_tower"].value == 1.081
    assert run.measured["margin", "reference_values.hidden_states[text]"].value == pytest.approx(0.0421 / 1.31e-5)
    assert set(run.of("margin")) == set(margins(record))


def test_margins_are_the_largest_of_a_check() -> None:
    """Exact comparisons, and those without a number, have no margin; NaN is beyond any."""
    record = sample.failing_record()
    found = margins(record)
    assert found["reference_values.logits"] == pytest.approx(1.2e-5 / 1.31e-5)
    assert found["reference_values.hidden_states[vision-last]"] == float("inf")
    assert "contrastive_head.logits_are_symmetric" not in found
    assert "output_shapes.logits_are_rectangular" not in found


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"source": "/builds/17/candidate-2025-06"}, True),
        ({"source": "/builds/17/other"}, False),
        ({"fingerprints": dict.fromkeys(("weights", "config", "tokenizer", "image_processor"))}, True),
        ({"dtype": "float16"}, False),
        ({"device": "cuda:1"}, False),
        ({"device": "cpu", "attention": "eager"}, True),
    ],
)
def test_what_belongs_to_one_trend(changes: dict[str, object], same: bool) -> None:
    """The same name, dtype and kind of device; neither the folder it lies in nor its weights."""
    record = dataclasses.replace(sample.passing_record(), candidate=sample.subject(source="/home/a/candidate-2025-06"))
    other = dataclasses.replace(record, candidate=sample.subject(**{"source": record.candidate.source, **changes}))
    assert (run_of(record).subject == run_of(other).subject) == same


def test_a_run_joins_its_history(tmp_path: Path) -> None:
    """The trends are those of the same model, this run the last, and the page shows them."""
    record, file = sample.passing_record(), tmp_path / "runs.sqlite"
    assert remember(record, None).trends == ()
    first = remember(record, str(file))
    assert first.record == record
    stranger = dataclasses.replace(record, candidate=sample.subject(source="models/other-clip-of-ours"))
    remember(stranger, str(file))
    found = remember(dataclasses.replace(record, tasks=(sample.task(score=0.99),)), str(file))
    assert {trend.kind for trend in found.trends} == {"score", "margin", "ratio"}
    score = next(trend for trend in found.trends if trend.kind == "score")
    assert [(point.run, point.value) for point in score.points] == [(1, 0.9812), (3, 0.99)]
    page = render_html(found.record, found.trends)
    assert "Over the last runs" in page
    assert "0.99 after 0.9812, from 0.9812 to 0.99 in 2 runs" in page
    assert "Over the last runs" not in render_html(found.record)


def test_a_history_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    """The verdict stays, and one sentence says what happened."""
    record = sample.passing_record()
    found = remember(record, str(tmp_path))
    assert found.trends == ()
    assert found.record == dataclasses.replace(record, notes=found.record.notes)
    (note,) = found.record.notes
    assert note.startswith("The run is not in the history: the history cannot be opened (it is a directory")
    (tmp_path / "runs").write_bytes(b"\0" * 5000)
    (note,) = remember(record, str(tmp_path / "runs")).record.notes
    assert note.startswith("The history was damaged")
    assert len(read(tmp_path / "runs").runs) == 1
