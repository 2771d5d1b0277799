"""One small sound file of each kind that this package reads, made without torch and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from support.datasets import write_dataset
from support.history_runs import RUN
from support.open_clip import write_original
from support.sample_records import failing_record
from support.saved_datasets import write_saved
from support.shards import write_shards
from support.small_clip import MERGES, small_config, tokenizer_vocabulary

from clip_eval.baseline.pack import Approved, Environment, Pack, PackedTask, PackedTensor, Recorded
from clip_eval.baseline.recorded_outputs import BY_NAME
from clip_eval.baseline.soundness import output_shapes
from clip_eval.baseline.write_pack import write_pack
from clip_eval.checkpoint.fingerprints import Fingerprints
from clip_eval.families.clip.config import parse_config
from clip_eval.families.clip.tensors import expected_tensors
from clip_eval.history.database import add
from clip_eval.probes.batches import make_batch
from clip_eval.throughput.ratio import Conditions, Ratio, Speed
from clip_eval.verdict.run_record import dump

__all__ = ["write_originals"]

_ACCEPTED = """
[[accepted]]
id = "CLIPModel.get_text_features()"
before = "Tensor model (texts, projection)"
after = "BaseModelOutputWithPooling: last_hidden_state"
reason = "Our code reads pooler_output since commit 1234"
expires = 2027-01-31

[[accepted]]
id = "config.x"
before = "1"
after = "2"
reason = "wanted"
"""
_POLICY = """
require = ["baseline", "throughput"]
warn = ["surface"]

[throughput]
least_efficiency = 0.6

[surface]
uses = ["CLIPModel"]

[tasks.zero_shot_top1]
least = 0.9
most_relative_loss = 0.01
by = "score"
warn = true

[[warned]]
check = "a.b"
reason = "known"
expires = 2027-01-31

[[warned]]
area = "tokenizer: values differ"
reason = "wanted"
"""
_PROJECT = """
[project]
name = "ours"

[tool.clip-eval]
require = ["tasks"]

[tool.clip-eval.tasks.zero_shot_top1]
least = 0.9

