"""The bench on a small checkpoint with a clock of the test's own: what is tried, advised, compared, and written."""

from __future__ import annotations

import html
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from clip_eval.cli.bench import bench as command
from clip_eval.errors import ProcessError, UsageError
from clip_eval.subject.candidate import Candidate
from clip_eval.throughput import clock, sweep
from clip_eval.throughput.bench import Bench, Options, run_bench, write_bench
from clip_eval.throughput.bench import many_devices as at_once
from clip_eval.throughput.bench import run as bench_run
from clip_eval.throughput.bench.curves import curves
from clip_eval.throughput.bench.many_devices import compute_at_once
from clip_eval.throughput.bench.markdown import at_once_words, compiled_words, markdown, outcome_words, terminal
from clip_eval.throughput.bench.recommend import recommend
from clip_eval.throughput.bench.results import AtOnce, Comparison, Compiled, Configuration
from clip_eval.throughput.bench.write import FILES, render_html
from clip_eval.throughput.paired import Turns
from clip_eval.throughput.ratio import Ratio, in_one_run
from clip_eval.throughput.roofline import Ceilings
from clip_eval.throughput.sweep import Point
from clip_eval.throughput.worker_client import WorkerClient


@pytest.fixture(scope="module")
def found(smallest: Path) -> Bench:
    """A bench with two batches a tower, in which every call takes the same time."""
    model = str(smallest)
    with pytest.MonkeyPatch.context() as patch:
        clocked(patch)
        return run_bench(Options(model=model, dtypes=("float32", "bfloat16"), against=model, most_rows=2))


def clocked(patch: pytest.MonkeyPatch) -> None:
    """Let every call take a millisecond and a bit, and every measurement eight pairs."""
    ticks = itertools.count()

    def seconds(call: Callable[[], Any]) -> float:
        call()
        return 0.001 + next(ticks) % 5 * 1e-7

    made = clock.Clock(seconds, "the test's")
    from clip_eval.throughput.bench import comparison as against
    from clip_eval.throughput.bench import recommend as advice

    for module in (bench_run, sweep, against, advice):
        patch.setattr(module, "clock_of", lambda _: made)
    for module in (bench_run, against, advice):
        patch.setattr(module, "pilot", lambda *_: 8)
    patch.setattr(sweep, "_POINT_S", 0.0)
    patch.setattr(bench_run, "ceilings", lambda *_: Ceilings(1e12, 1e12))
    patch.setattr(clock, "hold_heap", lambda: True)


def test_every_configuration_is_tried(found: Bench) -> None:
    """Both dtypes with the library's attention and eager, each tower and both, batches doubled up to the limit, and
    lengths of texts.
    """
    assert [one.name for one in found.configurations] == [
        "float32 sdpa", "float32 eager", "bfloat16 sdpa", "bfloat16 eager"
    ]  # fmt: skip
    for one in found.configurations:
        assert [(point.kind, point.rows) for point in one.batches] == [
            ("images", 1), ("images", 2), ("texts", 1), ("texts", 2), ("pairs", 1), ("pairs", 2)
        ]  # fmt: skip
        assert [point.tokens for point in one.lengths] == [8]
        assert one.within_budget == {"images": True, "texts": True, "pairs": True}
        assert all(point.pairs == 3 and point.latency_ms["p50"] > 0.9 for point in one.batches)


def test_equal_speed_keeps_the_default(found: Bench) -> None:
    """Where nothing is faster the first configuration is advised, with its batch and how near it is to its limits."""
    assert [(one.kind, one.configuration, one.rows) for one in found.recommendations] == [
        ("images", "float32 sdpa", 2), ("texts", "float32 sdpa", 2), ("pairs", "float32 sdpa", 2)
    ]  # fmt: skip
    said = " ".join(found.recommendations[0].reasons)
    assert "2 rows are the most that were tried" in said
    assert "of the speed of the same forward in plain torch" in said


def test_the_same_checkpoint_is_as_fast(found: Bench) -> None:
    """Against itself every configuration comes out the same, kind by kind."""
    assert len(found.comparisons) == 12
    assert {one.judgement.verdict for one in found.comparisons if one.judgement} == {"same"}


def test_what_was_not_done_is_said(found: Bench) -> None:
    """On a CPU there are no CUDA graphs and no meter of energy, and the report says so."""
    assert len(found.notes) == 2
    assert all(note in markdown(found) and note in html.unescape(render_html(found)) for note in found.notes)


