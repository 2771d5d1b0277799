"""The checks of a conversion: each usual error is one failed check that names it, and what is right passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.files import edit_json, edit_tensors
from faults.runner import Run, Runner
from support.open_clip import write_original
from support.small_clip import tokenizer_vocabulary, write_small_clip

Change = Callable[[Any], object]
WEIGHTS, NETWORK, ACTIVATION, POOLING, IMAGES = (
    f"conversion.{name}"
    for name in (
        "every_weight_is_the_original", "network_is_the_original", "activation_is_the_original",
        "texts_are_pooled_as_in_the_original", "images_are_preprocessed_as_in_the_original",
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def runner() -> Runner:
    """Runs the checks in this process."""
    return Runner()


@pytest.fixture(scope="module")
def conversion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conversion whose text projection is square, so that it can be transposed in silence."""
    sizes = {"projection_dim": 32, "text_config": {"projection_dim": 32}, "vision_config": {"projection_dim": 32}}
    return write_small_clip(tmp_path_factory.mktemp("conversion") / "clip", **sizes)


def judged(runner: Runner, conversion: Path, original: Path) -> Run:
    """The run of the chapter."""
    return runner.run(conversion, "--clip-converted-from", str(original), parts=("conversion",))


def outcomes(run: Run) -> dict[str, str]:
    """Check to outcome."""
    return {check.id: check.outcome for check in run.record.checks if check.chapter == "conversion"}


def reasons(run: Run) -> dict[str, str]:
    """Check to reason."""
    return {check.id: str(check.reason) for check in run.record.checks if check.chapter == "conversion"}


@pytest.mark.parametrize("text", ["", "text."])
def test_a_sound_conversion_passes(runner: Runner, conversion: Path, tmp_path: Path, text: str) -> None:
    """Both layouts of open_clip, by directory and by file."""
    original = write_original(conversion, tmp_path / "original", text=text)
    for named in (original, original / "open_clip_model.safetensors"):
        assert set(outcomes(judged(runner, conversion, named)).values()) == {"passed"}


def _wrapped(tensors: dict[str, Any]) -> None:
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


def _linear_projection(tensors: dict[str, Any]) -> None:
    tensors["text_projection.weight"] = tensors.pop("text_projection").T


def _list_of_one(tensors: dict[str, Any]) -> None:
    tensors["logit_scale"] = tensors["logit_scale"].reshape(1)


def _buffers(tensors: dict[str, Any]) -> None:
    tensors |= {"attn_mask": np.zeros((16, 16)), "context_length": np.array(16)}


@pytest.mark.parametrize("change", [_wrapped, _linear_projection, _list_of_one, _buffers])
def test_other_layouts_pass(runner: Runner, conversion: Path, tmp_path: Path, change: Change) -> None:
    """Names of DistributedDataParallel, a linear text projection, a scale of shape (1,), buffers."""
    original = write_original(conversion, tmp_path / "original", tensors=change)
    assert outcomes(judged(runner, conversion, original))[WEIGHTS] == "passed"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_to_the_stored_dtype_passes(runner: Runner, conversion: Path, tmp_path: Path, dtype: str) -> None:
    """A conversion in 16 bits of an original in 32 is that original, rounded."""
    import torch

    copy = Path(shutil.copytree(conversion, tmp_path / "clip"))
    original = write_original(conversion, tmp_path / "original")
    edit_tensors(copy, lambda tensors: tensors.update({n: t.to(getattr(torch, dtype)) for n, t in tensors.items()}))
    edit_json(copy / "config.json", lambda config: config.update(dtype=dtype))
    assert set(outcomes(judged(runner, copy, original)).values()) == {"passed"}


