"""Layouts that people have, each as small as shows it: what opening one says."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.raw_safetensors import edit_header, edit_json, split, write_raw

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import CheckpointError, ClipEvalError, UsageError
from clip_eval.families.clip.tensors import expected_tensors
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig

FIXTURE = Path(__file__).parents[2] / "fixtures" / "shapes-clip"
COMMIT = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
OLD_RELEASE = int(version("transformers").partition(".")[0]) < 5
Change = Callable[[Path], object]


def clip_at(directory: Path) -> Path:
    """The shipped checkpoint's config and weights, without a processor."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FIXTURE / name, directory)
    return directory


def message(source: Path, kind: type[ClipEvalError] = CheckpointError) -> str:
    """The message of a refusal: one paragraph, of a length that is read."""
    with pytest.raises(kind) as caught:
        open_checkpoint(source)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1200 + len(str(source)) * 8
    return text


def follow(text: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command that a message recommends."""
    code = re.search(r"python -c '(.*)' in its directory does", text)
    assert code is not None
    monkeypatch.chdir(home)
    exec(compile(code[1], "recommended", "exec"), {})


def renamed(change: Callable[[str], str]) -> Change:
    """Another name for every tensor."""

    def apply(home: Path) -> None:
        def rename(header: dict[str, Any]) -> None:
            tensors = {change(name): header.pop(name) for name in list(header) if name != "__metadata__"}
            header.update(tensors)

        edit_header(home, rename)

    return apply


def swapped(old: str, new: str) -> Change:
    """Names with one part in place of another; with a prefix for no part."""
    return renamed(lambda name: name.replace(old, new, -1 if old else 1))


def only(keep: Callable[[str], bool]) -> Change:
    """Some of the tensors."""

    def apply(home: Path) -> None:
        header, data = split(home / "model.safetensors")
        kept, parts, end = {}, [], 0
        for name, field in header.items():
            if name != "__metadata__" and keep(name):
                begin, stop = field["data_offsets"]
                parts.append(data[begin:stop])
                kept[name] = {**field, "data_offsets": [end, end := end + stop - begin]}
        write_raw(home / "model.safetensors", kept, b"".join(parts))

    return apply


def with_config(**changes: Any) -> Change:
    """Fields of config.json; a mapping is laid over the one that is there."""

    def apply(home: Path) -> None:
        def change(raw: dict[str, Any]) -> None:
            for key, value in changes.items():
                raw[key] = {**(raw.get(key) or {}), **value} if isinstance(value, dict) else value

        edit_json(home / "config.json", change)

    return apply


def written(name: str, content: object) -> Change:
    """A JSON file beside the others."""
    return lambda home: (home / name).write_text(json.dumps(content), encoding="utf-8")


def both(*changes: Change) -> Change:
    """One change after another."""
    return lambda home: [change(home) for change in changes]


def config_dict(home: Path) -> None:
    """Sizes in text_config_dict and eos 2 in text_config, as openai/clip-vit-large-patch14 has them."""

    def change(raw: dict[str, Any]) -> None:
        text = raw["text_config"]
        raw["text_config_dict"] = {**text, "eos_token_id": 842}
        text.update(eos_token_id=2)

    edit_json(home / "config.json", change)


def mark(home: Path) -> None:
    """A byte order mark before config.json."""
    file = home / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


def one_element(home: Path) -> None:
    """The temperature as an array of one number."""
    edit_header(home, lambda header: header["logit_scale"].update(shape=[1]))


def adapted(name: str) -> str:
    """The names of a model with LoRA layers."""
    return "base_model.model." + name.replace("q_proj.", "q_proj.base_layer.")


NOTED: dict[str, tuple[Change, list[str]]] = {
    "as saved": (lambda home: None, []),
    "config-dict": (
        config_dict,
        [
            "config.json: text_config says eos_token_id 2, and CLIPModel runs with 842, since text_config_dict is laid "
            "over it with the defaults of what it leaves out; CLIPTextModel and CLIPTextModelWithProjection read "
            "text_config alone."
        ],
    ),
    "towers project elsewhere": (with_config(text_config={"projection_dim": 512}), []),
    "a library's other fields": (with_config(no_such_field=[1], text_config={"pad_token_id": -1, "zeal": None}), []),
}
"""What opens: the change, and its notes."""

REFUSED: dict[str, tuple[Change, str]] = {
    "config-bom": (mark, "begins with a byte order mark, and transformers refuses it as invalid JSON"),
    "names-ddp": (
        swapped("", "module."),
        r"every name of a tensor begins with module\. before CLIP's own, put there by DataParallel or Distributed.*"
        r'Take it off: python -c .*removeprefix\("module\."\)',
    ),
    "names-compiled": (swapped("", "_orig_mod."), "begins with _orig_mod. before .* by torch.compile:"),
    "names-lightning": (swapped("", "model."), "begins with model. before .* by a LightningModule"),
    "names-ddp-compiled": (
        swapped("", "module._orig_mod."),
        "begins with module._orig_mod. before CLIP's own, put there by torch.compile and DataParallel",
    ),
    "names-compiled-tower": (
        swapped("text_model.", "text_model._orig_mod."),
        "names of tensors contain _orig_mod., which torch.compile",
    ),
    "names-own-wrapper": (swapped("", "backbone.clip."), r"begins with backbone\.clip\. before CLIP's own: "),
    "names-some": (
        renamed(lambda name: name if name.startswith("text") else f"student.{name}"),
        r"begin with different prefixes \(none, student\.\)",
    ),
    "names-of-a-merge": (swapped("", "base_model.model."), "begins with base_model.model. .* by PEFT:"),
    "peft-not-merged": (renamed(adapted), r"layers of an adapter of PEFT that was not merged: 18 tensors .*merge_and_"),
    "gmp": (
        renamed(lambda name: name.replace("fc1.weight", "fc1.theta").replace("fc2.weight", "fc2.theta")),
        r"a geometric parametrisation that was not converted back: 18 tensors .*weight = r \* theta / norm\(theta\)",
    ),
    "weight-norm": (
        swapped("fc1.weight", "fc1.parametrizations.weight.original0"),
        "a parametrisation of torch that was not removed: 9 tensors .*remove_parametrizations",
    ),
    "weight-norm-of-old": (swapped("fc1.weight", "fc1.weight_g"), "parametrisation of torch"),
    "bitsandbytes": (
        swapped("fc1.bias", "fc1.weight.absmax"),
        "holds quantised weights: 9 tensors .*from before quantisation",
    ),
    "bitsandbytes-int8": (swapped("fc1.bias", "fc1.SCB"), "holds quantised weights"),
    "gptq": (swapped("fc1.weight", "fc1.qweight"), "holds quantised weights"),
    "open-clip-names": (
        swapped("vision_model.", "visual."),
        "the names of open_clip or of OpenAI's own code",
    ),
    "another-model": (swapped("", "blip_"), "holds no tensor of a CLIP, only 158 tensors"),
    "image-classification": (
        both(only(lambda name: name.startswith("vis")), swapped("visual_projection", "classifier")),
        "config.json is that of a full CLIP, and the file holds a vision tower and a classifier only",
    ),
    "text-tower": (only(lambda name: name.startswith("text_m")), "a full CLIP, and the file holds a text tower only"),
    "vision-tower": (
        only(lambda name: name.startswith("vis")),
        "config.json is that of a full CLIP, and the file holds a vision tower and its projection only",
    ),
    "resolution-raised-config-only": (
        with_config(vision_config={"image_size": 48}),
        r"position_embedding.weight has shape \(17, 96\), but config.json implies \(37, 96\): .*image_size is 48",
    ),
    "layers-without-end": (
        with_config(text_config={"num_hidden_layers": 10**9}),
        "the text tower has 4 layers on disk, but text_config.num_hidden_layers is 1000000000",
    ),
    "no-layers": (only(lambda name: ".layers." not in name), "has 0 layers on disk, but text_config.num_"),
    "positions-without-end": (
        with_config(vision_config={"image_size": 2**40}),
        r"implies \(18889465931478580854785, 96\)",
    ),
}  # fmt: skip
"""What does not open: the change, and a pattern of the message."""


@pytest.mark.parametrize("name", NOTED)
def test_a_layout_opens_with_its_notes(name: str, tmp_path: Path) -> None:
    """What is healthy opens, and what a reader should know of it is said, a sentence each."""
    change, expected = NOTED[name]
    change(clip_at(tmp_path / "clip"))
    assert list(open_checkpoint(tmp_path / "clip").notes) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_is_named_for_what_it_is(name: str, tmp_path: Path) -> None:
    """What is no full CLIP, or a broken one, is refused in one paragraph that says what it is and what to do."""
    change, expected = REFUSED[name]
    change(clip_at(tmp_path / "clip"))
    assert re.search(expected, message(tmp_path / "clip"))


@pytest.mark.parametrize("name", ["names-ddp", "names-compiled-tower", "config-bom"])
def test_the_command_that_is_recommended_mends_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a message runs as it stands, and the checkpoint opens after it with every weight as it was."""
    REFUSED[name][0](home := clip_at(tmp_path / "clip"))
    follow(message(home), home, monkeypatch)
    assert open_checkpoint(home).fingerprints().weights == open_checkpoint(FIXTURE).fingerprints().weights


def test_scale_of_one_element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers 4 takes the number out of shape (1,), 5 refuses to load it, and each is what its user is told."""
    one_element(home := clip_at(tmp_path / "clip"))
    if OLD_RELEASE:
        observed = open_checkpoint(home)
        assert "logit_scale has shape (1,) in model.safetensors: transformers 4" in observed.notes[0]
        assert observed.weights("float32")["logit_scale"].shape == ()
        return
    text = message(home)
    assert "logit_scale has shape (1,), and a CLIP's is a scalar" in text
    follow(text, home, monkeypatch)
    assert open_checkpoint(home).notes == ()


def cached(root: Path, name: str = "models--openai--clip", *, main: str | None = COMMIT) -> Path:
    """A repository in the hub's cache with one commit, its files links into blobs."""
    repository = root / name
    source, snapshot = clip_at(repository / "blobs"), repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in source.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    (repository / "refs").mkdir()
    if main is not None:
        (repository / "refs" / "main").write_text(main, encoding="utf-8")
    return repository


class TestInside:
    """A directory whose own files say where in it the checkpoint lies."""

    def test_repository_in_the_cache(self, tmp_path: Path) -> None:
        """The commit that refs/main names is opened, and is the checkpoint's revision."""
        observed = open_checkpoint(cached(tmp_path))
        assert (observed.path.name, observed.revision) == (COMMIT, COMMIT)
        assert f"snapshots/{COMMIT}, the commit that refs/main names in the hub's cache." in observed.notes[0]

    def test_repository_in_the_cache_without_main(self, tmp_path: Path) -> None:
        """A download of one revision names no main: the only commit counts, several are listed."""
        repository = cached(tmp_path, main=None)
        assert "the commit that is there in the hub's cache" in open_checkpoint(repository).notes[0]
        shutil.copytree(repository / "snapshots" / COMMIT, repository / "snapshots" / ("f" * 40))
        assert f"there are 2 commits in it: {repository}. Name one of them:" in message(repository, UsageError)

    @pytest.mark.parametrize("main", ["0" * 40, "../../elsewhere", ""])
    def test_repository_that_is_incomplete(self, tmp_path: Path, main: str) -> None:
        """A name in refs/main that is no commit here is followed nowhere."""
        assert "lacks files of the commit that refs/main names" in message(cached(tmp_path, main=main))

    def test_cache(self, tmp_path: Path) -> None:
        """The cache itself: its one repository, or a list of several."""
        cached(tmp_path)
        assert open_checkpoint(tmp_path).revision == COMMIT
        cached(tmp_path, "models--laion--clip")
        text = message(tmp_path, UsageError)
        assert "there are 2 repositories of the hub in it" in text
        assert f"Name one of them: {tmp_path / 'models--laion--clip'}, {tmp_path / 'models--openai--clip'}" in text

    def test_sentence_transformers(self, tmp_path: Path) -> None:
        """The CLIP module that modules.json names is opened; a model without one is named."""
        clip_at(tmp_path / "0_CLIPModel")
        modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
        written("modules.json", modules)(tmp_path)
        observed = open_checkpoint(tmp_path)
        assert observed.path == tmp_path / "0_CLIPModel"
        assert "0_CLIPModel, the CLIP module that modules.json names." in observed.notes[0]
        written("modules.json", [{"path": "", "type": "sentence_transformers.models.Transformer"}])(tmp_path)
        assert "Sentence Transformers model without a CLIP in it (Transformer)" in message(tmp_path)

    @pytest.mark.parametrize("path", ["../clip", "/etc", "\0", "x" * 5000, 3, None])
    def test_module_elsewhere_is_not_followed(self, tmp_path: Path, path: object) -> None:
        """A name in a file leads nowhere out of the directory."""
        clip_at(tmp_path / "clip")
        (home := tmp_path / "home").mkdir()
        written("modules.json", [{"path": path, "type": "CLIPModel"}])(home)
        assert "without a CLIP in it" in message(home)

    @pytest.mark.parametrize("content", [3, None, [], [3], {}, {"a": 1}, [{"type": 3}]])
    @pytest.mark.parametrize("name", ["modules.json", "model_index.json", "adapter_config.json"])
    def test_marker_of_another_form(self, tmp_path: Path, name: str, content: object) -> None:
        """A marker file may hold any JSON."""
        written(name, content)(tmp_path)
        assert str(tmp_path) in message(tmp_path)

    def test_diffusers_pipeline(self, tmp_path: Path) -> None:
        """The one CLIP component is opened; several are listed, each a name that the user can give."""
        index = {"_class_name": "StableDiffusionPipeline", "tokenizer": ["transformers", "CLIPTokenizer"]}
        index["text_encoder"] = ["transformers", "CLIPTextModel"]
        clip_at(tmp_path / "text_encoder")
        written("model_index.json", index)(tmp_path)
        assert open_checkpoint(tmp_path).path == tmp_path / "text_encoder"
        written("config.json", {"model_type": "clip_text_model"})(tmp_path / "text_encoder")
        assert "config.json is that of a CLIPTextModel, and the file holds a whole model: " in message(tmp_path)
        clip_at(tmp_path / "image_encoder")
        written("model_index.json", {**index, "image_encoder": ["transformers", "CLIPModel"]})(tmp_path)
        expected = f"Name one of them: {tmp_path / 'text_encoder'}, {tmp_path / 'image_encoder'}"
        assert expected in message(tmp_path, UsageError)

    def test_training_run(self, tmp_path: Path) -> None:
        """A run's one checkpoint is opened, several are listed by step, and a mere name is neither."""
        clip_at(tmp_path / "checkpoint-500")
        assert "has no config.json" in message(tmp_path)
        written("trainer_state.json", {})(tmp_path / "checkpoint-500")
        assert "checkpoint-500, the only one of the training run" in open_checkpoint(tmp_path).notes[0]
        written("trainer_state.json", {})(clip_at(tmp_path / "checkpoint-1000"))
        expected = f"Name one of them: {tmp_path / 'checkpoint-500'}, {tmp_path / 'checkpoint-1000'}"
        assert expected in message(tmp_path, UsageError)

    def test_adapter(self, tmp_path: Path) -> None:
        """An adapter is named, with the model that it belongs to and what makes a checkpoint of both."""
        written("adapter_config.json", {"base_model_name_or_path": "openai/clip"})(tmp_path)
        expected = "an adapter of PEFT (openai/clip), not a"
        assert expected in message(tmp_path)
        (clip_at(tmp_path) / "model.safetensors").rename(tmp_path / "adapter_model.safetensors")
        assert expected in message(tmp_path)

    def test_open_clip(self, tmp_path: Path) -> None:
        """A checkpoint of open_clip is named."""
        written("open_clip_config.json", {})(tmp_path)
        assert "this is a checkpoint of open_clip" in message(tmp_path)

    def test_weights_without_config(self, tmp_path: Path) -> None:
        """Weights alone: the file that is missing is named."""
        (clip_at(tmp_path) / "config.json").unlink()
        assert "Copy the config.json that belongs to model.safetensors" in message(tmp_path)


@pytest.mark.parametrize("field", ["text_config.num_hidden_layers", "vision_config.num_hidden_layers"])
def test_sizes_cost_nothing_before_they_are_seen(field: str, tmp_path: Path) -> None:
    """A thousand million layers in the config and one tensor of the last of them cost neither time nor memory."""
    section, name = field.split(".")
    with_config(**{section: {name: 10**9}})(home := clip_at(tmp_path / "clip"))
    tower = section.partition("_")[0]
    last = f"{tower}_model.encoder.layers.{10**9 - 1}.mlp.fc1.bias"
    renamed(lambda stored: last if stored == f"{tower}_model.encoder.layers.3.mlp.fc1.bias" else stored)(home)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert f"{field} is 1000000000" in message(home)
    with pytest.raises(CheckpointError, match="num_hidden_layers is 1000000000, more than"):
        expected_tensors(ClipConfig(TextConfig(num_hidden_layers=10**9), VisionConfig()))
    assert time.process_time() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("name", ["x" * 3000, "a\nb", "\ud800", f"text_model.encoder.layers.{'9' * 5000}.a"])
def test_names_of_tensors_may_be_anything(name: str, tmp_path: Path) -> None:
    """A name that is long, or cannot be printed, is cut and escaped in the message."""
    home = clip_at(tmp_path / "clip")
    renamed(
        lambda stored: name if stored.endswith("layers.0.mlp.fc1.bias") and stored.startswith("vision") else stored
    )(home)
    text = message(home)
    assert len(text) < 1000 + len(str(home))
    text.encode()
