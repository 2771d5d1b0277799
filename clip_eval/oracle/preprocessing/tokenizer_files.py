"""Read a checkpoint's tokenizer files: vocabulary, merges, added tokens and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeGuard

from clip_eval.checkpoint.processor_files import LARGEST_ID
from clip_eval.errors import CheckpointError
from clip_eval.files.read_write import read_json, read_text

__all__ = ["END_OF_WORD", "AddedToken", "Side", "TokenizerFiles", "read_tokenizer_files"]

END_OF_WORD = "</w>"
Side = Literal["left", "right"]

_ROLES = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
_NO_LIMIT = 10**20  # transformers takes a larger length for none; it writes about 10**30 itself
_REPAIR = "Save the tokenizer again with save_pretrained"


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is matched in the text before the text is split into words.

    The flags `lstrip` and `rstrip` are left out: whitespace never becomes a token in CLIP, so they change nothing.

    Args:
        content: the text of the token.
        id: its id.
        normalized: match it after the text is normalised (any letter case), not before (literally).
        single_word: match it only where no word character is next to it.
        declared: some file has its flags; for the begin, end and unknown token that is optional.
        named_twice: one role has its flags, another only its text, and no list of tokens decides.
    """

    content: str
    id: int
    normalized: bool = False
    single_word: bool = False
    declared: bool = True
    named_twice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """The content of a tokenizer directory. The fields are those of `BytePairEncoder`, which explains them."""

    vocabulary: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]
    added: tuple[AddedToken, ...]
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    max_length: int | None
    padding_side: Side
    truncation_side: Side
    python_padding_side: Side
    python_truncation_side: Side
    saved_length: int | None


def read_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read `vocab.json` with `merges.txt`, or else `tokenizer.json`, and the files that declare special tokens.

    As in transformers, `added_tokens_decoder` of `tokenizer_config.json` decides over `tokenizer.json`, and that over
    the rest; `special_tokens_map.json` decides over `tokenizer_config.json` unless the latter has such a decoder.
    Special tokens that no file describes are recognised literally, as the tokenizers library documents.

    Raises:
        CheckpointError: there is no tokenizer, a file cannot be read, or the tokenizer is not CLIP's.
    """
    config = _read_json(directory / "tokenizer_config.json")
    tokenizer = _read_json(directory / "tokenizer.json")
    special = {} if "added_tokens_decoder" in config else _read_json(directory / "special_tokens_map.json")
    vocabulary = _read_vocabulary(directory, tokenizer)
    roles = {**_ROLES, **_post_processed(tokenizer), **_present(config), **_present(special)}
    declarations = [
        *_legacy_added(_read_json(directory / "added_tokens.json"), where=directory),
        *_special(roles, where=directory),
        *_listed(tokenizer.get("added_tokens", []), where=directory / "tokenizer.json"),
        *_decoder(config.get("added_tokens_decoder", {}), where=directory / "tokenizer_config.json"),
    ]
    added = _resolved(declarations, vocabulary, where=directory)
    ids = {token.content: token.id for token in added}
    return TokenizerFiles(
        vocabulary=vocabulary,
        ranks=_read_ranks(directory, tokenizer, vocabulary),
        added=added,
        bos_id=ids[_content(roles["bos_token"], where=directory)],
        eos_id=ids[_content(roles["eos_token"], where=directory)],
        pad_id=ids[_content(roles["pad_token"], where=directory)],
        unk_id=ids[_content(roles["unk_token"], where=directory)],
        max_length=_max_length(config, where=directory / "tokenizer_config.json"),
        padding_side=_side({**_saved_sides(tokenizer), **config}, "padding_side", where=directory),
        truncation_side=_side({**_saved_sides(tokenizer), **config}, "truncation_side", where=directory),
        python_padding_side=_side(config, "padding_side", where=directory),
        python_truncation_side=_side(config, "truncation_side", where=directory),
        saved_length=_saved_length(tokenizer, where=directory / "tokenizer.json"),
    )


def _read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file; empty where there is no such file."""
    if not path.exists():
        return {}
    content = read_json(path, error=CheckpointError)
    if not isinstance(content, dict):
        raise CheckpointError("the file does not hold a JSON object", where=path, fix=_REPAIR)
    return content


def _reads_vocabulary_files(directory: Path) -> bool:
    return (directory / "vocab.json").exists() and (directory / "merges.txt").exists()


def _model_section(directory: Path, tokenizer: Mapping[str, object]) -> Mapping[str, object]:
    where = directory / "tokenizer.json"
    model = tokenizer.get("model")
    if model is None:
        raise CheckpointError(
            "there is neither a vocab.json with a merges.txt nor a tokenizer.json with a model",
            where=directory,
            fix=_REPAIR,
        )
    if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
        raise CheckpointError("the tokenizer's model is not BPE", where=where, fix="Use a CLIP tokenizer")
    if model.get("end_of_word_suffix") != END_OF_WORD:
        raise CheckpointError(
            f"the tokenizer's end_of_word_suffix is {model.get('end_of_word_suffix')!r}, CLIP's is {END_OF_WORD!r}",
            where=where,
            fix="Use a CLIP tokenizer",
        )
    return model


