"""What is said of a class that does not load a checkpoint, and of one that builds no processor from its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from safetensors.numpy import load_file, save_file

from clip_eval.baseline.surface.formatting import attempt
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import CheckpointError, Finding, NotAskable
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.subject import BUILDERS, Subject, transformers_release
from clip_eval.subject.field_at_fault import FieldAtFault
from clip_eval.subject.processors import first_cause
from clip_eval.subject.tiny_clip import small_subject
from clip_eval.suite._images import raised

TEXT = "CLIPTextModelWithProjection"
FINDING = f"weights.every_weight_is_loaded[{TEXT}]"


@pytest.fixture(scope="module")
def base(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a processor, its image processor in the file that every release reads."""
    path = Path(shutil.copytree(model, tmp_path_factory.mktemp("findings") / "clip"))
    whole = path / "processor_config.json"  # 5.x keeps both parts in one file
    if not (path / "preprocessor_config.json").is_file():
        settings = json.loads(whole.read_text(encoding="utf-8"))["image_processor"]
        (path / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    whole.unlink(missing_ok=True)
    return path


@pytest.fixture
def edited(base: Path, tmp_path: Path) -> Callable[[str, Callable[[dict[str, Any]], object]], Path]:
    """Copy the checkpoint with one of its JSON files changed."""

    def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        copy = Path(shutil.copytree(base, tmp_path / "clip"))
        data = json.loads((copy / name).read_text(encoding="utf-8"))
        change(data)
        (copy / name).write_text(json.dumps(data), encoding="utf-8")
        return copy

    return edit


Edited = Callable[[str, Callable[[dict[str, Any]], object]], Path]


def subject_of(path: Path, like: Subject | None = None) -> Subject:
    """The checkpoint in float32."""
    return Subject(open_checkpoint(path), "float32", like=like)


def test_a_healthy_checkpoint_has_no_finding(base: Path) -> None:
    """Every class loads, and every class that is here builds."""
    subject = subject_of(base)
    assert subject.loading_finding(TEXT) is None
    judged = [name for name in BUILDERS if not subject.processors.obstacle(name)]
    assert {"AutoProcessor", "CLIPProcessor", "AutoImageProcessor", "AutoTokenizer"} <= set(judged)
    assert [subject.processors.finding(name) for name in judged] == [None] * len(judged)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.update(projection_dim=7), "text_config.projection_dim is 7,"),
        (lambda text: text.pop("projection_dim", None), "text_config.projection_dim is left out, which means 512,"),
    ],
    ids=["stated", "left out"],
)
def test_a_tower_of_another_size_names_field_and_both_values(
    edited: Edited, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    """The finding names the file, the field, its value, that of the tensor, and what to write; CLIPModel is well."""
    path = edited("config.json", lambda data: change(data["text_config"]))
    subject = subject_of(path)
    size = subject.checkpoint.config.projection_dim
    finding = subject.loading_finding(TEXT)
    assert isinstance(finding, Finding)
    assert said in str(finding)
    assert f"text_projection.weight is made for {size}, as projection_dim beside the towers says" in str(finding)
    assert str(finding).endswith(f"{path / 'config.json'}. Write {size} for text_config.projection_dim.")
    assert subject.loading_finding("CLIPModel") is None
    with pytest.raises(NotAskable) as caught:
        subject.model(TEXT)
    assert caught.value.finding == FINDING


def test_both_towers_of_another_size_are_one_finding(edited: Edited) -> None:
    """As in laion/CLIP-ViT-H-14-laion2B-s32B-b79K: one value is wrong in two sections, and one check says so."""

    def change(data: dict[str, Any]) -> None:
        for section in ("text_config", "vision_config"):
            data[section]["projection_dim"] = 512

    subject = subject_of(edited("config.json", change))
    size = subject.checkpoint.config.projection_dim
    first, second = subject.loading_finding(TEXT), subject.loading_finding("CLIPVisionModelWithProjection")
    assert isinstance(first, Finding)
    assert f"cannot load {TEXT} and CLIPVisionModelWithProjection: text_config.projection_dim is 512" in str(first)
    assert str(first).endswith(
        f"Write {size} for text_config.projection_dim and write {size} for vision_config.projection_dim."
    )
    assert isinstance(second, NotAskable)
    assert second.finding == FINDING


def test_what_all_classes_raise_is_one_finding(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers 4 does for metadata without a format: the first class says it, with file and remedy."""
    import transformers

    def load(cls: type, *arguments: object, **options: object) -> None:
        raise ValueError(f"{cls.__name__}: metadata is not ['pt', 'tf'] but None")

    for name in MODEL_CLASSES[:3]:
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", classmethod(load))
    path = Path(shutil.copytree(base, tmp_path / "clip"))
    weights = load_file(path / "model.safetensors")
    save_file(weights, path / "model.safetensors", {"made_by": "hand"})
    subject = subject_of(path)
    first, *rest = [subject.loading_finding(name) for name in MODEL_CLASSES[:3]]
    assert isinstance(first, Finding)
    assert "the metadata of the file has no format" in str(first)
    assert 'save_file(load_file(f), f + ".new", {"format": "pt"})' in str(first)
    assert first.where == str(path / "model.safetensors")
    for finding in rest:
        assert isinstance(finding, NotAskable)
        assert finding.finding == "weights.every_weight_is_loaded[CLIPModel]"
    with pytest.raises(NotAskable, match="CLIPModel") as caught:
        subject.model("CLIPTextModel")
    assert caught.value.finding == "weights.every_weight_is_loaded[CLIPModel]"


def test_what_loading_raises_is_told_in_one_line(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library raises is the finding, and the class is asked to load once."""
    import transformers

    asked = []

    def load(*arguments: object, **options: object) -> None:
        asked.append(options)
        raise KeyError("a\nb " + "x" * 999)

    monkeypatch.setattr(transformers.CLIPTextModelWithProjection, "from_pretrained", load)
    subject = subject_of(base)
    for _ in range(2):
        with pytest.raises(NotAskable) as caught:
            subject.model(TEXT)
        assert "KeyError: " in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 700
    assert len(asked) == 1


@pytest.mark.parametrize("kind", [MemoryError, type("OutOfMemoryError", (RuntimeError,), {})], ids=["host", "device"])
def test_a_lack_of_memory_is_no_finding(base: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    """A machine that is too small says nothing of the checkpoint."""
    import transformers

    def load(*arguments: object, **options: object) -> None:
        raise kind

    monkeypatch.setattr(transformers.CLIPTextModelWithProjection, "from_pretrained", load)
    with pytest.raises(kind):
        subject_of(base).model(TEXT)


def test_a_tiny_model_fails_for_itself_where_the_candidate_loads(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny model that does not load is a failure of the check that asked, unless the candidate's is the finding."""
    import transformers

    candidate = subject_of(base)
    candidate.model(TEXT)
    small = small_subject(tmp_path / "small", candidate)
    monkeypatch.setattr(transformers.CLIPTextModelWithProjection, "from_pretrained", None)
    with pytest.raises(CheckpointError, match="TypeError"):
        small.model(TEXT)
    fresh = subject_of(base)
    with pytest.raises(NotAskable):
        small_subject(tmp_path / "other", fresh).model(TEXT)


def test_an_unknown_image_processor_is_one_finding(edited: Edited) -> None:
    """AutoImageProcessor names file, field, value and remedy; what is made of it refers to that; the rest is asked."""
    path = edited("preprocessor_config.json", lambda data: data.update(image_processor_type="NoSuchReader"))
    subject = subject_of(path)
    found = {name: subject.processors.finding(name) for name in BUILDERS if not subject.processors.obstacle(name)}
    finding = found["AutoImageProcessor"]
    assert isinstance(finding, Finding)
    for words in ("image_processor_type is 'NoSuchReader'", "does not have", str(path / "preprocessor_config.json")):
        assert words in str(finding)
    assert "Write 'CLIPImageProcessor' there: CLIPImageProcessor builds one from the same files" in str(finding)
    assert found["CLIPImageProcessor"] is None
    assert found["AutoTokenizer"] is None
    for error in (found["AutoProcessor"], found["CLIPProcessor"]):
        if error is None:  # 4.x takes CLIPImageProcessor whatever the file says
            assert transformers_release() < Version("5.0.0.dev0")
            continue
        assert isinstance(error, NotAskable)
        assert error.finding == "processor.every_class_builds_one[AutoImageProcessor]"
    with pytest.raises(NotAskable) as caught:
        subject.processors.load("AutoImageProcessor", use_fast=False)
    assert caught.value.finding == "processor.every_class_builds_one[AutoImageProcessor]"


def test_a_field_that_keeps_a_class_from_building_is_named(edited: Edited) -> None:
    """The message of a release names neither file nor field: the field without which the class builds is the one."""
    path = edited("tokenizer_config.json", lambda data: data.update(added_tokens_decoder="none"))
    finding = subject_of(path).processors.finding("AutoTokenizer")
    assert isinstance(finding, Finding)
    for words in ('added_tokens_decoder is "none", and without it AutoTokenizer builds one', "Correct added_tokens"):
        assert words in str(finding)
    assert str(path / "tokenizer_config.json") in str(finding)


def test_no_field_is_named_where_none_alone_is_at_fault(edited: Edited) -> None:
    """A file that is broken elsewhere: the release's own message stands."""
    path = edited("tokenizer.json", lambda data: data.update(model=None, added_tokens=5))
    finding = subject_of(path).processors.finding("AutoTokenizer")
    assert isinstance(finding, Finding)
    assert "without it" not in str(finding)
    assert finding.where == str(path)


def test_a_long_value_is_cut() -> None:
    """Whoever reads the finding opens the file for the rest."""
    shown = FieldAtFault(Path("a.json"), "field", "x" * 100).in_words
    assert (shown[:5], shown[-5:], len(shown)) == ('"xxxx', "x ...", 60)


def test_an_option_that_is_refused_is_the_askers(base: Path) -> None:
    """Where a class builds without an option, what it raises with one is an answer; so is what another place gives."""
    subject = subject_of(base)
    with pytest.raises(Exception) as caught:
        subject.processors.load("AutoTokenizer", tokenizer_type="no-such-type")
    assert not isinstance(caught.value, NotAskable)
    with pytest.raises(Exception) as caught:
        subject.processors.load("AutoImageProcessor", source=base / "nowhere")
    assert not isinstance(caught.value, NotAskable)


def test_a_part_that_is_not_there_is_no_finding(base: Path, tmp_path: Path) -> None:
    """Without files a class has nothing to build from: the check is not run, and the class says what it raises."""
    copy = Path(shutil.copytree(base, tmp_path / "clip"))
    (copy / "preprocessor_config.json").unlink()
    subject = subject_of(copy)
    absence = subject.processors.absence("AutoProcessor")
    assert absence is not None
    assert "no image processor" in absence.reason
    assert subject.processors.absence("AutoTokenizer") is None
    with pytest.raises(Exception) as caught:
        subject.processors.load("AutoImageProcessor")
    assert not isinstance(caught.value, NotAskable)


@pytest.mark.parametrize("taking", [raised, attempt], ids=["raised", "attempt"])
def test_what_cannot_be_asked_is_no_answer(taking: Callable[[Callable[[], str]], str]) -> None:
    """Where an exception is the answer, being unable to ask is none; any other exception is."""

    def refused() -> str:
        raise NotAskable("nothing is loaded", finding=FINDING)

    def answered() -> str:
        raise ValueError

    with pytest.raises(NotAskable):
        taking(refused)
    assert "ValueError" in taking(answered)


def _raised_while_handling(error: Exception, cause: Exception) -> Exception:
    """Return `error` as it is caught where it was raised while `cause` was handled."""
    error.__context__ = cause
    return error


def test_a_library_that_is_asked_for_while_a_file_fails_is_not_the_cause() -> None:
    """Release 4 asks for protobuf while it handles any error of a tokenizer's files; a missing library stays one."""
    cause, missing = AttributeError("'list' object has no attribute 'keys'"), ImportError("requires protobuf")
    assert first_cause(_raised_while_handling(missing, cause)) is cause
    alone = ImportError("no torchvision")
    assert first_cause(alone) is alone
    chained = _raised_while_handling(ImportError("no torchvision"), ModuleNotFoundError("torchvision"))
    assert first_cause(chained) is chained
