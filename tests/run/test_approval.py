"""Approving releases: the suite must pass, a pack is written whole or not at all, environments are added one by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from support.packs import (
    SOME_SURFACE,
    Run,
    changed_config,
    changed_model,
    next_float,
    observing,
    reseal,
    session_on,
    surface_file,
)
from support.releases import ordinary_under

from clip_eval.baseline import Environment, open_pack
from clip_eval.errors import CheckpointError, OutputError, PackError, UsageError
from clip_eval.run import approval
from clip_eval.run.approval import record
from clip_eval.run.declared_checks import declared_checks
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import transformers_release
from clip_eval.subject.environment import provenance
from clip_eval.suite.release import test_baseline as suite
from clip_eval.verdict.decide import Asked, decide
from clip_eval.verdict.run_record import CheckResult, RunRecord, SurfaceChange, dump


def gate_that(
    monkeypatch: pytest.MonkeyPatch,
    session: Session,
    *,
    failing: str | None = None,
    changed: bool = False,
    code: int = 0,
) -> list[Settings]:
    """Put a gate in the place of the real one that writes a prepared run record; returns what it was asked."""
    asked: list[Settings] = []
    change = SurfaceChange(
        id="A()", what="w", before="b", after="a", check="baseline.surface_is_approved", accepted=None
    )

    def gate(settings: Settings, *, quiet: bool, progress: bool, opened: Callable[[], None]) -> int:
        assert progress, "what takes minutes is not silent"
        assert quiet, "the gate's verdict is not that of the command"
        opened()
        asked.append(settings)
        checks = tuple(_result(check, "failed" if check.id == failing else "passed") for check in declared_checks())
        run = _run_record(settings, session, checks, (change,) if changed else ())
        (cast("Path", settings.out) / "run.json").write_text(dump(run), encoding="utf-8")
        return code

    monkeypatch.setattr(approval, "run_gate", gate)
    return asked


def _result(check: Any, outcome: Any) -> CheckResult:
    asked = check.scope in ("contract", "baseline")
    return CheckResult(
        id=check.id, chapter=check.chapter, promise=check.promise, case=None, scope=check.scope,
        outcome=outcome if asked else "not_applicable", reason=None, measurements=(), diverges_at=None, deviation=None,
        rerun=None, duration_s=0.0, detail=None,
    )  # fmt: skip


def _run_record(settings: Settings, session: Session, checks: Any, changes: Any) -> RunRecord:
    asked = Asked(baseline=settings.baseline is not None, tasks=False, throughput=False)
    decision = decide(
        checks=checks, declared=declared_checks(), surface_changes=changes, tasks=(), throughput=(), asked=asked
    )
    return RunRecord(
        started="2026-01-01T00:00:00+00:00", duration_s=1.0, arguments=settings.arguments(), verdict=decision.verdict,
        headline=decision.headline, reasons=decision.reasons, scope=decision.scope, baseline=None,
        provenance=provenance(session.candidate), candidate=session.candidate.info(), checks=checks,
        surface_changes=changes, tasks=(), throughput=(),
    )  # fmt: skip


def eager(model: Path, **options: Any) -> Settings:
    """The settings of a record command."""
    return Settings(model=str(model), attention="eager", **options)


@pytest.mark.parametrize("quiet", [False, True])
def test_record_gates_in_float32_and_writes_the_pack(
    model: Path,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quiet: bool,
) -> None:
    """Recording runs the suite in float32, without throughput and against nothing, then writes what it saw."""
    observing(monkeypatch, SOME_SURFACE)
    asked = gate_that(monkeypatch, session)
    found = record(eager(model, dtype="bfloat16"), out=tmp_path / "pack", quiet=quiet)
    assert found.exit_code == 0
    said = [f"running the suite on {model} in float32", "the suite passes; recording outputs and surface"]
    assert capsys.readouterr().err == ("" if quiet else "".join(f"clip-eval: {line}\n" for line in said))
    assert f"recorded {model.name} in {tmp_path / 'pack'}" in found.message
    assert (asked[0].dtype, asked[0].throughput, asked[0].baseline) == ("float32", False, None)
    assert not cast("Path", asked[0].out).exists()
    (environment,) = open_pack(tmp_path / "pack").environments.items()
    assert environment[0] == Environment(str(transformers_release()), "eager")
    assert environment[1].surface == SOME_SURFACE


@pytest.mark.parametrize("changed", [False, True])
def test_record_refuses_what_does_not_pass(
    model: Path, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    """A failing check is a refusal with the gate's verdict and reports, and nothing is written."""
    asked = gate_that(monkeypatch, session, failing="towers.text_model_is_the_nested_one", changed=changed, code=1)
    found = record(eager(model), out=tmp_path / "pack")
    assert found.exit_code == 1
    assert "not recorded, the gate says fail: contract (1 check failed)" in found.message
    assert "towers.text_model_is_the_nested_one" in found.reasons[0]
    assert cast("Path", asked[0].out).is_dir()
    shutil.rmtree(cast("Path", asked[0].out))
    assert not (tmp_path / "pack").exists()


def test_record_refuses_a_place_that_is_taken(model: Path, pack_path: Path) -> None:
    """A pack is not overwritten, which is known before the suite runs; one of out and add_to is needed."""
    with pytest.raises(OutputError, match="--add-to"):
        record(eager(model), out=pack_path)
    with pytest.raises(UsageError):
        record(eager(model))
    with pytest.raises(UsageError):
        record(eager(model), out=pack_path, add_to=pack_path)