def _read_vocabulary(directory: Path, tokenizer: Mapping[str, object]) -> Mapping[str, int]:
    if _reads_vocabulary_files(directory):
        where = directory / "vocab.json"
        raw: object = _read_json(where)
    else:
        where = directory / "tokenizer.json"
        raw = _model_section(directory, tokenizer).get("vocab")
    if not isinstance(raw, Mapping) or not raw:
        raise CheckpointError("the vocabulary is empty or not a table of ids", where=where, fix=_REPAIR)
    vocabulary = {symbol: number for symbol, number in raw.items() if _is_id(number)}
    if len(set(vocabulary.values())) != len(raw):
        raise CheckpointError(
            "an id in the vocabulary is not a whole number or is used twice", where=where, fix=_REPAIR
        )
    return vocabulary


def _read_ranks(
    directory: Path, tokenizer: Mapping[str, object], vocabulary: Mapping[str, int]
) -> Mapping[tuple[str, str], int]:
    if _reads_vocabulary_files(directory):
        where = directory / "merges.txt"
        merges: object = _merge_lines(where)
    else:
        where = directory / "tokenizer.json"
        merges = _model_section(directory, tokenizer).get("merges")
    if not isinstance(merges, list):
        raise CheckpointError("the merges are not a list", where=where, fix=_REPAIR)
    ranks: dict[tuple[str, str], int] = {}
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise CheckpointError(f"merge {rank} is {merge!r}, not a pair of symbols", where=where, fix=_REPAIR)
        if not {*parts, "".join(parts)} <= vocabulary.keys():
            raise CheckpointError(f"merge {rank}, {merge!r}, is not in the vocabulary", where=where, fix=_REPAIR)
        ranks[parts[0], parts[1]] = rank
    return ranks


def _merge_lines(path: Path) -> list[str]:
    lines = read_text(path, error=CheckpointError).strip("\n").split("\n")
    return [line for line in lines if not line.startswith("#version")]


@dataclass(frozen=True, slots=True)
class _Declaration:
    content: str
    id: int | None
    normalized: bool
    single_word: bool = False
    declared: bool = True
    named_twice: bool = False


def _declaration(raw: object, *, number: object = None, special: bool, where: Path) -> _Declaration:
    if number is not None and not _is_id(number):
        raise CheckpointError(f"an added token's id is {number!r}", where=where, fix=_REPAIR)
    flags = raw if isinstance(raw, Mapping) else {}
    return _Declaration(
        content=_content(raw, where=where),
        id=number,
        normalized=bool(flags.get("normalized", not flags.get("special", special))),
        single_word=bool(flags.get("single_word", False)),
    )


def _content(raw: object, *, where: Path) -> str:
    content = raw.get("content") if isinstance(raw, Mapping) else raw
    if not isinstance(content, str) or not content:
        raise CheckpointError(f"an added token is {raw!r}, without text", where=where, fix=_REPAIR)
    return content


def _legacy_added(raw: Mapping[str, object], *, where: Path) -> list[_Declaration]:
    """`added_tokens.json`: text -> id, without flags."""
    return [_declaration(text, number=number, special=False, where=where) for text, number in raw.items()]


def _special(roles: Mapping[str, object], *, where: Path) -> list[_Declaration]:
    """Special tokens by role. One named with flags in one role and as bare text in another keeps the flags."""
    named = [roles[role] for role in _ROLES]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = roles.get(key, [])
        named.extend(more.values() if isinstance(more, Mapping) else more if isinstance(more, list) else [more])
    named.sort(key=lambda raw: isinstance(raw, Mapping))
    plain = [raw for raw in named if isinstance(raw, str)]
    implied = {roles[role] for role in ("bos_token", "eos_token", "unk_token") if isinstance(roles[role], str)}
    declarations = [_declaration(raw, special=True, where=where) for raw in named]
    return [
        replace(
            token,
            declared=isinstance(raw, Mapping) or token.content not in implied,
            named_twice=isinstance(raw, Mapping) and token.content in plain,
        )
        for raw, token in zip(named, declarations, strict=True)
    ]


def _listed(raw: object, *, where: Path) -> list[_Declaration]:
    """`added_tokens` of `tokenizer.json`: a list of objects, each with its id."""
    if not isinstance(raw, list) or not all(isinstance(item, Mapping) for item in raw):
        raise CheckpointError("added_tokens is not a list of tokens", where=where, fix=_REPAIR)
    return [_declaration(item, number=item.get("id"), special=False, where=where) for item in raw]


