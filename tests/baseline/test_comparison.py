"""A candidate against its pack: the same-weights rule, numbers against the record, the approved surface."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from support.lone_towers import CLASSIFIER, write_part
from support.packs import (
    RECORD,
    SOME_SURFACE,
    TENSOR,
    Run,
    changed_config,
    changed_model,
    next_float,
    observing,
    record_small,
    reseal,
    session_on,
    surface_file,
)
from support.small_clip import write_small_clip

from clip_eval.baseline import comparison, open_pack
from clip_eval.baseline.comparison import checkpoint_changes, weight_differences
from clip_eval.baseline.recorded_outputs import BY_NAME, IMAGES, OUTPUTS, output_names, outputs_of
from clip_eval.baseline.write_pack import write_pack
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import PackError
from clip_eval.families.clip.family import CLIP
from clip_eval.families.holding import HOLDINGS
from clip_eval.families.roles import WHOLE
from clip_eval.run.approval import build_pack
from clip_eval.run.session import Session
from clip_eval.subject import transformers_release
from clip_eval.suite.release import test_baseline as suite
from clip_eval.verdict.compare import Compare, to_array


def test_the_record_knows_the_pack(session: Session, pack_path: Path, model: Path) -> None:
    """The run record names the pack, its digest and the fingerprints of what it approved."""
    info, candidate = session.pack_info, session.candidate.info()
    assert info is not None
    assert (info.source, info.dtype, info.attention, info.device) == (str(pack_path), "float32", "eager", "cpu")
    assert info.revision == f"sha256 {session.baseline.pack.digest}"
    assert info.fingerprints == candidate.fingerprints
    assert session_on(model).pack_info is None


def test_equal_weights_are_the_same(session: Session) -> None:
    """A checkpoint has the weights of its own pack, and the check counts them."""
    run = Run(session, suite.test_weights_are_those_of_the_pack)
    assert run.error is None
    assert session.baseline.weight_differences() == ()
    assert [value["passed"] for name, value in run.left if name == "measurement"] == [True]


def test_one_unit_in_the_last_place_is_another_model(model: Path, pack_path: Path, tmp_path: Path) -> None:
    """The smallest change of one element fails, names the tensor and its module, and makes numbers not applicable."""
    other = session_on(changed_model(model, tmp_path / "other", next_float), pack=pack_path)
    run = Run(other, suite.test_weights_are_those_of_the_pack)
    assert run.error is not None
    assert TENSOR in run.error.measurement.observed
    assert run.error.diverges_at == TENSOR.removesuffix(".weight")
    numbers = Run(other, suite.test_outputs_match_the_record, part="head")
    assert numbers.reason == "the weights are not the pack's, so other numbers are right"
    (moved,) = [value for name, value in numbers.left if name == "note"]
    assert moved.startswith("On the pack's inputs the cosine distance from the approved release's is up to ")
    assert moved.endswith("for text embeddings.")


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_weights_are_compared_in_the_narrower_dtype(model: Path, pack_path: Path, tmp_path: Path, narrow: str) -> None:
    """A copy stored in 16 bits has the same weights as its float32 pack, and the other way round."""
    copy = write_small_clip(tmp_path / "copy", dtype=narrow)
    assert weight_differences(open_pack(pack_path).tensors, open_checkpoint(copy)) == ()
    record_small(copy, tmp_path / "pack", SOME_SURFACE)
    narrow_pack = open_pack(tmp_path / "pack")
    assert weight_differences(narrow_pack.tensors, open_checkpoint(model)) == ()
    other = open_checkpoint(changed_model(model, tmp_path / "other", lambda tensors: tensors[TENSOR].__imul__(1.01)))
    assert [difference.name for difference in weight_differences(narrow_pack.tensors, other)] == [TENSOR]
    assert narrow in weight_differences(narrow_pack.tensors, other)[0].what


def test_names_and_shapes_count_as_weights(session: Session) -> None:
    """Tensors that only one side has, or that have another shape, are differences of weights."""
    packed = dict(session.baseline.pack.tensors)
    packed["text_projection.bias"] = packed.pop("logit_scale")
    packed[TENSOR] = dataclasses.replace(packed[TENSOR], shape=(3, 4))
    found = {
        difference.name: difference.what for difference in weight_differences(packed, session.candidate.checkpoint)
    }
    assert found == {
        TENSOR: "shape (48, 112) instead of (3, 4)",
        "text_projection.bias": "missing from the candidate",
        "logit_scale": "new in the candidate",
    }


def test_new_weights_are_not_judged_by_numbers(model: Path, pack_path: Path, tmp_path: Path) -> None:
    """With --new-weights neither weights nor numbers are judged, and the reason tells how many weights are new."""
    other = changed_model(model, tmp_path / "other", next_float)
    session = session_on(other, pack=pack_path, new_weights=True)
    reason = Run(session, suite.test_weights_are_those_of_the_pack).reason
    assert reason is not None
    assert reason.endswith("; 1 of 94 tensors differ")
    assert Run(session, suite.test_outputs_match_the_record, part="loss").reason is not None
    same = Run(session_on(model, pack=pack_path, new_weights=True), suite.test_weights_are_those_of_the_pack).reason
    assert same is not None
    assert same.endswith("; yet every tensor is the pack's")


def test_every_output_is_recorded_with_its_error(session: Session) -> None:
    """The record holds the declared outputs; value less error is the reference, closer than float32 computes."""
    pack, part = session.baseline.pack, OUTPUTS["head"][0]
    assert set(pack.outputs) == set(output_names(pack.holds)) == set(BY_NAME) - {"class_logits"}
    recorded = pack.outputs[part.name]
    reference = part.expect(session.candidate.oracle).value  # (texts, projection)
    np.testing.assert_allclose(recorded.value - recorded.error.astype(np.float64), reference, rtol=0, atol=1e-12)
    assert 0 < np.abs(recorded.error).max() < 1e-5


@pytest.mark.parametrize("part", OUTPUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_outputs_match_the_own_record(model: Path, pack_path: Path, dtype: str, part: str) -> None:
    """In every dtype a checkpoint gives the numbers of its own float32 record, within its budget."""
    run = Run(_shared(model, pack_path, dtype), suite.test_outputs_match_the_record, part=part)
    assert run.error is None
    assert len(run.left) == len(outputs_of(HOLDINGS[WHOLE])[part])


def test_a_classifier_is_held_to_its_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of an image classifier records its logits, and a thousandth too much in them is another release."""
    checkpoint = write_part(tmp_path / "classifier", CLASSIFIER)
    record_small(checkpoint, tmp_path / "pack")
    assert set(open_pack(tmp_path / "pack").outputs) == {
        "image_last_hidden_state",
        "image_pooler_output",
        "class_logits",
    }
    session = session_on(checkpoint, pack=tmp_path / "pack")
    run = Run(session, suite.test_outputs_match_the_record, part="features")
    assert (run.error, len(run.left)) == (None, 1)
    observed = session.baseline.clip.classifier(images=IMAGES)
    monkeypatch.setitem(observed, "logits", observed.logits * 1.001)
    run = Run(session, suite.test_outputs_match_the_record, part="features")
    assert run.error is not None
    assert (run.error.measurement.name, run.error.diverges_at) == ("class_logits", "classifier")


