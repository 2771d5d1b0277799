"""Run by `against_clip_benchmark` with the other interpreter: CLIP_benchmark on shards, its scores as a line of JSON.

`run_clip_benchmark.py CHECKPOINT SHARDS`, or `run_clip_benchmark.py versions`. It imports nothing of clip-eval.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

# PyPI's torchvision is built for CUDA and asks for two operators that torch's CPU build has not; none is called here.
_OPERATORS = torch.library.Library("torchvision", "DEF")
for name, arguments in (
    ("nms", "Tensor dets, Tensor scores, float iou"),
    ("qnms", "Tensor dets, Tensor scores, float iou"),
):
    if f"torchvision::{name}" not in torch._C._dispatch_get_all_op_names():
        _OPERATORS.define(f"{name}({arguments}) -> Tensor")

BATCH = 64


class Adapter:
    """A transformers CLIP with the methods that CLIP_benchmark calls."""

    def __init__(self, directory: str) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        self.model = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(directory)
        self.words = AutoTokenizer.from_pretrained(directory)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels, (images, 3, height, width), to embeddings, (images, projection)."""
        return _tensor(self.model.get_image_features(pixel_values=pixels))

    def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids, (texts, tokens), to embeddings, (texts, projection)."""
        return _tensor(self.model.get_text_features(input_ids=ids))

    def transform(self, image: Any) -> torch.Tensor:
        """A Pillow image to pixels, (3, height, width)."""
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]

    def tokenizer(self, texts: list[str]) -> torch.Tensor:
        """Texts to token ids, (texts, the model's length)."""
        return self.words(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]


def _tensor(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def scores(checkpoint: str, root: Path) -> dict[str, float]:
    """CLIP_benchmark's scores of a folder of shards, by what its dataset_type.txt says."""
    from clip_benchmark.datasets.builder import build_wds_dataset
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval

    model = Adapter(checkpoint)
    dataset = build_wds_dataset(root.name, model.transform, split="test", data_dir=str(root))
    loader = torch.utils.data.DataLoader(dataset.batched(BATCH), batch_size=None, shuffle=False)
    if (root / "dataset_type.txt").exists():
        return zeroshot_retrieval.evaluate(model, loader, model.tokenizer, "cpu", amp=False, recall_k_list=[5])
    return zeroshot_classification.evaluate(
        model, loader, model.tokenizer, dataset.classes, dataset.templates, "cpu", amp=False
    )


if __name__ == "__main__":
    if sys.argv[1] == "versions":
        names = ("clip-benchmark", "open_clip_torch", "webdataset", "torch", "torchvision", "transformers")
        print(", ".join(f"{name} {version(name)}" for name in names))
    else:
        print(json.dumps({name: float(value) for name, value in scores(sys.argv[1], Path(sys.argv[2])).items()}))
