"""Error and bound after each layer of both towers, with the module where a wrong number begins."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.report.pictures.canvas import Colour, Picture, area, canvas, decades, label, svg
from clip_eval.verdict.measurement import Measurement, format_number, worst
from clip_eval.verdict.run_record import CheckResult, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Stage", "Tower", "layers_picture", "towers_of"]

_PANEL, _BELOW, _ABOVE = 190.0, 40.0, 40.0  # pixels
_STATE = re.compile(r"hidden_states\[(\d+)\]")
_LAYER = re.compile(r"\.layers\.(\d+)")


@dataclass(frozen=True, slots=True)
class _Source:
    """The checks that compare a tower with the reference, and the last of its numbers."""

    title: str
    states: str
    embeds: str
    parts: tuple[str, ...]


_HEAD = "reference_values.embeddings_and_logits"
_SOURCES = (
    _Source("Text tower", "reference_values.text_tower", "text_embeds", ("text_model", "text_projection")),
    _Source("Vision tower", "reference_values.vision_tower", "image_embeds", ("vision_model", "visual_projection")),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A point on the way through a tower: the worst measurement there, over masks and kinds of attention."""

    name: str
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Tower:
    """What was measured of a tower, in the order of computation.

    Attributes:
        title: for a heading.
        stages: states after 0, 1, ... layers, then what the tower makes of the last one.
        module: the first module that diverges in it, in the checkpoint's names; None where none does.
    """

    title: str
    stages: tuple[Stage, ...]
    module: str | None


def towers_of(record: RunRecord) -> tuple[Tower, ...]:
    """The towers that were compared with the reference."""
    towers = (_tower(record.checks, source) for source in _SOURCES)
    return tuple(tower for tower in towers if tower.stages)


def _tower(checks: Sequence[CheckResult], source: _Source) -> Tower:
    by_name: dict[str, list[Measurement]] = {}
    for check in checks:
        for one in check.measurements if check.id in (source.states, _HEAD) else ():
            if one.ratio is not None and (check.id == source.states or one.name == source.embeds):
                by_name.setdefault(one.name, []).append(one)
    numbers = sorted(int(state.group(1)) for name in by_name if (state := _STATE.fullmatch(name)))
    names = {f"hidden_states[{number}]": str(number) for number in numbers}
    names |= {"last_hidden_state": "last", "pooler_output": "pooled", source.embeds: "embed"}
    found = ((short, worst(by_name.get(name, ()))) for name, short in names.items())
    stages = tuple(Stage(short, one) for short, one in found if one is not None)
    modules = [check.diverges_at for check in checks if check.diverges_at]
    own = [module for module in modules if module.startswith(source.parts)]
    return Tower(source.title, stages, max(own, key=own.count, default=None))


def layers_picture(record: RunRecord) -> Picture | None:
    """A panel for each tower; None where nothing of a tower was compared with the reference."""
    towers = towers_of(record)
    if not towers:
        return None
    height = _PANEL * len(towers)
    with canvas(height) as figure:
        for place, tower in enumerate(towers):
            below = _PANEL * (len(towers) - 1 - place) + _BELOW
            _draw(area(figure, left=48, right=10, top=_PANEL * place + _ABOVE, bottom=below), tower)
        return Picture(svg(figure, "Error after each layer of the towers"), _caption(towers))


def _draw(axes: Axes, tower: Tower) -> None:
    """Bounds as a dashed line, errors as a line with marks, and where it breaks."""
    xs, layers = _positions(tower.stages)
    low, high = _limits(tower.stages)
    errors = [_within(stage.measurement.error, low, high) for stage in tower.stages]
    bounds = [_within(stage.measurement.bound, low, high) for stage in tower.stages]
    decades(axes, low, high, which="y")
    shown = [*range(0, layers, 1 + layers // 16), *range(layers, len(xs))]
    axes.set_xticks([xs[place] for place in shown], [tower.stages[place].name for place in shown])
    axes.set(xlim=(-0.5, xs[-1] + max(0.5, layers * 0.1)), xlabel="after layer")
    axes.grid(axis="y")
    axes.text(0, 1 + 24 / _PANEL, tower.title, transform=axes.transAxes, fontsize=12)
    if tower.module is not None:
        axes.axvspan(*_span(tower.module, xs, layers), color=Colour.BAD, alpha=0.16, linewidth=0)
        axes.text(1, 1 + 8 / _PANEL, label(tower.module, 52), transform=axes.transAxes, color=Colour.BAD, ha="right")
    axes.plot(xs, bounds, color=Colour.SOFT, linestyle=(0, (4, 3)), linewidth=1.2)
    axes.plot(xs, errors, color=Colour.BAR, marker="o", markersize=4)
    broken = [place for place, stage in enumerate(tower.stages) if not stage.measurement.passed]
    axes.plot(
        [xs[place] for place in broken],
        [errors[place] for place in broken],
        linestyle="none",
        marker="X",
        markersize=9,
        color=Colour.BAD,
        markeredgecolor=Colour.CARD,
    )


def _positions(stages: Sequence[Stage]) -> tuple[list[float], int]:
    """Where each stage lies, layers at their numbers and the others farther apart, and how many layers there are."""
    layers = sum(stage.name.isdecimal() for stage in stages)
    step = max(1.0, layers * 0.19)
    return [*map(float, range(layers)), *(layers - 1 + step * (one + 1) for one in range(len(stages) - layers))], layers


def _limits(stages: Sequence[Stage]) -> tuple[float, float]:
    """Powers of ten around all errors and bounds above 0."""
    numbers = [number for stage in stages for number in (stage.measurement.error, stage.measurement.bound)]
    shown = [number for number in numbers if number is not None and 0 < number < math.inf] or [1.0]
    low, high = (math.floor(math.log10(number)) for number in (min(shown), max(shown)))
    return 10.0 ** max(low, -300), 10.0 ** min(high + 1, 300)


def _within(number: float | None, low: float, high: float) -> float:
    """The number if it can be drawn, else the edge where it lies beyond."""
    if number is None or math.isnan(number):
        return high
    return min(max(number, low), high)


def _span(module: str, xs: Sequence[float], layers: int) -> tuple[float, float]:
    """The stages between which a module computes; all of what follows the layers for a module that is in none."""
    layer = _LAYER.search(module)
    if layer is not None:
        end = min(int(layer.group(1)) + 1, len(xs) - 1)
        return xs[max(end - 1, 0)], xs[end]
    if module.endswith(("embeddings", "patch_embedding", "token_embedding", "position_embedding", "pre_layrnorm")):
        return -0.5, 0.0
    return xs[max(layers - 1, 0)], xs[-1]


def _caption(towers: Sequence[Tower]) -> str:
    wrong = [tower for tower in towers if tower.module is not None]
    said = "The largest error after each layer (line with marks) and the bound there (dashed)"
    if not wrong:
        lines = [f"{tower.title.lower()} comes nearest {_nearest(tower)}" for tower in towers]
        return f"{said}; the {', the '.join(lines)}."
    lines = [f"{tower.title.lower()} goes wrong in {tower.module}" for tower in wrong]
    return f"{said}; the {' and the '.join(lines)} (shaded). A check ends at its first wrong number."


def _nearest(tower: Tower) -> str:
    one = max(tower.stages, key=lambda stage: stage.measurement.ratio or 0.0)
    place = f"after layer {one.name}" if one.name.isdecimal() else f"at {one.name}"
    return f"{place}, at {format_number(one.measurement.ratio, digits=2)} of it"
