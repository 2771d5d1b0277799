"""Reports from run records on disk: one run again in any format, or what moved between two."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from clip_eval.errors import OutputError, UsageError
from clip_eval.files.folder_lock import owned
from clip_eval.files.read_write import read_text, writable_directory, write_text
from clip_eval.files.untrusted import largest_bytes
from clip_eval.nearest import listed
from clip_eval.report.ctrf import render_ctrf
from clip_eval.report.html import render_html
from clip_eval.report.hub import hub_files
from clip_eval.report.junit import render_junit
from clip_eval.report.markdown import render_markdown
from clip_eval.report.moved_pages import render_moved_html, render_moved_markdown
from clip_eval.verdict.run_record import RunRecord, load

__all__ = ["FORMATS", "beside", "open_run", "rendered", "write_hub", "write_report"]

FORMATS = ("html", "markdown", "junit", "hub", "ctrf")
_HUB = "hub"
_ONE: Mapping[str, Callable[[RunRecord], str]] = {
    "html": render_html,
    "markdown": render_markdown,
    "junit": render_junit,
    "ctrf": render_ctrf,
}
_TWO: Mapping[str, Callable[[RunRecord, RunRecord], str]] = {
    "html": render_moved_html,
    "markdown": render_moved_markdown,
}
_BEGINNING = 1 << 16  # characters in which a report shows that it is one
_OURS = re.compile(
    r"\A# \W*(?:pass|fail|inconclusive): |\A# B (?:differs from|is the same as) A"
    r'|\A<\?xml[^>]*>\s*<testsuites name="clip-eval"|"generatedBy": "clip-eval '
    r'|<p class="kind">clip-eval (?:release gate|comparison) of '
)


def open_run(path: str | Path) -> RunRecord:
    """Return the record of a run.

    Args:
        path: a run.json, or the folder that holds one.

    Raises:
        UsageError: it cannot be read, is damaged, or is of a newer clip-eval.
    """
    file = _file(path)
    limit = largest_bytes("run.json")  # whatever it is called
    return load(read_text(file, error=UsageError, limit_bytes=limit), where=file)


def rendered(run: RunRecord, other: RunRecord | None, *, form: str, dataset_id: str | None = None) -> str:
    """Return the report as text; of the hub's files that of README.md.

    Args:
        run: the run, or run A of two.
        other: run B; None for the report of one.
        form: one of `FORMATS`; of two runs "html" or "markdown".
        dataset_id: of the dataset on the hub, for "hub" alone.

    Raises:
        UsageError: there is no such format, or not of two runs, or the hub's lacks something.
    """
    _require(form, two=other is not None, dataset_id=dataset_id)
    if other is not None:
        return _TWO[form](run, other)
    return hub_files(run, dataset_id=str(dataset_id))["README.md"] if form == _HUB else _ONE[form](run)


def beside(path: str | Path, *, two: bool) -> Path:
    """Return where an HTML page goes by default: beside the run.json, the second one's of two."""
    return _file(path).with_name("compared.html" if two else "report.html")


def write_report(text: str, file: Path, *, shared: bool = False) -> None:
    """Write a report, whole or not at all.

    Args:
        text: the report.
        file: a file of this name is replaced if it is such a report itself.
        shared: the folder may belong to a run that writes now, which is then an error.

    Raises:
        OutputError: something else is there, a run is writing there, or it cannot be written.
    """
    _require_ours(file)
    with owned(file.parent) if shared else contextlib.nullcontext():
        write_text(file, text)


def write_hub(run: RunRecord, directory: Path, *, dataset_id: str | None) -> list[Path]:
    """Write the files for a model's repository on the hub and return them.

    Raises:
        UsageError: see `rendered`.
        OutputError: one of them is there, since a model card is more than its scores, or cannot be written.
    """
    _require(_HUB, two=False, dataset_id=dataset_id)
    files = {directory / name: text for name, text in hub_files(run, dataset_id=str(dataset_id)).items()}
    for file in files:
        if file.exists():
            fix = "Name an empty folder, or leave --out out and copy the metadata into the head of the card"
            raise OutputError("the file is there already", where=file, fix=fix)
    writable_directory(directory)
    for file, text in files.items():
        write_text(file, text)
    return list(files)


def _file(path: str | Path) -> Path:
    return Path(path) / "run.json" if Path(path).is_dir() else Path(path)


def _require(form: str, *, two: bool, dataset_id: str | None) -> None:
    known = tuple(_TWO) if two else FORMATS
    if form not in known:
        what = f"there is no report of {'two runs' if two else 'a run'} in the format {form!r}"
        raise UsageError(what, fix=listed(form, known))
    if form == _HUB and dataset_id is None:
        raise UsageError(
            "a run does not know the id of its dataset on the hub",
            fix="Add --dataset-id ORG/NAME; model-index and .eval_results name it",
        )
    if form != _HUB and dataset_id is not None:
        raise UsageError("--dataset-id goes with the format hub", where=dataset_id, fix="Leave it out")


def _require_ours(file: Path) -> None:
    """Raise OutputError if a file is there that is no report of this package."""
    if not file.exists():
        return
    with contextlib.suppress(OutputError):
        if _OURS.search(read_text(file, error=OutputError, limit_bytes=1 << 26)[:_BEGINNING]):
            return
    fix = "Name another file with --out, or remove this one"
    raise OutputError("a file that is no report of clip-eval is there already", where=file, fix=fix)
