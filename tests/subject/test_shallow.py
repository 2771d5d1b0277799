"""The first layers of a deep checkpoint: what they are, which checks ask them, and that values are judged on all."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.runner import Runner
from safetensors.numpy import load_file, save_file
from support.lone_towers import TEXT
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.run.declared_checks import SUITE
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import Subject
from clip_eval.subject.loading import LoadingReport
from clip_eval.subject.observations import Clip
from clip_eval.subject.shallow import DEEP, LAYERS, first_layers
from clip_eval.verdict.run_record import RunRecord

DEPTH, FLAT = DEEP + 1, 3

SHALLOW = {
    "batches.test_neighbours_do_not_matter",
    "calling_conventions",
    "calls",
    "features.test_text_features_follow_the_mask",
    "gradients.test_recording_them_changes_no_value",
    "hidden_states.test_asking_for_states_changes_nothing",
    "hidden_states.test_attentions_leave_states_alone",
    "hidden_states.test_attentions_under_the_default_implementation",
    "hidden_states.test_off_by_default",
    "interpolation",
    "masks",
    "output_objects",
    "output_shapes",
    "reference_values.test_embeddings_and_logits[interior]",
    "reference_values.test_nested_towers",
    "reference_values.test_text_tower[interior]",
    "refusals",
    "threads",
}
"""Chapters, checks and cases that ask what all layers share. The values of every layer are judged by the others."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint whose text tower is deep and whose vision tower is not."""
    return write_small_clip(tmp_path_factory.mktemp("deep"), dtype="float16", text_config={"num_hidden_layers": DEPTH})


