"""The commands as Python functions.

A problem that the user can fix is a `ClipEvalError`, with the nearest name if one is misspelt. A checkpoint that fails
the gate is a return value, not an error.
"""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

from clip_eval.errors import OutputError, UsageError
from clip_eval.files.read_write import read_text, writable_directory
from clip_eval.run.hermetic_pytest import run_gate
from clip_eval.run.keywords import require_match
from clip_eval.run.settings import (
    DEFAULT_OUT,
    OPTIONS,
    FilesOptions,
    GateOptions,
    Option,
    RecordOptions,
    Settings,
    VariantOptions,
)
from clip_eval.user_values import named, require_dtype
from clip_eval.verdict.run_record import RunRecord, load

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clip_eval.embedding.fill import Tally
    from clip_eval.evaluation import Evaluation
    from clip_eval.run.approval import Approval
    from clip_eval.throughput.bench import Bench

__all__ = ["bench", "embed", "evaluate", "gate", "record", "render"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _takes(declared: type) -> Callable[[_F], _F]:
    """Add the options of a TypedDict to a function's signature and docstring, and refuse others.

    Type checkers read the TypedDict; `help` and some editors read the signature and docstring.
    """
    options = [option for name, option in OPTIONS.items() if name in declared.__annotations__]
    types = {name: inspect.formatannotation(hint, "pathlib") for name, hint in get_type_hints(declared).items()}

    def decorate(function: _F) -> _F:
        signature = inspect.signature(function)
        first, *rest = [each for each in signature.parameters.values() if each.kind != each.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                option.setting, first.KEYWORD_ONLY, default=option.default, annotation=types[option.setting]
            )
            for option in options
        ]
        signature = signature.replace(parameters=[first, *added, *rest])

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as problem:
                raise TypeError(f"{function.__name__}() {problem}") from None
            return function(*args, **kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]
        if function.__doc__ is not None:  # python -OO removes docstrings
            lines = "\n".join(map(_documented, options))
            call.__doc__ = inspect.cleandoc(function.__doc__).replace("\n\nReturns:", f"\n{lines}\n\nReturns:", 1)
        return cast("_F", call)

    return decorate


def _documented(option: Option) -> str:
    """The option's line below Args."""
    text = option.help[0].lower() + option.help[1:]
    line = f"{option.setting}: {'if False, ' if option.turns_off else ''}{text}"
    return textwrap.fill(line, 116, initial_indent=" " * 4, subsequent_indent=" " * 8)


@_takes(GateOptions)
def gate(
    checkpoint: str | Path, *, keyword: str | None = None, quiet: bool = False, **options: Unpack[GateOptions]
) -> RunRecord:
    """Judge a CLIP checkpoint and return the run record; the reports are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        keyword: only checks that match, by id or words, as -k takes them; the verdict is then inconclusive at best.
        quiet: print nothing of the run, unless it breaks down.

    Returns:
        What is in run.json: `verdict` ("pass", "fail" or "inconclusive"), `headline`, `reasons` (most important first),
        `scope`, `checks` (each with `id`, `case`, `outcome`, `measurements`), `surface_changes`, `tasks`, `throughput`,
        `provenance`; see `clip_eval.verdict.run_record.RunRecord`.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here, or the test process died.
    """
    settings = Settings.from_python(checkpoint, options).with_project_policy()
    keyword = _optional(keyword, "keyword")
    require_match(keyword)
    run_gate(settings, keyword=keyword, quiet=quiet)
    file = (settings.out or DEFAULT_OUT) / "run.json"
    return load(read_text(file, error=OutputError), where=file)


@_takes(RecordOptions)
def record(
    checkpoint: str | Path,
    *,
    out: str | Path | None = None,
    add_to: str | Path | None = None,
    throughput: bool = False,
    report: str | Path | None = None,
    quiet: bool = False,
    **options: Unpack[RecordOptions],
) -> Approval:
    """Run the suite on a checkpoint in float32 and, if it passes, write a pack, or add to one.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        out: directory of a new pack. Exactly one of `out` and `add_to` is given.
        add_to: an existing pack, in which one more environment is approved; it takes no `dataset`.
        throughput: record how fast the checkpoint is on this machine, too.
        report: directory that keeps the reports of the suite.
        quiet: say nothing on stderr while it runs.

    Returns:
        `exit_code`: 0 where the release is approved; else the gate's, 1 or 10, and no pack was written. `message`: what
        happened, in a sentence. `reasons`: why it was not approved.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here, or the test process died.
    """
    from clip_eval.run.approval import record as approve

    return approve(
        Settings.from_python(checkpoint, {**options, "throughput": False}),
        out=_place(out, "out"),
        add_to=_place(add_to, "add_to"),
        reports=_place(report, "report"),
        speeds=throughput,
        quiet=quiet,
    )