def test_record_refuses_a_checkpoint_that_changed_meanwhile(
    model: Path, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded is what was gated."""
    other = changed_model(model, tmp_path / "other", next_float)
    gate_that(monkeypatch, session)  # its record holds the fingerprints of the unchanged checkpoint
    with pytest.raises(CheckpointError, match="changed while it was recorded"):
        record(eager(other), out=tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_another_environment_is_approved(
    model: Path, session: Session, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """add_to excuses differences from other environments' surfaces, and adds the surface; nothing else changes."""
    before = open_pack(damaged)
    asked = gate_that(monkeypatch, session, failing="baseline.surface_is_approved", changed=True, code=1)
    found = record(Settings(model=str(model), attention="sdpa"), add_to=damaged)
    assert found.exit_code == 0
    assert "with sdpa attention is approved" in found.message
    assert asked[0].baseline == str(damaged)
    after = open_pack(damaged)
    assert set(after.environments) - set(before.environments) == {Environment(str(transformers_release()), "sdpa")}
    assert after.recorded_in == before.recorded_in
    assert Run(session_on(model, pack=damaged, attention="sdpa"), suite.test_surface_is_approved).error is None


@pytest.mark.parametrize("failing", ["baseline.outputs_match_the_record", "features.other_states_come_along"])
def test_an_environment_whose_numbers_differ_is_not_approved(
    model: Path, session: Session, damaged: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Only the surface is excused: other numbers, or a broken contract, are refused, and the pack stays as it is."""
    before = {file.name: file.read_bytes() for file in damaged.iterdir()}
    asked = gate_that(monkeypatch, session, failing=failing, changed=True, code=1)
    found = record(Settings(model=str(model), attention="sdpa"), add_to=damaged)
    assert found.exit_code == 1
    shutil.rmtree(cast("Path", asked[0].out))
    assert {file.name: file.read_bytes() for file in damaged.iterdir()} == before


def test_a_surface_check_that_broke_is_not_excused(
    model: Path, session: Session, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A surface check that failed without naming a change saw nothing, so nothing is approved."""
    asked = gate_that(monkeypatch, session, failing="baseline.surface_is_approved", changed=False, code=1)
    assert record(Settings(model=str(model), attention="sdpa"), add_to=damaged).exit_code == 1
    shutil.rmtree(cast("Path", asked[0].out))


def test_an_approved_environment_is_not_approved_again(
    model: Path, session: Session, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same surface once more is nothing to do; another one for the same environment is refused."""
    surface = json.loads((damaged / surface_file()).read_text(encoding="utf-8"))
    observing(monkeypatch, surface)
    gate_that(monkeypatch, session)
    found = record(eager(model), add_to=damaged)
    assert found.exit_code == 0
    assert "nothing to do" in found.message
    reseal(damaged, surface_file(), json.dumps({**surface, "CLIPModel()": "a tuple"}).encode())
    with pytest.raises(PackError, match=r"another surface: 1 entry differs \(CLIPModel\(\)\)"):
        record(eager(model), add_to=damaged)


def test_another_checkpoint_is_not_added(model: Path, damaged: Path, tmp_path: Path) -> None:
    """add_to refuses a checkpoint with another config before the suite runs, and task scores beside it."""
    other = changed_config(model, tmp_path / "other", hidden_act="gelu")
    with pytest.raises(PackError, match="recorded from another checkpoint"):
        record(eager(other), add_to=damaged)
    with pytest.raises(UsageError, match="task scores"):
        record(eager(model, dataset="x"), add_to=damaged)


def test_a_gate_that_judges_nothing_records_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted gate is passed on, and leaves neither pack nor reports."""
    seen: list[Path] = []

    def interrupted(settings: Settings, *, quiet: bool, progress: bool, opened: Callable[[], None]) -> int:
        seen.append(cast("Path", settings.out))
        return 2

    monkeypatch.setattr(approval, "run_gate", interrupted)
    assert record(eager(model), out=tmp_path / "pack").exit_code == 2
    assert not seen[0].exists()
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize("attention", [pytest.param("sdpa", marks=ordinary_under("4"))])
def test_another_environment_for_real(model: Path, damaged: Path, attention: str) -> None:
    """A real gate of a child process under sdpa, against a pack that knows eager, is excused its surface alone."""
    found = record(Settings(model=str(model), attention=attention), add_to=damaged)
    assert found.exit_code == 0
    assert "output_attentions=True" in found.message
    assert {environment.attention for environment in open_pack(damaged).environments} == {"eager", "sdpa"}


@pytest.mark.slow
def test_two_environments_for_real(model: Path, tmp_path: Path) -> None:
    """The whole way, gates in child processes: record under eager, approve sdpa; each then has its own surface."""
    pack = tmp_path / "pack"
    assert record(eager(model), out=pack).exit_code == 0
    found = record(Settings(model=str(model), attention="sdpa"), add_to=pack)
    assert found.exit_code == 0
    assert "output_attentions=True" in found.message
    release = str(transformers_release())
    assert set(open_pack(pack).environments) == {Environment(release, "eager"), Environment(release, "sdpa")}
    for attention in ("eager", "sdpa"):
        against = session_on(model, pack=pack, attention=attention)
        assert Run(against, suite.test_surface_is_approved).error is None
        assert Run(against, suite.test_outputs_match_the_record, part="head").error is None