def test_files_are_written_whole(found: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three files, bench.json as JSON; where one cannot be rendered, none."""
    write_bench(found, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(FILES)
    data = json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == 1
    assert data["configurations"][0]["batches"][0]["rows"] == 1
    monkeypatch.setattr("clip_eval.throughput.bench.write.markdown", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bench(found, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_terminal_holds_it(found: Bench) -> None:
    """The table and the sentences fit 80 columns, apart from paths that are kept whole."""
    lines = terminal(found)
    assert lines[lines.index("") + 1].startswith("configuration")
    assert all(len(line) <= 80 for line in lines if "/" not in line)
    assert "Run images in float32 sdpa, by 2." in " ".join(lines)


def test_curves_have_a_line_for_each_configuration(found: Bench) -> None:
    """Three pictures by batch and one by text length; four lines that differ; no picture fetches anything."""
    drawn = curves(found)
    by_batch = [f"{kind} a second, by rows of a batch." for kind in ("Images", "Texts", "Pairs")]
    assert [picture.caption for picture in drawn] == [*by_batch, "Texts a second, by tokens of a text."]
    for picture in drawn:
        root = ElementTree.fromstring(picture.svg)
        words = [node.text for node in root.iter("text")]
        assert [one.name for one in found.configurations if one.name not in words] == []
        lines = [style for node in root.iter("path") if "fill: none" in (style := node.get("style", ""))]
        assert len({style for style in lines if "stroke-width: 1.5" in style}) == 4
    page = render_html(found)
    assert page.count('class="picture"') == 4
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")


def test_names_are_text(found: Bench) -> None:
    """A checkpoint's name is no HTML."""
    page = render_html(replace(found, source="<script>alert(1)</script>"))
    assert "<script>alert" not in page


def test_several_devices_compute_at_once(found: Bench, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real worker for each device: what each does alone, what all do at once; a worker that dies ends it."""
    options = Options(model=str(model), devices=("cpu", "cpu"))
    session = Candidate(str(model), "float32")
    compute = compute_at_once(options, found.recommendations, {"float32 sdpa": session}, lambda _: None)
    workers: list[WorkerClient] = []
    monkeypatch.setattr(at_once, "WorkerClient", lambda python: workers.append(WorkerClient(python)) or workers[-1])
    one = next(compute)
    assert (one.kind, one.rows, one.devices, one.reason) == ("images", 2, ("cpu", "cpu"), "")
    assert len(one.alone_per_s) == len(one.per_s) == len(workers) == 2
    assert min(*one.alone_per_s, *one.per_s) > 0
    os.kill(workers[1].pid, signal.SIGKILL)
    assert ["died of signal SIGKILL" in one.reason for one in compute] == [True]
    assert not list(compute_at_once(Options(model=str(model)), found.recommendations, {}, lambda _: None))


def test_sentences_on_several_devices(found: Bench) -> None:
    """The sum, its share of what the devices do one at a time, or why there is none; every report holds it."""
    one = AtOnce(
        kind="images", configuration="bfloat16 sdpa", rows=8, devices=("cuda:0", "cuda:1"),
        alone_per_s=(1000.0, 1000.0), per_s=(900.0, 1000.0), reason="",
    )  # fmt: skip
    said = at_once_words(one)
    assert said.startswith("bfloat16 sdpa, images by 8 on cuda:0, cuda:1 at once: 1,900 a second, 95% of the sum")
    page = replace(found, at_once=(one,))
    assert said in " ".join(terminal(page)).replace("   ", " ")
    assert said in markdown(page)
    assert said in html.unescape(render_html(page))
    assert at_once_words(replace(one, reason="the worker process died.")).endswith(
        "inconclusive: the worker process died."
    )


def a_point(per_s: float, rows: int = 8, kind: str = "images") -> Point:
    """Return a point of that speed."""
    latency = {"p50": 1.0, "p90": 1.0, "p99": 1.0}
    return Point(
        kind=kind, rows=rows, tokens=None, per_s=per_s, latency_ms=latency, ratio=Ratio(1.25, None, None), share=0.5,
        binds="products", peak_mb=None, pairs=3,
    )  # fmt: skip


def a_configuration(dtype: str, per_s: float, *, sound: bool = True) -> Configuration:
    """Return a configuration in which images reach that speed by 8."""
    return Configuration(
        dtype=dtype, attention="sdpa", within_budget={"images": sound}, lengths=(), ceilings=Ceilings(1.0, 1.0),
        batches=(a_point(per_s / 2, 1), a_point(per_s), a_point(1.01 * per_s, 16)), joules_per_row={},
    )  # fmt: skip


def advised(*configurations: Configuration, ratio: float = 0.5, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the advice on images where the fastest takes `ratio` times as long as the default, in turns."""
    held = Ratio(ratio, 0.99 * ratio, 1.01 * ratio)
    monkeypatch.setattr("clip_eval.throughput.bench.recommend._in_turns", lambda *_: held)
    trials: Any = {one.name: lambda *_: None for one in configurations}
    return recommend("images", configurations, trials, "cpu")


def test_the_fastest_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that is faster in turns too is advised, at the smallest batch within 5 % of its best."""
    found = advised(a_configuration("float32", 100), a_configuration("bfloat16", 200), monkeypatch=monkeypatch)
    assert (found.configuration, found.rows) == ("bfloat16 sdpa", 8)
    assert "bfloat16 sdpa takes 0.500 (0.495 to 0.505) times as long as the default" in found.reasons[0]
    assert "more than 8 rows bring less than 5 % more" in found.reasons[1]


def test_a_lead_that_turns_do_not_confirm_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only looked faster, at another minute, changes nothing."""
    found = advised(
        a_configuration("float32", 100), a_configuration("bfloat16", 110), ratio=0.99, monkeypatch=monkeypatch
    )
    assert found.configuration == "float32 sdpa"
    assert "too small a difference" in found.reasons[0]


def test_wrong_outputs_are_out_of_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast, a configuration whose outputs leave their budget is not advised, and the reason names it."""
    wrong = a_configuration("bfloat16", 900, sound=False)
    found = advised(a_configuration("float32", 100), wrong, monkeypatch=monkeypatch)
    assert found.configuration == "float32 sdpa"
    assert any("bfloat16 sdpa is excluded" in reason for reason in found.reasons)
    alone = advised(replace(wrong, dtype="float32"), monkeypatch=monkeypatch)
    assert "No configuration stays within its budget" in alone.reasons[0]


def test_a_default_outside_its_budget_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the default computes wrong, a sound configuration is advised though it is no faster."""
    found = advised(
        a_configuration("float16", 100, sound=False), a_configuration("float32", 90), ratio=1.1, monkeypatch=monkeypatch
    )
    assert found.configuration == "float32 sdpa"


def test_a_batch_sweep_stops_where_rows_bring_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two doublings in a row that bring next to nothing end it, and so does a call that takes too long."""
    speeds = {1: 10.0, 2: 20.0, 4: 20.5, 8: 20.6, 16: 99.0}
    monkeypatch.setattr(sweep, "make_trial", lambda *_, rows: rows)
    monkeypatch.setattr(sweep, "point", lambda rows, *_: a_point(speeds[rows], rows))
    arguments: Any = ("images", type("Subject", (), {"device": "cpu"}), None, None)
    assert [point.rows for point in sweep.batch_sweep(*arguments)] == [1, 2, 4, 8]
    assert [point.rows for point in sweep.batch_sweep(*arguments, most=2)] == [1, 2]
    slow = {"p50": 2000.0, "p90": 0.0, "p99": 0.0}
    monkeypatch.setattr(sweep, "point", lambda rows, *_: replace(a_point(1.0, rows), latency_ms=slow))
    assert [point.rows for point in sweep.batch_sweep(*arguments)] == [1]


def test_sentences_on_the_other_side() -> None:
    """A comparison says the ratio and the verdict, or why there is none."""
    one = Comparison(kind="images", configuration="float32 sdpa", rows=8, judgement=None, reason="the worker died.")
    assert outcome_words(one) == "float32 sdpa, images by 8: inconclusive: the worker died."
    judged = replace(one, judgement=in_one_run(Ratio(1.1, 1.09, 1.11), "transformers 4.57.6"))
    assert "takes 1.100 (1.090 to 1.110) times as long as transformers 4.57.6: slower" in outcome_words(judged)


def test_sentences_on_compiling() -> None:
    """What compiling takes, and after how many rows it has paid, or that it does not."""
    one = Compiled(
        kind="images", rows=8, compile_s=20.0, ratio=Ratio(0.8, 0.79, 0.81), break_even=40_000, within_budget=True
    )
    assert "compiling takes 20.0 s and pays after 40,000 images; outputs stay within budget" in compiled_words(one)
    assert "does not pay" in compiled_words(replace(one, break_even=None))


def test_compiled_calls_are_timed_in_turns_with_plain_ones(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of what torch.compile returns is the compilation; saved seconds pay for it, row by row."""
    import torch

    clocked(monkeypatch)
    monkeypatch.setattr(torch, "compile", lambda method: method)
    ratios = Turns.ratios
    monkeypatch.setattr(Turns, "ratios", lambda self: [0.5 * one for one in ratios(self)])
    options = Options(model=str(model), dtypes=("float32",), attentions=("sdpa",), compiled=True, most_rows=1)
    found = run_bench(options)
    assert [one.kind for one in found.compiled] == ["images", "texts", "pairs"]
    assert all(one.within_budget and one.ratio.value == pytest.approx(0.5, rel=0.01) for one in found.compiled)
    monkeypatch.setattr(
        bench_run, "_compile", lambda *_: (_ for _ in ()).throw(RuntimeError("no C++ compiler\nat all"))
    )
    assert "images could not be compiled: no C++ compiler" in run_bench(options).notes


def test_a_worker_that_dies_leaves_a_comparison_open(
    found: Bench, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other interpreter's death is the reason of its comparison, and the bench goes on. It is asked for the variant
    that is measured.
    """
    from clip_eval.throughput.bench import comparison as against

    shutil.copytree(model, checkpoint := tmp_path / "variant")
    (checkpoint / "model.safetensors").rename(checkpoint / "model.fp16.safetensors")
    asked = []

    class Dying:
        """A worker that does nothing."""

        def __init__(self, python: str) -> None:
            assert python == "other"

        def __enter__(self) -> Dying:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def load(self, *, variant: str | None, **_: object) -> dict[str, str]:
            asked.append(variant)
            raise ProcessError("the worker died of signal SIGKILL")

    monkeypatch.setattr(against, "WorkerClient", Dying)
    clocked(monkeypatch)
    side = (Candidate(str(checkpoint), "float32", variant="fp16"), found.configurations[0])
    options = Options(model=str(checkpoint), variant="fp16", against_python="other")
    name, comparisons = against.compare_sides(options, [side], lambda _: None)
    assert (name, asked) == (f"{checkpoint} under other", ["fp16"] * 3)
    assert [one.reason for one in comparisons] == ["the worker died of signal SIGKILL."] * 3


@pytest.mark.parametrize("change", [{"dtypes": ("int8",)}, {"threads": 0}])
def test_options_out_of_range_are_refused(change: dict[str, Any]) -> None:
    """A dtype that is none, or no thread, is the user's to mend."""
    with pytest.raises(UsageError):
        Options(model="m", **change)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"devices": ("cpu", "nowhere:0")}, "nowhere"), ({"attentions": ("flash_of_genius",)}, "flash_of_genius")],
)
def test_what_is_not_there_is_a_usage_error(model: Path, options: dict[str, Any], said: str) -> None:
    """A device or an attention that cannot be used ends the bench before it begins."""
    with pytest.raises(UsageError, match=said):
        run_bench(Options(model=str(model), dtypes=("float32",), most_rows=1, **options))


def test_the_command_measures_and_writes(
    found: Bench, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench` hands its options on, writes the files, and prints where they are."""
    asked: list[Options] = []

    def run(options: Options, *, say: Callable[[str], None]) -> Bench:
        asked.append(options)
        return found

    monkeypatch.setattr("clip_eval.throughput.bench.run_bench", run)
    arguments = [
        str(model),
        "--dtype",
        "float32",
        "--dtype",
        "bfloat16",
        "--attn",
        "eager",
        "--compile",
        "--threads",
        "2",
    ]
    result = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    assert asked == [
        Options(
            model=str(model), dtypes=("float32", "bfloat16"), attentions=("eager",), compiled=True, threads=2
        )
    ]  # fmt: skip
    assert f"reports: {tmp_path / 'out' / 'bench.html'}" in result.output
    assert (tmp_path / "out" / "bench.json").exists()