@_takes(VariantOptions)
def bench(
    checkpoint: str | Path,
    *,
    against: str | Path | None = None,
    against_python: str | Path | None = None,
    devices: Sequence[str] = ("cpu",),
    dtypes: Sequence[str] = (),
    attentions: Sequence[str] = (),
    compile: bool = False,
    threads: int = 1,
    most_rows: int | None = None,
    out: str | Path = DEFAULT_OUT,
    quiet: bool = False,
    **options: Unpack[VariantOptions],
) -> Bench:
    """Measure how fast a checkpoint is here, and what to run; bench.json, bench.md and bench.html are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        against: another checkpoint, timed in turns with it.
        against_python: the other side runs under this interpreter; by default itself.
        devices: torch devices; of several the first is measured, then all at once.
        dtypes: to be tried; by default the stored dtype and bfloat16.
        attentions: to be tried; by default transformers' choice and eager.
        compile: try torch.compile on what is fastest without it.
        threads: of torch.
        most_rows: the largest batch; by default what usually fits the device.
        out: where the reports go.
        quiet: say nothing on stderr while it runs.

    Returns:
        What is in bench.json: `configurations`, `recommendations`, `comparisons`, `compiled`, `at_once`, `notes`,
        `provenance`; see `clip_eval.throughput.bench.Bench`.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here.
    """
    from clip_eval.throughput.bench import Options, run_bench, write_bench

    asked = Options(
        model=named(checkpoint, "checkpoint"), variant=_optional(options.get("variant"), "variant"),
        against=_optional(against, "against"), against_python=_optional(against_python, "against_python"),
        devices=_several(devices, "devices"), dtypes=_several(dtypes, "dtypes"),
        attentions=_several(attentions, "attentions"), compiled=compile, threads=threads, most_rows=most_rows,
    )  # fmt: skip
    directory = writable_directory(named(out, "out"))
    results = run_bench(asked, say=_silent if quiet else _say)
    write_bench(results, directory)
    return results


@_takes(FilesOptions)
def evaluate(
    checkpoint: str | Path,
    *,
    dataset: str | Path,
    tasks: Sequence[str] = (),
    against: str | Path | None = None,
    margin: float | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    attention: str | None = None,
    store: str | Path | None = None,
    workers: int | None = None,
    approximate: bool = False,
    out: str | Path = DEFAULT_OUT,
    quiet: bool = False,
    **options: Unpack[FilesOptions],
) -> Evaluation:
    """Score a checkpoint's embeddings of a dataset; the reports are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        dataset: directory of the evaluation set.
        tasks: names of tasks; by default all that the dataset serves.
        against: another checkpoint, compared sample by sample.
        margin: the largest loss that passes; by default 0.01.
        device: a torch device, such as cuda:0.
        dtype: float32, bfloat16 or float16; by default the stored dtype.
        attention: an attention implementation; by default transformers' choice.
        store: directory of embeddings that `embed` stored; new ones are added.
        workers: threads that decode images; by default one a core.
        approximate: search for what is retrieved by FAISS, and not exactly; needs the extra clip-eval[faiss].
        out: where the reports go.
        quiet: say nothing on stderr while it runs.

    Returns:
        What is in evaluation.json: the verdict and its reasons, tasks with their scores, intervals and comparisons, and
        what could not be read; see `clip_eval.evaluation.Evaluation`.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here.
    """
    from clip_eval.evaluation import Options, run_and_write

    asked = Options(
        model=named(checkpoint, "checkpoint"), **_files(options), dataset=named(dataset, "dataset"),
        tasks=_several(tasks, "tasks"), against=_optional(against, "against"), margin=margin,
        device=named(device, "device"), dtype=dtype, attention=_optional(attention, "attention"),
        store=_optional(store, "store"), workers=workers, approximate=approximate,
    )  # fmt: skip
    return run_and_write(asked, Path(named(out, "out")), say=None if quiet else _say)


