"""The checks of the throughput chapter on a small checkpoint: what they record, and what they do not let pass."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from support.timing_stand_ins import Benchmark, a_speed

from clip_eval.errors import ProcessError
from clip_eval.families.config import ClipConfig
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import Subject
from clip_eval.suite.release import test_throughput as chapter
from clip_eval.throughput import clock, memory, paired, roofline
from clip_eval.throughput.conditions import conditions_of
from clip_eval.throughput.ratio import Ratio, Speed
from clip_eval.throughput.trial import KINDS
from clip_eval.verdict.compare import Compare, Mismatch
from clip_eval.verdict.policy import Policy

if TYPE_CHECKING:
    from clip_eval.baseline import Pack

PAIRS = 9


@pytest.fixture(scope="module")
def session(bare_model: Path) -> Session:
    """A small random checkpoint."""
    return Session(Settings(model=str(bare_model)))


def timed(session: Session, benchmark: Benchmark, kind: str) -> list[dict[str, Any]]:
    """Run the timing check and return the ratios that it recorded."""
    evidence = Evidence([])
    chapter.test_forward_is_timed(
        benchmark, session.candidate.clip, session, evidence, Compare(evidence.measurement), kind
    )
    return [json.loads(str(text)) for name, text in evidence.properties if name == "clip_eval.throughput"]


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the pairs come out at: the clock, the pilot and the readings of memory are the test's own."""
    values = {"subject": 1.2, "kept_mb": 0.0}
    turn = itertools.count()

    def seconds(call: Callable[[], object]) -> float:
        call()
        return 1.0 + next(turn) % 3 / 1000

    monkeypatch.setattr(clock, "clock_of", lambda _: clock.Clock(seconds, "the test's"))
    monkeypatch.setattr(paired, "pilot", lambda *_: PAIRS)
    monkeypatch.setattr(memory, "kept_mb", lambda *_: values["kept_mb"])
    monkeypatch.setattr(roofline, "product_rate", lambda *_: 1e9)
    plain = paired.Turns.ratios
    monkeypatch.setattr(paired.Turns, "ratios", lambda self: [values["subject"] * one for one in plain(self)])
    return values


@pytest.mark.usefixtures("ratios")
@pytest.mark.parametrize("kind", ["images", "texts", "pairs"])
def test_a_ratio_is_recorded(session: Session, kind: str) -> None:
    """The ratio, its interval and its rounds are recorded and in pytest-benchmark's own data; without a pack nothing is
    judged.
    """
    benchmark = Benchmark()
    (result,) = timed(session, benchmark, kind)
    assert (result["name"], result["outcome"], result["rounds"]) == (KINDS[kind], "not_asked", PAIRS)
    assert 0 < result["interval_low"] <= result["ratio"] <= result["interval_high"]
    assert result["reason"] == "no baseline pack to judge it by"
    assert result["details"]["threads"] == 1
    assert benchmark.group == "throughput"
    assert benchmark.extra_info == {
        "ratio": result["ratio"], "low": result["interval_low"], "high": result["interval_high"],
        "outcome": "not_asked",
    }  # fmt: skip


@pytest.mark.usefixtures("ratios")
def test_untimed_rounds_fail(session: Session) -> None:
    """Rounds that ran without pytest-benchmark's clock are no measurement."""
    with pytest.raises(Mismatch, match="rounds that pytest-benchmark timed"):
        timed(session, Benchmark(lost=1), "images")


def with_pack(session: Session, *speeds: Speed, config: ClipConfig | None = None) -> Session:
    """Return the session against a pack that knows these speeds."""
    against = Session(session.settings)
    vars(against).update(vars(session))
    pack = SimpleNamespace(speeds=speeds, config=config or session.candidate.checkpoint.config)
    vars(against).update(pack=cast("Pack", pack))
    return against


@pytest.fixture
def here(session: Session) -> dict[str, Any]:
    """The conditions of this very machine, as an entry of a pack states them."""
    return asdict(conditions_of(session.candidate.clip))


@pytest.mark.parametrize(("ratio", "outcome"), [(1.2, "passed"), (1.0, "passed"), (1.56, "failed")])
def test_the_packs_entry_judges(
    session: Session, ratios: dict[str, float], here: dict[str, Any], ratio: float, outcome: str
) -> None:
    """Thirty per cent more than the approved release's ratio to the floor fails, in the record and as a check; its own
    ratio passes, and a better one.
    """
    ratios["subject"] = ratio
    against = with_pack(session, a_speed(**here))
    evidence = Evidence([])
    arguments = (Benchmark(), against.candidate.clip, against, evidence, Compare(evidence.measurement), "images")
    if outcome == "failed":
        with pytest.raises(Mismatch, match="times as long"):
            chapter.test_forward_is_timed(*arguments)
    else:
        chapter.test_forward_is_timed(*arguments)
    (result,) = [json.loads(str(text)) for name, text in evidence.properties if name == "clip_eval.throughput"]
    assert result["outcome"] == outcome
    assert result["ratio"] == pytest.approx(ratio / 1.2, rel=0.01)
    assert "the approved release on this machine" in result["reference"]


@pytest.mark.usefixtures("ratios")
def test_no_entry_is_not_asked(session: Session, here: dict[str, Any]) -> None:
    """A pack without speeds, with those of another machine, or of another architecture judges nothing, and says why."""
    other = a_speed(**{**here, "torch": "1.0"})
    shallow = replace(
        session.candidate.checkpoint.config, text=replace(session.candidate.checkpoint.config.text, num_hidden_layers=1)
    )
    said = {
        "the pack holds no speeds": with_pack(session),
        "nearest: torch": with_pack(session, other, a_speed(**{**here, "torch": "1.0", "threads": 3})),
        "another architecture": with_pack(session, a_speed(**here), config=shallow),
    }
    for words, against in said.items():
        (result,) = timed(against, Benchmark(), "texts")
        assert result["outcome"] == "not_asked"
        assert words in result["reason"]


