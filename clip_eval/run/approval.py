"""Approving a release: the suite must pass, then its numbers and its surface become a baseline pack."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from clip_eval.baseline import Environment, Pack, open_pack
from clip_eval.baseline.comparison import checkpoint_changes, checkpoint_settings, environment_of, pack_tensors
from clip_eval.baseline.pack import Approved, PackedTask, Recorded, Surface
from clip_eval.baseline.recorded_outputs import outputs_of, record_value
from clip_eval.baseline.surface.diff import SURFACE_CHECK, changes
from clip_eval.baseline.surface.snapshot import observe_surface
from clip_eval.baseline.write_pack import MANIFEST, add_environment, add_speed, write_pack
from clip_eval.checkpoint.changes import Watched, watch
from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import CheckpointError, OutputError, PackError, UsageError
from clip_eval.files.folder_lock import owned, reserved
from clip_eval.files.read_write import read_text, writable_directory
from clip_eval.oracle.expected.exact import ExactReference
from clip_eval.progress import hushed, say
from clip_eval.run.declared_checks import declared_checks
from clip_eval.run.hermetic_pytest import run_gate
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject.environment import provenance
from clip_eval.throughput.ratio import Speed
from clip_eval.verdict.compare import to_array
from clip_eval.verdict.decide import EXIT_CODES, Asked, Decision, decide
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import RunRecord, SurfaceChange, load

__all__ = ["Approval", "build_pack", "record"]

_NAMED_AT_MOST = 3
_PATIENCE_S = 60.0  # another `record` may be writing its few files to the same pack


@dataclass(frozen=True, slots=True)
class Approval:
    """The outcome of an attempt to approve a release: exit code of the command, message, reasons."""

    exit_code: int
    message: str
    reasons: tuple[str, ...] = ()


def record(
    settings: Settings,
    *,
    out: Path | None = None,
    add_to: Path | None = None,
    speeds: bool = False,
    reports: Path | None = None,
    quiet: bool = False,
) -> Approval:
    """Run the suite in float32 and, if it passes, write a pack or approve one more environment in an existing one.

    Args:
        settings: the checkpoint and how it is loaded; baseline, accepted, dtype and out are not used.
        out: directory of a new pack.
        add_to: an existing pack. Its own checks run too: the weights must be the pack's and the numbers must match.
        speeds: also record how fast the release is on this machine, in the dtype that the checkpoint is stored in.
        reports: directory that keeps the reports of the suite; by default only those of a refusal are kept.
        quiet: show no progress on stderr.

    Returns:
        Exit code 0 where the release is approved. Else the gate's, 1 or 10: no pack is written then, and the gate's
        reports are kept.

    Raises:
        UsageError: not exactly one of `out` and `add_to`, or an evaluation set with `add_to`.
        PackError: the pack cannot be read, was recorded from another checkpoint, or approves this environment with
            another surface.
        OutputError: the pack cannot be written.
        CheckpointError: the checkpoint cannot be read, or changed while it was gated.
    """
    if (out is None) == (add_to is None):
        raise UsageError("give either out for a new pack, or add_to for an existing one")
    plain = replace(
        settings, baseline=None, accepted=None, dtype="float32", new_weights=False, throughput=False, policy=None,
        baseline_python=None, out=None,
    )  # fmt: skip
    kept = None if reports is None else writable_directory(reports)
    with hushed(quiet):
        if out is not None:
            with reserved(out):
                return _record_new(plain, out, kept, speeds=speeds)
        directory = Path(str(add_to))
        approval = _approve(plain, directory, kept)
        return _with_speed(approval, plain, directory) if speeds and approval.exit_code == 0 else approval


def build_pack(session: Session) -> Pack:
    """Return the pack of a checkpoint loaded in float32, with its answers to the dataset, where one is given.

    Judges nothing: `record` runs the suite first.
    """
    checkpoint, environment = session.candidate.checkpoint, environment_of(session.candidate.clip)
    approved = Approved(observe_surface(session.candidate.clip), _provenance(session))
    return Pack(
        source=checkpoint.source if checkpoint.revision else checkpoint.path.name,
        revision=checkpoint.revision,
        config=checkpoint.config,
        fingerprints=checkpoint.fingerprints(),
        settings=checkpoint_settings(checkpoint),
        tensors=pack_tensors(checkpoint),
        environments={environment: approved},
        recorded_in=environment,
        inputs=session.candidate.batch,
        outputs=_outputs(session),
        tasks=_tasks(session),
    )


def _record_new(settings: Settings, out: Path, reports: Path | None, *, speeds: bool) -> Approval:
    writable_directory(out)
    if out.is_dir() and any(out.iterdir()):
        is_pack = (out / MANIFEST).is_file()
        fix = f"Name a new directory{', or approve one more environment with --add-to' if is_pack else ''}"
        raise OutputError(f"the directory {'holds a pack' if is_pack else 'is not empty'}", where=out, fix=fix)
    run = _gate(settings, reports)
    if isinstance(run, Approval):
        return run
    say("the suite passes; recording outputs and surface")
    session = _gated_session(settings, run)
    watched = watch(session.candidate.checkpoint)
    pack = build_pack(session)
    if speeds:
        pack = replace(pack, speeds=(_speed(settings),))
    _require_unchanged(watched, settings)
    write_pack(out, pack)
    return Approval(0, f"recorded {pack.source} in {out}: {pack.recorded_in} is approved")


def _approve(settings: Settings, directory: Path, reports: Path | None) -> Approval:
    if settings.dataset is not None:
        fix = "Give --dataset together with --out only"
        raise UsageError("task scores belong to the checkpoint, not to an environment", fix=fix)
    pack = open_pack(directory)
    _require_same_files(pack, Session(settings).candidate.checkpoint, directory)
    run = _gate(replace(settings, baseline=str(directory)), reports)
    if isinstance(run, Approval):
        return run
    say("the suite passes; recording the surface")
    session = _gated_session(settings, run)
    watched = watch(session.candidate.checkpoint)
    environment, surface = environment_of(session.candidate.clip), observe_surface(session.candidate.clip)
    _require_unchanged(watched, settings)
    with owned(directory, patience_s=_PATIENCE_S):
        pack = open_pack(directory)  # again: another process may have approved its environment meanwhile
        if environment in pack.environments:
            return _already_approved(pack, environment, surface, directory)
        add_environment(directory, pack, environment, Approved(surface, _provenance(session)))
    known = pack.nearest(environment)
    different = changes(pack.environments[known].surface, surface)
    beside = f"surface of {known}: {_counted(different)}{', as the gate lists' if different else ''}"
    return Approval(0, f"{environment} is approved in {directory}, beside the {beside}")


def _with_speed(approval: Approval, settings: Settings, directory: Path) -> Approval:
    """Add this machine's speed to the pack, unless it has one: approved entries never change."""
    speed = _speed(settings)
    with owned(directory, patience_s=_PATIENCE_S):
        pack = open_pack(directory)
        known = any(
            (entry.conditions, entry.transformers) == (speed.conditions, speed.transformers) for entry in pack.speeds
        )
        if not known:
            add_speed(directory, pack, speed)
    outcome = "was recorded before" if known else "is recorded"
    return replace(approval, message=f"{approval.message}; its speed on this machine {outcome}")


