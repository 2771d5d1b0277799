"""The suite on a runtime that can do nothing but run: what needs more does not apply, all else is judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest
from faults.runner import Runner
from support.run_alone import RunAlone, exported

from clip_eval.errors import NotApplicable
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.run.declared_checks import SUITE, declared_checks
from clip_eval.subject.runtime import Capability, Fields
from clip_eval.subject.runtimes import RUNTIMES
from clip_eval.verdict.run_record import CheckResult

FIXTURES = Path(__file__).parents[2] / "fixtures"


def chapters(folder: str) -> tuple[str, ...]:
    """The chapters of a folder of the suite."""
    return tuple(path.stem.removeprefix("test_") for path in sorted((SUITE / folder).glob("test_*.py")))


CHAPTERS = (*chapters("numbers"), *chapters("processing"))
OPTIMUM = {"CLIPModel": ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")}
"""The entry point and the fields of a graph that optimum exports."""

NEEDS_MORE = {
    "compiled", "gradients", "hidden_states", "image_classification", "interpolation", "modules",
    "contrastive_head.loss_changes_nothing_else", "contrastive_head.loss_is_the_mean_of_both_cross_entropies",
    "extremes.outputs_are_finite",
    "features.other_states_come_along", "features.type_is_the_documented_one",
    "pooling.both_rules_hold",
    "reference_values.loss",
    "weights.dtype_and_device_are_those_asked_for", "weights.model_is_in_evaluation_mode",
    "weights.values_are_those_of_the_file",
}  # fmt: skip
"""Chapters and checks of numbers that need more than `run`: options, gradients, modules ... Of processing, none."""

EAGER = {"reference_values.embeddings_and_logits", "reference_values.text_tower", "reference_values.vision_tower"}
"""Checks of which the cases under another attention do."""


def judge(
    checkpoint: Path, wanted: Collection[str], fields: Mapping[str, Collection[str]] | None = None
) -> list[CheckResult]:
    """The results of chapters of the suite on a runtime that only runs."""
    run = Runner().run(
        checkpoint,
        parts=wanted,
        during=lambda patch: patch.setitem(RUNTIMES, "transformers", exported(fields)),
    )
    return [check for check in run.record.checks if check.id.partition(".")[0] in wanted]


def lacking(results: list[CheckResult]) -> set[tuple[str, str | None]]:
    """The cases that do not apply for what the runtime lacks; every other one is judged, and none fails."""
    assert {check.outcome for check in results} <= {"passed", "deviation", "not_applicable"}
    return {(check.id, check.case) for check in results if RunAlone.name in (check.reason or "")}


def test_what_needs_no_more_is_judged(smallest: Path) -> None:
    """On the numbers of `run` alone the head, the features and the processor are judged, and the rest says why not."""
    results = judge(smallest, ("contrastive_head", "features", "processor"))
    assert {identity for identity, _ in lacking(results)} == {
        name for name in NEEDS_MORE if name.startswith(("contrastive_head.", "features."))
    }
    assert sum(check.outcome == "passed" for check in results) > 15
    (reason,) = {check.reason for check in results if check.id == "features.type_is_the_documented_one"}
    assert reason == f"{RunAlone.name} does not offer output objects of transformers"


def test_what_an_export_does_not_hold_is_not_judged(smallest: Path) -> None:
    """A graph with one entry point and four fields is judged by these; the reasons name what it has not."""
    results = judge(smallest, ("contrastive_head", "features", "towers"), OPTIMUM)
    reasons = {(check.id, check.reason) for check in results if (check.id, check.case) in lacking(results)}
    assert ("features.text_features_follow_the_mask", f"{RunAlone.name} has no get_text_features.") in reasons
    nested = "towers.nested_pooled_states_are_the_towers_own"
    assert (nested, f"{RunAlone.name} gives no text_model_output of CLIPModel.") in reasons
    assert {check.id.partition(".")[0] for check in results if check.outcome == "passed"} == {"contrastive_head"}


def test_the_interface_is_that_of_transformers(smallest: Path) -> None:
    """No check of the interface is asked of another runtime, and none of speed."""
    wanted = (*chapters("interface"), "throughput")
    results = judge(smallest, wanted)
    assert {check.id.partition(".")[0] for check in results} == set(wanted)
    assert lacking(results) == {(check.id, check.case) for check in results}


@pytest.mark.slow
def test_numbers_and_processing_need_run_alone() -> None:
    """Of the two folders, on the shipped checkpoint, all but `NEEDS_MORE` and the eager cases are judged."""
    found = lacking(judge(FIXTURES / "shapes-clip", CHAPTERS))
    eager = {(identity, case) for identity, case in found if identity in EAGER}
    assert {str(case).rpartition("-")[2] for _, case in eager} == {"eager"}
    others = {identity for identity, _ in found - eager}
    assert others == {
        check.id for check in declared_checks() if {check.id, check.chapter} & NEEDS_MORE and check.chapter in CHAPTERS
    }
    assert {identity for identity, _ in eager} == EAGER


def test_every_need_is_a_capability() -> None:
    """What checks declare is what runtimes declare, each capability is asked for, and transformers has them all."""
    asked = {name for check in declared_checks() for name in check.needs}
    assert asked | {"attention"} == {capability.value for capability in Capability}  # attention is asked for by cases


def test_fields_are_read_like_an_output_object() -> None:
    """By attribute, by name and part by part; a field that is not there is not applicable, and no part is an array."""
    arrays = {"a": np.zeros(1), "part.b": np.ones(2)}
    fields = Fields("it", ENTRY_POINTS[0], arrays)
    assert fields.a is fields["a"] is arrays["a"]
    assert fields.part.b is arrays["part.b"]
    assert not hasattr(fields, "__array__")
    with pytest.raises(NotApplicable, match=r"it gives no part\.c of CLIPModel"):
        fields.part.c  # noqa: B018 - reading it raises
