"""The candidate against the baseline pack: same weights, same numbers, same surface as the last approved release."""

from __future__ import annotations

import pytest

from clip_eval.baseline import Baseline
from clip_eval.baseline.outputs import OUTPUTS
from clip_eval.compare import Compare
from clip_eval.inventory import listed
from clip_eval.outcomes import Evidence
from clip_eval.session import Session

SCOPE = "baseline"


def test_weights_are_those_of_the_pack(
    baseline: Baseline, clip_session: Session, compare: Compare, evidence: Evidence
) -> None:
    """Every weight is the approved one: same name, same shape, same values up to the narrower of both stored dtypes.

    Other weights are another model. Whoever means that says so with --new-weights, and the tasks decide then.
    """
    different, total = baseline.weight_differences(), len(baseline.pack.tensors)
    if clip_session.settings.new_weights:
        found = f"{len(different)} of {total} tensors differ" if different else "yet every tensor is the pack's"
        evidence.not_applicable(f"--new-weights says that the weights are others; {found}")
    if different:
        first, names = different[0], listed([tensor.name for tensor in different])
        compare.fail(
            f"{names}{', the first' if len(different) > 1 else ''}: {first.what}",
            f"none of {total} tensors",
            name="difference from the pack's weights",
            module=first.name.rpartition(".")[0] or first.name,
        )
    compare.equal(total - len(different), total, name="tensors equal to the pack's")


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("part", list(OUTPUTS))
def test_outputs_match_the_record(
    baseline: Baseline, clip_session: Session, compare: Compare, evidence: Evidence, part: str
) -> None:
    """On the pack's own inputs every recorded output is what the approved release gave, in every element that counts.

    The bound is the candidate's rounding budget plus the error that the recorded value has. Where the candidate's dtype
    rounds the weights, the expected value is moved by what that does to it.
    """
    if clip_session.settings.new_weights:
        evidence.not_applicable("--new-weights: other weights give other numbers")
    if baseline.weight_differences():
        evidence.not_applicable("the weights are not the pack's, so other numbers are right")
    for output in OUTPUTS[part]:
        compare.close(
            output.observe(baseline.clip),
            baseline.expected(output.name),
            name=output.name,
            where=None if output.where is None else output.where(baseline.clip),
            module=output.module,
        )


@pytest.mark.usefixtures("clip")
def test_surface_is_approved(baseline: Baseline, compare: Compare, evidence: Evidence) -> None:
    """Types, fields, shapes, names of weights, loaded classes, config and processor files are the approved ones.

    Compared with the surface of this transformers release and attention where the pack approves it, else with the
    newest release that it approves. Equal numbers do not excuse a change here: users' code breaks at the edges.
    """
    changes = baseline.surface_changes()
    for change in changes:
        evidence.surface_change(change)
    approved = f"the surface approved under {baseline.pack.nearest(baseline.environment)}"
    if changes:
        count = f"{len(changes)} {'change' if len(changes) == 1 else 'changes'}"
        compare.fail(f"{count}: {', '.join(change.id for change in changes)}", approved, name="surface")
    compare.equal(len(changes), 0, name=f"differences from {approved}")