_SESSIONS: dict[str, Session] = {}


def _shared(model: Path, pack: Path, dtype: str) -> Session:
    """One session a dtype: what it has observed and computed is kept."""
    key = f"{model} {dtype}"
    _SESSIONS[key] = _SESSIONS.get(key) or session_on(model, pack=pack, dtype=dtype)
    return _SESSIONS[key]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_of_a_narrow_copy_match_the_wide_record(pack_path: Path, tmp_path: Path, dtype: str) -> None:
    """A copy stored in bfloat16 moves the expected values by what the rounding of its weights does, in either dtype."""
    copy = write_small_clip(tmp_path / "copy", dtype="bfloat16")
    session = session_on(copy, pack=pack_path, dtype=dtype)
    for part in ("vision_tower", "text_tower", "head"):
        assert Run(session, suite.test_outputs_match_the_record, part=part).error is None
    moved = session.baseline.expected("text_embeds")
    assert np.abs(moved.value - open_pack(pack_path).outputs["text_embeds"].value).max() > 1e-4


def test_float32_is_held_to_the_recorded_value_itself(session: Session) -> None:
    """With equal weights in float32 the reference does not enter the expected value: the record stands by itself."""
    output = OUTPUTS["head"][2]
    expected = session.baseline.expected(output.name)
    recorded = session.baseline.pack.outputs[output.name]
    np.testing.assert_array_equal(expected.value, recorded.value)
    assert np.all(expected.bound >= np.abs(recorded.error))
    assert expected.rule.endswith("plus the pack's own error")


