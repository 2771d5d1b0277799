"""The surface: descriptions without sizes, one entry for each thing that can change, differences by id."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packs import session_on
from support.small_clip import write_small_clip

from clip_eval.baseline.pack import Surface
from clip_eval.baseline.surface import snapshot
from clip_eval.baseline.surface.diff import changes
from clip_eval.baseline.surface.models import observe_models
from clip_eval.baseline.surface.output_types import described, sizes_of
from clip_eval.baseline.surface.processors import observe_processors
from clip_eval.baseline.surface.snapshot import observe_surface
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.subject import features_are_tensors
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import as_tuple
from clip_eval.subject.tiny_clip import STORED, write_stand_in


class Output(OrderedDict[str, Any]):
    """Stands for a model output: fields by name."""


class Tensor:
    """Stands for a tensor: what a description asks of it."""

    def __init__(self, *shape: int, dtype: str = "float32") -> None:
        self.shape = shape
        self.dtype = f"torch.{dtype}"

    def detach(self) -> Tensor:
        """Tensors are told by having this."""
        return self


@pytest.fixture(scope="module")
def clip(model: Path) -> Clip:
    """Its observations in float32, eager."""
    return session_on(model).candidate.clip


@pytest.fixture(scope="module")
def surface(clip: Clip) -> Surface:
    """Its surface."""
    return observe_surface(clip)


def test_sizes_are_written_by_name(clip: Clip) -> None:
    """A shape is spelled by what its axes mean, and the subject's dtype as "model"."""
    sizes = sizes_of(clip, "CLIPTextModel")
    assert described(Tensor(5, 16, 32), clip, sizes) == {"": "Tensor model (texts, tokens, text width)"}
    assert described(Tensor(5, 4, 16, 16), clip, sizes) == {"": "Tensor model (texts, text heads, tokens, tokens)"}
    assert described(Tensor(dtype="int64"), clip, sizes) == {"": "Tensor int64 ()"}


def test_logits_keep_rows_on_both_axes(clip: Clip) -> None:
    """The second axis of logits is one of rows, whatever else has the same size."""
    assert described(Tensor(3, 5), clip, sizes_of(clip, "CLIPModel"))[""] == "Tensor model (images, texts)"


def test_a_size_with_two_meanings_carries_both(tmp_path: Path) -> None:
    """Where projection and width are equal, as in real CLIPs, a shape does not claim to know which it is."""
    directory = write_small_clip(tmp_path / "clip", processor=False, text_config={"hidden_size": 24})
    clip = session_on(directory).candidate.clip
    spelled = described(Tensor(5, 24), clip, sizes_of(clip, "text"))[""]
    assert spelled == "Tensor model (texts, text width = projection)"


def test_unknown_sizes_stay_numbers(clip: Clip) -> None:
    """A size that nothing explains where it stands is written as it is."""
    sizes = sizes_of(clip, "text")
    assert described(Tensor(7, 9), clip, sizes)[""] == "Tensor model (7, 9)"
    assert described(Tensor(5, 32, 16), clip, sizes)[""] == "Tensor model (texts, 32, 16)"  # transposed
    assert described(Tensor(5, 1, 1, 1, 1), clip, sizes)[""] == "Tensor model (texts, 1, 1, 1, 1)"


def test_entries_that_are_alike_take_one_line(clip: Clip) -> None:
    """Hidden states are one entry, counted in layers; entries that differ are listed."""
    sizes = sizes_of(clip, "text")
    states = (Tensor(5, 16, 32),) * 3
    assert described(states, clip, sizes) == {"": "tuple of text layers + 1: Tensor model (texts, tokens, text width)"}
    assert described((None, None), clip, sizes) == {"": "tuple of text layers: None"}
    assert described((), clip, sizes) == {"": "tuple of 0"}
    assert described((*states[1:], None), clip, sizes) == {
        "": "tuple of 3",
        "[0]": "Tensor model (texts, tokens, text width)",
        "[1]": "Tensor model (texts, tokens, text width)",
        "[2]": "None",
    }


def test_nested_outputs_are_described_field_by_field(clip: Clip) -> None:
    """Each field has its own path, and a nested tower output the sizes of its tower."""
    output = Output(loss=Tensor(), text_model_output=Output(pooler_output=Tensor(5, 32)))
    assert described(output, clip, sizes_of(clip, "CLIPModel")) == {
        "": "Output: loss, text_model_output",
        ".loss": "Tensor model ()",
        ".text_model_output": "Output: pooler_output",
        ".text_model_output.pooler_output": "Tensor model (texts, text width)",
    }
    assert len(as_tuple(output)[1]) == 1


