"""What MLflow is told of a run. What needs no MLflow runs every time, the rest by `tox run -e mlflow`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from support import sample_records as sample
from support.commands import Run, assert_refused

from clip_eval.errors import OutputError
from clip_eval.report import render_html, render_junit, render_markdown
from clip_eval.report.mlflow_run import log_to_mlflow, metrics_of, params_of
from clip_eval.verdict.run_record import dump, load


def test_metrics_are_finite_numbers() -> None:
    """Scores, ratios, the largest margin of each chapter and counts; NaN and infinity are left out."""
    wrong = sample.failed_check(measurements=(sample.failed_measurement(error=math.nan),))
    near = sample.check("modules.head", measurements=(sample.measurement(error=1.0, bound=2.0),))
    nearer = sample.check("modules.tower", measurements=(sample.measurement(error=1.5, bound=2.0),))
    record = sample.record(
        checks=(wrong, near, nearer),
        surface_changes=(sample.change(),),
        tasks=(sample.task(), sample.task(name="odd", score=math.nan)),
        throughput=(sample.timing(),),
    )
    assert metrics_of(record) == {
        "score/zero_shot_top1": 0.9812,
        "ratio/image_tower": 1.004,
        "margin/modules": 0.75,
        "failed checks": 1,
        "open surface changes": 1,
        "duration_s": 41.27,
    }


def test_parameters_are_short_texts() -> None:
    """Versions, checkpoint and pack; what is not known is left out, names have characters that MLflow takes."""
    params = params_of(sample.record())
    assert (params["torch"], params["model"], params["dtype"]) == ("2.13.0", "checkpoints/candidate-2025-06", "float32")
    assert params["threads"] == '{"inter_op": 1, "intra_op": 2}'
    assert "gpu" not in params
    assert params["fingerprint/weights"].startswith("sha256:")
    assert "score/a_b_ _1" in metrics_of(sample.record(tasks=(sample.task(name="a<b>\n@1"),)))


def test_without_mlflow_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without it is told what to install, and other options do not go with it."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    file = tmp_path / "run.json"
    file.write_text(dump(sample.passing_record()), encoding="utf-8")
    assert_refused(run("report", file, "--to-mlflow"), "clip-eval[mlflow]")
    assert_refused(run("report", file, "--to-mlflow", "--format", "html"), "leave the other options out")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of files of MLflow, which needs no server."""
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return uri


@pytest.mark.mlflow
@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_run(run: Run, tmp_path: Path) -> None:
    """Metrics, parameters, verdict, times and reports are in MLflow as they are in the record."""
    from mlflow.tracking import MlflowClient

    record = load(dump(sample.failing_record()))
    file = tmp_path / "run.json"
    file.write_text(dump(record), encoding="utf-8")
    ended = run("report", file, "--to-mlflow")
    assert ended.code == 0
    client = MlflowClient()
    logged = client.get_run(ended.out.removeprefix("MLflow run: ").strip())
    assert logged.data.metrics == pytest.approx(metrics_of(record))
    assert logged.data.params == params_of(record)
    assert logged.data.tags["verdict"] == "fail"
    assert (logged.info.status, logged.info.start_time, logged.info.end_time) == (
        "FINISHED", 1748959641000, 1748959682270
    )  # fmt: skip
    assert client.get_experiment(logged.info.experiment_id).name == "clip-eval"
    texts = {"report.html": render_html, "summary.md": render_markdown, "junit.xml": render_junit, "run.json": dump}
    for name, render in texts.items():
        written = client.download_artifacts(logged.info.run_id, name, str(tmp_path))
        assert Path(written).read_text(encoding="utf-8") == render(record)


@pytest.mark.mlflow
@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")
def test_a_store_that_refuses_is_one_paragraph(monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment that is not there is named with the settings to look at."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "404")
    with pytest.raises(OutputError, match=r"MLflow refuses the run.*MLFLOW_EXPERIMENT_NAME"):
        log_to_mlflow(sample.passing_record())
