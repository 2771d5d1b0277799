"""The candidate against the baseline pack: same weights, same numbers, same surface as the last approved release."""

from __future__ import annotations

import pytest

from clip_eval.baseline import Baseline
from clip_eval.baseline.recorded_outputs import OUTPUTS, outputs_of
from clip_eval.checkpoint.tensor_names import listed
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.verdict.compare import Compare

SCOPE = "baseline"


def test_weights_are_those_of_the_pack(
    baseline: Baseline, clip_session: Session, compare: Compare, evidence: Evidence
) -> None:
    """Every weight is the approved one: same name, same shape, same values up to the narrower of both stored dtypes.

    Other weights are another model. For those use --new-weights; the tasks decide then.
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


@pytest.mark.needs("options")
@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("part", list(OUTPUTS))
def test_outputs_match_the_record(
    baseline: Baseline, clip_session: Session, compare: Compare, evidence: Evidence, part: str
) -> None:
    """On the pack's own inputs every recorded output is what the approved release gave, in every element that counts.

    The bound is the candidate's rounding budget plus the error of the recorded value. If the candidate's dtype rounds
    the weights, the expected value is corrected for it.
    """
    if part == "head" and baseline.weight_differences() and (moved := baseline.moved()):
        evidence.note(moved)
    if clip_session.settings.new_weights:
        evidence.not_applicable("--new-weights: other weights give other numbers")
    if baseline.weight_differences():
        evidence.not_applicable("the weights are not the pack's, so other numbers are right")
    held = outputs_of(clip_session.candidate.checkpoint.holds)
    if part not in held:
        raise clip_session.candidate.checkpoint.holds.lacking
    for output in held[part]:
        compare.close(
            output.observe(baseline.clip),
            baseline.expected(output.name),
            name=output.name,
            where=None if output.where is None else output.where(baseline.clip),
            module=None if output.module is None else output.module(baseline.clip.family),
        )


@pytest.mark.needs("surface")
@pytest.mark.usefixtures("clip")
def test_surface_is_approved(baseline: Baseline, clip_session: Session, compare: Compare, evidence: Evidence) -> None:
    """Types, fields, shapes, names of weights, loaded classes, config and processor files are the approved ones.

    Compared with the surface of this transformers release and attention if the pack has it, else with the newest that
    it has. Equal numbers do not excuse a change here: users' code depends on these details. Accept an intended change
    in the file of --accepted, by its id, with before, after and a reason.
    """
    ruling = clip_session.ruling
    for change in ruling.changes:
        evidence.surface_change(change)
    approved = f"the surface approved under {baseline.pack.nearest(baseline.environment)}"
    accepted = len(ruling.changes) - len(ruling.open)
    if ruling.open:
        count = f"{len(ruling.open)} {'change' if len(ruling.open) == 1 else 'changes'}"
        beside = f" beside {accepted} accepted" if accepted else ""
        compare.fail(f"{count}{beside}: {', '.join(change.id for change in ruling.open)}", approved, name="surface")
    compare.equal(len(ruling.open), 0, name=f"differences from {approved} that are not accepted")


@pytest.mark.needs("surface")
@pytest.mark.usefixtures("clip", "baseline")
def test_acceptances_are_in_force(clip_session: Session, compare: Compare, evidence: Evidence) -> None:
    """Every acceptance excuses a present change, and none has expired.

    An entry that matches nothing is out of date: the next difference of the same thing would be excused by a review
    that did not see it. Remove it, or update it.
    """
    if not clip_session.acceptances:
        evidence.not_applicable("no --accepted was given")
    idle = clip_session.ruling.idle
    if idle:
        compare.fail("; ".join(map(str, idle)), "none that excuses nothing", name="acceptances")
    compare.equal(len(idle), 0, name="acceptances that excuse nothing")
