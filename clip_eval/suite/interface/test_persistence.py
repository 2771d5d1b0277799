"""Saving, loading, and state dicts: every class reads what it wrote, strictly and not.

What depends on transformers alone is shown on a tiny model of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.checkpoint.tensor_files import read_header
from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.families.roles import CLASSIFIER, MODEL_CLASSES
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import tensors_of
from clip_eval.subject.tiny_clip import edit_tensors, small_inputs, small_subject
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = pytest.mark.needs("loading", "weights")

every_class = pytest.mark.parametrize("model_class", MODEL_CLASSES)
every_tower = pytest.mark.parametrize("model_class", MODEL_CLASSES[1:])
plain_towers = pytest.mark.parametrize("model_class", ["CLIPTextModel", "CLIPVisionModel"])

POSITION_IDS = {
    "CLIPTextModel": ("text_model",),
    "CLIPVisionModel": ("vision_model",),
    "CLIPTextModelWithProjection": ("text_model",),
    "CLIPVisionModelWithProjection": ("vision_model",),
    "CLIPModel": ("text_model", "vision_model"),
}
"""Towers of each class. Each has a buffer of position ids, which releases before 4.31 saved."""


def test_saved_and_loaded_again(clip: Clip, compare: Compare, tmp_path: Path) -> None:
    """save_pretrained of CLIPModel writes the same names, values, dtype and config, and the model loaded from it gives
    the same outputs bit for bit.

    So does that of the class that a part of a model was saved from.
    """
    subject, checkpoint, model_class = clip.subject, clip.subject.checkpoint, clip.holds.role
    subject.save(model_class, tmp_path)
    written = open_checkpoint(tmp_path)
    compare.equal(sorted(written.tensors), sorted(checkpoint.tensors), name="names written")
    compare.equal(written.dtype, clip.dtype, name="dtype written")
    compare.equal(written.config, checkpoint.config, name="config written")
    digests = checkpoint.digests(clip.dtype)
    for name, digest in written.digests(clip.dtype).items():
        compare.equal(digest, digests[name], name=f"digest of {name} written", module=name.rpartition(".")[0])
    entry = clip.family.classifier if model_class == CLASSIFIER else _forward(model_class)
    inputs = subject.tensors(clip.inputs(entry, images=2, texts=3))
    expected = tensors_of(subject.call(model_class, **inputs), "")
    _same(compare, _called(subject.load_again(model_class, tmp_path), inputs), expected, f"{model_class} loaded again")


@every_tower
def test_towers_are_saved_under_the_names_of_clip(
    clip: Clip, compare: Compare, deviations: Deviations, tmp_path: Path, model_class: str
) -> None:
    """save_pretrained of a tower uses the tensor names of a whole CLIP's file, and the model loaded from it gives the
    same outputs bit for bit.

    Other releases and tools expect these names.
    """
    small = small_subject(tmp_path / "small", clip.subject)
    expected = sorted(name for name in small.checkpoint.tensors if clip.family.belongs_to(name, model_class))
    if model_class.endswith("WithProjection") and deviations.hold("projection-is-saved-inside-its-tower"):
        expected = sorted(_inside_its_tower(name) for name in expected)
    small.save(model_class, tmp_path / "saved")
    header = read_header(tmp_path / "saved" / "model.safetensors")
    compare.equal(sorted(entry.stored_name for entry in header.values()), expected, name=f"names of {model_class}")
    inputs = small_inputs(small, _forward(model_class))
    first = tensors_of(small.call(model_class, **inputs), "")
    _same(
        compare,
        _called(small.load_again(model_class, tmp_path / "saved"), inputs),
        first,
        f"{model_class} loaded again",
    )


@every_class
def test_state_dict_holds_exactly_the_weights(clip: Clip, compare: Compare, model_class: str) -> None:
    """state_dict has exactly one entry for each tensor of the file that the class uses; each is a parameter with its
    own storage.
    """
    model = clip.subject.model(model_class)
    expected = sorted(name for name in clip.subject.checkpoint.tensors if clip.family.belongs_to(name, model_class))
    state = model.state_dict()
    names = sorted(clip.family.canonical_name(name, model_class) for name in state)
    compare.equal(names, expected, name=f"names in the state dict of {model_class}")
    compare.equal(sorted(dict(model.named_parameters())), sorted(state), name=f"parameters of {model_class}")
    places = {tensor.data_ptr() for tensor in state.values()}
    compare.equal(len(places), len(state), name=f"storages in the state dict of {model_class}")


@every_class
def test_a_state_dict_moves_to_another_model(clip: Clip, compare: Compare, tmp_path: Path, model_class: str) -> None:
    """The state dict of one model loads strictly into another, which then gives the same outputs bit for bit."""
    one, other = (small_subject(tmp_path / str(seed), clip.subject, seed=seed) for seed in (0, 1))
    inputs = small_inputs(one, _forward(model_class))
    expected = tensors_of(one.call(model_class, **inputs), "")
    target = other.load_again(model_class)
    differs = any(bool((tensor != expected[name]).any()) for name, tensor in _called(target, inputs).items())
    compare.equal(differs, True, name=f"two {model_class} of other weights give other outputs")
    report = target.load_state_dict(one.model(model_class).state_dict())
    compare.equal([*report.missing_keys, *report.unexpected_keys], [], name=f"keys that do not fit {model_class}")
    _same(compare, _called(target, inputs), expected, f"{model_class} with the state of another")


@every_class
def test_a_state_dict_that_does_not_fit_is_refused(
    clip: Clip, compare: Compare, tmp_path: Path, model_class: str
) -> None:
    """Strict loading refuses a missing, an extra or a misshapen tensor and names it; strict=False loads the rest and
    reports both kinds.
    """
    small = small_subject(tmp_path, clip.subject)
    model = small.load_again(model_class)
    state = dict(model.state_dict())
    gone = next(name for name in state if name.endswith("position_embedding.weight"))
    lacking = {name: tensor for name, tensor in state.items() if name != gone}
    extra = gone.replace("position_embedding.weight", "position_ids")
    surplus = {**state, extra: small.tensors({"ids": np.arange(8)[None]})["ids"]}
    _refused(compare, lambda: model.load_state_dict(lacking), gone, f"{model_class} without a tensor")
    _refused(compare, lambda: model.load_state_dict(surplus), extra, f"{model_class} with a tensor too many")
    _refused(compare, lambda: model.load_state_dict({**state, gone: state[gone][1:]}), gone, f"{model_class} cut")
    report = model.load_state_dict({**lacking, extra: surplus[extra]}, strict=False)
    compare.equal(list(report.missing_keys), [gone], name=f"missing keys of {model_class}")
    compare.equal(list(report.unexpected_keys), [extra], name=f"unexpected keys of {model_class}")


@plain_towers
def test_a_state_dict_with_the_names_of_the_file_loads(
    clip: Clip, compare: Compare, deviations: Deviations, tmp_path: Path, model_class: str
) -> None:
    """A tower's state dict with the names of CLIP's file, as releases before 5.6 returned it, loads with
    strict=False.
    """
    one, other = (small_subject(tmp_path / str(seed), clip.subject, seed=seed) for seed in (0, 1))
    state = one.model(model_class).state_dict()
    named = {clip.family.canonical_name(name, model_class): tensor for name, tensor in state.items()}
    target = other.load_again(model_class)
    report = target.load_state_dict(named, strict=False)
    expected = state
    if deviations.hold("tower-state-dict-with-prefix-loads-nothing"):
        compare.equal(sorted(report.missing_keys), sorted(state), name=f"missing keys of {model_class}")
        compare.equal(sorted(report.unexpected_keys), sorted(named), name=f"unexpected keys of {model_class}")
        expected = other.model(model_class).state_dict()
    else:
        compare.equal([*report.missing_keys, *report.unexpected_keys], [], name=f"keys that do not fit {model_class}")
    for name, tensor in target.state_dict().items():
        compare.equal(tensor, expected[name], name=f"{name} of {model_class} after loading")


@every_class
def test_files_of_older_releases_load(clip: Clip, compare: Compare, tmp_path: Path, model_class: str) -> None:
    """A file with the position_ids that releases before 4.31 wrote loads completely, and nothing differs."""
    small = small_subject(tmp_path, clip.subject)
    inputs = small_inputs(small, _forward(model_class))
    expected = tensors_of(small.call(model_class, **inputs), "")

    def add(tensors: dict[str, Any]) -> None:
        for tower in POSITION_IDS[model_class]:
            count = len(tensors[f"{tower}.embeddings.position_embedding.weight"])
            tensors[f"{tower}.embeddings.position_ids"] = np.arange(count)[None]  # (1, positions)

    edit_tensors(tmp_path, add)
    _same(compare, _called(small.load_again(model_class), inputs), expected, f"{model_class} of an older file")


def _inside_its_tower(name: str) -> str:
    towers = {"text_projection.weight": "text_model", "visual_projection.weight": "vision_model"}
    return f"{towers[name]}.{name}" if name in towers else name


def _refused(compare: Compare, load: Callable[[], object], key: str, name: str) -> None:
    try:
        load()
    except RuntimeError as error:
        compare.equal(key in str(error), True, name=f"the refusal of {name} says {key}")
    else:
        compare.fail("it was loaded", "a RuntimeError", name=f"strict loading of {name}")


def _forward(model_class: str) -> EntryPoint:
    return next(entry for entry in ENTRY_POINTS if entry.model_class == model_class and entry.method == "forward")


def _called(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach() for name, tensor in tensors_of(model(**inputs), "").items()}


def _same(compare: Compare, observed: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    compare.equal(sorted(observed), sorted(expected), name=f"outputs of {name}")
    for key, value in expected.items():
        compare.equal(observed[key], value, name=f"{key.lstrip('.')} of {name}")
