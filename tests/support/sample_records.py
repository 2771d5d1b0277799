"""Records as a gate writes them, for the tests of the record and of the renderers. Verdicts are decided, not set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from clip_eval.verdict.decide import Asked, DeclaredCheck, decide
from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.run_record import (
    CheckResult,
    RunRecord,
    SubjectInfo,
    SurfaceChange,
    TaskResult,
    ThroughputResult,
)

RERUN = (
    "clip-eval gate checkpoints/candidate-2025-06 --baseline baselines/vit-b-32 --dtype float32 --attn sdpa "
    "-k 'reference_values and hidden_states and vision'"
)

TRACEBACK = """\
    def test_hidden_states(clip, oracle, compare, tower):
        \"\"\"Every hidden state equals the oracle's within the budget of its dtype.\"\"\"
        observed = clip.tower(tower).hidden_states
>       compare.close(observed, oracle.tower(tower).hidden_states, budget="whole_model")
E       AssertionError: hidden_states[3] differs by 0.0421, bound 1.31e-05

clip_eval/suite/numbers/test_reference_values.py:41: AssertionError"""


def measurement(**changes: object) -> Measurement:
    """A passing measurement, with changes."""
    values: dict[str, object] = {
        "name": "logits_per_image",
        "error": 2.1e-6,
        "bound": 1.31e-5,
        "required": 2.1e-6,
        "budget": "whole_model.float32",
        "worst_index": (2, 4),
        "observed": "18.402113",
        "expected": "18.402111",
        "passed": True,
    }
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


def failed_measurement(**changes: object) -> Measurement:
    """A measurement outside its bound, with changes."""
    values: dict[str, object] = {
        "name": "hidden_states[3]",
        "error": 0.0421,
        "required": 0.0421,
        "worst_index": (0, 17, 95),
        "observed": "1.284071",
        "expected": "1.241978",
        "passed": False,
    }
    return measurement(**{**values, **changes})


def check(identifier: str = "contrastive_head.logits_are_symmetric", **changes: object) -> CheckResult:
    """A passed check of the contract, with changes; its chapter is the first part of its id."""
    values: dict[str, object] = {
        "id": identifier,
        "chapter": identifier.partition(".")[0],
        "promise": "Logits per image are the exact transpose of logits per text.",
        "case": None,
        "outcome": "passed",
        "scope": "contract",
        "reason": None,
        "measurements": (measurement(),),
        "diverges_at": None,
        "deviation": None,
        "rerun": f"clip-eval gate checkpoints/candidate -k {identifier.partition('.')[2]}",
        "duration_s": 0.012,
        "detail": None,
    }
    return CheckResult(**{**values, **changes})  # type: ignore[arg-type]


def failed_check(**changes: object) -> CheckResult:
    """A failed check with all five lines, with changes."""
    values: dict[str, object] = {
        "promise": "Every hidden state equals the oracle's within the budget of its dtype.",
        "case": "vision",
        "outcome": "failed",
        "measurements": (measurement(name="hidden_states[2]", error=9e-7, required=9e-7), failed_measurement()),
        "diverges_at": "vision_model.encoder.layers.2.mlp.activation_fn",
        "rerun": RERUN,
        "detail": TRACEBACK,
    }
    return check("reference_values.hidden_states", **{**values, **changes})


def change(**changes: object) -> SurfaceChange:
    """An unaccepted surface change, with changes."""
    values: dict[str, object] = {
        "id": "output_fields.CLIPOutput.vision_model_output",
        "what": "fields of CLIPOutput.vision_model_output",
        "before": "last_hidden_state, pooler_output, hidden_states, attentions",
        "after": "last_hidden_state, pooler_output",
        "check": "surface.output_fields_are_unchanged",
        "accepted": None,
    }
    return SurfaceChange(**{**values, **changes})  # type: ignore[arg-type]


def task(**changes: object) -> TaskResult:
    """A passed task, with changes."""
    values: dict[str, object] = {
        "name": "zero_shot_top1",
        "outcome": "passed",
        "score": 0.9812,
        "interval_low": 0.9646,
        "interval_high": 0.9901,
        "higher_is_better": True,
        "count": 480,
        "reason": "the lower end is above the baseline minus the margin of 0.02",
        "reference": 0.9833,
        "details": {"classes": 48, "margin": 0.02},
    }
    return TaskResult(**{**values, **changes})  # type: ignore[arg-type]


def timing(**changes: object) -> ThroughputResult:
    """A passed speed ratio, with changes."""
    values: dict[str, object] = {
        "name": "image_tower",
        "outcome": "passed",
        "ratio": 1.004,
        "interval_low": 0.996,
        "interval_high": 1.013,
        "reference": "plain torch forward",
        "unit": "images/s",
        "rounds": 40,
        "reason": "the upper end is below twice the margin of 2 %",
        "details": {"images_per_s": 812.5},
    }
    return ThroughputResult(**{**values, **changes})  # type: ignore[arg-type]


def _hidden_states_of(tower: str) -> CheckResult:
    return check(
        "reference_values.hidden_states",
        case=tower,
        promise="Every hidden state equals the oracle's within the budget of its dtype.",
        measurements=tuple(
            measurement(name=f"hidden_states[{layer}]", error=4e-7 * (layer + 1), worst_index=(0, 3, layer))
            for layer in range(5)
        ),
    )


def healthy_checks() -> tuple[CheckResult, ...]:
    """One result or more for each chapter, none of them wrong."""
    exact = measurement(name="transpose", error=0.0, bound=0.0, required=0.0, budget="exact", worst_index=(0, 0))
    fields = "loss, logits_per_image, logits_per_text, text_embeds, image_embeds"
    structure = measurement(
        name="fields", error=None, bound=None, required=None, budget="structure", worst_index=None, observed=fields,
        expected=fields,
    )  # fmt: skip
    return (
        check("output_shapes.logits_are_rectangular", promise="Logits are (images, texts).", measurements=(structure,)),
        check(measurements=(exact,)),
        check(
            "contrastive_head.embeddings_have_unit_norm",
            promise="Text and image embeddings have norm 1.",
            measurements=(measurement(name="text_embeds", error=6.0e-8, required=6.0e-8, budget="normalize.float32"),),
        ),
        check(
            "hidden_states.hidden_states_are_the_residual_stream",
            promise="Every hidden state is the residual stream after that many layers.",
            outcome="deviation",
            deviation="nested-states-missing",
        ),
        check("output_objects.to_tuple_keeps_the_order", promise="to_tuple gives fields in order, None left out."),
        *(_hidden_states_of(tower) for tower in ("text", "vision")),
        check(
            "reference_values.logits",
            promise="Logits equal the oracle's.",
            measurements=(measurement(error=1.2e-5, required=1.2e-5),),
        ),
        check(
            "processor.pixels_follow_the_reference",
            promise="Pixel values equal Pillow's bicubic resize, crop and normalisation.",
            measurements=(measurement(name="pixel_values", error=0.0078, bound=0.0161, budget="pixel.uint8_step"),),
        ),
        check(
            "processor.fast_tokenizer_agrees",
            promise="Slow and fast tokenizers give the same ids.",
            outcome="not_applicable",
            reason="this release has one tokenizer",
            measurements=(),
        ),
    )


def baseline_checks() -> tuple[CheckResult, ...]:
    """The checks against the pack, all passed."""
    return (
        check("weights.fingerprints_equal_the_pack", promise="The weights are the pack's.", scope="baseline"),
        check("surface.output_fields_are_unchanged", promise="Outputs keep their fields.", scope="baseline"),
        check("parity.logits_equal_the_pack", promise="Logits equal the pack's within both budgets.", scope="baseline"),
    )


def declared(checks: Sequence[CheckResult]) -> tuple[DeclaredCheck, ...]:
    """The declarations that fit the results."""
    by_id = {
        item.id: DeclaredCheck(id=item.id, chapter=item.chapter, scope=item.scope, promise=item.promise)
        for item in checks
    }
    return tuple(by_id.values())


def subject(**changes: object) -> SubjectInfo:
    """A checkpoint with all its parts, with changes."""
    values: dict[str, object] = {
        "source": "checkpoints/candidate-2025-06",
        "revision": None,
        "fingerprints": {
            "weights": "sha256:6f0c3a54f3e8d9b1a7c2e5f4093b8d7a6c1e2f3b4a5d6c7e8f9a0b1c2d3e4f50",
            "config": "sha256:11aa3a54f3e8d9b1a7c2e5f4093b8d7a6c1e2f3b4a5d6c7e8f9a0b1c2d3e4f51",
            "tokenizer": "sha256:22bb3a54f3e8d9b1a7c2e5f4093b8d7a6c1e2f3b4a5d6c7e8f9a0b1c2d3e4f52",
            "image_processor": "sha256:33cc3a54f3e8d9b1a7c2e5f4093b8d7a6c1e2f3b4a5d6c7e8f9a0b1c2d3e4f53",
        },
        "dtype": "float32",
        "device": "cpu",
        "attention": "sdpa",
    }
    return SubjectInfo(**{**values, **changes})  # type: ignore[arg-type]


def record(
    *,
    checks: Sequence[CheckResult] | None = None,
    surface_changes: Sequence[SurfaceChange] = (),
    tasks: Sequence[TaskResult] = (),
    throughput: Sequence[ThroughputResult] = (),
    baseline: bool = True,
) -> RunRecord:
    """A run with these results, decided by the rules; without arguments it passes contract and baseline."""
    checks = (*healthy_checks(), *baseline_checks()) if checks is None else tuple(checks)
    asked = Asked(baseline=baseline, tasks=bool(tasks), throughput=bool(throughput))
    decision = decide(
        checks=checks,
        declared=declared(checks),
        surface_changes=surface_changes,
        tasks=tasks,
        throughput=throughput,
        asked=asked,
    )
    return RunRecord(
        started="2025-06-03T14:07:21+00:00",
        duration_s=41.27,
        arguments={"checkpoint": "checkpoints/candidate-2025-06", "dtype": "float32", "attn": "sdpa", "compile": False},
        verdict=decision.verdict,
        headline=decision.headline,
        reasons=decision.reasons,
        scope=decision.scope,
        provenance={
            "clip_eval": "0.1.0",
            "cpu": "AMD EPYC 7B13",
            "git_revision": "0f3c2d1",
            "gpu": None,
            "pillow": "11.2.1",
            "platform": "Linux-6.1-x86_64",
            "python": "3.11.9",
            "seed": 0,
            "tf32": {"cudnn": True, "matmul": False},
            "threads": {"inter_op": 1, "intra_op": 2},
            "tokenizers": "0.22.1",
            "torch": "2.13.0",
            "transformers": "5.23.0",
        },
        candidate=subject(),
        baseline=subject(source="baselines/vit-b-32", attention=None, device=None) if baseline else None,
        checks=checks,
        surface_changes=tuple(surface_changes),
        tasks=tuple(tasks),
        throughput=tuple(throughput),
    )


def passing_record() -> RunRecord:
    """A run that judged everything and passed."""
    accepted = change(
        id="fingerprint.tokenizer", what="fingerprint of the tokenizer", accepted="merges re-sorted, no id changed"
    )
    return record(surface_changes=(accepted,), tasks=(task(),), throughput=(timing(),))


def _slower() -> ThroughputResult:
    return timing(
        name="text_tower", outcome="failed", ratio=1.081, interval_low=1.064, interval_high=1.103,
        reason="the lower end is above the margin of 2 %",
    )  # fmt: skip


def failing_record() -> RunRecord:
    """A run with failures of every kind: numbers, structure, an error, a surface change, a task and a timing."""
    structure = failed_measurement(
        name="type", error=None, bound=None, required=None, budget="structure", worst_index=None, observed="tuple",
        expected="BaseModelOutputWithPooling",
    )  # fmt: skip
    broken = (
        failed_check(),
        failed_check(case="text", diverges_at="text_model.encoder.layers.0.self_attn.out_proj"),
        failed_check(case="vision-last", measurements=(failed_measurement(error=float("nan"), required=None),)),
        check(
            "output_objects.return_dict_false_gives_tuples",
            promise="return_dict=False gives plain nested tuples.",
            outcome="failed",
            measurements=(structure,),
            detail="E       AssertionError: type",
        ),
        check(
            "standalone_towers.vision_equals_nested",
            promise="The vision tower alone gives the nested output of the full model.",
            outcome="error",
            measurements=(),
            reason="the worker that ran it died",
            detail="worker 'gw1' crashed while running 'standalone_towers.vision_equals_nested'",
        ),
    )
    reason = "1 change is not accepted"
    changed = dataclasses.replace(baseline_checks()[1], outcome="failed", measurements=(), reason=reason)
    return record(
        checks=(*healthy_checks(), *broken, baseline_checks()[0], changed, baseline_checks()[2]),
        surface_changes=(change(), change(id="fingerprint.tokenizer", accepted="merges re-sorted, no id changed")),
        tasks=(
            task(
                outcome="failed",
                score=0.912,
                interval_low=0.883,
                interval_high=0.934,
                reason="the upper end is below the baseline minus the margin of 0.02",
            ),
        ),
        throughput=(
            timing(),
            _slower(),
        ),
    )


def inconclusive_record() -> RunRecord:
    """A run without a tokenizer and without a baseline, and with an undecided timing."""
    skipped = tuple(
        dataclasses.replace(item, outcome="not_run", reason="the checkpoint has no tokenizer", measurements=())
        for item in healthy_checks()
        if item.chapter == "processor"
    )
    judged = tuple(item for item in healthy_checks() if item.chapter != "processor")
    undecided = timing(
        outcome="inconclusive",
        ratio=1.03,
        interval_low=0.97,
        interval_high=1.09,
        reason="the interval reaches from below the margin to above twice the margin",
    )
    return record(checks=(*judged, *skipped), throughput=(undecided,), baseline=False)
