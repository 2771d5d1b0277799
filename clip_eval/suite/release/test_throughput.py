"""Speed as a ratio: the subject in turns with a plain torch forward of the same weights. Seconds are never compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clip_eval.errors import ProcessError
from clip_eval.oracle.expected.fields import ExpectedTower
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.subject.observations import Clip
from clip_eval.throughput.ratio import (
    Judgement,
    Ratio,
    against_pack,
    against_policy,
    in_one_run,
    nearest_speed,
    unjudged,
)
from clip_eval.verdict.budgets import kept_memory
from clip_eval.verdict.compare import Compare, Expected

if TYPE_CHECKING:
    from clip_eval.throughput.worker_client import WorkerClient

pytestmark = pytest.mark.needs("timing")

SCOPE = "throughput"

TEXTS, IMAGES = 5, 5

every_kind = pytest.mark.parametrize("kind", ["images", "texts", "pairs"])


@pytest.fixture
def asked(clip_session: Session, evidence: Evidence) -> None:
    """Skip the check under --no-throughput."""
    if not clip_session.settings.throughput:
        evidence.not_applicable("--no-throughput was given")


@pytest.fixture
def device_kind(asked: None, clip_session: Session, evidence: Evidence) -> str:
    """The kind of device; skip the check if there is no clock and no memory reading for it."""
    kind = clip_session.settings.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        evidence.not_run(f"speed was not timed: there is no clock for {kind} devices")
    return kind


@pytest.fixture
def benchmark(device_kind: str, request: pytest.FixtureRequest, evidence: Evidence) -> Any:
    """pytest-benchmark's fixture, if it can time: a single call without a clock is not a measurement."""
    if hasattr(request.config, "workerinput"):
        evidence.not_run("speed was not timed: under pytest-xdist other workers use the same cores")
    try:
        timer = request.getfixturevalue("benchmark")
    except pytest.FixtureLookupError:
        evidence.not_run("speed was not timed: the pytest-benchmark plugin is not loaded")
    if not timer.enabled:
        evidence.not_run("speed was not timed: pytest-benchmark is disabled in this run")
    return timer


