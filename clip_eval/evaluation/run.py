"""The evaluation itself: open and refuse, embed, score, judge, choose what to show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from clip_eval.checkpoint.changes import watch
from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.dataset import Dataset, open_dataset
from clip_eval.dataset.dataset import UniqueIds
from clip_eval.embedding.approximate import approximate_first_hits_both, require_faiss
from clip_eval.errors import CheckpointError, DatasetError, UsageError
from clip_eval.evaluation.options import Options
from clip_eval.evaluation.results import Evaluation, NotServed, TaskScores
from clip_eval.files.read_write import writable_directory
from clip_eval.nearest import listed
from clip_eval.progress import Progress, counted
from clip_eval.subject import require_attention, require_device
from clip_eval.subject.candidate import Candidate
from clip_eval.subject.environment import attention_used, provenance
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import SubjectInfo

if TYPE_CHECKING:
    from clip_eval.embedding.embedded import Embedded
    from clip_eval.tasks.shown import Section
    from clip_eval.tasks.task import Scored, Task

__all__ = ["Finished", "Opened", "open_inputs", "run_evaluation"]


@dataclass(frozen=True, slots=True)
class Opened:
    """What the user named, opened, and which tasks are to be scored."""

    dataset: Dataset
    entries: int
    checkpoints: tuple[Checkpoint, ...]
    tasks: tuple[Task, ...]
    not_served: tuple[NotServed, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """An evaluation with what its reports show beside it.

    Attributes:
        evaluation: the record.
        scored: of the candidate, one a task that could be scored.
        others: of the other checkpoint, by name of the task; empty without one.
        sections: samples with their pictures.
    """

    evaluation: Evaluation
    scored: tuple[Scored, ...]
    others: dict[str, Scored]
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class _Side:
    """One checkpoint's scores."""

    info: SubjectInfo
    provenance: Mapping[str, Json]
    embedded: Embedded
    scored: dict[str, Scored]
    problems: dict[str, DatasetError] = field(default_factory=dict)


def open_inputs(options: Options) -> Opened:
    """Open everything the user named, before anything is computed. torch is loaded for an unusual device only.

    Raises:
        ClipEvalError: something cannot be read or used, or the dataset serves none of the tasks.
    """
    others = () if options.against is None else (open_checkpoint(options.against),)
    own = open_checkpoint(options.model, variant=options.variant, processor=options.processor)
    checkpoints = (own, *others)
    for checkpoint in checkpoints:
        _require_processors(checkpoint)
    dataset = open_dataset(options.dataset)
    require_device(options.device)
    if options.attention is not None:
        require_attention(options.attention)
    if options.store is not None:
        writable_directory(options.store)
    if options.approximate:
        require_faiss()
    return Opened(dataset, _look_over(dataset), checkpoints, *_tasks(options, dataset))


def _require_processors(checkpoint: Checkpoint) -> None:
    present = {"tokenizer": checkpoint.has_tokenizer, "image processor": checkpoint.has_image_processor}
    if missing := [name for name, found in present.items() if not found]:
        what = f"the checkpoint has no {' and no '.join(missing)}, which a dataset is read with"
        raise CheckpointError(what, where=checkpoint.source, fix="Add the files of its processor")


def _look_over(dataset: Dataset) -> int:
    """Return how many entries a dataset has. Those that cannot be read are counted later.

    Raises:
        DatasetError: it has none, none that can be read, or an id twice.
    """
    ids = UniqueIds(dataset.root)
    count = readable = 0
    first = ""
    for entry in counted(dataset.entries(images=False), "samples"):
        count += 1
        ids.add(entry)
        readable += entry.problem is None
        first = first or ("" if entry.problem is None else f"{entry.where}: {entry.problem}")
    if not count:
        raise DatasetError("the dataset holds no sample", where=dataset.root, fix="Add samples and their images")
    if not readable:
        what = f"not one of {count:,} samples can be read, the first one is {first}"
        raise DatasetError(what, where=dataset.root, fix="Correct that place; the others may have the same cause")
    return count


def _tasks(options: Options, dataset: Dataset) -> tuple[tuple[Task, ...], tuple[NotServed, ...]]:
    from clip_eval.tasks.task import all_tasks

    known = {task.name: task for task in all_tasks()}
    for name in options.tasks:
        if name not in known:
            raise UsageError(f"--task {name} is no task", fix=listed(name, known))
    chosen = [known[name] for name in options.tasks or known]
    lacks = {task.name: task.lacks(dataset) for task in chosen}
    not_served = tuple(NotServed(name, reason) for name, reason in lacks.items() if reason)
    if len(not_served) == len(chosen) or (options.tasks and not_served):
        what = "; ".join(f"{one.task}: {one.reason}" for one in not_served)
        raise DatasetError(f"the dataset cannot serve what is asked: {what}", where=dataset.root, fix=_SERVES)
    return tuple(task for task in chosen if not lacks[task.name]), not_served


