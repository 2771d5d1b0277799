"""What changes a fingerprint of a checkpoint, and what does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.raw_safetensors import edit_json, split, store_as, write_raw
from support.small_clip import MERGES, tokenizer_vocabulary, write_small_clip

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.checkpoint.fingerprints import has_image_processor, image_processor_fingerprint, tokenizer_fingerprint
from clip_eval.errors import CheckpointError


@pytest.fixture
def clip(model: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "clip"))


def copied(clip: Path, change: Callable[[Path], object]) -> Checkpoint:
    """A changed copy of a checkpoint."""
    other = Path(shutil.copytree(clip, clip.with_name("other")))
    change(other)
    return open_checkpoint(other)


class TestFingerprints:
    """What changes a fingerprint, and what does not."""

    def test_saving_again_changes_nothing(self, model: Path, tmp_path: Path) -> None:
        """The same model and processor loaded and saved by the installed transformers have equal fingerprints."""
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        CLIPModel.from_pretrained(model).save_pretrained(tmp_path)
        CLIPTokenizerFast.from_pretrained(model).save_pretrained(tmp_path)
        CLIPImageProcessor.from_pretrained(model).save_pretrained(tmp_path)
        observed, expected = open_checkpoint(tmp_path).fingerprints(), open_checkpoint(model).fingerprints()
        assert observed == expected
        assert None not in (expected.tokenizer, expected.image_processor)

    def test_releases_agree(self, model: Path) -> None:
        """The installed transformers' files give the values that were measured with 4.57.6 and with 5.23.0.

        Packs keep these digests: who changes their definition must see it here.
        """
        observed = open_checkpoint(model).fingerprints()
        assert observed.config == "efc6ed63a0fb8c9e464800730d8bc52b1c06f00d73b5fa93524d935cf2525243"
        assert observed.tokenizer == "4ffa70b056e91022e78011aa8f096a1aaf42a14ff30be5c69319766a98901986"
        assert observed.image_processor == "73d21a247dbcc8ec7c0f579905fca56b1c22204a68d245b090696f4f92439069"

    def test_wider_storage_changes_nothing(self, clip: Path) -> None:
        """bfloat16 values stored as float32 or float64 are the same weights."""
        store_as(clip, lambda name: "bfloat16")
        expected = open_checkpoint(clip).fingerprints().weights
        for dtype in ("float32", "float64"):
            store_as(clip, lambda name, dtype=dtype: dtype)
            assert open_checkpoint(clip).dtype == dtype
            assert open_checkpoint(clip).fingerprints().weights == expected

    def test_rounded_copy_has_equal_rounded_digests(self, clip: Path) -> None:
        """A bfloat16 copy differs in value, and agrees with its original in the digests for bfloat16."""
        original = open_checkpoint(clip)
        copy = copied(clip, lambda other: store_as(other, lambda name: "bfloat16"))
        assert copy.digests() != original.digests()
        assert copy.digests("bfloat16") == original.digests("bfloat16")
        assert copy.digests("bfloat16") == copy.digests("float32")
        assert copy.fingerprints().weights != original.fingerprints().weights

    def test_one_value_changes_one_digest(self, clip: Path) -> None:
        """A single changed number shows in the digest of its tensor and in no other."""

        def nudge(other: Path) -> None:
            file = other / "model.safetensors"
            header, data = split(file)
            begin = header["visual_projection.weight"]["data_offsets"][0]
            changed = np.nextafter(np.frombuffer(data, "<f4", 1, begin), np.float32(9)).tobytes()
            write_raw(file, header, data[:begin] + changed + data[begin + 4 :])

        original, other = open_checkpoint(clip), copied(clip, nudge)
        changed = [name for name, digest in other.digests().items() if digest != original.digests()[name]]
        assert changed == ["visual_projection.weight"]
        assert other.fingerprints().weights != original.fingerprints().weights

    @pytest.mark.parametrize(
        ("change", "same"),
        [
            (lambda raw: raw.update(transformers_version="9.9", torch_dtype="float16", architectures=["X"]), True),
            (lambda raw: raw["text_config"].pop("hidden_act", None), True),
            (lambda raw: raw["text_config"].update(attention_dropout=0.1, initializer_range=1), True),
            (lambda raw: raw.update(output_hidden_states=False), True),
            (lambda raw: raw.update(output_hidden_states=True), False),
            (lambda raw: raw["vision_config"].update(return_dict=False), False),
            (lambda raw: raw["vision_config"].update(hidden_act="gelu"), False),
            (lambda raw: raw["text_config"].update(eos_token_id=2), False),
            (lambda raw: raw["text_config"].update(num_attention_heads=8), False),
        ],
    )
    def test_config_counts_by_meaning(self, clip: Path, change: Callable[[dict[str, Any]], object], same: bool) -> None:
        """Fields that change the model or its outputs count, stated or by default; others do not."""
        other = copied(clip, lambda directory: edit_json(directory / "config.json", change))
        assert (other.fingerprints().config == open_checkpoint(clip).fingerprints().config) is same

    def test_parts_that_are_missing_are_none(self, tmp_path: Path) -> None:
        """A checkpoint without tokenizer and image processor says so."""
        observed = open_checkpoint(write_small_clip(tmp_path / "clip", processor=False))
        assert not observed.has_tokenizer
        assert not observed.has_image_processor
        assert (observed.fingerprints().tokenizer, observed.fingerprints().image_processor) == (None, None)


def write_vocabulary(directory: Path, *, merges: tuple[str, ...] = MERGES, **config: Any) -> Path:
    """A tokenizer as the first CLIP checkpoints had it: vocab.json, merges.txt and little else."""
    directory.mkdir(exist_ok=True)
    (directory / "vocab.json").write_text(json.dumps(tokenizer_vocabulary()), encoding="utf-8")
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


class TestTokenizer:
    """The tokenizer's fingerprint."""

    def test_vocabulary_files_equal_the_backend_form(self, tmp_path: Path) -> None:
        """The same tokenizer as vocab.json with merges.txt, and as the installed transformers saves it."""
        from transformers import CLIPTokenizerFast

        old = write_vocabulary(tmp_path / "old", model_max_length=16)
        CLIPTokenizerFast.from_pretrained(old).save_pretrained(tmp_path / "new")
        assert (tmp_path / "new" / "tokenizer.json").is_file()
        assert tokenizer_fingerprint(old) == tokenizer_fingerprint(tmp_path / "new")

    def test_merges_as_text_equal_merges_as_pairs(self, clip: Path) -> None:
        """Older releases wrote a merge of tokenizer.json as one string."""
        expected = tokenizer_fingerprint(clip)

        def join(raw: dict[str, Any]) -> None:
            raw["model"]["merges"] = list(MERGES)

        edit_json(clip / "tokenizer.json", join)
        assert tokenizer_fingerprint(clip) == expected

    def test_no_limit_equals_an_absent_one(self, tmp_path: Path) -> None:
        """The huge number that stands for no limit is none."""
        unlimited = write_vocabulary(tmp_path / "a", model_max_length=int(1e30))
        assert tokenizer_fingerprint(unlimited) == tokenizer_fingerprint(write_vocabulary(tmp_path / "b"))

    def test_special_tokens_map_counts_in_old_files(self, tmp_path: Path) -> None:
        """In files without added_tokens_decoder, special_tokens_map.json has the last word, as text or as an object."""
        expected = tokenizer_fingerprint(write_vocabulary(tmp_path / "a", pad_token="!"))
        old = write_vocabulary(tmp_path / "b", pad_token="?")
        (old / "special_tokens_map.json").write_text('{"pad_token": {"content": "!"}}', encoding="utf-8")
        assert tokenizer_fingerprint(old) == expected

    @pytest.mark.parametrize("added", ["added_tokens_decoder", "added_tokens.json"])
    def test_added_tokens_count(self, tmp_path: Path, added: str) -> None:
        """An added token shows, in either of the files that may hold it."""
        plain = write_vocabulary(tmp_path / "plain")
        config = {added: {"523": {"content": "<x>"}}} if added == "added_tokens_decoder" else {}
        changed = write_vocabulary(tmp_path / "changed", **config)
        if not config:
            (changed / "added_tokens.json").write_text('{"<x>": 523}', encoding="utf-8")
        assert tokenizer_fingerprint(changed) != tokenizer_fingerprint(plain)

    @pytest.mark.parametrize(
        "config", [{"pad_token": "!"}, {"bos_token": "!"}, {"model_max_length": 8}, {"eos_token": {"content": "!"}}]
    )
    def test_special_tokens_and_limit_count(self, tmp_path: Path, config: dict[str, Any]) -> None:
        """Another padding, start or end token, or another length limit, is another tokenizer."""
        plain = write_vocabulary(tmp_path / "plain")
        changed = write_vocabulary(tmp_path / "changed", **config)
        assert tokenizer_fingerprint(changed) != tokenizer_fingerprint(plain)

    def test_order_of_merges_counts(self, tmp_path: Path) -> None:
        """Merges have ranks: another order is another tokenizer."""
        plain = write_vocabulary(tmp_path / "plain")
        changed = write_vocabulary(tmp_path / "changed", merges=tuple(reversed(MERGES)))
        assert tokenizer_fingerprint(changed) != tokenizer_fingerprint(plain)

    def test_form_that_disagrees_counts(self, clip: Path) -> None:
        """A vocab.json that contradicts tokenizer.json shows, though not every release reads it."""
        expected = tokenizer_fingerprint(clip)
        write_vocabulary(clip, merges=MERGES[:3], **json.loads((clip / "tokenizer_config.json").read_text()))
        assert tokenizer_fingerprint(clip) != expected

    def test_damaged_tokenizer_is_refused(self, clip: Path) -> None:
        """A tokenizer.json that is no object is named."""
        (clip / "tokenizer.json").write_text("[]", encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            tokenizer_fingerprint(clip)

    @pytest.mark.parametrize("content", ["{}", '{"model": {"vocab": {}}}', '{"model": 1, "added_tokens": 2}'])
    def test_tokenizer_that_cannot_be_followed_has_one(self, clip: Path, content: str) -> None:
        """Its content counts, and a check says what is wrong with it."""
        sound = tokenizer_fingerprint(clip)
        (clip / "tokenizer.json").write_text(content, encoding="utf-8")
        assert tokenizer_fingerprint(clip) not in (None, sound)


def write_pixels(directory: Path, name: str, settings: dict[str, Any]) -> Path:
    """A directory with one file of image processor settings."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps(settings), encoding="utf-8")
    return directory


class TestImageProcessor:
    """The image processor's fingerprint."""

    def test_forms_of_all_times_are_equal(self, tmp_path: Path) -> None:
        """The settings of 2021, those of transformers 4 and those of 5 mean the same where they do."""
        old = {"size": 64, "crop_size": 64, "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3}
        middle = {
            "size": {"shortest_edge": 64},
            "crop_size": {"height": 64, "width": 64},
            "image_processor_type": "CLIPImageProcessorFast",
            "do_rescale": None,
            "rescale_factor": 1 / 255,
        }
        observed = {
            image_processor_fingerprint(write_pixels(tmp_path / "a", "preprocessor_config.json", old)),
            image_processor_fingerprint(write_pixels(tmp_path / "b", "preprocessor_config.json", middle)),
            image_processor_fingerprint(
                write_pixels(tmp_path / "c", "processor_config.json", {"image_processor": middle})
            ),
        }
        assert len(observed) == 1
        assert observed != {None}

    @pytest.mark.parametrize(
        "change",
        [
            {"resample": 2},
            {"do_normalize": False},
            {"image_mean": [0.5, 0.5, 0.5]},
            {"size": {"height": 224, "width": 224}},
            {"image_processor_type": "ViTImageProcessor"},
        ],
    )
    def test_settings_count(self, tmp_path: Path, change: dict[str, Any]) -> None:
        """A changed setting, or the class of another model, is another image processor."""
        plain = write_pixels(tmp_path / "plain", "preprocessor_config.json", {})
        changed = write_pixels(tmp_path / "changed", "preprocessor_config.json", change)
        assert image_processor_fingerprint(changed) != image_processor_fingerprint(plain)

    def test_file_that_disagrees_counts(self, tmp_path: Path) -> None:
        """Two files with other settings show: the releases read different ones."""
        plain = image_processor_fingerprint(write_pixels(tmp_path / "a", "preprocessor_config.json", {"size": 64}))
        write_pixels(tmp_path / "a", "processor_config.json", {"image_processor": {"size": 64}})
        assert image_processor_fingerprint(tmp_path / "a") == plain
        write_pixels(tmp_path / "a", "processor_config.json", {"image_processor": {"size": 60}})
        assert image_processor_fingerprint(tmp_path / "a") != plain

    def test_processor_config_without_settings_is_none(self, tmp_path: Path) -> None:
        """Transformers 4 may write a processor_config.json that says nothing of images."""
        write_pixels(tmp_path / "a", "processor_config.json", {"processor_class": "CLIPProcessor"})
        assert not has_image_processor(tmp_path / "a")
        assert image_processor_fingerprint(tmp_path / "a") is None