def test_surface_is_sorted_and_plain(surface: Surface) -> None:
    """Ids map to strings and lists of strings, in order, so that a pack's text is stable; where an id has an asterisk
    for them, to a mapping of names.
    """
    assert list(surface) == sorted(surface)
    assert json.loads(json.dumps(surface)) == surface
    for identity, value in surface.items():
        held = list(value.values()) if isinstance(value, dict) else [value]
        assert not isinstance(value, dict) or identity.count("*") == 1, identity
        assert all(isinstance(item, (str, list)) for item in held), identity


def test_every_class_is_covered(surface: Surface) -> None:
    """Each model class has its output, each option and its weights in memory; each processor route its class."""
    for model_class in MODEL_CLASSES:
        for call in ("()", "(output_hidden_states=True)", "(output_attentions=True)", "(return_dict=False)"):
            assert model_class + call in surface
        assert f"{model_class}.state_dict()" in surface
    assert surface["AutoProcessor.from_pretrained()"] == "CLIPProcessor"
    assert surface["CLIPModel(return_loss=True).loss"] == "Tensor model ()"
    assert surface["CLIPModel().logits_per_text"] == "Tensor model (texts, images)"


def test_features_have_the_form_of_the_release(surface: Surface, clip: Clip) -> None:
    """The type of get_text_features, which changed in 5.0, is an entry of its own."""
    bare = "Tensor model (texts, projection)"
    expected = (
        bare if features_are_tensors(clip.release) else "BaseModelOutputWithPooling: last_hidden_state, pooler_output"
    )
    assert surface["CLIPModel.get_text_features()"] == expected


def test_options_list_only_what_they_change(surface: Surface) -> None:
    """A field that an option leaves alone is not repeated: one cause, one change."""
    assert "CLIPTextModel(output_hidden_states=True).hidden_states" in surface
    assert "CLIPTextModel(output_hidden_states=True).pooler_output" not in surface
    assert [name for name in surface if name.startswith("CLIPModel(return_dict=False)")] == [
        "CLIPModel(return_dict=False)"
    ]


