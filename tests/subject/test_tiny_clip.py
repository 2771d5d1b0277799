"""The tiny model: the candidate's kind, random weights, its own config fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.subject import Subject
from clip_eval.subject.tiny_clip import edit_tensors, small_inputs, small_subject
from clip_eval.user_values import DTYPES


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with the exact GELU."""
    directory = tmp_path_factory.mktemp("candidate") / "clip"
    return write_small_clip(directory, processor=False, text_config={"hidden_act": "gelu"})


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_loaded_like_the_candidate(path: Path, tmp_path: Path, dtype: str) -> None:
    """Dtype, attention and config fields are the candidate's but for those that were given, and it answers every
    call.
    """
    candidate = Subject(open_checkpoint(path), dtype, attention="eager")
    small = small_subject(tmp_path, candidate, text={"eos_token_id": 2})
    assert (small.dtype, small.attention) == (dtype, "eager")
    assert small.checkpoint.config.text.hidden_act == "gelu"
    assert small.checkpoint.config.text.eos_token_id == 2
    for entry in ENTRY_POINTS:
        small.call(entry.model_class, method=entry.method, **small_inputs(small, entry))


def test_seeds_and_edits_change_the_weights(path: Path, tmp_path: Path) -> None:
    """Another seed gives other weights, the same seed the same, and an edit is what is loaded."""
    candidate = Subject(open_checkpoint(path), "float32")
    one, same, other = (
        small_subject(tmp_path / name, candidate, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    digests = [subject.checkpoint.digests() for subject in (one, same, other)]
    assert digests[0] == digests[1]
    assert not set(digests[0].values()) & set(digests[2].values())
    edit_tensors(tmp_path / "a", lambda tensors: tensors["logit_scale"].fill(1.5))
    assert one.load_again("CLIPModel").logit_scale.item() == 1.5
