"""Ways to come by a tokenizer: which there are for a checkpoint, and that each is the tokenizer of its own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import NotAskable
from clip_eval.oracle.preprocessing.tokenizer import AddedToken
from clip_eval.probes.batches import make_batch
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.subject.tokenizers import (
    FOLLOWED,
    LOADED,
    PARTS,
    UNCUT,
    all_texts,
    encoder_of,
    expected_batch,
    expected_rows,
    files_problem,
    ids_by,
    is_python,
    require_whole_texts,
    tokenizer_by,
    tokenizer_of,
    with_special_tokens_in_any_case,
)


def clip_on(directory: Path) -> Clip:
    """Observations on a checkpoint; nothing is loaded yet."""
    checkpoint = open_checkpoint(directory)
    return Clip(Subject(checkpoint, "float32"), make_batch(checkpoint.config))


@pytest.fixture(scope="module")
def clip(model: Path) -> Clip:
    """A checkpoint as the installed transformers writes it."""
    return clip_on(model)


def test_a_way_without_its_files_has_an_obstacle(clip: Clip) -> None:
    """The file that is missing is named; a way that the release lacks says so."""
    alone = PARTS["CLIPTokenizerFast-of-tokenizer.json"]
    assert alone.obstacle(clip) is None
    (clip.subject.checkpoint.path / "tokenizer.json").rename(clip.subject.checkpoint.path / "away")
    assert alone.obstacle(clip) == "the checkpoint has no tokenizer.json"
    (clip.subject.checkpoint.path / "away").rename(clip.subject.checkpoint.path / "tokenizer.json")
    tables = PARTS["CLIPTokenizer-of-tables"].obstacle(clip)
    assert is_python("CLIPTokenizer") == ("does not document this" in str(tables))


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
    tokenizer = clip.processors.load("AutoTokenizer")
    assert tokenizer_of(tokenizer) is tokenizer
    processor = clip.processors.load("AutoProcessor")
    assert tokenizer_of(processor) is processor.tokenizer


def saved_with(directory: Path, **options: object) -> Clip:
    """A checkpoint whose tokenizer.json was saved with truncation or padding."""
    clip = clip_on(write_small_clip(directory))
    path = clip.subject.checkpoint.path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **options}), encoding="utf-8")
    return clip


CUT = {"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}


@pytest.mark.parametrize("route", LOADED)
def test_a_saved_length_cuts_what_a_processor_reads(tmp_path: Path, route: str) -> None:
    """And nothing that a tokenizer reads by itself; the side is that of both, but for the one written in Python."""
    clip = saved_with(tmp_path / "clip", truncation=CUT)
    encoder, text = encoder_of(clip), " ".join("a cat dog red blue" * 9)
    if is_python(route):
        pytest.skip("it needs vocab.json and merges.txt")
    require_whole_texts(clip, route, encoder)
    call = clip.processors.load(route)
    for options in ({}, {"truncation": True}, {"truncation": True, "max_length": 7}, {"truncation": False}):
        observed = clip.processors.process(call, text=[text, "a"], **options)["input_ids"]
        assert [list(row) for row in observed] == expected_rows(encoder, route, [text, "a"], **options), options
    padded = clip.processors.process(call, text=[text, "a"], padding="max_length", truncation=True)["input_ids"]
    expected = expected_batch(encoder, route, [text, "a"], padding="max_length", truncation=True)
    assert [list(row) for row in padded] == expected.input_ids.tolist()


def test_a_saved_length_that_is_not_the_models_leaves_processors_unjudged(tmp_path: Path) -> None:
    """One check says so; the others refer to it. A fixed padding is a length too."""
    clip = saved_with(tmp_path / "clip", padding={"strategy": {"Fixed": 9}, "direction": "Right"})
    encoder = encoder_of(clip)
    assert encoder.saved_length == 9
    require_whole_texts(clip, "AutoTokenizer", encoder)
    with pytest.raises(NotAskable) as caught:
        require_whole_texts(clip, "AutoProcessor", encoder)
    assert caught.value.finding == UNCUT


def test_rules_that_cannot_be_read_cannot_be_asked_for(tmp_path: Path) -> None:
    """The check of the files says what is wrong, the others refer to it."""
    clip = saved_with(tmp_path / "clip", truncation={**CUT, "max_length": -3})
    problem = files_problem(clip)
    assert problem is not None
    assert problem.what == "the saved length is -3"
    with pytest.raises(NotAskable) as caught:
        encoder_of(clip)
    assert caught.value.finding == FOLLOWED


def _fields(encoder: object) -> dict[str, object]:
    names = ("vocabulary", "ranks", "bos_id", "eos_id", "pad_id", "unk_id")
    return {name: getattr(encoder, name) for name in names}