def lone_tower(whole: Path, directory: Path) -> Path:
    """The text tower of a checkpoint, as `CLIPTextModel` saves it."""
    directory.mkdir()
    config = json.loads((whole / "config.json").read_text(encoding="utf-8"))["text_config"]
    config |= {"architectures": [TEXT], "model_type": "clip_text_model"}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = load_file(whole / "model.safetensors")
    held = {name: values for name, values in tensors.items() if name.startswith("text_model.")}
    save_file(held, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_they_compute_what_they_do_in_the_whole(deep: Path, tmp_path: Path) -> None:
    """Depth apart the config is the same, a tower that is not deep stays whole, and states are equal bit for bit."""
    whole = open_checkpoint(deep)
    cut = first_layers(whole, tmp_path)
    assert cut is not None
    assert (cut.config.text.num_hidden_layers, cut.config.vision.num_hidden_layers) == (LAYERS, FLAT)
    assert (cut.dtype, cut.processor_path) == ("float16", whole.processor_path)
    batch = Session(Settings(model=str(deep))).candidate.batch
    one, other = (Clip(Subject(checkpoint, "float32"), batch) for checkpoint in (whole, cut))
    for ask in (
        lambda clip: clip.text_model(texts=2, output_hidden_states=True),
        lambda clip: clip.vision_model(images=2, output_hidden_states=True),
    ):
        states = ask(other).hidden_states
        assert all(bool((here == there).all()) for here, there in zip(states, ask(one).hidden_states, strict=False))


def test_towers_alone_and_legacy_copies_are_cut(deep: Path, tmp_path: Path) -> None:
    """A tower's own config has no sections; those of old files have a copy, which transformers reads first."""
    (tmp_path / "out").mkdir()
    tower = first_layers(open_checkpoint(lone_tower(deep, tmp_path / "tower")), tmp_path / "out")
    assert tower is not None
    assert (tower.holds.role, tower.config.text.num_hidden_layers) == (TEXT, LAYERS)
    old = write_small_clip(tmp_path / "old", processor=False, text_config={"num_hidden_layers": DEPTH})
    config = json.loads((old / "config.json").read_text(encoding="utf-8"))
    (old / "config.json").write_text(
        json.dumps({**config, "text_config_dict": config["text_config"]}), encoding="utf-8"
    )
    (tmp_path / "cut").mkdir()
    whole = first_layers(open_checkpoint(old), tmp_path / "cut")
    assert whole is not None
    assert whole.config.text.num_hidden_layers == LAYERS


def test_what_is_not_deep_stays_whole(bare_model: Path, tmp_path: Path) -> None:
    """A tower of up to eight layers is asked as it is, and nothing is written."""
    assert first_layers(open_checkpoint(bare_model), tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    session = Session(Settings(model=str(bare_model)))
    assert session.shallow is session.candidate


def test_what_does_not_load_or_leaves_scripts_stays_whole(deep: Path, tmp_path: Path) -> None:
    """Checks of a class that lacks a weight are not run, wherever it is; scripts of failures load the checkpoint."""
    assert Session(Settings(model=str(deep))).shallow.checkpoint.config.text.num_hidden_layers == LAYERS
    repro = Session(Settings(model=str(deep), repro=str(tmp_path / "repro")))
    assert repro.shallow is repro.candidate
    broken = Session(Settings(model=str(deep)))
    lacking = LoadingReport(("text_model.encoder.layers.8.mlp.fc1.weight",), (), ())
    broken.candidate.subject._reports["CLIPModel"] = lacking
    assert broken.shallow is broken.candidate


def marked() -> Iterator[str]:
    """Chapters, and checks and cases of other chapters, that are marked `shallow`."""
    for file in sorted(SUITE.glob("*/test_*.py")):
        module = importlib.import_module(f"clip_eval.suite.{file.parent.name}.{file.stem}")
        chapter = file.stem.removeprefix("test_")
        marks = getattr(module, "pytestmark", [])
        if "shallow" in {mark.name for mark in (marks if isinstance(marks, list) else [marks])}:
            yield chapter
            continue
        for name, check in inspect.getmembers(module, inspect.isfunction):
            marks = getattr(check, "pytestmark", [])
            if any(mark.name == "shallow" for mark in marks):
                yield f"{chapter}.{name}"
            for case in (case for mark in marks if mark.name == "parametrize" for case in mark.args[1]):
                if any(mark.name == "shallow" for mark in getattr(case, "marks", ())):
                    yield f"{chapter}.{name}[{case.values[0]}]"


def test_the_checks_that_ask_them_are_these() -> None:
    """No check of the values of weights, layers or gradients is among them, and of outputs only what a mask does."""
    assert set(marked()) == SHALLOW


def test_a_deep_checkpoint_passes_and_its_report_says_how(deep: Path, tmp_path: Path) -> None:
    """Checks pass on the first layers, and a note counts them; a wrong weight of the last layer is found and named."""
    masks, values = "masks.ids_under_the_mask_do_not_matter", "reference_values.text_tower"
    tower = lone_tower(deep, tmp_path / "tower")
    record = Runner().run(tower, parts=(masks, values)).record
    assert outcomes(record, masks) == outcomes(record, values) == {"passed"}
    assert [note for note in record.notes if "first layers" in note] == [
        "Checks of calls, masks and refusals asked the first layers (3 of 9); values were judged on all."
    ]
    last = f"encoder.layers.{DEPTH - 1}.mlp.fc1"
    broken = Runner().run(tower, parts=(masks, values), during=lambda patch: scale(patch, f"{last}.weight")).record
    assert outcomes(broken, masks) == {"passed"}
    judged = [check for check in broken.checks if check.id == values and "interior" not in str(check.case)]
    assert len(judged) == 4  # of two masks, in two implementations of attention
    assert {(check.outcome, check.diverges_at) for check in judged} == {("failed", f"text_model.{last}")}


def outcomes(record: RunRecord, identity: str) -> set[str]:
    """The outcomes of a check's cases."""
    return {check.outcome for check in record.checks if check.id == identity}


def scale(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let every loaded model have a weight that is five per cent too large."""
    load = Subject._load

    def scaled(*arguments: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
        model, info = load(*arguments, **options)
        for own, parameter in model.named_parameters():
            parameter.data *= 1.05 if own.endswith(name) else 1.0
        return model, info

    patch.setattr(Subject, "_load", scaled)