def test_the_rule_of_the_largest_id(runner: Runner, tmp_path: Path) -> None:
    """Without pool_type texts are pooled at their largest id: the end's if it is the last of the vocabulary, or 2."""
    size = len(tokenizer_vocabulary())
    directory = write_small_clip(tmp_path / "clip", processor=False, text_config={"vocab_size": size})
    original = write_original(
        directory, tmp_path / "original", config=lambda config: config["model_cfg"]["text_cfg"].pop("pool_type")
    )
    for end, outcome in ((size - 1, "passed"), (2, "passed"), (size - 2, "failed")):
        edit_json(directory / "config.json", lambda config, end=end: config["text_config"].update(eos_token_id=end))
        run = judged(runner, directory, original)
        assert outcomes(run)[POOLING] == outcome
        assert outcomes(run)[IMAGES] == "not_run"
    assert f"Write text_config.eos_token_id {size - 1}." in reasons(run)[POOLING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """An error: what it changes, the one check that fails, what its reason says, and the checks left to it."""

    check: str
    says: tuple[str, ...]
    tensors: Change | None = None
    config: Change | None = None
    processor: Change | None = None
    stored: Change | None = None
    stated: Change | None = None
    left: tuple[str, ...] = ()


def _set(name: str, change: Change) -> Change:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


def _text(**values: object) -> Change:
    return lambda config: config["text_config"].update(values)


def _swapped(tensors: dict[str, Any]) -> None:
    layer = "vision_model.encoder.layers.0.self_attn"
    for kind in ("weight", "bias"):
        one, other = f"{layer}.q_proj.{kind}", f"{layer}.k_proj.{kind}"
        tensors[one], tensors[other] = tensors[other], tensors[one]


def _one_element(bias: Any) -> Any:
    bias[3] += 1e-6
    return bias


def _hidden(tower: str) -> Change:
    return lambda config: config.update(
        {f"{tower}_dict": dict(config[tower]), tower: {**config[tower], "hidden_act": "gelu"}}
    )


def _resolution(config: dict[str, Any]) -> None:
    config["vision_config"]["image_size"] = 16


WRONG = {
    "projection not transposed": Wrong(
        check=WEIGHTS,
        tensors=_set("text_projection.weight", lambda weight: weight.T),
        says=("in 1 tensor (text_projection.weight) rows and columns of the original's are exchanged", "Exchange the"),
    ),
    "queries and keys exchanged": Wrong(
        check=WEIGHTS,
        tensors=_swapped,
        says=("self_attn.q_proj.weight) is the original's k_proj", "is the original's q_proj", "into q, k and v"),
    ),
    "one element": Wrong(
        check=WEIGHTS,
        tensors=_set("text_model.final_layer_norm.bias", _one_element),
        says=("in 1 tensor (text_model.final_layer_norm.bias): text_model.final_layer_norm.bias[3] is", "1 of its 32"),
    ),
    "by way of bfloat16": Wrong(
        check=WEIGHTS,
        tensors=lambda tensors: tensors.update({name: t.bfloat16().float() for name, t in tensors.items()}),
        says=("went through bfloat16, which took digits off",),
    ),
    "a tensor of the original is missing": Wrong(
        check=WEIGHTS,
        stored=lambda tensors: tensors.pop("visual.ln_pre.weight"),
        says=("the original has nothing for 1 tensor (vision_model.pre_layrnorm.weight)",),
    ),
    "a tensor of the original is left over": Wrong(
        check=WEIGHTS,
        stored=lambda tensors: tensors.update({"visual.ln_extra.bias": tensors["visual.ln_pre.bias"]}),
        says=("the original's 1 tensor (visual.ln_extra.bias) went nowhere",),
    ),
    "gelu for quick_gelu": Wrong(
        check=ACTIVATION,
        stated=lambda config: config["model_cfg"].update(quick_gelu=False),
        says=(
            'text_config.hidden_act is "quick_gelu", and the original\'s is "gelu" (model_cfg.quick_gelu is false)',
            'Write text_config.hidden_act "gelu", vision_config.hidden_act "gelu"',
        ),
    ),
    "gelu in the classes of one tower": Wrong(
        check=ACTIVATION,
        config=_hidden("text_config"),
        says=('text_config.hidden_act is "gelu" in the classes of one tower', "text_config_dict.hidden_act"),
    ),
    "end of text": Wrong(check=POOLING, config=_text(eos_token_id=2), says=("text_config.eos_token_id is 2",)),
    "heads": Wrong(
        check=NETWORK,
        config=_text(num_attention_heads=2),
        says=(
            "text_config.num_attention_heads is 2, and the original's is 4 (model_cfg.text_cfg.heads is 4)",
            "Write text_config.num_attention_heads 4.",
        ),
    ),
    "context length": Wrong(
        check=NETWORK,
        tensors=_set("text_model.embeddings.position_embedding.weight", lambda weight: weight[:12]),
        config=_text(max_position_embeddings=12),
        says=("text_config.max_position_embeddings is 12, and the original's is 16", "Convert the original again"),
        left=(WEIGHTS,),
    ),
    "resolution": Wrong(
        check=NETWORK,
        tensors=_set("vision_model.embeddings.position_embedding.weight", lambda weight: weight[:5]),
        config=_resolution,
        processor=lambda settings: settings.update(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        says=("vision_config.image_size is 16, and the original's is 32",),
        left=(WEIGHTS, IMAGES),
    ),
    "patches averaged": Wrong(
        check=NETWORK,
        stated=lambda config: config["model_cfg"]["vision_cfg"].update(pool_type="avg", no_ln_pre=True),
        stored=lambda tensors: [tensors.pop(f"visual.ln_pre.{kind}") for kind in ("weight", "bias")],
        says=("the original's model_cfg.vision_cfg.pool_type is 'avg', and CLIPModel cannot compute that",),
        left=(WEIGHTS,),
    ),
    "image mean": Wrong(
        check=IMAGES,
        processor=lambda settings: settings.update(image_mean=[0.5, 0.5, 0.5]),
        says=("image_mean is [0.5, 0.5, 0.5], and the original's is [0.48145466,", 'Write "image_mean": [0.48145466,'),
    ),
    "image size": Wrong(
        check=IMAGES,
        processor=lambda settings: settings.update(size={"shortest_edge": 36}),
        says=('size is 36, and the original\'s is 32 (model_cfg.vision_cfg.image_size is 32', '"shortest_edge": 32'),
    ),
    "not squashed": Wrong(
        check=IMAGES,
        stated=lambda config: config["preprocess_cfg"].update(resize_mode="squash"),
        says=("size is 32, and the original's is [32, 32]", '"size": {"height": 32, "width": 32}', "do_center_crop"),
    ),
    "not padded": Wrong(
        check=IMAGES,
        stated=lambda config: config["preprocess_cfg"].update(resize_mode="longest"),
        says=("resize_mode is longest", "CLIPImageProcessor cannot do that"),
    ),
    "not normalised": Wrong(
        check=IMAGES,
        processor=lambda settings: settings.update(do_normalize=False),
        says=("image_mean is off",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_error_is_one_finding(runner: Runner, conversion: Path, tmp_path: Path, wrong: Wrong) -> None:
    """One check fails and says what is wrong, in which files; what follows from it is left to it; all else passes."""
    copy = Path(shutil.copytree(conversion, tmp_path / "clip"))
    keep: Change = lambda value: None  # noqa: E731 - as a default
    original = write_original(
        conversion, tmp_path / "original", tensors=wrong.stored or keep, config=wrong.stated or keep
    )
    edit_tensors(copy, wrong.tensors or keep)
    edit_json(copy / "config.json", wrong.config or keep)
    edit_json(_processor_file(copy), wrong.processor or keep)
    run = judged(runner, copy, original)
    found = outcomes(run)
    assert found.pop(wrong.check) == "failed"
    assert {check: found.pop(check) for check in wrong.left} == dict.fromkeys(wrong.left, "not_run")
    assert set(found.values()) == {"passed"}
    reason = reasons(run)[wrong.check]
    assert [text for text in wrong.says if text not in reason] == [], reason
    assert str(copy) in reason
    assert str(original) in reason
    because = {check.because for check in run.record.checks if check.id in wrong.left}
    assert because == ({wrong.check} if wrong.left else set())


def _processor_file(directory: Path) -> Path:
    """The settings of the image processor; transformers 5 nests them."""
    file = directory / "preprocessor_config.json"
    if not file.exists():
        nested = json.loads((directory / "processor_config.json").read_text(encoding="utf-8"))["image_processor"]
        (directory / "processor_config.json").unlink()
        file.write_text(json.dumps(nested), encoding="utf-8")
    return file


def test_each_of_several_errors_is_told(runner: Runner, conversion: Path, tmp_path: Path) -> None:
    """The verdict has a reason for each, with its remedy."""
    copy = Path(shutil.copytree(conversion, tmp_path / "clip"))
    original = write_original(conversion, tmp_path / "original")
    edit_json(copy / "config.json", lambda config: config["text_config"].update(hidden_act="gelu", eos_token_id=2))
    edit_tensors(copy, _swapped)
    told = judged(runner, copy, original).record.reasons
    for check, remedy in ((WEIGHTS, "into q, k and v"), (ACTIVATION, "Write text"), (POOLING, "Write text")):
        assert [reason for reason in told if reason.startswith(f"{check} failed") and remedy in reason]


def test_without_its_config_the_original_says_less(runner: Runner, conversion: Path, tmp_path: Path) -> None:
    """Weights alone are compared, and the other checks say what is missing."""
    original = write_original(conversion, tmp_path / "original")
    (original / "open_clip_config.json").unlink()
    run = judged(runner, conversion, original)
    assert outcomes(run) == {WEIGHTS: "passed"} | dict.fromkeys((NETWORK, ACTIVATION, POOLING, IMAGES), "not_run")
    assert "there is no open_clip_config.json beside" in reasons(run)[ACTIVATION]


def test_an_original_in_the_directory_itself_is_pointed_at(runner: Runner, conversion: Path, tmp_path: Path) -> None:
    """Without the option nothing applies, and a note says that the files could be compared."""
    copy = Path(shutil.copytree(conversion, tmp_path / "clip"))
    assert not runner.run(copy, parts=("conversion",)).record.notes
    write_original(copy, copy)
    run = runner.run(copy, parts=("conversion",))
    assert set(outcomes(run).values()) == {"not_applicable"}
    assert [note for note in run.record.notes if f"--converted-from {copy}" in note]
    assert set(outcomes(judged(runner, copy, copy)).values()) == {"passed"}