_APPROXIMATE = "Ranks of retrieval are approximate: FAISS looked through an eighth of what there is for each query."
_SERVES = "Add what is missing (FORMATS.md says how), or name other tasks with --task"


def run_evaluation(
    options: Options, say: Callable[[str], None] | None = None, opened: Opened | None = None
) -> Finished:
    """Evaluate a checkpoint, and the other one on the same samples where one is named.

    Args:
        options: what the user asked for.
        say: called with a line on each step; None to show no progress either.
        opened: what `open_inputs` returned, where the caller has opened it.

    Raises:
        ClipEvalError: something that the user named cannot be read or used, or changes meanwhile.
    """
    started, start = datetime.now(tz=timezone.utc), time.perf_counter()
    opened = opened or open_inputs(options)
    sides = [_side(options, checkpoint, opened, say) for checkpoint in opened.checkpoints]
    if say is not None:
        say("judging the scores")
    from clip_eval.tasks.shown import sections_of

    tasks = _judged(options, opened.tasks, sides)
    scored, others = sides[0].scored, sides[1].scored if len(sides) > 1 else {}
    sections = sections_of(sides[0].embedded, [(one, others.get(name)) for name, one in scored.items()])
    evaluation = _evaluation(options, opened, sides, tasks)
    evaluation = replace(
        evaluation, started=started.isoformat(timespec="seconds"), duration_s=round(time.perf_counter() - start, 1)
    )
    return Finished(evaluation, tuple(scored.values()), others, sections)


def _side(options: Options, checkpoint: Checkpoint, opened: Opened, say: Callable[[str], None] | None) -> _Side:
    """Embed and score; the model is gone afterwards."""
    from clip_eval.tasks.task import score_task

    candidate = Candidate(checkpoint.source, options.dtype, options.device, options.attention)
    vars(candidate)["checkpoint"] = checkpoint  # fills the cached property: it is opened once
    watched = watch(checkpoint)
    embedded = _embedded(options, candidate, opened, quiet=say is None)
    if options.approximate:
        embedded = replace(embedded, rank=approximate_first_hits_both)
    scored, problems = {}, {}
    for task in opened.tasks:
        if say is not None:
            say(f"scoring {task.name}")
        try:
            scored[task.name] = score_task(task, embedded)
        except DatasetError as problem:
            problems[task.name] = problem
    if names := watched.changed():
        what = f"the checkpoint changed while it was evaluated: {', '.join(names)}"
        raise CheckpointError(what, where=checkpoint.source, fix="Evaluate it again once nothing changes it")
    info = candidate.info(attention_used(candidate))
    return _Side(info, provenance(candidate), embedded, scored, problems)


def _embedded(options: Options, candidate: Candidate, opened: Opened, *, quiet: bool) -> Embedded:
    from clip_eval.embedding.embedded import embed_dataset

    what = f"images of {opened.dataset.root.name} with {candidate.model}"
    progress = None if quiet else Progress(what, opened.entries)
    store = None if options.store is None else Path(options.store)
    try:
        return embed_dataset(candidate.runtime, opened.dataset, store=store, workers=options.workers, progress=progress)
    finally:
        if progress is not None:
            progress.close()


def _judged(options: Options, tasks: Sequence[Task], sides: Sequence[_Side]) -> tuple[TaskScores, ...]:
    from clip_eval.evaluation.judging import judge_task, unscored

    first, last = sides[0], sides[-1]
    identical = (first.info.fingerprints, first.info.dtype) == (last.info.fingerprints, last.info.dtype)
    found = []
    for task in tasks:
        problem = next((side.problems[task.name] for side in sides if task.name in side.problems), None)
        if problem is not None:
            found.append(unscored(task, problem))
            continue
        other = last.scored[task.name] if len(sides) > 1 else None
        scored = first.scored[task.name]
        found.append(judge_task(task, scored, other, margin=options.margin, identical=identical))
    return tuple(found)


def _evaluation(options: Options, opened: Opened, sides: Sequence[_Side], tasks: tuple[TaskScores, ...]) -> Evaluation:
    """The record, without its times."""
    from clip_eval.evaluation.judging import notes_on, verdict_of

    first = sides[0]
    embedded = first.embedded
    verdict, headline, reasons = verdict_of(tasks, embedded.unreadable, len(embedded.samples))
    return Evaluation(
        started="",
        duration_s=0.0,
        arguments=options.arguments(),
        verdict=verdict,
        headline=headline,
        reasons=reasons,
        notes=(
            *notes_on(embedded, tuple(first.scored.values()), opened.not_served),
            *([_APPROXIMATE] if options.approximate else []),
        ),
        provenance=first.provenance,
        candidate=first.info,
        against=sides[1].info if len(sides) > 1 else None,
        dataset=str(Path(options.dataset)),
        dataset_digest=embedded.digest,
        images=len(embedded.samples),
        unreadable=embedded.unreadable,
        tasks=tasks,
        not_served=opened.not_served,
    )
