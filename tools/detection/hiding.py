"""Shows that no declared deviation hides a fault: `PYTHONPATH=tests:tools python -m detection.hiding DIRECTORY`.

For each deviation that the shipped checkpoint's gate asserts under the installed release, a fault is found that a check
which asserts it must see and does see. Run under every release that has deviations of its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from faults.catalogue import FAULTS
from faults.fault import Fault
from faults.watch import CHECKPOINT, Watch

from clip_eval.subject import has_torchvision, transformers_release
from clip_eval.verdict.run_record import RunRecord

ATTENTIONS = ("sdpa", "eager")


def main(directory: Path) -> int:
    """Write RELEASE.md to a directory. Returns 1 where a deviation hides every fault that was tried."""
    with tempfile.TemporaryDirectory() as temporary:
        watch = Watch(Path(temporary))
        asserted: dict[str, set[str]] = {}
        for attention in ATTENTIONS:
            for name, checks in _asserted(watch.runner.run(CHECKPOINT, "--clip-attn", attention).record).items():
                asserted.setdefault(name, set()).update(checks)
        with click.progressbar(sorted(asserted), label="deviations") as names:
            seen = {name: _seen(watch, name, asserted[name]) for name in names}
    title = f"transformers {transformers_release()}{' with torchvision' if has_torchvision() else ''}"
    rows = [f"| {name} | {fault or 'none'} | {check} |" for name, (fault, check) in seen.items()]
    lines = [f"# Faults seen under declared deviations, {title}", "", "| deviation | fault | check |", "|---|---|---|"]
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{title.removeprefix('transformers ').replace(' ', '-')}.md"
    file.write_text("\n".join([*lines, *rows, ""]), encoding="utf-8")
    hiding = [name for name, (fault, _) in seen.items() if not fault]
    print(f"{title}: {len(seen) - len(hiding)} of {len(seen)} deviations hide nothing{': '.join(['', *hiding])}")
    return int(bool(hiding))


def _asserted(record: RunRecord) -> dict[str, set[str]]:
    """Deviations to the checks that asserted them."""
    found: dict[str, set[str]] = {}
    for check in record.checks:
        if check.deviation is not None:
            found.setdefault(check.deviation, set()).add(check.id)
    return found


def _seen(watch: Watch, deviation: str, checks: set[str]) -> tuple[str, str]:
    """The first fault that a check sees while it asserts a deviation, and the check; else nothing and the checks."""
    for fault in _candidates(checks):
        sighting = watch.sight(fault)
        for check in fault.seen_by:
            if any(result.deviation == deviation for result in sighting.failed.get(check, ())):
                return fault.id, check
    return "", ", ".join(sorted(checks))


def _candidates(checks: set[str]) -> Iterator[Fault]:
    """Faults that one of the checks must see, those for these checks alone first."""
    release = transformers_release()
    fitting = [fault for fault in FAULTS if fault.applies(release) and checks & set(fault.seen_by)]
    yield from sorted(fitting, key=lambda fault: len(set(fault.seen_by) - checks))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
