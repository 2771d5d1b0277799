"""Ways to come by a tokenizer: which there are for a checkpoint, and that each is the tokenizer of its own files."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_clip import write_small_clip

from clip_eval.checkpoint import open_checkpoint
from clip_eval.observe import Clip
from clip_eval.oracle.tokens import AddedToken
from clip_eval.probes import make_batch
from clip_eval.subject import Subject
from clip_eval.token_routes import (
    PARTS,
    all_texts,
    encoder_of,
    ids_by,
    is_python,
    tokenizer_by,
    tokenizer_of,
    with_special_tokens_in_any_case,
)


def clip_on(directory: Path) -> Clip:
    """Observations on a checkpoint; nothing is loaded yet."""
    checkpoint = open_checkpoint(directory)
    return Clip(Subject(checkpoint, "float32"), make_batch(checkpoint.config))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A checkpoint as the installed transformers writes it."""
    return clip_on(write_small_clip(tmp_path_factory.mktemp("clip")))


def test_a_way_without_its_files_has_an_obstacle(clip: Clip) -> None:
    """The file that is missing is named; a way that the release lacks says so."""
    alone = PARTS["CLIPTokenizerFast-of-tokenizer.json"]
    assert alone.obstacle(clip) is None
    (clip.subject.checkpoint.path / "tokenizer.json").rename(clip.subject.checkpoint.path / "away")
    assert alone.obstacle(clip) == "the checkpoint has no tokenizer.json"
    (clip.subject.checkpoint.path / "away").rename(clip.subject.checkpoint.path / "tokenizer.json")
    tables = PARTS["CLIPTokenizer-of-tables"].obstacle(clip)
    assert is_python("CLIPTokenizer") == ("documents no such way" in str(tables))


def test_every_class_of_the_library_is_there(clip: Clip) -> None:
    """Each way that has no obstacle makes a tokenizer."""
    for way, entry in PARTS.items():
        if entry.obstacle(clip) is None:
            assert tokenizer_by(clip, way)("a cat")["input_ids"]


def test_rules_and_ids_are_worked_out_once(clip: Clip) -> None:
    """The second answer is the first one."""
    assert encoder_of(clip) is encoder_of(clip)
    assert ids_by(clip, "AutoTokenizer", ("a cat",)) is ids_by(clip, "AutoTokenizer", ("a cat",))
    assert ids_by(clip, "AutoTokenizer", ("a cat",)) == [encoder_of(clip).encode("a cat")]


def test_texts_hold_the_tokenizers_own_tokens(clip: Clip) -> None:
    """As they are, and in other case unless the files say two things of them."""
    texts = all_texts(encoder_of(clip))
    assert {"<drawing>", "a<drawing>b", "a <DRAWING> b", "x<Drawing>y"} <= {*texts}
    assert len(set(texts)) >= len(texts) - 12  # those of the hard texts that are special tokens come twice


def test_undeclared_tokens_can_be_found_in_any_case(clip: Clip) -> None:
    """Only those of which no file says anything."""
    encoder = encoder_of(clip)
    assert with_special_tokens_in_any_case(encoder) == encoder
    bare = AddedToken("<|endoftext|>", 5, declared=False)
    changed = with_special_tokens_in_any_case(type(encoder)(**{**_fields(encoder), "added": (bare,)}))
    assert changed.added == (AddedToken("<|endoftext|>", 5, normalized=True, declared=False),)


def test_the_tokenizer_of_a_processor_is_found(clip: Clip) -> None:
    """A tokenizer is its own."""
    tokenizer = clip.subject.processor("AutoTokenizer")
    assert tokenizer_of(tokenizer) is tokenizer
    processor = clip.subject.processor("AutoProcessor")
    assert tokenizer_of(processor) is processor.tokenizer


def _fields(encoder: object) -> dict[str, object]:
    names = ("vocabulary", "ranks", "bos_id", "eos_id", "pad_id", "unk_id")
    return {name: getattr(encoder, name) for name in names}