@pytest.mark.parametrize(("least", "outcome"), [(0.8, "passed"), (0.9, "failed")])
def test_a_policy_judges_where_no_entry_does(
    session: Session, ratios: dict[str, float], here: dict[str, Any], least: float, outcome: str
) -> None:
    """Without an entry for this machine a policy's least efficiency decides; with one the entry does."""
    ratios["subject"] = 1.2
    alone, known = with_pack(session), with_pack(session, a_speed(**here))
    vars(alone).update(policy=Policy(least_efficiency=least))
    vars(known).update(policy=Policy(least_efficiency=least))
    ratio = Ratio(1.2, 1.19, 1.21)
    assert chapter._judged(alone, "logits", ratio).outcome == outcome
    assert chapter._judged(known, "logits", ratio).outcome == "passed"


def test_a_leak_fails_as_memory(session: Session, ratios: dict[str, float]) -> None:
    """A subject that keeps 8 MB a call fails the check of memory, and is not called a thousand times to be timed."""
    ratios["kept_mb"] = 8.0
    leaking = Session(session.settings)
    evidence = Evidence([])
    with pytest.raises(Mismatch, match="MB that a call keeps"):
        chapter.test_calls_keep_no_memory(leaking.candidate.clip, Compare(evidence.measurement), "images")
    with pytest.raises(pytest.skip.Exception, match=r"each call keeps 8\.00 MB"):
        timed(leaking, Benchmark(), "images")


class WorkerClient:
    """The worker in the other interpreter, as far as the check uses it; `dies` is what it raises when it is timed."""

    def __init__(self, dies: str = "") -> None:
        self.dies = dies

    def load(self, **_: object) -> dict[str, str]:
        """Say what the other side runs in."""
        return {"transformers": "4.57.6", "torch": "2.6.0"}

    def prepare(self, _: object) -> None:
        """Make the same trial."""

    def seconds(self) -> float:
        """Take a second, or die."""
        if self.dies:
            raise ProcessError(self.dies)
        return 1.0


def compared(session: Session, other: WorkerClient, evidence: Evidence) -> None:
    """Run the check of two interpreters on images."""
    chapter.test_no_slower_than_the_other_interpreter(
        cast("Any", other),
        Benchmark(),
        session.candidate.clip,
        session,
        evidence,
        Compare(evidence.measurement),
        "images",
    )


@pytest.mark.parametrize(("ratio", "outcome"), [(1.0, "passed"), (1.05, "failed")])
def test_the_other_interpreter_judges(session: Session, ratios: dict[str, float], ratio: float, outcome: str) -> None:
    """Five per cent more than in the other interpreter fails; the same passes; both name what ran over there."""
    ratios["subject"] = ratio
    evidence = Evidence([])
    if outcome == "failed":
        with pytest.raises(Mismatch, match=r"at most 1\.02 times as long"):
            compared(session, WorkerClient(), evidence)
    else:
        compared(session, WorkerClient(), evidence)
    (result,) = [json.loads(str(text)) for name, text in evidence.properties if name == "clip_eval.throughput"]
    assert (result["name"], result["outcome"]) == ("image_embeddings_against_baseline", outcome)
    assert result["reference"] == "transformers 4.57.6 with torch 2.6.0"


@pytest.mark.usefixtures("ratios")
def test_a_worker_that_dies_is_inconclusive(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record says that nothing was decided, and why; the check was not run."""
    monkeypatch.setattr(paired, "pilot", lambda turns: turns.reference())
    evidence = Evidence([])
    with pytest.raises(pytest.skip.Exception, match="died of signal SIGKILL"):
        compared(session, WorkerClient("the worker died of signal SIGKILL"), evidence)
    (result,) = [json.loads(str(text)) for name, text in evidence.properties if name == "clip_eval.throughput"]
    assert (result["outcome"], result["reason"]) == ("inconclusive", "the worker died of signal SIGKILL.")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_floor_is_accepted(session: Session, dtype: str) -> None:
    """In every dtype the floor lies within the subject's own budget of the oracle."""
    of_dtype = Session(Settings(model=session.settings.model, dtype=dtype))
    evidence = Evidence([])
    chapter.test_floor_computes_the_same_embeddings(
        of_dtype.candidate.clip, of_dtype.candidate.oracle, Compare(evidence.measurement)
    )
    assert len(evidence.properties) == 6


@pytest.mark.parametrize(
    "name", ["vision_model.encoder.layers.1.self_attn.k_proj.weight", "text_model.final_layer_norm.bias"]
)
def test_floor_with_other_weights_fails(session: Session, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor that computes from a changed copy of one tensor is found out, by its copy and by its results."""
    original = Subject.weights
    changed = {name: original(session.candidate.subject, "CLIPModel")[name] * 1.05}
    monkeypatch.setattr(Subject, "weights", lambda self, model_class: original(self, model_class) | changed)
    with pytest.raises(Mismatch, match="not the subject's"):
        chapter.test_floor_computes_the_same_embeddings(
            session.candidate.clip, session.candidate.oracle, Compare(lambda _: None)
        )
    passes_over = SimpleNamespace(equal=lambda *_, **__: None, close=Compare(lambda _: None).close)
    with pytest.raises(Mismatch, match="embeddings of the floor"):
        chapter.test_floor_computes_the_same_embeddings(session.candidate.clip, session.candidate.oracle, passes_over)
