"""The subject: loaded as asked, loudly incomplete where weights are, the same in both supported major releases."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.version import Version

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.errors import NotAskable
from clip_eval.families.clip.family import CLIP
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.probes.batches import make_batch
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import (
    LoadingReport,
    Subject,
    attention_problem,
    device_problem,
    features_are_tensors,
    precision_of,
    projected_features,
    resizes_with_torchvision,
    transformers_release,
)
from clip_eval.subject.observations import Clip
from clip_eval.user_values import DTYPES
from clip_eval.verdict.compare import to_array

every_class = pytest.mark.parametrize("model_class", MODEL_CLASSES)


@pytest.fixture(scope="module")
def checkpoint(model: Path) -> Checkpoint:
    """A small checkpoint with a processor."""
    return open_checkpoint(model)


@pytest.fixture(scope="module")
def subject(checkpoint: Checkpoint) -> Subject:
    """The checkpoint in float32 with the library's default attention."""
    return Subject(checkpoint, "float32")


@pytest.fixture
def clip(checkpoint: Checkpoint) -> Clip:
    """Observations of the checkpoint in float32, none made yet."""
    return Clip(Subject(checkpoint, "float32"), make_batch(checkpoint.config))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", [None, "eager", "sdpa"])
@every_class
def test_every_class_loads_as_asked(
    checkpoint: Checkpoint, model_class: str, dtype: str, attention: str | None
) -> None:
    """Each class loads completely, in the dtype, the attention and the mode asked for."""
    subject = Subject(checkpoint, dtype, attention=attention)
    assert subject.loading_report(model_class).complete
    model = subject.model(model_class)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}
    assert model.config._attn_implementation == (attention or "sdpa")
    assert not model.training
    assert {device for _, _, device in subject.placement(model_class)} == {"cpu"}


@every_class
def test_canonical_names_are_those_of_the_file(checkpoint: Checkpoint, subject: Subject, model_class: str) -> None:
    """Tensors in memory carry the names of the file, with the file's values, whatever the release calls them."""
    expected = checkpoint.weights("float32")
    found = dict(subject.state(model_class))
    assert set(found) <= {*checkpoint.tensors, "text_model.embeddings.position_ids",
                          "vision_model.embeddings.position_ids"}  # fmt: skip
    for name in set(found) & set(checkpoint.tensors):
        assert np.array_equal(found[name], expected[name]), name
    if model_class == "CLIPModel":
        assert set(checkpoint.tensors) <= set(found)
    else:
        assert set(found) < set(checkpoint.tensors) | {name for name in found if name.endswith("position_ids")}


@pytest.mark.parametrize(
    ("name", "model_class", "canonical"),
    [
        ("encoder.layers.0.mlp.fc1.weight", "CLIPTextModel", "text_model.encoder.layers.0.mlp.fc1.weight"),
        ("post_layernorm.bias", "CLIPVisionModel", "vision_model.post_layernorm.bias"),
        ("text_model.final_layer_norm.bias", "CLIPTextModel", "text_model.final_layer_norm.bias"),
        ("visual_projection.weight", "CLIPVisionModelWithProjection", "visual_projection.weight"),
        ("logit_scale", "CLIPModel", "logit_scale"),
    ],
)
def test_canonical_names_of_both_majors(name: str, model_class: str, canonical: str) -> None:
    """Names with the tower's prefix stay; names without, as from 5.6 on, get it."""
    assert CLIP.canonical_name(name, model_class) == canonical