def _speed(settings: Settings) -> Speed:
    """How fast the checkpoint is here, in the dtype that a gate runs it in by default."""
    from clip_eval.throughput.pack_entry import measured_speed

    say("timing the model")
    return measured_speed(Session(replace(settings, dtype=None)).candidate.clip)


def _already_approved(pack: Pack, environment: Environment, surface: Surface, directory: Path) -> Approval:
    different = changes(pack.environments[environment].surface, surface)
    if not different:
        return Approval(0, f"{environment} was approved in {directory} before, with the same surface: nothing to do")
    raise PackError(
        f"the pack approves {environment} with another surface: {_counted(different)}",
        where=directory,
        fix="A pack does not change what it has approved: record a new one",
    )


def _require_same_files(pack: Pack, checkpoint: Checkpoint, directory: Path) -> None:
    different = checkpoint_changes(pack, checkpoint)
    if different:
        raise PackError(
            f"the pack was recorded from another checkpoint: {_counted(different)}",
            where=directory,
            fix="Name the checkpoint that it was recorded from, or record a new pack",
        )


def _counted(different: Sequence[SurfaceChange]) -> str:
    if not different:
        return "no entry differs"
    shown = ", ".join(change.id for change in different[:_NAMED_AT_MOST])
    more = f" and {len(different) - _NAMED_AT_MOST} more" if len(different) > _NAMED_AT_MOST else ""
    return f"{len(different)} {'entry differs' if len(different) == 1 else 'entries differ'} ({shown}{more})"