[[tool.clip-eval.warned]]
cause = "towers-are-flat"
reason = "wanted"
"""
_PIXELS = {
    "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.48, 0.45, 0.4], "image_std": [0.26, 0.26, 0.27],
    "image_processor_type": "CLIPImageProcessor", "resample": 3, "rescale_factor": 0.00392,
    "size": {"shortest_edge": 32},
}  # fmt: skip


def write_originals(root: Path) -> None:
    """Write `clip` (whole), its `original`, `shards` (with an index), `pack`, datasets of each kind, single files."""
    raw = _config()
    tensors = _tensors(raw)
    for name in ("clip", "shards"):
        _write_clip(root / name, raw)
    save_file(tensors, root / "clip/model.safetensors")
    write_original(root / "clip", root / "original")
    _write_shards(root / "shards", tensors)
    _write_pack(root / "pack", raw)
    write_dataset(root / "manifest")
    write_shards(root / "tars")
    write_saved(root / "saved")
    _write(
        root / "saved/dataset.toml",
        '[columns]\nlabel = "label"\n[zero_shot]\nclasses = ["red", "green", "blue"]\nprompts = ["{}"]\n',
    )
    _write_named(root / "named")
    _write_coco(root / "coco")
    for label in ("red_cat", "blue_dog"):
        (root / "folders" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / "folders" / label / "0.png")
        _write(root / "folders" / label / "0.txt", "a caption\nanother\n")
    _write(root / "folders/classnames.txt", "dog\ncat\n")
    _write(root / "folders/zeroshot_classification_templates.txt", "a {c}.\nthe {c}.\n")
    _write(root / "accepted.toml", _ACCEPTED)
    _write(root / "policy.toml", _POLICY)
    _write(root / "pyproject.toml", _PROJECT)
    _write(root / "run.json", dump(failing_record()))
    for _ in range(12):
        add(root / "runs.sqlite", RUN)
    _write(root / "asked.jsonl", 'Mira/red_100.png\n{"path": "Mira/red_101.jpg", "given": {"user": "Mira"}}\n')


def _write_named(root: Path) -> None:
    """Images that are named by a template, without a manifest."""
    (root / "cat").mkdir(parents=True)
    for name in ("cat/Ann_1", "cat/Bo_x_2"):
        Image.new("RGB", (8, 8)).save(root / f"{name}.png")
    _write(root / "cat/Ann_1.txt", "a caption\n")
    _write(root / "classes.txt", "cat\ndog\n")
    _write(
        root / "dataset.toml",
        'template = "{genre}/{artist}_{id}"\n[kinds]\nid = "word"\n[fields]\nlabel = "genre"\ngroup = "artist"\n'
        '[zero_shot]\nclasses = "classes.txt"\nprompts = ["a {}"]\n',
    )


def _write_coco(root: Path) -> None:
    root.mkdir()
    names = ("a.png", "b.png")
    for name in names:
        Image.new("RGB", (8, 8)).save(root / name)
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    annotations = [{"image_id": number % 2, "caption": f"caption {number}"} for number in range(3)]
    _write_json(root / "captions.json", {"images": images, "annotations": annotations})
    karpathy = [{"filename": name, "split": "test", "sentences": [{"raw": name}]} for name in names]
    _write_json(root / "karpathy.json", {"images": karpathy})
    _write(root / "dataset.toml", '[coco]\nannotations = "karpathy.json"\nsplit = "test"\n')


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _write_json(file: Path, value: object) -> None:
    _write(file, json.dumps(value))


def _config() -> dict[str, Any]:
    layers = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = small_config(text_config=layers, vision_config={**layers, "image_size": 16, "patch_size": 8})
    return {"model_type": "clip", "architectures": ["CLIPModel"], "logit_scale_init_value": 2.6592, **config}


def _tensors(raw: dict[str, Any]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    expected = expected_tensors(parse_config(raw, where="config.json"))
    shapes = {name: tuple(axis.size for axis in axes) for name, axes in expected.items()}
    return {name: generator.normal(size=shape).astype(np.float16) for name, shape in shapes.items()}


def _write_clip(directory: Path, raw: dict[str, Any]) -> None:
    directory.mkdir()
    _write_json(directory / "config.json", raw)
    _write_json(directory / "preprocessor_config.json", _PIXELS)
    vocabulary = tokenizer_vocabulary()
    added = {token: vocabulary[token] for token in ("<|startoftext|>", "<|endoftext|>")}
    flags = {"normalized": False, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    _write_json(directory / "vocab.json", vocabulary)
    _write(directory / "merges.txt", "\n".join(("#version: 0.2", *MERGES)) + "\n")
    _write_json(directory / "special_tokens_map.json", {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"})
    decoder = {str(number): {"content": token, **flags} for token, number in added.items()}
    settings = {"model_max_length": 16, "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    _write_json(directory / "tokenizer_config.json", {"added_tokens_decoder": decoder, **settings})
    tokens = [{"content": token, "id": number, **flags} for token, number in added.items()]
    model = {"type": "BPE", "vocab": vocabulary, "merges": [merge.split(" ") for merge in MERGES]}
    ends = {"type": "RobertaProcessing", "sep": list(added.items())[1], "cls": next(iter(added.items()))}
    _write_json(directory / "tokenizer.json", {"added_tokens": tokens, "model": model, "post_processor": ends})


def _write_shards(directory: Path, tensors: dict[str, np.ndarray]) -> None:
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, directory / shard)
    _write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def _write_pack(directory: Path, raw: dict[str, Any]) -> None:
    config = parse_config(raw, where="config.json")
    environment = Environment("5.23.0", "eager")
    inputs = make_batch(config)
    shapes = output_shapes(config, inputs.input_ids.shape[1])
    zeros = {name: np.zeros(shapes[name.removesuffix("_interior_mask")], np.float32) for name in BY_NAME}
    digest = "0" * 64
    provenance = {"device": "cpu", "recorded": "2026-11-23T20:52:28+00:00", "transformers": "5.23.0"}
    surface = {"CLIPModel.forward": {"fields": ["loss", "logits"], "type": "CLIPOutput"}, "config.a": 3, "b": None}
    conditions = Conditions(
        cpu="a", cores=2, gpu=None, torch="2.13.0", dtype="float32", attention="eager", threads=1, trial=1
    )
    speed = Speed(conditions=conditions, transformers="5.23.0", recorded="2026", ratios={"image": Ratio(1.0, 0.9, 1.1)})
    pack = Pack(
        source="clip",
        revision=None,
        config=config,
        fingerprints=Fingerprints(digest, digest, digest, None),
        tensors={
            name: PackedTensor(
                tuple(axis.size for axis in axes), "float16", dict.fromkeys(("bfloat16", "float16", "float32"), digest)
            )
            for name, axes in expected_tensors(config).items()
        },
        environments={environment: Approved(surface, provenance)},
        recorded_in=environment,
        inputs=inputs,
        outputs={name: Recorded(value, value) for name, value in zeros.items()},
        tasks={"zero_shot": PackedTask(dataset=digest, samples=("1", "2"), values={"top1": (1.0, 0.0)})},
        settings={"checkpoint.tokenizer.model_max_length": 16},
        speeds=(speed,),
    )
    write_pack(directory, pack)
