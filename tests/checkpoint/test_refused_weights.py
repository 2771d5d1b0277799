"""What the weights of a checkpoint are refused for: tensors, files and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.raw_safetensors import edit_header, edit_json, split, write_raw
from support.refused import refusal

from clip_eval.checkpoint.checkpoint import open_checkpoint


class TestTensors:
    """What can be wrong with the weights."""

    def test_pickles_alone_are_refused(self, clip: Path) -> None:
        """The command that converts them is in the message, with the path quoted for a shell."""
        spaced = clip.rename(clip.with_name("my clip"))
        (spaced / "model.safetensors").rename(spaced / "pytorch_model.bin")
        message = refusal(spaced)
        assert "only in pytorch_model.bin" in message
        assert f"clip-eval convert '{spaced}' --out DIR" in message

    def test_no_weights_are_refused(self, clip: Path) -> None:
        """Without weights in any form, what is there instead is named."""
        (clip / "model.safetensors").rename(clip / "tf_model.h5")
        assert "no model.safetensors, only tf_model.h5" in refusal(clip)

    def test_missing_and_unexpected_tensors_are_named(self, clip: Path) -> None:
        """At most five names and then a count."""

        def rename(header: dict[str, Any]) -> None:
            for name in [name for name in header if "layers.1." in name and name.startswith("text")]:
                header[name.replace("q_proj", "query").replace("fc", "dense").replace("norm", "ln")] = header.pop(name)

        edit_header(clip, rename)
        message = refusal(clip)
        assert "lacks 10 tensors (" in message
        assert "holds 10 tensors (" in message
        assert "text_model.encoder.layers.1.self_attn.q_proj.weight" in message
        assert "and 5 more" in message

    def test_one_missing_tensor_is_named(self, clip: Path) -> None:
        """A projection that was stripped is named alone."""
        edit_header(clip, lambda header: header.update(text_projection_={**header.pop("text_projection.weight")}))
        assert "lacks 1 tensor (text_projection.weight)" in refusal(clip)

    def test_quantised_weights_are_refused(self, clip: Path) -> None:
        """Integers in place of floating point numbers are named with their dtype."""
        header, data = split(clip / "model.safetensors")
        begin, end = header["text_projection.weight"]["data_offsets"]
        ids = {**header["text_projection.weight"], "dtype": "I32"}
        write_raw(clip / "model.safetensors", {**header, "text_projection.weight": ids}, data)
        assert (begin, end) != (0, 0)
        assert "text_projection.weight is stored as I32" in refusal(clip)

    def test_truncated_file_is_refused(self, clip: Path) -> None:
        """A copy that was cut short says how much is there."""
        file = clip / "model.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-1000])
        message = refusal(clip)
        assert f"truncated, it has {len(content) - 1000} bytes of {len(content)}: {file}" in message

    @pytest.mark.parametrize("size", [0, 5, 8, 300])
    def test_file_cut_in_its_header_is_refused(self, clip: Path, size: int) -> None:
        """A file that ends within its header is named, too."""
        file = clip / "model.safetensors"
        file.write_bytes(file.read_bytes()[:size])
        message = refusal(clip)
        assert "damaged" in message
        assert str(file) in message

    def test_pointer_is_refused(self, clip: Path) -> None:
        """A pointer of Git LFS is answered with the command that fetches the weights."""
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        (clip / "model.safetensors").write_text(pointer, encoding="utf-8")
        assert "Git LFS pointer, not the weights" in refusal(clip)

    @pytest.mark.parametrize(
        ("header", "data", "expected"),
        [
            (b"[1, 2]", b"", "header is not a JSON object"),
            (b'{"a": ', b"", "header is not JSON"),
            (b"\xff\xff", b"", "header is not JSON"),
            (b'{"a": {}, "a": {}}', b"", "its header holds the key a twice"),
            ({"a": 3}, b"", "the tensor a has the unknown dtype None"),
            ({"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "the unknown dtype F31"),
            ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4), "no valid shape"),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, bytes(4), "no valid shape"),
            ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4), "no valid shape"),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), "has 4 bytes of data"),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4), "has -4 bytes of data"),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8), "leave a gap"),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(5), "1 bytes follow the last"),
            (
                {
                    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                    "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
                },
                bytes(8),
                "overlap",
            ),
        ],
    )
    def test_lying_header_is_refused(
        self, clip: Path, header: dict[str, Any] | bytes, data: bytes, expected: str
    ) -> None:
        """Whatever a header claims is compared with the file before it is believed."""
        write_raw(clip / "model.safetensors", header, data)
        message = refusal(clip)
        assert expected in message
        assert str(clip / "model.safetensors") in message

    def test_header_longer_than_the_file_is_refused(self, clip: Path) -> None:
        """A length that is larger than the file is not allocated."""
        write_raw(clip / "model.safetensors", b"{}", b"", header_bytes=2**62)
        assert f"its header would take {2**62} bytes in a file of 10" in refusal(clip)


class TestShards:
    """What can be wrong with an index of shards."""

    @pytest.fixture
    def sharded(self, clip: Path) -> Path:
        """The checkpoint as one shard with an index."""
        (clip / "model.safetensors").rename(clip / "model-00001-of-00001.safetensors")
        names = [name for name in split(clip / "model-00001-of-00001.safetensors")[0] if name != "__metadata__"]
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
        (clip / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        assert open_checkpoint(clip).dtype == "float32"
        return clip

    def test_missing_shard_is_named(self, sharded: Path) -> None:
        """A shard that was not copied is named."""
        (sharded / "model-00001-of-00001.safetensors").unlink()
        assert "the shard model-00001-of-00001.safetensors is missing" in refusal(sharded)

    @pytest.mark.parametrize("name", ["../clip/model.safetensors", "/etc/passwd", "", "..", "a/" * 5000])
    def test_shard_elsewhere_is_refused(self, sharded: Path, name: str) -> None:
        """An index cannot lead out of its directory."""
        edit_json(sharded / "model.safetensors.index.json", lambda index: index["weight_map"].update(logit_scale=name))
        assert "which is not a file beside it" in refusal(sharded)

    @pytest.mark.parametrize("name", ["a" * 5000, "\0", "a\nb"])
    def test_shard_of_any_name_is_missing(self, sharded: Path, name: str) -> None:
        """A name that no file can have is the name of a missing one, and is cut and escaped in the message."""
        edit_json(sharded / "model.safetensors.index.json", lambda index: index["weight_map"].update(logit_scale=name))
        message = refusal(sharded)
        assert "is missing" in message
        assert len(message) < 400 + len(str(sharded))

    def test_index_that_disagrees_is_refused(self, sharded: Path) -> None:
        """A tensor that the index forgets, or promises in vain, is named."""
        index_file = sharded / "model.safetensors.index.json"
        edit_json(index_file, lambda index: index["weight_map"].pop("logit_scale"))
        assert "holds logit_scale, and the index says otherwise" in refusal(sharded)
        shard = "model-00001-of-00001.safetensors"
        edit_json(index_file, lambda index: index["weight_map"].update(logit_scale=shard, extra=shard))
        assert f"{shard} lacks 1 tensor (extra)" in refusal(sharded)

    def test_index_without_map_is_refused(self, sharded: Path) -> None:
        """An index without its map of names to files is named."""
        (sharded / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
        assert "no weight_map" in refusal(sharded)
