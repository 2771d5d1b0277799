"""Speed as a ratio: the subject in turns with a plain torch forward of the same weights. Seconds are never compared."""

from __future__ import annotations

from typing import Any

import pytest

from clip_eval.compare import Compare
from clip_eval.expect import Oracle
from clip_eval.observe import Clip
from clip_eval.outcomes import Evidence
from clip_eval.session import Session

SCOPE = "throughput"

TEXTS, IMAGES = 5, 5


@pytest.fixture
def asked(clip_session: Session, evidence: Evidence) -> None:
    """Nothing is timed, and no floor built, where nobody asked for it."""
    if not clip_session.settings.throughput:
        evidence.not_applicable("--no-throughput was given")


@pytest.fixture
def benchmark(asked: None, request: pytest.FixtureRequest, clip_session: Session, evidence: Evidence) -> Any:
    """pytest-benchmark's fixture, where it can time: a single call without a clock must not look like a measurement."""
    kind = clip_session.settings.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        evidence.not_run(f"speed was not timed: there is no clock for {kind} devices")
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
    """The plain torch floor computes the embeddings that weights and inputs determine, from the subject's own tensors.

    A floor that left out a step, or read other weights, would be faster than any CLIP can be.
    """
    from clip_eval.throughput.floor import Floor

    weights = clip.subject.weights("CLIPModel")
    own = {tensor.data_ptr() for tensor in clip.subject.model("CLIPModel").state_dict().values()}
    copied = [name for name, tensor in weights.items() if tensor.data_ptr() not in own]
    compare.equal(copied, [], name="tensors of the floor that are not the subject's")
    floor = Floor(weights, clip.config)
    images = floor.image_features(**clip.subject.tensors(clip.images(IMAGES)))
    compare.close(images, oracle.vision(images=IMAGES).projected, name="image embeddings of the floor")
    for mask in ("padding", "interior"):
        inputs = clip.subject.tensors(clip.texts(TEXTS, mask))
        expected = oracle.text(texts=TEXTS, mask=mask).projected
        compare.close(floor.text_features(**inputs), expected, name=f"text embeddings of the floor, {mask} mask")
    causal = floor.text_features(inputs["input_ids"])
    compare.close(
        causal, oracle.text(texts=TEXTS).projected, name="text embeddings of the floor without a mask, as timed"
    )


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_embeddings_are_timed(
    benchmark: Any, clip: Clip, clip_session: Session, evidence: Evidence, compare: Compare, kind: str
) -> None:
    """Embedding a batch is timed in turns with the plain torch floor, and the ratio is known with its interval.

    The ratio is recorded and not judged here: which one is good enough depends on the machine, and no pack says so yet
    for this one.
    """
    from clip_eval.throughput.paired import Turns, pilot, stopwatch
    from clip_eval.throughput.roofline import product_rate
    from clip_eval.throughput.trial import image_trial, text_trial, throughput_result

    trial = {"images": image_trial, "texts": text_trial}[kind](clip.subject, clip.batch)
    timed = stopwatch(clip.subject.device)
    pairs = pilot(Turns(trial.subject, trial.floor, timed))
    turns = Turns(trial.subject, trial.floor, timed)
    benchmark.group = SCOPE
    benchmark.pedantic(turns.time_subject, setup=turns.time_floor, rounds=pairs)
    found = turns.result()
    compare.equal(len(benchmark.stats.stats.data), found.pairs, name="rounds that pytest-benchmark timed")
    benchmark.extra_info.update(ratio=found.ratio, low=found.low, high=found.high)
    rate = product_rate(clip.dtype, clip.subject.device, timed)
    evidence.throughput(throughput_result(trial, found, product_rate=rate, reason=_reason(clip_session, found.low)))


def _reason(session: Session, low: float | None) -> str:
    if low is None:
        return "too few pairs for an interval in the time allowed"
    if session.settings.baseline is None:
        return "no baseline pack to judge it by"
    return "no entry for this machine in the pack"
