"""What checks of calls, gradients and persistence are built on: entry points, tensors of outputs, more of Subject."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.probes.batches import make_batch
from clip_eval.subject import Subject, compiler_problem
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import tensors_of

# transformers 4.57 says which keywords its feature methods do not know.
pytestmark = pytest.mark.filterwarnings("ignore:The following named arguments:UserWarning")


@pytest.fixture(scope="module")
def clip(bare_model: Path) -> Clip:
    """Observations of a small checkpoint."""
    subject = Subject(open_checkpoint(bare_model), "float32")
    return Clip(subject, make_batch(subject.checkpoint.config))


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=str)
def test_every_entry_point_takes_its_inputs(clip: Clip, entry: Any) -> None:
    """Each way in answers with tensors, each of which has a name of its own."""
    inputs = clip.subject.tensors(clip.inputs(entry, images=2, texts=3))
    assert ("pixel_values" in inputs, "input_ids" in inputs) == (entry.images, entry.texts)
    found = tensors_of(clip.enter(entry, inputs, output_hidden_states=True), str(entry))
    assert found
    assert all(name.startswith(str(entry)) and hasattr(tensor, "detach") for name, tensor in found.items())


def test_tensors_of_nested_outputs_come_with_their_path() -> None:
    """Tuples and mappings are gone through in order; None and plain values hold no tensor."""

    class Tensor:
        def detach(self) -> None: ...

    one, two = Tensor(), Tensor()
    assert tensors_of({"a": (one, None), "b": {"c": two}, "d": 3}, "out") == {"out.a.0": one, "out.b.c": two}
    assert tensors_of(one, "out") == {"out": one}


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_gradients_come_for_every_parameter(clip: Clip, model_class: str) -> None:
    """Every parameter has an entry, frozen ones None, and nothing is left in the model."""
    entry = next(entry for entry in ENTRY_POINTS if entry.model_class == model_class)
    output = clip.enter(entry, clip.subject.tensors(clip.inputs(entry, images=2, texts=2)), gradients=True)
    frozen = next(iter(clip.subject.model(model_class).parameters()))
    frozen.requires_grad_(False)
    try:
        output = clip.enter(entry, clip.subject.tensors(clip.inputs(entry, images=2, texts=2)), gradients=True)
        scalar = next(iter(tensors_of(output, "").values())).sum()
        found = dict(clip.subject.gradients(model_class, scalar))
    finally:
        frozen.requires_grad_(True)
    assert sorted(found) == sorted(
        name for name in clip.subject.checkpoint.tensors if clip.subject.family.belongs_to(name, model_class)
    )
    assert sum(gradient is None for gradient in found.values()) >= 1
    assert all(parameter.grad is None for parameter in clip.subject.model(model_class).parameters())


def test_another_model_is_loaded_from_what_was_saved(clip: Clip, tmp_path: Path) -> None:
    """A saved tower loads again, and is another object than the subject's own."""
    clip.subject.save("CLIPTextModel", tmp_path)
    other = clip.subject.load_again("CLIPTextModel", tmp_path)
    assert other is not clip.subject.model("CLIPTextModel")
    assert not other.training


def test_threads_wait_inside_the_model(clip: Clip) -> None:
    """`waiting` runs before and after one layer of each call, and not afterwards."""
    entry = ENTRY_POINTS[1]
    inputs, seen = clip.subject.tensors(clip.inputs(entry, images=1, texts=1)), []
    with clip.subject.paused_at_layer(entry.model_class, lambda: seen.append(threading.current_thread().name)):
        thread = threading.Thread(target=lambda: clip.enter(entry, inputs), name="other")
        thread.start()
        thread.join()
    clip.enter(entry, inputs)
    assert seen == ["other", "other"]


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C++ compiler torch.compile cannot work on a CPU; with one it can."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "C++ compiler" in str(compiler_problem("cpu"))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert compiler_problem("cpu") is None
