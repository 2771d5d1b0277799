"""Surface changes are told by what they mean and by what they follow from."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest
from packaging.version import Version
from support import sample_records as sample

from clip_eval.baseline import open_pack
from clip_eval.baseline.pack import Environment
from clip_eval.baseline.surface.diff import changes as differences
from clip_eval.verdict.change_causes import CHANGE_CAUSES, declared_cause, with_causes
from clip_eval.verdict.changes import CONSEQUENCES, area, by_consequence, consequence, grouped
from clip_eval.verdict.run_record import SurfaceChange

PACK = Path(__file__).parents[2] / "fixtures" / "baselines" / "shapes-clip"
OLD, NEW = "4.57.6", "5.23.0"


@cache
def upgrade(before: str, after: str, attention: str = "sdpa") -> tuple[SurfaceChange, ...]:
    """What differs between two approved environments of the shipped pack, with causes."""
    approved = open_pack(PACK).environments
    surfaces = [approved[Environment(release, attention)].surface for release in (before, after)]
    return with_causes(differences(*surfaces), before=before, after=after)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_upgrade_is_few_entries(attention: str) -> None:
    """Every change from 4.57.6 to 5.23.0 follows from a declared cause, and there are at most 25 of them."""
    changes = upgrade(OLD, NEW, attention)
    assert len(changes) > 200
    assert [change.id for change in changes if change.cause is None] == []
    groups = grouped(changes)
    assert len(groups) <= 25
    assert sum(len(group.changes) for group in groups) == len(changes)
    assert all(group.declared and group.sentence for group in groups)


def test_every_declared_cause_explains_something() -> None:
    """No entry of the table is left over, and ids are unique."""
    assert len({cause.id for cause in CHANGE_CAUSES}) == len(CHANGE_CAUSES)
    assert {change.cause for change in upgrade(OLD, NEW)} == {cause.id for cause in CHANGE_CAUSES}
    for cause in CHANGE_CAUSES:
        assert declared_cause(cause.id) is cause
        assert cause.sentence.endswith(".")
        assert not cause.upstream or re.fullmatch(r"https://github\.com/\S+/\d+", cause.upstream)


def test_a_cause_belongs_to_the_release_that_brought_it() -> None:
    """What changes within later releases, or on the way back, has no declared cause."""
    assert all(change.cause is None for change in upgrade(NEW, OLD))
    assert all(change.cause is None for change in with_causes(upgrade(OLD, NEW), before=NEW, after="5.24.0"))
    unknown = with_causes([sample.change(id="CLIPModel.get_text_features()")], before="?", after=NEW)
    assert unknown[0].cause is None


def test_another_change_of_the_same_thing_has_no_cause() -> None:
    """A defect that shows where an upgrade changes something is not explained by the upgrade."""
    features = declared_cause("features-are-objects")
    assert features is not None
    made = sample.change(id="CLIPModel.get_text_features()", after="BaseModelOutputWithPooling: pooler_output")
    assert features.takes(made, before=Version(OLD), after=Version(NEW))
    assert not features.takes(dataclasses.replace(made, after="None"), before=Version(OLD), after=Version(NEW))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (sample.change(before="as by default", after="raises TypeError"), "calls"),
        (sample.change(before="raises TypeError", after="raises ValueError"), "internals"),
        (sample.change(id="image_processor(picture).levels", after="0 1 2"), "values"),
        (sample.change(id="CLIPModel(x)", after="as by default in form, with other values"), "values"),
        (sample.change(id="AutoTokenizer.from_pretrained()", after="CLIPTokenizer"), "loading"),
        (sample.change(id="vars(model)[*]", after="kernel_config"), "internals"),
        (sample.change(id="CLIPModel().x", before="absent", after="Tensor"), "internals"),
        (sample.change(id="CLIPModel().x", before="Tensor", after="tuple"), "types"),
    ],
)
def test_a_change_has_a_consequence(change: SurfaceChange, kind: str) -> None:
    """The consequence follows from id and values."""
    assert consequence(change) == kind


def test_what_nobody_declared_comes_first() -> None:
    """Within a consequence an undeclared change stands before declared causes; consequences are in order of gravity."""
    strange = sample.change(id="CLIPModel().strange", before="Tensor", after="tuple")
    groups = grouped((*upgrade(OLD, NEW), strange))
    kinds = by_consequence(groups)
    assert list(kinds) == list(CONSEQUENCES)
    assert kinds["types"][0].changes == (strange,)
    assert (kinds["types"][0].name, kinds["types"][0].label) == (
        "outputs and calls: types or fields differ",
        "outputs and calls",
    )
    assert area(strange) == "outputs and calls"


def test_a_digest_is_of_the_changes_alone() -> None:
    """Neither order nor acceptances count; ids and values do."""
    first, second = sample.change(id="CLIPModel().a"), sample.change(id="CLIPModel().b")
    (group,) = grouped([first, second])
    (same,) = grouped([second, dataclasses.replace(first, accepted="r")])
    (other,) = grouped([first, dataclasses.replace(second, after="None")])
    assert group.digest == same.digest != other.digest
    assert re.fullmatch("[0-9a-f]{16}", group.digest)