def _gate(settings: Settings, reports: Path | None) -> RunRecord | Approval:
    """The record of a gate run that allows approval, or the refusal. Without `reports`, the reports are kept after a
    refusal only.
    """
    kept = reports or Path(tempfile.mkdtemp(prefix="clip-eval-record-"))
    judged = False
    try:
        code = run_gate(
            replace(settings, out=kept),
            quiet=True,
            progress=True,
            opened=lambda: say(f"running the suite on {settings.model} in float32"),
        )
        judged = (kept / "run.json").is_file()
    finally:
        if not judged and reports is None:
            shutil.rmtree(kept)
    if not judged:
        return Approval(code, f"not recorded: the gate ended with exit code {code} and judged nothing")
    run = load(read_text(kept / "run.json", error=OutputError), where=kept / "run.json")
    decision = _apart_from_surface(run)
    if decision.verdict != "pass":
        message = f"not recorded, the gate says {decision.headline}. See {kept / 'report.html'}"
        return Approval(EXIT_CODES[decision.verdict], message, decision.reasons)
    if reports is None:
        shutil.rmtree(kept)
    return run


def _apart_from_surface(run: RunRecord) -> Decision:
    """The verdict of a run without its differences from other environments' surfaces, which get approved."""
    changed = bool(run.surface_changes)
    checks = [
        replace(check, outcome="not_applicable", reason="this run approves the surface", measurements=(), detail=None)
        if check.id == SURFACE_CHECK and check.outcome == "failed" and changed
        else check
        for check in run.checks
    ]
    return decide(
        checks=checks,
        declared=declared_checks(),
        surface_changes=(),
        tasks=run.tasks,
        throughput=run.throughput,
        asked=Asked(
            baseline=run.arguments["baseline"] is not None, tasks=run.arguments["dataset"] is not None, throughput=False
        ),
    )


def _gated_session(settings: Settings, run: RunRecord) -> Session:
    """A session on the checkpoint that was gated. Raises CheckpointError if it was replaced since."""
    session = Session(settings)
    if asdict(session.candidate.checkpoint.fingerprints()) != dict(run.candidate.fingerprints):
        raise _changed(settings)
    return session


def _require_unchanged(watched: Watched, settings: Settings) -> None:
    if names := watched.changed():
        raise _changed(settings, f": {', '.join(names)}")


def _changed(settings: Settings, names: str = "") -> CheckpointError:
    what = f"the checkpoint changed while it was recorded{names}"
    return CheckpointError(what, where=settings.model, fix="Record it again once nothing changes it")


def _outputs(session: Session) -> dict[str, Recorded]:
    checkpoint = session.candidate.checkpoint
    weights = checkpoint.weights("float32")
    reference = ExactReference(checkpoint.family.network, weights, checkpoint.config, session.candidate.batch)
    recorded = {}
    for output in (output for outputs in outputs_of(checkpoint.holds).values() for output in outputs):
        observed = output.observe(session.candidate.clip)
        error = to_array(observed) - output.expect(reference)  # the output's shape
        recorded[output.name] = Recorded(record_value(observed), np.asarray(error, dtype=np.float32))
    return recorded


def _tasks(session: Session) -> dict[str, PackedTask]:
    """The values of every task that the dataset serves."""
    from clip_eval.tasks.task import all_tasks

    if session.dataset is None:
        return {}
    served = [session.scored(task) for task in all_tasks() if task.lacks(session.dataset) is None]
    return {
        scored.task: PackedTask(dataset=scored.dataset, samples=scored.samples, values=scored.values)
        for scored in served
    }


def _provenance(session: Session) -> dict[str, Json]:
    """Where and when an environment was recorded. On one machine, a second recording changes nothing but the date."""
    return {
        **provenance(session.candidate),
        "recorded": datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        "device": session.settings.device,
    }