def _decoder(raw: object, *, where: Path) -> list[_Declaration]:
    """`added_tokens_decoder` of `tokenizer_config.json`: id, as text, -> object."""
    if not isinstance(raw, Mapping) or not all(str(number).isdecimal() and len(str(number)) < 20 for number in raw):
        raise CheckpointError("added_tokens_decoder is not a table of tokens by id", where=where, fix=_REPAIR)
    return [_declaration(item, number=int(number), special=False, where=where) for number, item in raw.items()]


def _resolved(
    declarations: Iterable[_Declaration], vocabulary: Mapping[str, int], *, where: Path
) -> tuple[AddedToken, ...]:
    """One token for each text: flags as declared last, the id from the vocabulary where that has the text."""
    last: dict[str, _Declaration] = {}
    ids: dict[str, int] = {}
    for declaration in declarations:
        last[declaration.content] = declaration
        if declaration.id is not None:
            ids[declaration.content] = declaration.id
    ids.update((text, vocabulary[text]) for text in last if text in vocabulary)
    for text in last:
        if text not in ids:
            raise CheckpointError(
                f"the token {text!r} has no id",
                where=where,
                fix="Add it to the vocabulary, or name the right token in tokenizer_config.json",
            )
    known = [ids[text] for text in last if text in vocabulary]
    first = max(len(vocabulary), *(number + 1 for number in known)) if known else len(vocabulary)
    _check_numbering({text: ids[text] for text in last if text not in vocabulary}, first, where=where)
    return tuple(
        AddedToken(
            text,
            ids[text],
            normalized=token.normalized,
            single_word=token.single_word,
            declared=token.declared,
            named_twice=token.named_twice,
        )
        for text, token in sorted(last.items(), key=lambda item: ids[item[0]])
    )


def _check_numbering(added: Mapping[str, int], first: int, *, where: Path) -> None:
    """Refuse ids that transformers would not use: tokenizers numbers added tokens on from the vocabulary, whatever id a
    file states.
    """
    for expected, (text, number) in enumerate(sorted(added.items(), key=lambda item: item[1]), start=first):
        if number != expected:
            raise CheckpointError(
                f"the added token {text!r} has the id {number}, but is read as {expected}, the next after the others",
                where=where,
                fix="Number added tokens on from the vocabulary, in the order of the rows of the token embedding",
            )


def _present(raw: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in raw.items() if value is not None}


def _post_processed(tokenizer: Mapping[str, object]) -> dict[str, object]:
    """First and last token from the post-processor of `tokenizer.json`, for directories that name them nowhere else."""
    raw = tokenizer.get("post_processor")
    if not isinstance(raw, Mapping) or raw.get("type") != "RobertaProcessing":
        return {}
    ends = {"bos_token": raw.get("cls"), "eos_token": raw.get("sep")}
    return {role: pair[0] for role, pair in ends.items() if isinstance(pair, list) and pair}


def _max_length(config: Mapping[str, object], *, where: Path) -> int | None:
    value = config.get("model_max_length")
    if value is None or (isinstance(value, int | float) and value >= _NO_LIMIT):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise CheckpointError(f"model_max_length is {value!r}", where=where, fix="Set it to a number of tokens")
    return value


def _side(config: Mapping[str, object], key: str, *, where: Path) -> Side:
    value = config.get(key, "right")
    if value not in ("left", "right"):
        raise CheckpointError(
            f"{key} is {value!r}", where=where / "tokenizer_config.json", fix="Set it to left or right"
        )
    return "left" if value == "left" else "right"


def _saved_sides(tokenizer: Mapping[str, object]) -> dict[str, object]:
    """The sides stored in `tokenizer.json`, used if `tokenizer_config.json` has none."""
    sections = {"padding_side": tokenizer.get("padding"), "truncation_side": tokenizer.get("truncation")}
    return {
        key: str(saved["direction"]).lower()
        for key, saved in sections.items()
        if isinstance(saved, Mapping) and "direction" in saved
    }


def _saved_length(tokenizer: Mapping[str, object], *, where: Path) -> int | None:
    """The truncation length stored in `tokenizer.json`, else the padding length."""
    truncation, padding = tokenizer.get("truncation"), tokenizer.get("padding")
    strategy = padding.get("strategy") if isinstance(padding, Mapping) else None
    stated = [truncation.get("max_length")] if isinstance(truncation, Mapping) else []
    stated += [strategy.get("Fixed")] if isinstance(strategy, Mapping) else []
    for length in stated:
        if not _is_id(length) or length < 2:
            raise CheckpointError(f"the saved length is {length!r}", where=where, fix=_REPAIR)
    return next((length for length in stated if _is_id(length)), None)


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID
