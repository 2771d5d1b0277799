"""A bench as text: lines of 80 columns for the terminal, and bench.md."""

from __future__ import annotations

from clip_eval.report.markdown import table
from clip_eval.report.text import aligned, bullets, paragraph
from clip_eval.throughput.bench.results import AtOnce, Bench, Comparison, Compiled, Configuration
from clip_eval.throughput.sweep import Point
from clip_eval.verdict.measurement import format_number

__all__ = ["at_once_words", "compiled_words", "markdown", "outcome_words", "terminal"]

_COLUMNS = ("configuration", "kind", "rows", "per s", "ms", "of floor", "of ceiling", "MB")


def terminal(bench: Bench) -> list[str]:
    """Return what the command prints: the saturated batch of each configuration, advice, comparisons, notes."""
    return [
        *paragraph(f"{bench.source}: {_machine(bench)}").splitlines(),
        "",
        *aligned([_COLUMNS, *_saturated(bench)], words=(0, 1, 6)),
        "",
        *bullets(_advice(bench)),
        *bullets(compiled_words(one) for one in bench.compiled),
        *bullets(outcome_words(one) for one in bench.comparisons),
        *bullets(at_once_words(one) for one in bench.at_once),
        *bullets(bench.notes),
    ]


def markdown(bench: Bench) -> str:
    """Return bench.md: advice first, then every point, then the machine."""
    comparisons = [f"- {outcome_words(one)}" for one in bench.comparisons]
    at_once = [f"- {at_once_words(one)}" for one in bench.at_once]
    compiled = [f"- {compiled_words(one)}" for one in bench.compiled]
    blocks = [
        [f"# Throughput of {bench.source}", "", _machine(bench)],
        ["## What to run", "", *(f"- {text}" for text in _advice(bench))],
        ["## Compiled", "", *compiled] if compiled else [],
        [f"## Against {bench.against}", "", *comparisons] if comparisons else [],
        ["## Several devices at once", "", *at_once] if at_once else [],
        ["## Where throughput saturates", "", *table(_COLUMNS, _saturated(bench))],
        ["## Every batch", "", *table(("tokens", *_COLUMNS), _points(bench))],
        ["## The machine", "", *table(("", ""), _facts(bench))],
        ["## Not done", "", *(f"- {note}" for note in bench.notes)] if bench.notes else [],
    ]
    return "\n".join("\n".join(block) + "\n" for block in blocks if block)


def outcome_words(one: Comparison) -> str:
    """Return one sentence on one comparison."""
    what = f"{one.configuration}, {one.kind} by {one.rows}"
    if one.judgement is None:
        return f"{what}: inconclusive: {one.reason}"
    judged = one.judgement
    return f"{what}: takes {judged.ratio} times as long as {judged.reference}: {judged.reason}."


def compiled_words(one: Compiled) -> str:
    """Return one sentence on the effect of torch.compile."""
    pays = (
        "does not pay" if one.break_even is None else f"pays after {one.break_even:,} {one.kind}"
    )  # fmt: skip
    sound = "outputs stay within budget" if one.within_budget else "outputs LEAVE the budget"
    return (
        f"Compiled, {one.kind} by {one.rows} take {one.ratio} times as long as plain; compiling takes "
        f"{one.compile_s:.1f} s and {pays}; {sound}."
    )


def at_once_words(one: AtOnce) -> str:
    """Return one sentence on several devices at once."""
    what = f"{one.configuration}, {one.kind} by {one.rows} on {', '.join(one.devices)} at once"
    if one.reason:
        return f"{what}: inconclusive: {one.reason}"
    share = sum(one.per_s) / sum(one.alone_per_s)
    alone = ", ".join(f"{rate:,.4g}" for rate in one.alone_per_s)
    return f"{what}: {sum(one.per_s):,.4g} a second, {share:.0%} of the sum of what each computes alone ({alone})."


def _machine(bench: Bench) -> str:
    facts = bench.provenance
    threads = f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}"
    return f"{facts['gpu'] or facts['cpu']}, {threads}, torch {facts['torch']}, transformers {facts['transformers']}"


def _advice(bench: Bench) -> list[str]:
    return [
        f"Run {one.kind} in {one.configuration}, by {one.rows}. {' '.join(one.reasons)}"
        for one in bench.recommendations
    ]


def _saturated(bench: Bench) -> list[tuple[str, ...]]:
    return [_cells(one, one.best(kind)) for one in bench.configurations for kind in one.kinds]


def _points(bench: Bench) -> list[tuple[str, ...]]:
    return [
        (str(point.tokens or ""), *_cells(one, point))
        for one in bench.configurations
        for point in (*one.batches, *one.lengths)
    ]


def _cells(one: Configuration, point: Point) -> tuple[str, ...]:
    mark = "" if one.within_budget[point.kind] else " (!)"
    return (
        one.name + mark,
        point.kind,
        str(point.rows),
        f"{point.per_s:,.4g}",
        format_number(point.latency_ms["p50"]),
        f"{1 / point.ratio.value:.2f}",
        f"{point.share:.0%} {point.binds}",
        "" if point.peak_mb is None else f"{point.peak_mb:,.0f}",
    )


def _facts(bench: Bench) -> list[tuple[str, str]]:
    rates = [
        (f"ceiling, {one.name}", f"{one.ceilings.operations_per_s / 1e9:,.0f} GFLOP/s, {_copies(one)}")
        for one in bench.configurations
    ]
    energy = [
        (f"energy, {one.name}", ", ".join(f"{joules:.3g} J a row of {kind}" for kind, joules in found.items()))
        for one in bench.configurations
        if (found := one.joules_per_row)
    ]
    keys = ("cpu", "gpu", "platform", "python", "torch", "transformers", "threads", "clock", "tf32", "clip_eval")
    facts = [(key, str(bench.provenance[key])) for key in keys if bench.provenance.get(key) is not None]
    return [*facts, *rates, *energy, ("started", bench.started), ("duration", f"{bench.duration_s} s")]


def _copies(one: Configuration) -> str:
    return f"{one.ceilings.bytes_per_s / 1e9:,.1f} GB/s copied"