@_takes(FilesOptions)
def embed(
    checkpoint: str | Path,
    *,
    dataset: str | Path,
    out: str | Path,
    engine: str = "local",
    address: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    attention: str | None = None,
    workers: int | None = None,
    batch_size: int = 64,
    quiet: bool = False,
    **options: Unpack[FilesOptions],
) -> Tally:
    """Embed what a store does not have of a dataset: images, captions and prompts.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        dataset: a dataset directory.
        out: directory of the store, made if it is missing; several runs may share it.
        engine: "local", or "ray" for Ray Data.
        address: of a Ray cluster; by default Ray runs on this machine.
        device: a torch device; "cuda" with Ray, which gives each worker a GPU.
        dtype: by default the stored dtype.
        attention: by default transformers' choice.
        workers: threads that decode, by default one a core; with Ray, processes that embed.
        batch_size: images in a batch.
        quiet: show no progress on stderr.

    Returns:
        `images` and `texts` that the store has of the dataset, `new_images` and `new_texts` that were computed now,
        `left_out` that have no embedding, and `places` of the first of these.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here, or not one image can be read.
    """
    from clip_eval.embedding.engines import fill
    from clip_eval.embedding.fill import EmbedOptions

    if dtype is not None:
        require_dtype(dtype)
    asked = EmbedOptions(
        model=named(checkpoint, "checkpoint"), **_files(options), dataset=Path(named(dataset, "dataset")),
        out=Path(named(out, "out")),
        engine=named(engine, "engine"), address=_optional(address, "address"), device=named(device, "device"),
        dtype=dtype, attention=_optional(attention, "attention"), workers=workers, batch_size=batch_size,
    )  # fmt: skip
    return fill(asked, quiet=quiet)


def _files(options: FilesOptions) -> dict[str, str | None]:
    """Which files of a checkpoint were named."""
    return {name: _optional(options.get(name), name) for name in FilesOptions.__annotations__}


def render(
    run: str | Path | RunRecord,
    other: str | Path | RunRecord | None = None,
    *,
    format: str | None = None,
    out: str | Path | None = None,
    dataset_id: str | None = None,
) -> str:
    """Render a run again, or what moved between two, as `clip-eval report` does.

    Args:
        run: a run.json, its folder, or what `gate` returned.
        other: a second run; what moved from `run` to it is rendered.
        format: html, markdown, junit, hub or ctrf, by default html; of two runs html or markdown, by default markdown.
        out: where it is written too, a file, and for hub a folder; a file that is no report of clip-eval is kept.
        dataset_id: of the dataset on the hub, with or without @revision; needed for hub.

    Returns:
        The text; for hub that of README.md.

    Raises:
        ClipEvalError: something that was named cannot be read or written, or there is no such report.
    """
    from clip_eval.report.rendering import open_run, rendered, write_hub, write_report

    first, second = (
        each if each is None or isinstance(each, RunRecord) else open_run(named(each, name))
        for each, name in ((run, "run"), (other, "other"))
    )
    if first is None:
        raise UsageError("run is None", fix="Name a run.json, or give what gate returned")
    form = format or ("html" if second is None else "markdown")
    text = rendered(first, second, form=form, dataset_id=_optional(dataset_id, "dataset_id"))
    place = _place(out, "out")
    if place is not None and form == "hub":
        write_hub(first, place, dataset_id=dataset_id)
    elif place is not None:
        write_report(text, place)
    return text


def _optional(value: object, option: str) -> str | None:
    return None if value is None else named(value, option)


def _place(value: object, option: str) -> Path | None:
    return None if value is None else Path(named(value, option))


def _several(values: object, option: str) -> tuple[str, ...]:
    """The names in a list; a bare string is refused, since Python would iterate its letters."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UsageError(f"{option} takes a list of names", where=values, fix=f'Write it as {option}=["..."]')
    return tuple(named(value, option) for value in values)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _silent(line: str) -> None:
    """Take a line of progress and drop it."""
