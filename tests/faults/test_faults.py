"""Every fault of the catalogue fails the gate, by the checks that should see it, at the place where it is."""

from __future__ import annotations

from collections import Counter

import pytest

from clip_eval.run.declared_checks import declared_checks
from clip_eval.subject import transformers_release
from faults.catalogue import ESSENTIAL, FAULTS, KINDS
from faults.fault import Fault
from faults.watch import Watch

HERE = [fault for fault in FAULTS if fault.applies(transformers_release())]
JUDGED = ("contract", "baseline")  # tasks and speed need a dataset and a clock: their own tests spoil them


def _parameter(fault: Fault) -> object:
    return pytest.param(fault, id=fault.id, marks=[] if fault in ESSENTIAL else [pytest.mark.slow])


@pytest.mark.parametrize("fault", [_parameter(fault) for fault in HERE])
def test_fault_is_seen(watch: Watch, fault: Fault) -> None:
    """The verdict is fail, every check that should see the fault fails, and the module that they name is the right
    one.
    """
    sighting = watch.sight(fault)
    assert sighting.record.verdict == "fail"
    assert sighting.exit_code == 1
    assert sighting.blind == (), f"{fault.what} Failed were {sorted(sighting.failed)}"
    assert not fault.diverges_at or sighting.named, f"no module is named: {fault.what}"
    assert not fault.diverges_at or sighting.misplaced == (), f"{fault.what} It is at {fault.diverges_at}"


@pytest.mark.parametrize("fault", [_parameter(fault) for fault in HERE if fault.diverges_at and not fault.options])
def test_numerical_fault_is_far_outside_its_bound(watch: Watch, fault: Fault) -> None:
    """In float32 a numerical fault exceeds its bound at least four times."""
    margin = watch.sight(fault).margin
    assert margin is None or margin >= 4


def test_every_check_is_needed() -> None:
    """Each declared check is one that some fault must be seen by."""
    declared = {check.id for check in declared_checks() if check.scope in JUDGED}
    asked = {check for fault in FAULTS for check in fault.seen_by}
    assert declared - asked == set(), "no fault needs these checks"
    assert asked - declared == set(), "there are no such checks"


def test_every_kind_has_faults() -> None:
    """Ids do not repeat, each fault says what it does and who sees it, and no kind is empty."""
    assert [name for name, count in Counter(fault.id for fault in FAULTS).items() if count > 1] == []
    assert all(fault.what and fault.seen_by and (fault.patch or fault.edit) for fault in FAULTS)
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    assert len(HERE) >= 80
