"""Torch's threads for a batch while others decode, and NumPy's for a product."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.datasets import samples, write_dataset
from support.small_clip import write_small_clip
from threadpoolctl import ThreadpoolController

from clip_eval.dataset import open_dataset
from clip_eval.embedding import pipeline, threads
from clip_eval.embedding import texts as texts_module
from clip_eval.embedding.embedded import embed_dataset
from clip_eval.embedding.threads import compute_threads, products_in_one_thread
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.subject.candidate import Candidate
from clip_eval.subject.launch import launched

SMALL = ClipConfig(
    TextConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=4),
    VisionConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=4, image_size=32, patch_size=8),
)
VIT_B_32 = ClipConfig(TextConfig(), VisionConfig())


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_a_small_model_leaves_the_cores_to_decoding(kind: str) -> None:
    """A ViT-B/32 takes nearly all of them, and every model takes one."""
    assert [compute_threads(SMALL, kind, cores) for cores in (1, 2, 4)] == [1, 1, 1]
    assert [compute_threads(VIT_B_32, kind, cores) for cores in (1, 2)] == [1, 2]
    assert compute_threads(VIT_B_32, kind, 16) >= 12


def test_torch_has_its_threads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count holds for the batches only, and never is above what torch had."""
    seen: list[int] = []

    def counted(*arguments: object) -> object:
        seen.append(torch.get_num_threads())
        return launched(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "launched", counted)
    monkeypatch.setattr(texts_module, "launched", counted)
    runtime = Candidate(str(write_small_clip(tmp_path / "checkpoint"))).runtime
    dataset = open_dataset(write_dataset(tmp_path / "dataset", samples(3)))
    before = torch.get_num_threads()
    try:
        for had, wanted, expected in ((4, 2, 2), (4, 9, 4)):
            torch.set_num_threads(had)
            monkeypatch.setattr(threads, "compute_threads", lambda config, kind, cores, wanted=wanted: wanted)
            embed_dataset(runtime, dataset).texts(["a cat"])
            assert torch.get_num_threads() == had
            assert set(seen) == {expected}
            seen.clear()
    finally:
        torch.set_num_threads(before)


def test_products_take_their_threads_back() -> None:
    """In the block NumPy's products take one thread, and the caller learns how many they took; afterwards as before."""
    blas = ThreadpoolController().select(user_api="blas")
    with blas.limit(limits=2):
        with products_in_one_thread() as most:
            assert most == 2
            assert {library.num_threads for library in blas.lib_controllers} == {1}
        assert {library.num_threads for library in blas.lib_controllers} == {2}