@pytest.fixture
def altered_load(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Make transformers report something else about the weights it loaded."""
    import transformers

    original = transformers.CLIPModel.from_pretrained

    def install(report: dict[str, Any]) -> None:
        def load(*args: Any, **options: Any) -> Any:
            model, info = original(*args, **options)
            return model, {**info, **report}

        monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", load)

    return install


@pytest.mark.parametrize(
    ("told", "report"),
    [
        ({"missing_keys": {"logit_scale"}}, LoadingReport(("logit_scale",), (), ())),
        ({"missing_keys": ["b", "a"]}, LoadingReport(("text_model.a", "text_model.b"), (), ())),
        ({"unexpected_keys": {"text_model.new"}}, LoadingReport((), ("text_model.new",), ())),
        (
            {"mismatched_keys": {("logit_scale", (1,), ())}},
            LoadingReport((), (), ("logit_scale",)),
        ),
        ({"mismatched_keys": [("logit_scale", (1,), ())]}, LoadingReport((), (), ("logit_scale",))),
    ],
    ids=str,
)
def test_an_incomplete_load_is_refused(
    checkpoint: Checkpoint,
    altered_load: Callable[[dict[str, Any]], None],
    told: dict[str, Any],
    report: LoadingReport,
) -> None:
    """What the library only prints is an error here, that names the tensors and the check that judges it; both majors'
    forms are read.
    """
    altered_load(told)
    subject = Subject(checkpoint, "float32")
    assert subject.loading_report("CLIPModel") == report
    with pytest.raises(NotAskable, match=r"(does not|cannot) load .*CLIPModel") as caught:
        subject.model("CLIPModel")
    assert caught.value.finding == "weights.every_weight_is_loaded[CLIPModel]"
    for name in (*report.missing, *report.unexpected, *report.mismatched):
        assert name in str(caught.value)


def test_position_ids_are_not_unexpected(
    checkpoint: Checkpoint, altered_load: Callable[[dict[str, Any]], None]
) -> None:
    """Old files carry position ids, which hold 0, 1, 2, ... and which no release reads."""
    altered_load({"unexpected_keys": {"text_model.embeddings.position_ids"}})
    assert Subject(checkpoint, "float32").loading_report("CLIPModel").complete


def test_a_dropped_tensor_is_missing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A tensor that vanishes from the file after it was opened is reported by the real loader as missing."""
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(checkpoint.path, tmp_path / "clip"))
    opened = open_checkpoint(copy)
    tensors = load_file(copy / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    report = Subject(opened, "float32").loading_report("CLIPModel")
    assert report.missing == ("visual_projection.weight",)
    assert not report.complete


def test_a_long_list_of_tensors_is_cut(checkpoint: Checkpoint, altered_load: Callable[[dict[str, Any]], None]) -> None:
    """An error names five tensors and counts the rest."""
    altered_load({"missing_keys": [f"text_model.x{number}" for number in range(9)]})
    with pytest.raises(NotAskable, match="and 4 more"):
        Subject(checkpoint, "float32").model("CLIPModel")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", ""])
def test_an_absent_device_is_a_problem(device: str) -> None:
    """A device that is misspelt or absent is named with the reason, in one line."""
    problem = device_problem(device)
    assert problem is not None
    assert repr(device) in problem
    assert "\n" not in problem


def test_the_cpu_is_no_problem() -> None:
    """The CPU is always there."""
    assert device_problem("cpu") is None


def test_absent_attention_is_a_problem(capfd: pytest.CaptureFixture[str]) -> None:
    """An attention implementation that the release does not have is named; those it has are no problem, without a
    word.
    """
    assert "nonsense" in str(attention_problem("nonsense"))
    assert attention_problem("eager") is None
    assert attention_problem("sdpa") is None
    assert capfd.readouterr() == ("", "")


def test_a_session_knows_whether_its_attention_is_there(checkpoint: Checkpoint) -> None:
    """The attention asked for is looked at before any check is judged; the library's default needs no look."""
    named = Session(Settings(model=str(checkpoint.path), attention="nonsense"))
    assert "nonsense" in str(named.candidate.attention_problem)
    assert Session(Settings(model=str(checkpoint.path))).candidate.attention_problem is None


@pytest.mark.parametrize(("release", "tensors"), [("4.57.6", True), ("5.0.0.dev0", False), ("5.0.0", False)])
def test_features_by_release(release: str, tensors: bool) -> None:
    """get_*_features gave tensors up to 4.x and output objects from 5.0 on, prereleases included."""
    assert features_are_tensors(Version(release)) is tensors


def test_projected_features_are_found_in_either_form(clip: Clip) -> None:
    """Whatever the release returns, the projected feature is one tensor of (rows, projection)."""
    found = projected_features(clip.text_features(texts=2), transformers_release())
    assert tuple(found.shape) == (2, clip.config.projection_dim)
    assert type(found).__name__ == "Tensor"


def test_precision_of_a_cpu_has_no_tf32() -> None:
    """TF32 is a setting of CUDA and of float32 only."""
    for device, dtype in (("cpu", "float32"), ("cuda:0", "bfloat16")):
        precision = precision_of(dtype, device)
        assert (precision.dtype, precision.tf32_products, precision.tf32_convolution) == (dtype, False, False)


@pytest.mark.parametrize(("products", "convolution"), [(False, True), (True, False)])
def test_precision_on_cuda_follows_torchs_settings(products: bool, convolution: bool) -> None:
    """In float32 on a GPU both settings of torch count, each for its own kind of product."""
    from torch.backends import cuda, cudnn

    before = cuda.matmul.allow_tf32, cudnn.allow_tf32
    try:
        cuda.matmul.allow_tf32, cudnn.allow_tf32 = products, convolution
        precision = precision_of("float32", "cuda:0")
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32 = before
    assert (precision.tf32_products, precision.tf32_convolution) == (products, convolution)


def test_answers_are_made_once_and_shared(clip: Clip) -> None:
    """The same question has the same answer object; another row count, mask or option is another question."""
    first = clip.forward(images=2, texts=3)
    assert clip.forward(images=2, texts=3) is first
    assert clip.forward(images=3, texts=3) is not first
    assert clip.forward(images=2, texts=3, mask="none") is not first
    assert clip.forward(images=2, texts=3, output_attentions=True) is not first


def test_an_answer_carries_no_gradient_and_leaves_the_probe_alone(clip: Clip) -> None:
    """Observing needs no gradients and cannot change the inputs that others will be given."""
    before = clip.batch.pixel_values.copy(), clip.batch.input_ids.copy()
    output = clip.forward(images=2, texts=2)
    assert not output.logits_per_text.requires_grad
    assert np.array_equal(before[0], clip.batch.pixel_values)
    assert np.array_equal(before[1], clip.batch.input_ids)


def test_another_attention_is_lent_for_one_question(clip: Clip) -> None:
    """Asking under eager attention answers with its maps and leaves the subject as it was."""
    eager = clip.vision_model(images=1, attention="eager", output_attentions=True)
    assert all(weights is not None for weights in eager.attentions)
    assert len(eager.attentions) == clip.config.vision.num_hidden_layers
    assert clip.subject.model("CLIPVisionModel").config._attn_implementation == "sdpa"
    plain = clip.vision_model(images=1)
    np.testing.assert_allclose(
        to_array(eager.last_hidden_state), to_array(plain.last_hidden_state), rtol=1e-3, atol=1e-4
    )


def test_processors_are_loaded_once(subject: Subject) -> None:
    """A processor is loaded on first use through the class asked for, and kept."""
    processor = subject.processors.load("CLIPProcessor")
    assert type(processor).__name__ == "CLIPProcessor"
    assert subject.processors.load("CLIPProcessor") is processor


def test_torchvision_is_told_from_pillow() -> None:
    """An image processor that resizes with torchvision is known by its base classes."""

    class TorchvisionBackend:
        """Stands for the library's base class."""

    class Mine(TorchvisionBackend):
        """An image processor on torchvision."""

    class CLIPImageProcessorFast:
        """An image processor as 4.x calls it."""

    assert resizes_with_torchvision(Mine())
    assert resizes_with_torchvision(CLIPImageProcessorFast())
    assert not resizes_with_torchvision(object())


def test_loading_leaves_the_librarys_settings_alone(checkpoint: Checkpoint) -> None:
    """Verbosity and progress bars are those of before once a model was loaded."""
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    Subject(checkpoint, "float32").model("CLIPTextModel")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
