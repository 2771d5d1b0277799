"""How often paired timing calls an unchanged model slower, and how often it sees a slow-down that was put in.

`PYTHONPATH=tests:tools python -m timing.decisions --out reports/throughput/decisions.md` takes some 50 minutes: four
cells of 100 decisions each, and the same cells for pytest-benchmark's compare-fail at 10 %. Not a test: it measures the
machine it runs on, which has to be idle but for it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.probes.batches import make_batch
from clip_eval.subject import Subject
from clip_eval.subject.environment import cores, cpu_model
from clip_eval.throughput.clock import clock_of, torch_threads
from clip_eval.throughput.paired import Turns, measure, pilot
from clip_eval.throughput.ratio import in_one_run
from clip_eval.throughput.trial import make_trial
from timing.compare_fail import CompareFail

_LONGEST_S = 3.2  # of the pairs: with warm-up and pilot a decision stays below 5 s however busy the machine gets
_CHECKPOINT = Path(__file__).parents[2] / "fixtures" / "shapes-clip"

# Busy and idle for 0.3 to 2 seconds each, so that the load changes within a decision and between two.
_LOAD = """
import random, time
chance = random.Random(0)
while True:
    end = time.perf_counter() + chance.uniform(0.3, 2.0)
    while time.perf_counter() < end:
        pass
    time.sleep(chance.uniform(0.3, 2.0))
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of decision.

    Attributes:
        slow_down: that is put into the subject, such as 0.05; 0 leaves it as it is.
        loaded: a second process keeps a core busy on and off.
    """

    slow_down: float
    loaded: bool

    def __str__(self) -> str:
        """As the table prints it."""
        change = f"slowed down by {self.slow_down:.0%}" if self.slow_down else "unchanged"
        return f"{change}, {'under load' if self.loaded else 'quiet'}"


TOOLS = ("paired", "compare-fail")
CELLS = (Cell(0.0, False), Cell(0.0, True), Cell(0.05, False), Cell(0.10, True))


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision: what was said, on how many pairs, and the seconds it took."""

    cell: str
    tool: str
    said: str
    ratio: float
    low: float | None
    high: float | None
    rounds: int
    took_s: float


def slowed(call: Callable[[], Any], slow_down: float) -> Callable[[], Any]:
    """Return the call made longer by a share of the time that it computes."""
    if not slow_down:
        return call

    def slower() -> Any:
        start = time.thread_time()
        result = call()
        end = time.thread_time() + slow_down * (time.thread_time() - start)
        while time.thread_time() < end:
            pass
        return result

    return slower


def decide(cell: Cell, subject: Callable[[], Any], reference: Callable[[], Any], seed: int) -> Decided:
    """Time the subject in turns with its reference and decide, as a gate does within one run."""
    start, clock = time.perf_counter(), clock_of("cpu")
    call = slowed(subject, cell.slow_down)
    pairs = pilot(Turns(call, reference, clock.seconds, seed=seed))
    found = measure(Turns(call, reference, clock.seconds, seed=seed + 1), pairs, longest_s=_LONGEST_S)
    verdict = in_one_run(found.ratio, "the same checkpoint").verdict
    ratio = found.ratio
    return Decided(
        str(cell), "paired", str(verdict), ratio.value, ratio.low, ratio.high, found.pairs, time.perf_counter() - start
    )


@contextmanager
def load(loaded: bool) -> Iterator[None]:
    """In the block, a second process keeps a core busy on and off."""
    if not loaded:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _LOAD])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def decisions(checkpoint: Path, kind: str, count: int, tools: Sequence[str] = TOOLS) -> Iterator[Decided]:
    """Yield the decisions of every cell, tool by tool; the two copies of the model are loaded once."""
    subject, reference = (_call(checkpoint, kind) for _ in range(2))
    with torch_threads(1):
        for tool, cell in product(tools, CELLS):
            one = partial(decide, cell) if tool == "paired" else _saved(cell, reference)
            with load(cell.loaded):
                for number in range(count):
                    yield one(subject, reference, seed=2 * number)


def _call(checkpoint: Path, kind: str) -> Callable[[], Any]:
    opened = open_checkpoint(checkpoint)
    return make_trial(kind, Subject(opened, "float32"), make_batch(opened.config)).subject


def _saved(cell: Cell, reference: Callable[[], Any]) -> Callable[..., Decided]:
    """Let pytest-benchmark save its figure, which needs a quiet machine, and return what decides by that figure."""
    compare_fail = CompareFail(reference)
    compare_fail.save()

    def decided(subject: Callable[[], Any], reference: Callable[[], Any], seed: int) -> Decided:
        start = time.perf_counter()
        found = compare_fail.run(slowed(subject, cell.slow_down))
        said, took_s = "slower" if found.failed else "same", time.perf_counter() - start
        return Decided(str(cell), "compare-fail", said, found.mean_ratio, None, None, found.rounds, took_s)

    return decided


def table(found: list[Decided]) -> str:
    """Return the figures as Markdown: how often each tool said what, a line a cell."""
    said = ("slower", "same", "faster", "inconclusive")
    lines = [f"| {' | '.join(('tool', 'subject', 'decisions', *said, 'seconds, median and most'))} |", "|---" * 8 + "|"]
    for tool, cell in dict.fromkeys((one.tool, one.cell) for one in found):
        group = [one for one in found if (one.tool, one.cell) == (tool, cell)]
        counts = [sum(one.said == word for one in group) for word in said]
        seconds = sorted(one.took_s for one in group)
        shares = [f"{n} ({n / len(group):.0%})" for n in counts]
        times = f"{seconds[len(seconds) // 2]:.1f}, {seconds[-1]:.1f}"
        lines.append(f"| {' | '.join((tool, cell, str(len(group)), *shares, times))} |")
    return "\n".join(lines) + "\n"


def page(found: list[Decided], checkpoint: Path, kind: str) -> str:
    """Return the report: what was done, where, and the table."""
    import torch

    where = f"{cpu_model()}, {cores()} cores, {platform.platform()}, torch {torch.__version__}, one thread"
    return (
        f"# False alarms and power of throughput decisions\n\n{where}; {kind} of {checkpoint.name}, float32.\n\n"
        "`paired`: the subject in turns with a second copy of the same checkpoint, decided as a gate decides within\n"
        "one run (margin 2 %). `compare-fail`: pytest-benchmark with `--benchmark-compare-fail=mean:10%` against a\n"
        "figure that it saved before each cell, on the quiet machine; it has no third answer. The load is one\n"
        f"process, busy and idle for 0.3 to 2 seconds each.\n\n{table(found)}"
    )


def main() -> None:
    """Run the simulation and write the report, with every decision beside it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the report, a Markdown file")
    parser.add_argument("--count", type=int, default=100, help="decisions a cell")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="both by default")
    parser.add_argument("--checkpoint", type=Path, default=_CHECKPOINT)
    parser.add_argument("--kind", choices=("images", "texts", "pairs"), default="images")
    options = parser.parse_args()
    found: list[Decided] = []
    for one in decisions(options.checkpoint, options.kind, options.count, options.tool or TOOLS):
        found.append(one)
        print(f"{one.cell}: {one.tool} {one.said}, {one.ratio:.3f}, {one.took_s:.1f} s", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(found, options.checkpoint, options.kind), encoding="utf-8")
    options.out.with_suffix(".json").write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
