"""Repro scripts of failures: a directory with inputs, expected and observed values, and a short script that calls the
model with transformers alone and says whether it still fails.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.errors import OutputError
from clip_eval.files.read_write import new_directory
from clip_eval.subject.observations import Clip, Part, Question
from clip_eval.verdict.compare import EXACT_RULE, Numbers, to_array

__all__ = ["bundle_name", "remove_bundles", "write_bundle"]

_SCRIPT, _NOTE = "repro.py", "no-bundle.txt"
_FILES = {_SCRIPT, _NOTE, "inputs.npz", "expected.npz", "observed.npz"}

_TEMPLATE = '''"""{title}

Calls the model as the failed check did. Exits with 1 while a value lies outside of its bound.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers

here = Path(__file__).parent
inputs = {{name: torch.tensor(value, device={device!r}) for name, value in np.load(here / "inputs.npz").items()}}
{forms}model = transformers.{model_class}.from_pretrained({loading}).to({device!r})
with torch.{grad}():
    output = model{method}({arguments})
observed = {observed}.detach().double().cpu().numpy()
value, bound, counts = np.load(here / "expected.npz").values()
error = np.where(counts, np.abs(observed - value), 0)
excess = np.nan_to_num(error / np.maximum(bound, 1e-300), nan=np.inf)
at = np.unravel_index(excess.argmax(), excess.shape)
print(f"element {{[int(i) for i in at]}}: observed {{observed[at]:.9g}}, expected {{value[at]:.9g}}")
print(f"error {{error[at]:.3g}}, bound {{bound[at]:.3g}}")
sys.exit(int(not np.all(error <= bound)))
'''


def bundle_name(check: str, case: str | None) -> str:
    """Return the name of a check's directory: its id, and its case where it has one, without special characters."""
    return re.sub(r"[^\w.-]+", "_", check if case is None else f"{check}-{case}")


def remove_bundles(directory: Path) -> None:
    """Remove the bundles of an earlier run, and nothing else."""
    for entry in directory.glob("*"):
        names = {file.name for file in entry.iterdir()} if entry.is_dir() else set()
        if names and names <= _FILES:
            shutil.rmtree(entry)


def write_bundle(directory: Path, name: str, *, title: str, numbers: Numbers | None, clip: Clip) -> str:
    """Write the bundle of one failure, all or nothing, and return one line that says where it is.

    If no single call returned the tensor that failed, a note is written instead.

    Args:
        directory: holds one directory for each failed check.
        name: of this one.
        title: what failed, for the script's head.
        numbers: what was compared; None if it was not an array.
        clip: the observations.
    """
    shown = None if numbers is None else _shown(clip, numbers)
    script = None if shown is None or numbers is None else _script(shown, numbers, title, clip)
    files: Mapping[str, Any] = {
        _NOTE: f"{title}\n\nNo bundle: what was compared is not a tensor that one call returned.\n"
    }
    if script is not None and shown is not None and numbers is not None:
        files = {
            "inputs.npz": dict(shown.part.question.inputs),
            "expected.npz": _expected(numbers),
            "observed.npz": {"value": to_array(numbers.observed)},
            _SCRIPT: script,
        }
    try:
        _write(directory / name, files)
    except OutputError as error:
        return f"not written: {error}"
    return f"python {directory / name / _SCRIPT}" if script else "none: no single call returned what was compared"


def _write(target: Path, files: Mapping[str, Any]) -> None:
    shutil.rmtree(target, ignore_errors=True)  # if anything remains, the next line raises
    with new_directory(target) as directory:
        for name, content in files.items():
            if isinstance(content, str):
                (directory / name).write_text(content, encoding="utf-8")
            else:
                np.savez(directory / name, **content)


def _expected(numbers: Numbers) -> dict[str, Any]:
    shape = numbers.expected.value.shape
    counts = np.broadcast_to(True if numbers.where is None else numbers.where, shape)  # (shape)
    return {"value": numbers.expected.value, "bound": numbers.expected.bound, "counts": counts}


@dataclass(frozen=True, slots=True)
class _Shown:
    """A part of an answer, the lines of the script that give its inputs their layout, and whether gradients were on."""

    part: Part
    forms: tuple[str, ...] = ()
    gradients: bool = False


def _shown(clip: Clip, numbers: Numbers) -> _Shown | None:
    """The call whose answer holds the observed tensor: one that is kept for all checks, or one that the check made.

    None for a comparison of two calls bit for bit: one alone does not show the failure.
    """
    part = clip.part(numbers.observed)
    if part is not None:
        return _Shown(part)
    match = None if numbers.expected.rule == EXACT_RULE else clip.call_of(numbers.observed)
    if match is None or match[0].arguments:
        return None
    call, path, tensor = match
    tensors = {name: value for name, value in call.keywords.items() if hasattr(value, "detach")}
    options = {name: value for name, value in call.keywords.items() if name not in tensors}
    question = Question(
        call.model_class,
        call.method,
        {name: _array(value) for name, value in tensors.items()},
        {**options, **({"attention": call.attention} if call.attention else {})},
    )
    forms = tuple(line for name, value in tensors.items() for line in _forms(name, value))
    return _Shown(Part(question, path, tensor), forms, call.gradients)


def _array(tensor: Any) -> NDArray[Any]:
    """A tensor's values in its own dtype where NumPy has it, else in float32, which holds bfloat16 exactly."""
    held = tensor.detach().to("cpu")
    return np.ascontiguousarray((held.float() if str(held.dtype) == "torch.bfloat16" else held).numpy())


def _forms(name: str, tensor: Any) -> Iterator[str]:
    """Lines that give an input the dtype, the layout and the gradient that it had."""
    place = f"inputs[{name!r}]"
    if str(tensor.dtype) == "torch.bfloat16":
        yield f"{place} = {place}.to({tensor.dtype})"
    if not tensor.is_contiguous():
        size = f"{tuple(tensor.shape)}, {tuple(tensor.stride())}"
        yield f"{place} = {place}.new_empty_strided({size}).copy_({place})"
    if tensor.requires_grad:
        yield f"{place}.requires_grad_()"


def _script(shown: _Shown, numbers: Numbers, title: str, clip: Clip) -> str | None:
    """The script; None if the compared tensor cannot be derived from the output, or an option has no literal."""
    part = shown.part
    question, subject = part.question, clip.subject
    view = _view(part.tensor, numbers.observed)
    options = {name: value for name, value in question.options.items() if name != "attention"}
    if view is None or not all(_is_plain(value) for value in options.values()):
        return None
    attention = question.options.get("attention") or subject.attention
    loading = [repr(str(subject.checkpoint.path)), f"dtype=torch.{subject.dtype}"]
    loading += [] if attention is None else [f"attn_implementation={attention!r}"]
    variant = subject.checkpoint.variant
    loading += [] if variant is None else [f"variant={variant!r}"]
    return _TEMPLATE.format(
        title=title.replace('"""', "'''").replace("\\", "/"),
        device=subject.device,
        forms="".join(f"{line}\n" for line in shown.forms),
        grad="enable_grad" if shown.gradients else "no_grad",
        model_class=question.model_class,
        loading=", ".join(loading),
        method="" if question.method == "forward" else f".{question.method}",
        arguments=", ".join(["**inputs", *(f"{name}={value!r}" for name, value in options.items())]),
        observed=_expression(part.path) + view,
    )


def _view(tensor: Any, observed: Any) -> str | None:
    def layout(one: Any) -> tuple[Any, ...]:
        return one.data_ptr(), tuple(one.shape), tuple(one.stride())

    if layout(tensor) == layout(observed):
        return ""
    if tensor.ndim == 2 and layout(tensor.T) == layout(observed):
        return ".T"
    rows = observed.shape[0] if observed.ndim else 0
    return f"[:{rows}]" if tensor.ndim and layout(tensor[:rows]) == layout(observed) else None


def _expression(path: str) -> str:
    """A dotted name as Python: "hidden_states.3" is output.hidden_states[3]."""
    parts = path.split(".") if path else []
    return "output" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))
