"""Faults of the tokenizer's files: what they say cannot be followed, or is not what the model takes."""

from __future__ import annotations

from pathlib import Path

from faults.fault import in_file
from faults.files import edit_json
from faults.tokens import SHORT_ENOUGH

FOLLOWED = "tokenizer.files_can_be_followed"
POOLED = "tokenizer.no_token_moves_the_pooling"
UNCUT = "tokenizer.processors_cut_no_text_unasked"


@in_file(SHORT_ENOUGH)
def length_is_beyond_the_models(directory: Path) -> None:
    """The tokenizer's file has a model_max_length that is one token more than the model takes."""
    edit_json(directory / "tokenizer_config.json", lambda data: data.update(model_max_length=78))


@in_file(UNCUT)
def truncation_is_saved_with_the_tokenizer(directory: Path) -> None:
    """tokenizer.json was saved with truncation to nine tokens: a processor cuts every text to that."""
    saved = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    edit_json(directory / "tokenizer.json", lambda data: data.update(truncation=saved))


@in_file(POOLED)
def added_tokens_move_the_pooling(directory: Path) -> None:
    """The config's eos_token_id is the old 2, and a token was added after the end token: texts are pooled at that."""
    edit_json(directory / "config.json", lambda data: data["text_config"].update(eos_token_id=2))


@in_file(FOLLOWED)
def a_merge_is_of_unknown_symbols(directory: Path) -> None:
    """A merge joins symbols that the vocabulary does not have."""
    edit_json(directory / "tokenizer.json", lambda data: data["model"]["merges"].append(["zz", "qq"]))


@in_file(FOLLOWED)
def an_added_token_has_an_id_far_away(directory: Path) -> None:
    """The id of an added token is not the next after the others: the tokenizers library gives it that all the same."""
    edit_json(directory / "tokenizer.json", lambda data: data["added_tokens"][-1].update(id=9000))