def test_a_field_that_an_option_takes_away_is_listed(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under an option, a missing field is an entry: it must not look like an unchanged one."""
    whole = Clip.text_model

    def without_pooler(self: Clip, *, texts: int, **options: Any) -> Any:
        output = whole(self, texts=texts, **options)
        return Output(last_hidden_state=output.last_hidden_state) if options.get("output_hidden_states") else output

    monkeypatch.setattr(Clip, "text_model", without_pooler)
    found = snapshot._outputs(clip)
    assert found["CLIPTextModel(output_hidden_states=True).pooler_output"] == "absent"


def test_layers_of_weights_take_one_line(surface: Surface) -> None:
    """A weight that every layer has is named once, so that the depth of a model is not its surface."""
    names = surface["CLIPModel.state_dict()"]
    assert "text_model.encoder.layers.*.mlp.fc1.weight" in names
    assert "logit_scale" in names
    assert not any("layers.0." in name for name in names)


def test_a_missing_layer_is_written_out(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not every layer has a weight, the layers that do are named."""
    model = clip.subject.model("CLIPTextModel")
    state = {name: value for name, value in model.state_dict().items() if "layers.0.mlp.fc1.bias" not in name}
    monkeypatch.setattr(model, "state_dict", lambda: state)
    names = observe_models(clip)["CLIPTextModel.state_dict()"]
    assert any(name.endswith("layers.{1}.mlp.fc1.bias") for name in names)


def test_surface_does_not_depend_on_the_dtype(model: Path, surface: Surface) -> None:
    """A candidate in bfloat16 has the surface that its release was approved with in float32."""
    assert changes(surface, observe_surface(session_on(model, dtype="bfloat16").candidate.clip)) == ()


def test_attention_maps_depend_on_the_attention(model: Path, surface: Surface) -> None:
    """Sdpa returns no maps and reads odd masks in another way: each attention implementation is approved by itself."""
    found = changes(surface, observe_surface(session_on(model, attention="sdpa").candidate.clip))
    assert found
    parts = ("output_attentions=True", "(attention_mask=", "(keyword)[")
    assert all(any(part in change.id for part in parts) for change in found)


def test_a_checkpoint_without_processor_says_so(tmp_path: Path, surface: Surface) -> None:
    """No files to load is a value, and differs from any class name."""
    bare = observe_surface(session_on(write_small_clip(tmp_path / "clip", processor=False)).candidate.clip)
    for name in ("AutoProcessor", "CLIPProcessor", "AutoImageProcessor", "AutoTokenizer", "CLIPTokenizerFast"):
        assert bare[f"{name}.from_pretrained()"] == "no files to load"
    assert all(OF_PROCESSORS.match(change.id) for change in changes(surface, bare))


OF_PROCESSORS = re.compile(
    r"(Auto|CLIP)(Processor|Tokenizer|ImageProcessor|FeatureExtractor)|(image_)?processor|tokenizer"
)


def test_a_processor_that_cannot_be_loaded_is_described_by_its_error(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user sees of a broken processor is the exception."""

    def broken(self: object, route: str, **options: object) -> None:
        raise OSError(route)

    monkeypatch.setattr(type(clip.processors), "load", broken)
    assert observe_processors(clip)["AutoTokenizer.from_pretrained()"] == "raises OSError"


def test_default_dtypes_follow_the_release(surface: Surface, clip: Clip) -> None:
    """Transformers 4 loads everything as float32 unless asked, 5 as it is stored; one stored dtype could not tell."""
    loaded = {stored: surface[f"CLIPModel.from_pretrained().dtype[{stored}]"] for stored in STORED}
    assert loaded == {stored: "float32" if clip.release.major < 5 else stored for stored in STORED}


@pytest.mark.parametrize(("stated", "expected"), [("float32", "bfloat16"), ("float16", "float16")])
def test_a_stand_in_states_its_dtype_as_the_candidate_does(
    tmp_path: Path, model: Path, stated: str, expected: str
) -> None:
    """A config.json that says what is stored goes on saying so; one that says otherwise keeps its claim."""
    copy = tmp_path / "clip"
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    raw = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**raw, "dtype": stated}), encoding="utf-8")
    (tmp_path / "stand-in").mkdir()
    write_stand_in(tmp_path / "stand-in", open_checkpoint(copy), "bfloat16")
    stand_in = open_checkpoint(tmp_path / "stand-in")
    assert stand_in.dtype == "bfloat16"
    assert stand_in.raw_config["dtype"] == expected
    assert not np.any(stand_in.weights("float32")["text_projection.weight"])


def test_changes_name_what_differs() -> None:
    """Each id that differs, is gone or is new is one change, with both values and a word for what it is."""
    before = {"A()": "Tensor", "A.state_dict()": ["a", "b", "c"], "config.text_config.eos_token_id": 2, "same": "x"}
    after = {"A()": "tuple of 2", "A.state_dict()": ["a", "c", "d"], "B.from_pretrained()": "B", "same": "x"}
    found = {change.id: change for change in changes(before, after)}
    assert list(found) == ["A()", "A.state_dict()", "B.from_pretrained()", "config.text_config.eos_token_id"]
    assert (found["A()"].before, found["A()"].after) == ("Tensor", "tuple of 2")
    assert (found["A.state_dict()"].before, found["A.state_dict()"].after) == ("b", "d")
    assert (found["B.from_pretrained()"].before, found["B.from_pretrained()"].after) == ("absent", "B")
    assert found["config.text_config.eos_token_id"].what == "text_config.eos_token_id in config.json"
    assert all(change.accepted is None and change.check == "baseline.surface_is_approved" for change in found.values())


def test_changes_of_mappings_are_told_by_name() -> None:
    """Names that come and go are one change, each value that differs is one, under the name in the asterisk's place."""
    before = {"A.*": {"kept": "1", "gone": "1", "too": "1", "changed": "1"}, "B[*]": {"x": "1"}}
    after = {"A.*": {"kept": "1", "new": "1", "changed": "2"}, "B[*]": "no such module"}
    found = {change.id: (change.before, change.after) for change in changes(before, after)}
    assert found == {"A.*": ("gone, too", "new"), "A.changed": ("1", "2"), "B[*]": ("x", "no such module")}


def test_order_of_a_list_is_part_of_it() -> None:
    """The same items in another order are shown whole, not as no difference."""
    (change,) = changes({"A": ["a", "b"]}, {"A": ["b", "a"]})
    assert (change.before, change.after) == ("a, b", "b, a")


def test_one_change_of_several_things_is_told_once() -> None:
    """The same change of several classes, values of an argument or keys is one, whose id names them all."""
    names = [f"{name}(use_cache={value})" for name in ("CLIPModel", "CLIPTextModel") for value in (True, False)]
    found = changes(dict.fromkeys(names, "taken"), dict.fromkeys(names, "refused"))
    assert [change.id for change in found] == ["CLIPModel|CLIPTextModel(use_cache=False|True)"]
    assert (found[0].before, found[0].after) == ("taken", "refused")
    before = {"pictures[*]": {"L": "read", "LA": "read", "P": "read"}}
    after = {"pictures[*]": {"L": "refused", "LA": "refused", "P": "misread"}}
    assert [change.id for change in changes(before, after)] == ["pictures[L|LA]", "pictures[P]"]


def test_equal_surfaces_have_no_changes(surface: Surface) -> None:
    """A surface read back from a pack's JSON equals the one that was observed."""
    assert changes(json.loads(json.dumps(surface)), surface) == ()