@pytest.mark.usefixtures("asked")
def test_floor_computes_the_same_embeddings(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """The plain torch forward computes the embeddings and logits that weights and inputs determine, from the subject's
    own tensors.

    A reference that left out a step, or read other weights, would be too fast.
    """
    model_class = clip.holds.main_class
    weights = clip.subject.weights(model_class)
    own = {tensor.data_ptr() for tensor in clip.subject.model(model_class).state_dict().values()}
    copied = [name for name, tensor in weights.items() if tensor.data_ptr() not in own]
    compare.equal(copied, [], name="tensors of the floor that are not the subject's")
    floor = clip.family.plain_forward(weights, clip.config)
    if clip.holds.images:
        pixels = clip.subject.tensors(clip.images(IMAGES))
        images = floor.image_features(**pixels)
        compare.close(images, _embedding(oracle.vision(images=IMAGES)), name="image embeddings of the floor")
    if clip.holds.texts:
        for mask in ("padding", "interior"):
            inputs = clip.subject.tensors(clip.texts(TEXTS, mask))
            expected = _embedding(oracle.text(texts=TEXTS, mask=mask))
            compare.close(floor.text_features(**inputs), expected, name=f"text embeddings of the floor, {mask} mask")
        causal = floor.text_features(inputs["input_ids"])
        expected = _embedding(oracle.text(texts=TEXTS))
        compare.close(causal, expected, name="text embeddings of the floor without a mask, as timed")
    if clip.holds.whole:
        logits, head = floor.logits(inputs["input_ids"], **pixels), oracle.forward(images=IMAGES, texts=TEXTS)
        compare.close(logits, head.logits_per_image, name="logits of the floor, as timed")


def _embedding(tower: ExpectedTower) -> Expected:
    """The embedding, or the pooled state of a tower without projection."""
    return tower.embedding or tower.pooler_output


@every_kind
@pytest.mark.usefixtures("device_kind")
def test_calls_keep_no_memory(clip: Clip, compare: Compare, kind: str) -> None:
    """A call keeps no memory after its result is dropped: memory does not grow with the number of calls.

    A model in a server is called millions of times; what each call keeps ends the process.
    """
    kept = np.asarray(_kept_mb(clip, kind))  # ()
    compare.within(kept, 0.0, kept_memory(), name=f"MB that a call keeps ({kind})")


@every_kind
def test_forward_is_timed(
    benchmark: Any, clip: Clip, clip_session: Session, evidence: Evidence, compare: Compare, kind: str
) -> None:
    """A batch is timed in turns with the plain torch forward; the ratio is at most 10 % above that of the approved
    release, if the pack has it for this machine.

    Without an entry of the same hardware, torch, dtype, attention and threads the ratio is recorded and not judged.
    """
    from clip_eval.throughput.clock import clock_of, torch_threads
    from clip_eval.throughput.conditions import THREADS
    from clip_eval.throughput.paired import AGAINST_PACK, Turns, pilot
    from clip_eval.throughput.trial import make_trial, throughput_result

    _refuse_leak(clip, kind, evidence)
    trial, clock = make_trial(kind, clip.subject, clip.batch), clock_of(clip.subject.device)
    turns = Turns(trial.subject, trial.floor, clock.seconds)
    with torch_threads(THREADS):
        pairs = pilot(Turns(trial.subject, trial.floor, clock.seconds), AGAINST_PACK)
        benchmark.group = SCOPE
        benchmark.pedantic(turns.time_subject, setup=turns.time_reference, rounds=pairs)
        found = turns.result()
        details = {**_ceiling(clip, trial, found), "clock": clock.name}
    compare.equal(len(benchmark.stats.stats.data), found.pairs, name="rounds that pytest-benchmark timed")
    judgement = _judged(clip_session, trial.name, found.ratio)
    result = throughput_result(trial, found, judgement, {**details, "threads": THREADS})
    evidence.throughput(result)
    _report(benchmark, judgement, compare, trial.name)


@pytest.fixture(scope="module")
def worker(clip_session: Session) -> Iterator[WorkerClient | None]:
    """The worker in the interpreter of --baseline-python; it ends with the last check that needs it."""
    from clip_eval.throughput.worker_client import WorkerClient

    python = clip_session.settings.baseline_python
    if python is None or not clip_session.settings.throughput:
        yield None
        return
    with WorkerClient(python) as started:
        yield started


@pytest.fixture
def other(asked: None, worker: WorkerClient | None, evidence: Evidence) -> WorkerClient:
    """The worker; skip the check without --baseline-python."""
    if worker is None:
        evidence.not_applicable("no --baseline-python was given")
    return worker


@every_kind
def test_no_slower_than_the_other_interpreter(
    other: WorkerClient,
    benchmark: Any,
    clip: Clip,
    clip_session: Session,
    evidence: Evidence,
    compare: Compare,
    kind: str,
) -> None:
    """A batch takes no more than 2 % longer than in the other interpreter, timed in turns on the same inputs.

    This is the cost, or gain, of an upgrade of transformers, torch or an attention kernel.
    """
    from clip_eval.throughput.clock import clock_of, torch_threads
    from clip_eval.throughput.conditions import THREADS
    from clip_eval.throughput.paired import Turns, pilot, reported_seconds
    from clip_eval.throughput.trial import make_trial, throughput_result, untimed

    _refuse_leak(clip, kind, evidence)
    trial, clock = make_trial(kind, clip.subject, clip.batch), clock_of(clip.subject.device)
    name = f"{trial.name}_against_baseline"
    try:
        over_there = other.load(
            checkpoint=str(clip_session.candidate.checkpoint.path), dtype=clip.dtype, device=clip.subject.device,
            attention=clip_session.settings.attention, threads=THREADS, variant=clip_session.settings.variant,
        )  # fmt: skip
        other.prepare(trial)
        turns = [Turns(trial.subject, other.seconds, clock.seconds, reported_seconds) for _ in range(2)]
        with torch_threads(THREADS):
            pairs = pilot(turns[0])
            benchmark.group = SCOPE
            benchmark.pedantic(turns[1].time_subject, setup=turns[1].time_reference, rounds=pairs)
            found = turns[1].result()
    except ProcessError as problem:
        evidence.throughput(untimed(name, str(problem)))
        evidence.not_run(f"speed was not compared: {problem}")
    compare.equal(len(benchmark.stats.stats.data), found.pairs, name="rounds that pytest-benchmark timed")
    reference = f"transformers {over_there['transformers']} with torch {over_there['torch']}"
    judgement = in_one_run(found.ratio, reference)
    result = throughput_result(trial, found, judgement, {"baseline": over_there, "clock": clock.name})
    evidence.throughput(replace(result, name=name))
    _report(benchmark, judgement, compare, name)


def _judged(session: Session, name: str, ratio: Ratio) -> Judgement:
    """Judge a ratio by the pack's entry for this machine, if there is one, else by the policy's least efficiency."""
    judged = _against_pack(session, name, ratio)
    least = session.policy.least_efficiency
    return against_policy(ratio, least) if judged.outcome == "not_asked" and least is not None else judged


def _against_pack(session: Session, name: str, ratio: Ratio) -> Judgement:
    from clip_eval.throughput.conditions import conditions_of

    pack = session.pack
    if pack is None:
        return unjudged(ratio, "no baseline pack to judge it by")
    if not pack.speeds:
        return unjudged(ratio, "the pack holds no speeds; clip-eval record --throughput adds this machine's")
    if pack.config != session.candidate.checkpoint.config:
        return unjudged(ratio, "the pack's speeds are those of another architecture")
    conditions = conditions_of(session.candidate.clip)
    entry = nearest_speed(pack.speeds, conditions, str(session.candidate.clip.release))
    if entry is None:
        nearest = min((conditions.differences(speed.conditions) for speed in pack.speeds), key=len)
        return unjudged(ratio, f"the pack knows no speed for this machine; nearest: {', '.join(nearest)}")
    reference = f"the approved release on this machine, transformers {entry.transformers}"
    return against_pack(ratio, entry.ratios[name], reference)


def _report(benchmark: Any, judgement: Judgement, compare: Compare, name: str) -> None:
    """Record the ratio with pytest-benchmark, and fail if it is too large."""
    ratio = judgement.ratio
    benchmark.extra_info.update(ratio=ratio.value, low=ratio.low, high=ratio.high, outcome=judgement.outcome)
    if judgement.outcome == "failed":
        compare.fail(
            f"{ratio} times as long",
            f"at most {1 + (judgement.margin or 0):.2f} times as long",
            name=f"{name}: time against {judgement.reference}: {judgement.reason}",
        )


def _kept_mb(clip: Clip, kind: str) -> float:
    """The MB that a call keeps, measured once a session."""
    from clip_eval.throughput.clock import torch_threads
    from clip_eval.throughput.conditions import THREADS
    from clip_eval.throughput.memory import kept_mb
    from clip_eval.throughput.trial import make_trial

    def measured() -> float:
        with torch_threads(THREADS):
            return kept_mb(make_trial(kind, clip.subject, clip.batch).subject, clip.subject.device)

    return float(clip.once(("kept_mb", kind), measured))


def _refuse_leak(clip: Clip, kind: str, evidence: Evidence) -> None:
    """Do not call a subject a thousand times if each call keeps memory."""
    kept = _kept_mb(clip, kind)
    if kept > kept_memory().bound:
        evidence.not_run(f"speed was not timed: each call keeps {kept:.2f} MB")


def _ceiling(clip: Clip, trial: Any, found: Any) -> dict[str, Any]:
    """Further figures of a timing: share of the machine's own rate of products, and memory."""
    import statistics

    from clip_eval.throughput.clock import clock_of
    from clip_eval.throughput.memory import peak_mb
    from clip_eval.throughput.roofline import product_rate

    device = clip.subject.device
    rate = clip.once("product_rate", lambda: product_rate(clip.dtype, device, clock_of(device).seconds))
    speed = trial.rows * trial.operations / statistics.median(found.subject_s)
    return {
        "efficiency": 1 / found.ratio.value,
        "product_gflop_per_s": rate / 1e9,
        "share_of_products": speed / rate,
        "peak_mb": peak_mb(trial.subject, device),
        "floor_peak_mb": peak_mb(trial.floor, device),
    }
