"""Every HTML page that clip-eval writes, of results made here, for the tests in a browser.

`PAGES` has a line for each: a page that is added to it is opened, audited and measured like the others.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from clip_eval.evaluation.results import Comparison, Evaluation, ScoreResult, TaskScores
from clip_eval.evaluation.run import Finished
from clip_eval.evaluation.write import render_html as evaluation_page
from clip_eval.history.page import render_history
from clip_eval.history.runs import Measured
from clip_eval.report import render_html
from clip_eval.report.moved_pages import render_moved_html
from clip_eval.run.declared_checks import declared_checks
from clip_eval.throughput.bench.results import Bench, Configuration, Recommendation
from clip_eval.throughput.bench.write import render_html as bench_page
from clip_eval.throughput.ratio import Ratio
from clip_eval.throughput.roofline import Ceilings
from clip_eval.throughput.sweep import Point
from clip_eval.verdict.run_record import CheckResult, RunRecord, SurfaceChange
from support import sample_records as sample
from support.history_runs import RUN

__all__ = ["HOSTILE", "PAGES"]

HOSTILE = (
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "\"'></code></td></table></script><h1>not a heading</h1>",
    "{{ 7 * 7 }} ${7 * 7} &lt;b&gt;",
    "\u202egnp.exe\u202c \u05e9\u05dc\u05d5\u05dd",
    "w" * 10_000,
)
"""Tags, an end of the script, template marks, text from right to left, and one very long word."""

_UPGRADE = Path(__file__).parents[2] / "reports/upgrades/4.57.6-to-5.23.0.md"


def whole_suite() -> Iterator[CheckResult]:
    """A result of every check there is, each passed by another margin."""
    for place, declared in enumerate(declared_checks()):
        if declared.scope in ("contract", "baseline"):
            share = (place % 40 + 1) / 50
            yield sample.check(
                declared.id,
                promise=declared.promise,
                scope=declared.scope,
                duration_s=place / 100,
                measurements=(sample.measurement(error=1.31e-5 * share, required=1.31e-5 * share),),
            )


def passing() -> RunRecord:
    """A run of the whole suite that passed, with tasks and timings."""
    worst = [{"class": f"class {number}", "hits": number, "images": 10, "taken_for": "another"} for number in range(9)]
    tasks = [sample.task(name=f"task_{number}", score=0.9 + number / 100) for number in (3, 1, 2)]
    tasks[0] = replace(tasks[0], details={**tasks[0].details, "worst_classes": worst})
    timings = [sample.timing(name=f"timing_{number}", ratio=1 + number / 100) for number in range(6)]
    return sample.record(checks=tuple(whole_suite()), tasks=tasks, throughput=timings)


def upgraded() -> RunRecord:
    """A run in which everything is right and the surface is another: what transformers 5.23.0 changed since 4.57.6."""
    rows = re.findall(r"^\| (.+?) (?<!\\)\| (.*?) (?<!\\)\| (.*) \|$", _UPGRADE.read_text(encoding="utf-8"), re.M)
    texts = [
        [html.unescape(re.sub(r"\\(.)", r"\1", cell)) for cell in row] for row in rows if row[0] not in ("id", "---")
    ]
    name = "baseline.surface_is_approved"
    changes = [
        SurfaceChange(id=name_of, what="outcome of the call", before=before, after=after, check=name, accepted=None)
        for name_of, before, after in texts
    ]
    assert len(changes) > 150
    failed = sample.check(name, scope="baseline", outcome="failed", measurements=(), reason=f"{len(changes)} changes")
    checks = [check for check in whole_suite() if check.id != name]
    return sample.record(checks=(*checks, failed), surface_changes=changes)


def hostile() -> RunRecord:
    """A failing run whose every text that may come from outside is hostile."""
    checks = [
        sample.failed_check(case=text, reason=text, diverges_at=text, promise=text, rerun=text, detail=text)
        for text in HOSTILE
    ]
    passed = [sample.check("a.chapter", case=text, promise=text, deviation=text) for text in HOSTILE]
    changes = [sample.change(id=text, what=text, before=text, after=text) for text in HOSTILE]
    made = sample.record(
        checks=(*checks, *passed),
        surface_changes=changes,
        tasks=[sample.task(name=text, reason=text) for text in HOSTILE],
        throughput=[sample.timing(name=text, reason=text, reference=text) for text in HOSTILE],
    )
    everything = "".join(HOSTILE)
    return replace(made, notes=HOSTILE, candidate=replace(made.candidate, source=everything, revision=everything))


def bench() -> Bench:
    """A bench of two configurations."""
    latency = {"p50": 1.0, "p90": 1.25, "p99": 2.0}
    sizes = (1, 2, 4, 8, 16)
    configurations = tuple(
        Configuration(
            dtype=dtype, attention="sdpa", within_budget={"images": True, "texts": True}, lengths=(),
            ceilings=Ceilings(1.0, 1.0), joules_per_row={},
            batches=tuple(
                Point(kind=kind, rows=rows, tokens=None, per_s=speed * rows / (rows + 2), latency_ms=latency,
                      ratio=Ratio(1.25, None, None), share=0.5, binds="products", peak_mb=100.0 + rows, pairs=3)
                for kind in ("images", "texts") for rows in sizes
            ),
        )
        for dtype, speed in (("float32", 400.0), ("bfloat16", 900.0))
    )  # fmt: skip
    advice = Recommendation(kind="images", configuration="bfloat16 sdpa", rows=8, reasons=("it is the fastest",))
    return Bench(
        started="2025-06-03T14:07:21+00:00", duration_s=12.5, arguments={}, source=HOSTILE[0] + "my-clip",
        provenance={"gpu": None, "cpu": "AMD EPYC 7B13", "threads": 1, "torch": "2.13.0", "transformers": "5.23.0"},
        configurations=configurations, compiled=(), recommendations=(advice,), against=None, comparisons=(),
        at_once=(), notes=("No energy: there is no meter.",),
    )  # fmt: skip


def evaluation() -> Finished:
    """An evaluation against another checkpoint, with samples."""
    compared = Comparison(
        outcome="worse", reason="it lost more than the margin", other=0.95, loss_low=0.03, loss_high=0.11, worse_p=0.01,
        better_p=0.99, lost=10, gained=2, margin=0.02, resampled=480, needed=None,
    )  # fmt: skip
    tasks = tuple(
        TaskScores(
            name=name, claim="the class is first", outcome="failed", reason=f"{name} is worse", samples=480, values=480,
            groups=400, not_finite=0, details={},
            scores=tuple(
                ScoreResult(name=f"{name}_{what}", score=score, interval_low=score - 0.02, interval_high=score + 0.02,
                            higher_is_better=True, chance=0.1, comparison=compared)
                for what, score in (("top1", 0.88), ("top5", 0.97), ("mean_recall", 0.91))
            ),
        )
        for name in ("zero_shot", "image_to_text", "text_to_image")
    )  # fmt: skip
    info = sample.subject()
    found = Evaluation(
        started="2025-06-03T14:07:21+00:00", duration_s=41.5, arguments={}, verdict="fail",
        headline="fail: zero_shot is worse than the other checkpoint", reasons=("zero_shot: worse",), notes=HOSTILE,
        provenance={"torch": "2.13.0"}, candidate=info, against=replace(info, source="checkpoints/other"),
        dataset="shapes", dataset_digest="0" * 64, images=480, unreadable=("a.png: damaged",), tasks=tasks,
        not_served=(),
    )  # fmt: skip
    shown = [
        SimpleNamespace(sample=text, picture=_picture(), texts=(text,), values=(("top1", "0, 1"),)) for text in HOSTILE
    ]
    section = SimpleNamespace(task="zero_shot", title="worst", total=len(shown), shown=shown)
    sections: Any = (section,)
    return Finished(found, (), {}, sections)


def history() -> str:
    """A history of two models, of twelve runs and of one."""
    runs = [
        replace(RUN, number=number, measured={**RUN.measured, ("margin", "a.b[c]"): Measured(0.2 + number / 20)})
        for number in range(1, 13)
    ]
    return render_history([*runs, replace(RUN, number=13, model=HOSTILE[0])], called="history.sqlite", note=HOSTILE[1])


def _picture() -> str:
    """A small red square as a data URI."""
    content = BytesIO()
    Image.new("RGB", (16, 16), "red").save(content, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


PAGES: Mapping[str, Callable[[], str]] = {
    "pass": lambda: render_html(passing()),
    "fail": lambda: render_html(sample.failing_record()),
    "inconclusive": lambda: render_html(sample.inconclusive_record()),
    "upgrade": lambda: render_html(upgraded()),
    "hostile": lambda: render_html(hostile()),
    "bench": lambda: bench_page(bench()),
    "evaluate": lambda: evaluation_page(evaluation()),
    "compared": lambda: render_moved_html(passing(), hostile()),
    "history": history,
}
"""Name to what renders the page."""
