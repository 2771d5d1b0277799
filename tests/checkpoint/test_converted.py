"""What `convert` writes, in the installed transformers. Nothing else of it depends on the release."""

from __future__ import annotations

import shutil
from pathlib import Path

from clip_eval.checkpoint.convert import convert


def test_transformers_loads_the_result(model: Path, tmp_path: Path) -> None:
    """The installed transformers loads what was written, with no weight missing."""
    import torch
    from safetensors.torch import load_file
    from transformers import CLIPModel

    pickled = Path(shutil.copytree(model, tmp_path / "pickled"))
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    convert(pickled, tmp_path / "out")
    _, report = CLIPModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
