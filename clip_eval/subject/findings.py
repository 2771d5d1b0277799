"""What is wrong if a class does not load a checkpoint: file, field, both values, and what to do.

transformers' own messages ("size mismatch", "unrecognized image processor") name neither the field nor a remedy.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from safetensors import safe_open

from clip_eval.errors import Finding
from clip_eval.subject.loading import LoadingReport, Shapes

__all__ = ["classes_refused_alike", "loading_finding"]

_CONFIG = "config.json"
_SHOWN = 3

_FIELDS: Mapping[str, tuple[str | None, ...]] = MappingProxyType(
    {
        "text_projection.weight": ("projection_dim", "hidden_size"),
        "visual_projection.weight": ("projection_dim", "hidden_size"),
        "token_embedding.weight": ("vocab_size", "hidden_size"),
        "text_model.embeddings.position_embedding.weight": ("max_position_embeddings", "hidden_size"),
        # A row for each patch, and one for the class token: no field says that number itself.
        "vision_model.embeddings.position_embedding.weight": (None, "hidden_size"),
        "patch_embedding.weight": ("hidden_size", "num_channels", "patch_size", "patch_size"),
        "mlp.fc1.weight": ("intermediate_size", "hidden_size"),
        "mlp.fc1.bias": ("intermediate_size",),
        "mlp.fc2.weight": ("hidden_size", "intermediate_size"),
    }
)
"""By the end of a tensor's name: the field of the tower's section that gives each axis; of other tensors the width."""


_ReportOf = Callable[[str], LoadingReport]


def classes_refused_alike(model_class: str, report_of: _ReportOf, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that one cause keeps from loading, in order; the class itself where it loads.

    That is so if they raise the same, their own names aside, or if the same field with the same two values is wrong in
    the sections of several towers.

    Args:
        model_class: the class.
        report_of: loads a class if that has not happened yet.
        classes: those that load this checkpoint, in order.
    """
    cause = _cause(model_class, report_of)
    if cause is None or model_class not in classes:
        return (model_class,)
    return tuple(name for name in classes if _cause(name, report_of) == cause)


def _cause(model_class: str, report_of: _ReportOf) -> object:
    report = report_of(model_class)
    if sizes := frozenset((field, size, made) for (_, field), (size, made, _) in _differing(report.shapes)):
        return sizes
    return None if report.shapes or report.refusal is None else report.refusal.replace(model_class, "")


def loading_finding(
    classes: Sequence[str], report_of: _ReportOf, *, config: Mapping[str, object], directory: Path
) -> Finding | None:
    """Return what keeps classes from loading every weight, for people; None where nothing does.

    Args:
        classes: those that one cause keeps from it.
        report_of: what transformers reported of a class.
        config: config.json as it is.
        directory: the checkpoint.
    """
    report, model_class = report_of(classes[0]), classes[0]
    if report.complete:
        return None
    release, file = f"transformers {version('transformers')}", directory / _CONFIG
    fields = {place: sizes for name in classes for place, sizes in _differing(report_of(name).shapes)}
    if fields:
        differences = [_field(place, sizes, config=config) for place, sizes in fields.items()]
        fix = " and ".join(f"write {size} for {section}.{name}" for (section, name), (size, _, _) in fields.items())
        what = f"{release} cannot load {' and '.join(classes)}: {'; '.join(differences[:_SHOWN])}"
        return Finding(what, where=file, fix=f"{fix[:1].upper()}{fix[1:]}")
    if report.shapes:
        fix = "Save the tensors in the shapes of the model, or correct the sizes in config.json"
        return Finding(f"{release} cannot load {model_class}: {_unlike(report.shapes)}", where=directory, fix=fix)
    if report.refusal and (unnamed := _without_format(directory)) is not None:
        what = f"{release} cannot load {model_class}, as the metadata of the file has no format: {report.refusal}"
        return Finding(what, where=unnamed, fix=_save_with_format(unnamed))
    if report.refusal:
        fix = "Load it in Python to see the whole message, and correct what it names"
        return Finding(f"{release} cannot load {model_class}: {report.refusal}", where=directory, fix=fix)
    what = f"{release} does not load every weight of {model_class}: {report.in_words}"
    fix = "What is missing has random values: compare the names in the file with those of the model's state_dict"
    return Finding(what, where=directory, fix=fix)


_Place = tuple[str, str]
_Sizes = tuple[int, int, str]


def _differing(shapes: Shapes) -> Iterator[tuple[_Place, _Sizes]]:
    """(section, field) with the size in the file, the size in the model, and a tensor that shows it; each once."""
    seen: set[_Place] = set()
    for name, (held, built) in shapes.items():
        section = "text_config" if name.startswith("text_") else "vision_config"
        fields = next((value for end, value in _FIELDS.items() if name.endswith(end)), ("hidden_size",) * len(held))
        if len(held) == len(built) == len(fields):
            for field, size, made in zip(fields, held, built, strict=True):
                if field is not None and size != made and (section, field) not in seen:
                    seen.add((section, field))
                    yield (section, field), (size, made, name)


def _field(place: _Place, sizes: _Sizes, *, config: Mapping[str, object]) -> str:
    """Such as "text_config.projection_dim is 512, and text_projection.weight is made for 1024"."""
    (section, field), (size, made, tensor) = place, sizes
    tower = config.get(section)
    stated = isinstance(tower, Mapping) and tower.get(field) is not None
    word = f"{section}.{field} is {made}" if stated else f"{section}.{field} is left out, which means {made}"
    whole = ", as projection_dim beside the towers says" if config.get(field) == size else ""
    return f"{word}, and {tensor} is made for {size}{whole}"


def _unlike(shapes: Shapes) -> str:
    differences = [
        f"{name} has shape {held} in the file and {built} in the model" for name, (held, built) in shapes.items()
    ]
    more = f"; {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return "; ".join(differences[:_SHOWN]) + more


def _without_format(directory: Path) -> Path | None:
    """The first safetensors file whose metadata does not name its format, without which transformers 4 refuses it."""
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata()
        if metadata and "format" not in metadata:
            return file
    return None


def _save_with_format(file: Path) -> str:
    code = (
        "import os; from safetensors.torch import load_file, save_file; "
        f'f = "{file.name}"; save_file(load_file(f), f + ".new", {{"format": "pt"}}); os.replace(f + ".new", f)'
    )
    return f"Save it again with one: python -c {shlex.quote(code)} in its directory does"
