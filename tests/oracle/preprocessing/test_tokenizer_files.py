"""The files of a tokenizer: which of them decides, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_tokenizer import (
    END,
    START,
    assert_same_ids,
    token,
    vocabulary,
    write_json,
    write_tokenizer,
)

from clip_eval.errors import CheckpointError
from clip_eval.oracle.preprocessing.tokenizer import AddedToken, BytePairEncoder


def test_tokens_that_no_file_describes_are_marked(tmp_path: Path) -> None:
    """The begin and end token are undeclared with vocabulary and merges alone, and declared by any list of tokens."""
    described = BytePairEncoder.from_directory(write_tokenizer(tmp_path))
    assert all(added.declared and not added.named_twice for added in described.added)
    (tmp_path / "tokenizer_config.json").unlink()
    bare = BytePairEncoder.from_directory(tmp_path)
    assert [(added.content, added.declared) for added in bare.added] == [(START, False), (END, False)]
    write_json(tmp_path / "tokenizer_config.json", {"pad_token": "!"})
    padded = BytePairEncoder.from_directory(tmp_path)
    assert {added.content: added.declared for added in padded.added} == {"!": True, START: False, END: False}


def test_flags_of_the_special_tokens_map_are_read(tmp_path: Path) -> None:
    """Files of 2021 spell flags out in `special_tokens_map.json`, and a pad token without flags changes none."""
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77, "eos_token": "x"}', encoding="utf-8")
    named = {role: token(name) for role, name in (("bos_token", START), ("eos_token", END), ("unk_token", END))}
    write_json(tmp_path / "special_tokens_map.json", {**named, "pad_token": END})
    write_json(tmp_path / "added_tokens.json", {"<New>": len(vocabulary())})
    encoder = BytePairEncoder.from_directory(tmp_path)
    ids = vocabulary()
    assert encoder.added == (
        AddedToken(START, ids[START], normalized=True),
        AddedToken(END, ids[END], normalized=True, named_twice=True),
        AddedToken("<New>", len(ids), normalized=True),
    )
    assert (encoder.eos_id, encoder.pad_id, encoder.max_length) == (ids[END], ids[END], 77)


def test_the_decoder_decides_over_the_special_tokens_map(tmp_path: Path) -> None:
    """Where `tokenizer_config.json` lists the added tokens, `special_tokens_map.json` is not read; else it decides."""
    write_tokenizer(tmp_path)
    write_json(tmp_path / "special_tokens_map.json", {"eos_token": START})
    assert BytePairEncoder.from_directory(tmp_path).eos_id == vocabulary()[END]
    assert_same_ids(tmp_path, ["the cat"])
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "eos_token": END})
    assert BytePairEncoder.from_directory(tmp_path).eos_id == vocabulary()[START]
    assert_same_ids(tmp_path, ["the cat"])


@pytest.mark.parametrize("written", ["1000000000000000019884624838656", "1e30", "null"])
def test_no_limit_is_read_as_none(tmp_path: Path, written: str) -> None:
    """An unlimited length is written as a huge number, or not at all."""
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"model_max_length": {written}}}', encoding="utf-8")
    assert BytePairEncoder.from_directory(tmp_path).max_length is None


BROKEN = {
    "no tokenizer": {"vocab.json": None},
    "vocab.json is no JSON": {"vocab.json": "{"},
    "vocab.json is a list": {"vocab.json": "[]"},
    "vocab.json is empty": {"vocab.json": "{}"},
    "an id is text": {"vocab.json": '{"a": "1"}'},
    "an id is used twice": {"vocab.json": '{"a": 1, "b": 1}'},
    "a merge of three": {"merges.txt": "#version: 0.2\nt h e\n"},
    "a merge of nothing": {"merges.txt": "#version: 0.2\nt h\n\ni n\n"},
    "a merge out of the vocabulary": {"merges.txt": "#version: 0.2\nz z\n"},
    "bos is not in the vocabulary": {"tokenizer_config.json": '{"bos_token": "<bos>"}'},
    "eos has no text": {"tokenizer_config.json": '{"eos_token": {"normalized": true}}'},
    "the limit is text": {"tokenizer_config.json": '{"model_max_length": "77"}'},
    "the limit is 1": {"tokenizer_config.json": '{"model_max_length": 1}'},
    "an added token has an id far away": {"added_tokens.json": '{"<x>": 9000}'},
    "the saved length is text": {"tokenizer.json": '{"truncation": {"max_length": "9"}}'},
    "the padding side is up": {"tokenizer_config.json": '{"padding_side": "up"}'},
    "the decoder is a list": {"tokenizer_config.json": '{"added_tokens_decoder": [1]}'},
    "the decoder names no id": {"tokenizer_config.json": '{"added_tokens_decoder": {"x": {"content": "a"}}}'},
    "an added id is negative": {"added_tokens.json": '{"<x>": -1}'},
    "added tokens of tokenizer.json are text": {"tokenizer.json": '{"added_tokens": ["<x>"]}'},
    "tokenizer.json holds another model": {
        "vocab.json": None,
        "tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {"a": 0}}}',
    },
    "tokenizer.json marks no end of word": {
        "vocab.json": None,
        "tokenizer.json": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}',
    },
    "tokenizer.json has no merges": {
        "vocab.json": None,
        "tokenizer.json": '{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {"a": 0}}}',
    },
}


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN)
def test_broken_tokenizers_are_refused(tmp_path: Path, files: dict[str, str | None]) -> None:
    """What is wrong, in which file or directory, and what to do."""
    write_tokenizer(tmp_path)
    for name, content in files.items():
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        BytePairEncoder.from_directory(tmp_path)
    assert str(tmp_path) in str(caught.value.where)
    assert caught.value.fix


def test_a_renamed_special_token_is_read_from_tokenizer_json_alone(tmp_path: Path) -> None:
    """Without other files, the tokens that `tokenizer.json` puts around a text are BOS and EOS."""
    ids = {"a": 0, "a</w>": 1, "<s>": 2, END: 3}
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": ids, "merges": []}
    ends = {"type": "RobertaProcessing", "cls": ["<s>", 2], "sep": [END, 3]}
    write_json(tmp_path / "tokenizer.json", {"model": model, "post_processor": ends, "added_tokens": []})
    encoder = BytePairEncoder.from_directory(tmp_path)
    assert encoder.encode("aa") == [2, 0, 1, 3]
    assert encoder.encode("b") == [2, 3, 3]  # a byte that the vocabulary lacks is the unknown token
