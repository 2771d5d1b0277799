"""The shipped fixtures are what fixtures/MANIFEST.toml says, load everywhere, and mean something."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from clip_eval.paths import PathTemplate

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXTURES = Path(__file__).parents[1] / "fixtures"
CHECKPOINT = FIXTURES / "shapes-clip"
DATASET = FIXTURES / "shapes-dataset"
MOST_BYTES = 12_000_000
PROMISED_TOP_1 = 0.95  # what the project promises; fixtures/MANIFEST.toml says what was measured
TIES = 2  # images whose two best classes are so close that another release may swap them
SKIPPED_LAYER_COSINE = 0.97  # a layer that moves an embedding less would hide its own faults
OWN_PREFIXES = {
    "CLIPModel": ("",),
    "CLIPTextModel": ("text_model.",),
    "CLIPTextModelWithProjection": ("text_model.", "text_projection."),
    "CLIPVisionModel": ("vision_model.",),
    "CLIPVisionModelWithProjection": ("vision_model.", "visual_projection."),
}
TEXTS = ("a photo of a red circle", "A  SMALL\tblue <|shape|> star!", "it's 3.14, isn't it?", "", "zqx " * 90)


@pytest.fixture(scope="module")
def model() -> Any:
    """The full model, with attention maps available."""
    return transformers.CLIPModel.from_pretrained(CHECKPOINT, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The tokenizer that users get."""
    return transformers.AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def image_processor() -> Any:
    """The Pillow image processor: transformers 4 has to be asked for it, transformers 5 falls back to it."""
    options = {"use_fast": False} if transformers.__version__.startswith("4.") else {}
    return transformers.CLIPImageProcessor.from_pretrained(CHECKPOINT, **options)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The content of config.json."""
    return json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """The content of dataset.toml."""
    return tomllib.loads((DATASET / "dataset.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The records of the dataset's manifest."""
    lines = (DATASET / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def images(records: list[dict[str, Any]], settings: dict[str, Any]) -> list[Image.Image]:
    """Every image of the dataset, found by rendering its path and decoded."""
    template = PathTemplate(settings["template"])
    found = []
    for record in records:
        with Image.open(DATASET / template.render(record, extension=record["extension"])) as image:
            image.load()
            found.append(image)
    return found


@pytest.fixture(scope="module")
def outputs(model: Any, tokenizer: Any, image_processor: Any, images: Any, settings: dict[str, Any]) -> Any:
    """One forward of every image and every prompt of every class."""
    prompts, classes = settings["zero_shot"]["prompts"], settings["zero_shot"]["classes"]
    texts = [prompt.format(name) for name in classes for prompt in prompts]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    pixels = image_processor(images=images, return_tensors="pt")
    with torch.no_grad():
        return model(**tokens, **pixels, output_attentions=True)


def listed_files() -> dict[str, dict[str, Any]]:
    """Path under fixtures/ -> hash and size, from the manifest."""
    manifest = tomllib.loads((FIXTURES / "MANIFEST.toml").read_text(encoding="utf-8"))
    groups = {name: group for name, group in manifest.items() if isinstance(group, dict)}
    return {f"{name}/{path}": entry for name, group in groups.items() for path, entry in group["files"].items()}


def test_manifest_describes_every_file() -> None:
    """MANIFEST.toml lists exactly the files under fixtures/, scripts aside, with their hashes and sizes."""
    observed = {}
    for path in FIXTURES.rglob("*"):
        name = path.relative_to(FIXTURES).as_posix()
        if path.is_file() and name != "MANIFEST.toml" and not name.startswith("make/"):
            content = path.read_bytes()
            observed[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert observed == listed_files()


def test_manifest_says_how_each_group_was_made() -> None:
    """Each group has a command or an origin; what was drawn or trained also has its seed and releases."""
    manifest = tomllib.loads((FIXTURES / "MANIFEST.toml").read_text(encoding="utf-8"))
    assert all({"command", "origin"} & set(group) for group in manifest.values() if isinstance(group, dict))
    for name in ("shapes-clip", "shapes-dataset"):
        assert isinstance(manifest[name]["seed"], int)
        assert {"python", "numpy", "pillow"} <= set(manifest[name]["versions"])


def test_fixtures_stay_small() -> None:
    """All of fixtures/ is under 12 MB."""
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", OWN_PREFIXES)
def test_checkpoint_loads_without_a_complaint(name: str) -> None:
    """Each class finds all its weights; what it does not expect belongs to the other tower or the head."""
    _, report = getattr(transformers, name).from_pretrained(CHECKPOINT, output_loading_info=True)
    unexpected = report.pop("unexpected_keys")
    assert not any(report.values()), report
    assert not [key for key in unexpected if key.startswith(OWN_PREFIXES[name])]


def test_widths_can_be_told_apart(config: dict[str, Any]) -> None:
    """No two of the widths are equal, so no field can pass for another by its shape."""
    text, vision = config["text_config"], config["vision_config"]
    widths = [tower[key] for tower in (text, vision) for key in ("hidden_size", "intermediate_size")]
    widths += [config["projection_dim"], text["max_position_embeddings"], text["vocab_size"]]
    assert len(set(widths)) == len(widths)
    assert text["num_hidden_layers"] != vision["num_hidden_layers"]
    assert text["num_attention_heads"] != vision["num_attention_heads"]
    assert min(text["num_hidden_layers"], vision["num_hidden_layers"]) >= 4
    assert text["hidden_act"] == vision["hidden_act"] == "quick_gelu"


def test_pooling_rules_can_be_told_apart(config: dict[str, Any], tokenizer: Any) -> None:
    """EOS has a true id, and a token with a larger id can occur before it."""
    text = config["text_config"]
    ids = tokenizer("a red <|shape|> circle")["input_ids"]
    assert text["eos_token_id"] == tokenizer.eos_token_id == tokenizer.pad_token_id != 2
    assert text["bos_token_id"] == ids[0]
    assert ids[-1] == text["eos_token_id"] < max(ids) < text["vocab_size"]


def test_logit_scale_is_trained(config: dict[str, Any], model: Any) -> None:
    """logit_scale has left its initial value and obeys CLIP's limit of ln 100."""
    assert abs(model.logit_scale.item() - config["logit_scale_init_value"]) > 0.1
    assert model.logit_scale.item() <= math.log(100)


def test_embedding_rows_are_alive(model: Any) -> None:
    """Every token and position has an embedding of an ordinary size, the added token and the last positions too."""
    weights = dict(model.named_parameters())
    for kind in ("token", "position"):
        norms = weights[f"text_model.embeddings.{kind}_embedding.weight"].norm(dim=1)  # (rows,)
        assert norms.min() > 0.2 * norms.median()
        assert norms.max() < 5 * norms.median()


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_every_layer_matters(tower: str, model: Any, tokenizer: Any, image_processor: Any, images: Any) -> None:
    """Skipping any layer moves every embedding clearly: a fault in it is seen."""
    batch = {**tokenizer(list(TEXTS), padding=True, truncation=True, return_tensors="pt")}
    batch.update(image_processor(images=images[:8], return_tensors="pt"))
    field = "text_embeds" if tower == "text" else "image_embeds"
    with torch.no_grad():
        expected = model(**batch)[field]
        for layer in getattr(model, f"{tower}_model").encoder.layers:
            handle = layer.register_forward_hook(_skip)
            cosines = (model(**batch)[field] * expected).sum(-1)  # (batch,)
            handle.remove()
            assert cosines.mean() < SKIPPED_LAYER_COSINE


def test_attention_looks_somewhere(outputs: Any) -> None:
    """In every layer some head is far from uniform attention, and heads differ."""
    for maps in outputs.vision_model_output.attentions:
        uniform = 1 / maps.shape[-1]
        assert (maps.amax(-1).mean(dim=(0, 2)).amax() / uniform) > 2
        assert (maps[:, 0] - maps[:, 1]).abs().mean() > 0.1 * uniform


def test_all_bytes_are_encodable(tokenizer: Any) -> None:
    """Any text becomes known tokens and comes back, lower-cased."""
    vocabulary = json.loads((CHECKPOINT / "vocab.json").read_text(encoding="utf-8"))
    assert sum(len(token) == 1 for token in vocabulary) == 256
    assert sum(len(token) == 5 and token.endswith("</w>") for token in vocabulary) == 256
    text = "Ünïcode 花火 🎆 привет \x7f ﷽ ñ"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids[:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == text.lower().split()


def test_all_tokenizer_files_agree(tokenizer: Any) -> None:
    """vocab.json with merges.txt, and tokenizer.json, give the same ids for ordinary text."""
    other = transformers.CLIPTokenizer.from_pretrained(CHECKPOINT)
    expected = tokenizer(list(TEXTS), padding=True, truncation=True)
    observed = other(list(TEXTS), padding=True, truncation=True)
    assert observed["input_ids"] == expected["input_ids"]
    assert len(expected["input_ids"][-1]) == tokenizer.model_max_length == 77
    stored = json.loads((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert stored["vocab"] == json.loads((CHECKPOINT / "vocab.json").read_text(encoding="utf-8"))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in stored["merges"]]
    assert merges == (CHECKPOINT / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.parametrize("name", ["AutoProcessor", "CLIPProcessor"])
def test_processor_loads(name: str, config: dict[str, Any], images: Any) -> None:
    """The processor gives ids, mask and pixels of the size that the image tower takes."""
    options = {"use_fast": False} if transformers.__version__.startswith("4.") else {}
    processor = getattr(transformers, name).from_pretrained(CHECKPOINT, **options)
    batch = processor(text=list(TEXTS), images=images[:3], padding=True, truncation=True, return_tensors="pt")
    side = config["vision_config"]["image_size"]
    assert set(batch) == {"input_ids", "attention_mask", "pixel_values"}
    assert batch["pixel_values"].shape == (3, 3, side, side)


def test_dataset_is_large_and_mixed(records: list[dict[str, Any]], images: Any, settings: dict[str, Any]) -> None:
    """480 images or more, 10 or more a class, PNG and JPEG, many sizes, tall and wide."""
    counts = Counter(record["label"] for record in records)
    sizes = {image.size for image in images}
    assert len(records) >= 480
    assert set(counts) == set(settings["zero_shot"]["classes"])
    assert min(counts.values()) >= 10
    assert {image.format for image in images} == {"PNG", "JPEG"}
    assert {image.mode for image in images} == {"RGB", "RGBA", "P"}
    assert len(sizes) > 100
    assert min(width / height for width, height in sizes) < 0.7
    assert max(width / height for width, height in sizes) > 1.4


def test_dataset_holds_only_what_the_manifest_names(records: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Rendered paths and files on disk are the same set, and stay apart where case is ignored."""
    template = PathTemplate(settings["template"])
    expected = [template.render(record, extension=record["extension"]) for record in records]
    observed = {p.relative_to(DATASET).as_posix() for p in (DATASET / "pixiv").rglob("*") if p.is_file()}
    assert {unicodedata.normalize("NFC", path) for path in observed} == set(expected)
    assert len({unicodedata.normalize("NFC", path).casefold() for path in expected}) == len(expected)


def test_dataset_names_are_as_varied_as_real_ones(records: list[dict[str, Any]]) -> None:
    """Records with and without AI, series and tags; names that need cleaning; every type of image."""
    assert {record["AI"] for record in records} == {True, False}
    assert {record["type"] for record in records} == {"Illustration", "Manga", "Ugoira"}
    for field in ("series_id", "series_order", "page_title", "page_tag", "tags_transl_only"):
        assert {bool(record[field]) for record in records} == {True, False}, field
    users = {record["user"] for record in records}
    assert {"con", "..", "a/b:c", "山田太郎"} <= users
    assert len({record["id"] for record in records}) == len(records)


def test_zero_shot_top_1(outputs: Any, records: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """On the dataset, which it never saw, the checkpoint names the right one of 48 classes."""
    classes = settings["zero_shot"]["classes"]
    width = outputs.text_embeds.shape[-1]
    texts = outputs.text_embeds.reshape(len(classes), -1, width)  # (classes, prompts, projection)
    directions = torch.nn.functional.normalize(texts.mean(1), dim=-1)  # (classes, projection)
    observed = (outputs.image_embeds @ directions.T).argmax(1)  # (images,)
    expected = torch.tensor([classes.index(record["label"]) for record in records])  # (images,)
    top_1 = (observed == expected).float().mean().item()
    manifest = tomllib.loads((FIXTURES / "MANIFEST.toml").read_text(encoding="utf-8"))
    assert len(classes) == 48
    assert top_1 >= PROMISED_TOP_1
    assert top_1 == pytest.approx(manifest["shapes-dataset"]["zero_shot_top_1_of_shapes_clip"], abs=TIES / len(records))


def _skip(module: Any, inputs: Any, output: Any) -> Any:
    """Replace a layer's output by its input; transformers 4 layers return a tuple."""
    return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]
