"""`classnames.txt` and `zeroshot_classification_templates.txt`, as in the datasets of CLIP_benchmark.

Both hold one entry a line. A class name is on the line of its number, from 0; a template has `{c}` in place of the
class. Source: CLIP_benchmark, `clip_benchmark/datasets/builder.py`, `build_wds_dataset`.
"""

from __future__ import annotations

from pathlib import Path

from clip_eval.dataset.settings import ZeroShot
from clip_eval.dataset.text_lines import read_entries
from clip_eval.errors import DatasetError

__all__ = ["CLASS_NAMES", "TEMPLATES", "read_prompts", "zero_shot_task"]

CLASS_NAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"

# The single prompt of Radford et al. 2021, section 3.1.4.
_DEFAULT_PROMPTS = ("A photo of a {}.",)
_PLACE = "{c}"


def read_prompts(folder: Path) -> tuple[str, ...]:
    """Return the prompts of a dataset, each with one `{}` for the class; without a file of them, one plain prompt.

    Raises:
        DatasetError: the file cannot be read, or a template does not hold `{c}` once and no other brace.
    """
    file = folder / TEMPLATES
    templates = read_entries(file)
    if templates is None:
        return _DEFAULT_PROMPTS
    for number, template in enumerate(templates, start=1):
        head, place, tail = template.partition(_PLACE)
        if not place or set(head + tail) & {"{", "}"}:
            what = f"line {number}, {template!r}, does not hold {_PLACE} once and no other brace"
            raise DatasetError(what, where=file, fix=f"Put one {_PLACE} where the class goes")
    return tuple(dict.fromkeys(template.replace(_PLACE, "{}") for template in templates))


def zero_shot_task(classes: tuple[str, ...], folder: Path) -> ZeroShot:
    """Return the task of classifying into `classes`. Classes of one name are one class.

    Raises:
        DatasetError: there is one class only, or the prompts cannot be read.
    """
    names = tuple(dict.fromkeys(classes))
    if len(names) < 2:
        what = f"the dataset has one class only, {names[0]!r}"
        raise DatasetError(what, where=folder, fix="Use at least two: a single one is always right")
    return ZeroShot(names, read_prompts(folder))
