"""Every fault of the catalogue fails the gate, by the checks that should see it, at the place where it is."""

from __future__ import annotations

from collections import Counter

import pytest
from support.releases import ordinary_under

from clip_eval.run.declared_checks import declared_checks
from clip_eval.subject import transformers_release
from faults.catalogue import ESSENTIAL, FAULTS, KINDS, reach
from faults.fault import Fault
from faults.runner import SUITE
from faults.watch import Watch

HERE = [fault for fault in FAULTS if fault.applies(transformers_release())]
JUDGED = ("contract", "baseline")  # tasks and speed need a dataset and a clock: their own tests spoil them


def _parameter(fault: Fault) -> object:
    """Ordinary runs under each release have every second of the essential faults, and all that not every release can
    have.
    """
    if fault not in ESSENTIAL:
        marks = ordinary_under(None)
    else:
        marks = [] if len(fault.releases) else ordinary_under("54"[ESSENTIAL.index(fault) % 2])
    return pytest.param(fault, id=fault.id, marks=marks)


@pytest.mark.parametrize("fault", [_parameter(fault) for fault in HERE])
def test_fault_is_seen(watch: Watch, fault: Fault) -> None:
    """The verdict is fail, every check that should see the fault fails, and the module that they name is the right
    one. In float32 a numerical fault exceeds its bound at least four times.
    """
    sighting = watch.sight(fault)
    assert sighting.record.verdict == "fail"
    assert sighting.exit_code == 1
    assert sighting.blind == (), f"{fault.what} Failed were {sorted(sighting.failed)}"
    if fault.diverges_at:
        assert sighting.named, f"no module is named: {fault.what}"
        assert sighting.misplaced == (), f"{fault.what} It is at {fault.diverges_at}"
        assert fault.options or sighting.margin is None or sighting.margin >= 4


def test_every_check_is_needed() -> None:
    """Each declared check is one that some fault must be seen by."""
    declared = {check.id for check in declared_checks() if check.scope in JUDGED}
    asked = {check for fault in FAULTS for check in fault.seen_by}
    assert declared - asked == set(), "no fault needs these checks"
    assert asked - declared == set(), "there are no such checks"


def test_what_a_fault_reaches_can_be_run() -> None:
    """Each chapter that a whole run of a fault asks for is a file of the suite."""
    chapters = {file.stem.removeprefix("test_") for file in SUITE.rglob("test_*.py")}
    assert not {chapter for fault in FAULTS for chapter in reach(fault)} - chapters


def test_every_kind_has_faults() -> None:
    """Ids do not repeat, each fault says what it does and who sees it, and no kind is empty."""
    assert [name for name, count in Counter(fault.id for fault in FAULTS).items() if count > 1] == []
    assert all(fault.what and fault.seen_by and (fault.patch or fault.edit) for fault in FAULTS)
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    assert len(HERE) >= 80
