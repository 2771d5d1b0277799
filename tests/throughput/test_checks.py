"""The checks of the throughput chapter on a small checkpoint: what they record, and what they do not let pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from small_clip import write_small_clip

from clip_eval.compare import Compare, Mismatch
from clip_eval.outcomes import Evidence
from clip_eval.session import Session
from clip_eval.settings import Settings
from clip_eval.subject import Subject
from clip_eval.suite import test_throughput as chapter
from clip_eval.throughput import paired

PAIRS = 9


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A small random checkpoint."""
    model = write_small_clip(tmp_path_factory.mktemp("small"), processor=False)
    return Session(Settings(model=str(model)))


class Benchmark:
    """pytest-benchmark's fixture as far as the check uses it; `lost` rounds are made and not timed."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.group = ""
        self.extra_info: dict[str, Any] = {}
        self.stats: Any = None

    def pedantic(self, target: Callable[[], None], *, setup: Callable[[], None], rounds: int) -> None:
        """Run setup and target in turns."""
        for _ in range(rounds):
            setup()
            target()
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[1.0] * (rounds - self.lost)))


def timed(session: Session, benchmark: Benchmark, kind: str) -> list[dict[str, Any]]:
    """Run the timing check and return the ratios that it recorded."""
    evidence = Evidence([])
    chapter.test_embeddings_are_timed(benchmark, session.clip, session, evidence, Compare(evidence.measurement), kind)
    return [json.loads(str(text)) for name, text in evidence.properties if name == "clip_eval.throughput"]


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_a_ratio_is_recorded(session: Session, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio, its interval and its rounds are recorded and in pytest-benchmark's own data; nothing is judged."""
    monkeypatch.setattr(paired, "pilot", lambda _: PAIRS)
    benchmark = Benchmark()
    (result,) = timed(session, benchmark, kind)
    assert (result["name"], result["outcome"], result["rounds"]) == (f"{kind[:-1]}_embeddings", "inconclusive", PAIRS)
    assert 0 < result["interval_low"] <= result["ratio"] <= result["interval_high"]
    assert result["reason"] == "no baseline pack to judge it by"
    assert benchmark.group == "throughput"
    assert benchmark.extra_info == {
        "ratio": result["ratio"], "low": result["interval_low"], "high": result["interval_high"]
    }  # fmt: skip


def test_untimed_rounds_fail(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that ran without pytest-benchmark's clock are no measurement."""
    monkeypatch.setattr(paired, "pilot", lambda _: PAIRS)
    with pytest.raises(Mismatch, match="rounds that pytest-benchmark timed"):
        timed(session, Benchmark(lost=1), "images")


@pytest.mark.parametrize(
    ("low", "baseline", "said"),
    [
        (None, None, "too few pairs"),
        (1.0, None, "no baseline pack"),
        (1.0, "pack", "no entry for this machine in the pack"),
    ],
)
def test_reason_says_why_nothing_is_judged(low: float | None, baseline: str | None, said: str) -> None:
    """Without an interval, without a pack, without an entry: the first that applies."""
    assert said in chapter._reason(Session(Settings(model="nowhere", baseline=baseline)), low)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_floor_is_accepted(session: Session, dtype: str) -> None:
    """In every dtype the floor lies within the subject's own budget of the oracle."""
    of_dtype = Session(Settings(model=session.settings.model, dtype=dtype))
    evidence = Evidence([])
    chapter.test_floor_computes_the_same_embeddings(of_dtype.clip, of_dtype.oracle, Compare(evidence.measurement))
    assert len(evidence.properties) == 5


@pytest.mark.parametrize(
    "name", ["vision_model.encoder.layers.1.self_attn.k_proj.weight", "text_model.final_layer_norm.bias"]
)
def test_floor_with_other_weights_fails(session: Session, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor that computes from a changed copy of one tensor is found out, by its copy and by its results."""
    original = Subject.weights
    changed = {name: original(session.subject, "CLIPModel")[name] * 1.05}
    monkeypatch.setattr(Subject, "weights", lambda self, model_class: original(self, model_class) | changed)
    with pytest.raises(Mismatch, match="not the subject's"):
        chapter.test_floor_computes_the_same_embeddings(session.clip, session.oracle, Compare(lambda _: None))
    passes_over = SimpleNamespace(equal=lambda *_, **__: None, close=Compare(lambda _: None).close)
    with pytest.raises(Mismatch, match="embeddings of the floor"):
        chapter.test_floor_computes_the_same_embeddings(session.clip, session.oracle, passes_over)