@pytest.mark.parametrize("name", ["text_last_hidden_state", "image_pooler_output", "logits_per_image", "loss"])
def test_a_number_off_the_record_fails(model: Path, damaged: Path, name: str) -> None:
    """An approved value that the candidate does not give fails, with the output and the module."""
    arrays = {key: values.copy() for key, values in load((damaged / RECORD).read_bytes()).items()}
    value = arrays[f"outputs.{name}"]
    value.reshape(-1)[0] += np.float32(1e-4) * np.abs(value).max()
    reseal(damaged, RECORD, save(arrays))
    part = next(part for part, outputs in OUTPUTS.items() if name in [output.name for output in outputs])
    run = Run(session_on(model, pack=damaged), suite.test_outputs_match_the_record, part=part)
    assert run.error is not None
    assert run.error.measurement.name == name
    module = next(output.module for output in OUTPUTS[part] if output.name == name)
    assert run.error.diverges_at == (None if module is None else module(CLIP))


def test_padding_does_not_count(model: Path, damaged: Path, session: Session) -> None:
    """Recorded states at padded positions are not compared: nothing may depend on them."""
    arrays = {key: values.copy() for key, values in load((damaged / RECORD).read_bytes()).items()}
    padded = ~session.candidate.clip.real(5)  # (texts, tokens)
    arrays["outputs.text_last_hidden_state"][padded] += 100
    reseal(damaged, RECORD, save(arrays))
    assert Run(session_on(model, pack=damaged), suite.test_outputs_match_the_record, part="text_tower").error is None


def test_other_inputs_than_todays_are_fed_from_the_pack(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack with other inputs than this package would make is compared on its own inputs, reference included."""
    observing(monkeypatch, SOME_SURFACE)
    session = session_on(model)
    session.candidate.batch.pixel_values[:] *= np.float32(0.5)
    session.candidate.batch.input_ids[0, 3] = 11
    write_pack(tmp_path / "pack", build_pack(session))
    fed = session_on(model, pack=tmp_path / "pack")
    assert not fed.baseline.pack.has_inputs(fed.candidate.batch)
    for part in ("vision_tower", "text_tower", "loss"):
        assert Run(fed, suite.test_outputs_match_the_record, part=part).error is None
    one, other = OUTPUTS["vision_tower"][1], fed.baseline.pack.outputs["image_pooler_output"].value
    assert np.abs(to_array(one.observe(fed.candidate.clip)) - other).max() > 0.01


def test_a_changed_config_changes_numbers_and_surface(model: Path, pack_path: Path, tmp_path: Path) -> None:
    """Another activation in config.json, with the same weights, is named by field and shows in the numbers."""
    other = session_on(changed_config(model, tmp_path / "other", hidden_act="gelu"), pack=pack_path)
    assert Run(other, suite.test_weights_are_those_of_the_pack).error is None
    run = Run(other, suite.test_outputs_match_the_record, part="text_tower")
    assert run.error is not None
    assert run.error.measurement.name == "text_last_hidden_state"
    found = Run(other, suite.test_surface_is_approved).changes()
    assert list(found) == [
        "config.text_config.hidden_act",
        "CLIPModel.named_modules()[text_model.encoder.layers.*.mlp.activation_fn]",
    ]
    change = found["config.text_config.hidden_act"]
    assert (change.before, change.after) == ("quick_gelu", "gelu")


def test_an_architecture_that_replaces_the_approved_one_has_a_surface(pack_path: Path, tmp_path: Path) -> None:
    """With --new-weights a model that takes other inputs than the pack's is still compared, in words without sizes."""
    other = write_small_clip(tmp_path / "other", vision_config={"image_size": 16, "hidden_size": 60})
    run = Run(session_on(other, pack=pack_path, new_weights=True), suite.test_surface_is_approved)
    assert [name for name in run.changes() if not name.endswith(".levels")] == [
        "config.vision_config.hidden_size",
        "config.vision_config.image_size",
        "checkpoint.image_processor.crop_size",
        "checkpoint.image_processor.size",
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_are_those_of_the_packs_config(model: Path, pack_path: Path, tmp_path: Path, dtype: str) -> None:
    """Where the candidate's config pools texts at another token, its own reference follows; the pack does not."""
    other = session_on(changed_config(model, tmp_path / "other", eos_token_id=7), pack=pack_path, dtype=dtype)
    run = Run(other, suite.test_outputs_match_the_record, part="text_tower")
    assert run.error is not None
    assert run.error.measurement.name == "text_pooler_output"


def test_output_options_in_config_are_a_change(model: Path, session: Session, tmp_path: Path) -> None:
    """A config.json that turns an output option on has its own entry: no field of the architecture shows it."""
    other = open_checkpoint(changed_config(model, tmp_path / "other", output_hidden_states=True))
    (change,) = checkpoint_changes(session.baseline.pack, other)
    assert change.id == "config.output_options.text_config.output_hidden_states"
    assert (change.before, change.after) == ("absent", "True")


def test_a_pack_without_settings_tells_parts_as_a_whole(model: Path, session: Session, tmp_path: Path) -> None:
    """A pack that states digests only still tells that a part differs."""
    pack = dataclasses.replace(session.baseline.pack, settings={})
    other = open_checkpoint(changed_config(model, tmp_path / "other", output_hidden_states=True))
    assert [change.id for change in checkpoint_changes(pack, other)] == ["config.output_options"]


def test_changed_and_missing_processor_files_are_changes(model: Path, session: Session, tmp_path: Path) -> None:
    """A tokenizer or image processor that differs from the approved one, or is gone, is a change of its own."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model / name, bare / name)
    found = {change.id: change for change in checkpoint_changes(session.baseline.pack, open_checkpoint(bare))}
    assert list(found) == ["checkpoint.tokenizer", "checkpoint.image_processor"]
    assert all(change.after == "none" for change in found.values())


def test_an_approved_surface_passes(session: Session) -> None:
    """Under an approved environment nothing differs, and the check says with what it compared."""
    run = Run(session, suite.test_surface_is_approved)
    assert run.error is None
    (measurement,) = [value for name, value in run.left if name == "measurement"]
    assert f"transformers {transformers_release()} with eager attention" in measurement["name"]


def test_every_change_of_the_surface_is_recorded(model: Path, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each difference from the approved surface is left as a surface change, and the check fails naming them."""
    surface = json.loads((damaged / surface_file()).read_text(encoding="utf-8"))
    monkeypatch.setattr(comparison, "observe_surface", lambda _, observed=dict(surface): observed)
    surface["CLIPModel().text_embeds"] = "Tensor float32 (texts, projection)"
    surface["CLIPModel().gone"] = "Tensor"
    del surface["CLIPTextModel()"]
    reseal(damaged, surface_file(), json.dumps(surface).encode())
    run = Run(session_on(model, pack=damaged), suite.test_surface_is_approved)
    found = run.changes()
    assert list(found) == ["CLIPModel().gone", "CLIPModel().text_embeds", "CLIPTextModel()"]
    assert found["CLIPModel().text_embeds"].after == "Tensor model (texts, projection)"
    assert found["CLIPModel().gone"].after == found["CLIPTextModel()"].before == "absent"
    assert run.error is not None
    assert run.error.measurement.observed.startswith("3 changes: CLIPModel().gone")


def test_without_a_pack_nothing_is_compared(model: Path) -> None:
    """A session without --baseline has no pack, and asking for the comparison says what to add."""
    session = session_on(model)
    assert session.pack is None
    with pytest.raises(PackError, match="Add --baseline PACK"):
        session.baseline  # noqa: B018 - it raises


def test_users_checks_can_ask_the_baseline(session: Session) -> None:
    """A user's own check compares an output with the approved value in two lines."""
    baseline, clip, compare = session.baseline, session.candidate.clip, Compare([].append)
    compare.close(clip.forward(images=3, texts=5).text_embeds, baseline.expected("text_embeds"), name="text_embeds")
