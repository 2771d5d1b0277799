"""The sources of a tokenizer, and the ids that each gives for a text.

Users load one by five class names, build one from some of the files, save, pickle and copy it. Each has its own code in
transformers, so each is tested.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import pickle
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from clip_eval.errors import CheckpointError, NotAskable
from clip_eval.oracle.preprocessing.pre_tokenizer import clean_like_python
from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder, TokenBatch
from clip_eval.probes.texts import HARD_TEXTS, PATTERN_TEXTS, around
from clip_eval.subject import transformers_release
from clip_eval.subject.observations import Clip
from clip_eval.subject.processors import Processors

__all__ = [
    "COPIES",
    "FOLLOWED",
    "LOADED",
    "PARTS",
    "UNCUT",
    "TokenizerSource",
    "all_texts",
    "encoder_of",
    "expected_batch",
    "expected_rows",
    "files_problem",
    "ids_by",
    "is_processor",
    "is_python",
    "like_python",
    "obstacle",
    "require_whole_texts",
    "tokenizer_by",
    "tokenizer_of",
    "with_special_tokens_in_any_case",
]

LOADED = ("AutoProcessor", "CLIPProcessor", "AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")
"""Classes whose `from_pretrained` gives a tokenizer, or a processor with one."""

FOLLOWED = "tokenizer.files_can_be_followed"
"""Name of the check that judges whether the tokenizer's files say what can be done."""

UNCUT = "tokenizer.processors_cut_no_text_unasked"
"""Name of the check that judges whether `tokenizer.json` makes processors cut texts."""

_FIVE = SpecifierSet(">=5.0.0.dev0")
_VOCABULARY = ("vocab.json", "merges.txt")
_WHOLE = ("tokenizer.json",)
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSource:
    """How to make a tokenizer other than by `from_pretrained` on the whole checkpoint.

    Attributes:
        class_name: the transformers class that makes it.
        files: the files that it is made of, and whose rules it must follow.
        make: given the checkpoint's processors and a directory that holds these files alone, the tokenizer.
        releases: transformers releases that document this.
    """

    class_name: str
    files: tuple[str, ...]
    make: Callable[[Processors, Path], Any]
    releases: SpecifierSet = field(default_factory=SpecifierSet)

    def obstacle(self, clip: Clip) -> str | None:
        """Return why this makes no tokenizer of this checkpoint; None if it does."""
        if not self.releases.contains(clip.release, prereleases=True):
            return f"transformers {clip.release} does not document this"
        missing = [name for name in self.files if not (clip.checkpoint.processor_path / name).is_file()]
        if missing:
            return f"the checkpoint has no {missing[0]}"
        if _CONFIG in self.files and clip.checkpoint.raw_config.get("model_type") in clip.family.tower_types:
            return "AutoTokenizer knows no tokenizer by the model_type of a tower"
        return None


def _loaded(class_name: str, *files: str, releases: SpecifierSet | None = None) -> TokenizerSource:
    def make(processors: Processors, directory: Path) -> Any:
        return processors.construct(class_name, str(directory), method="from_pretrained", local_files_only=True)

    return TokenizerSource(class_name=class_name, files=files, make=make, releases=releases or SpecifierSet())


def _by_position(class_name: str) -> TokenizerSource:
    def make(processors: Processors, directory: Path) -> Any:
        return processors.construct(class_name, *(str(directory / name) for name in _VOCABULARY))

    return TokenizerSource(class_name=class_name, files=_VOCABULARY, make=make)


def _by_keyword(class_name: str) -> TokenizerSource:
    """4.x names the arguments vocab_file and merges_file, 5.x vocab and merges."""

    def make(processors: Processors, directory: Path) -> Any:
        names = ("vocab_file", "merges_file") if _has_python_tokenizer() else ("vocab", "merges")
        files = {name: str(directory / file) for name, file in zip(names, _VOCABULARY, strict=True)}
        return processors.construct(class_name, **files)

    return TokenizerSource(class_name=class_name, files=_VOCABULARY, make=make)


def _of_tables(class_name: str) -> TokenizerSource:
    def make(processors: Processors, directory: Path) -> Any:
        vocabulary = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
        lines = (directory / "merges.txt").read_text(encoding="utf-8").strip("\n").split("\n")
        merges = [tuple(line.split(" ")) for line in lines if not line.startswith("#version")]
        return processors.construct(class_name, vocab=vocabulary, merges=merges)

    return TokenizerSource(class_name=class_name, files=_VOCABULARY, make=make, releases=_FIVE)


def _of_tokenizer_file(class_name: str) -> TokenizerSource:
    def make(processors: Processors, directory: Path) -> Any:
        return processors.construct(class_name, tokenizer_file=str(directory / _WHOLE[0]))

    return TokenizerSource(class_name=class_name, files=_WHOLE, make=make)


PARTS: Mapping[str, TokenizerSource] = MappingProxyType(
    {
        "CLIPTokenizer-by-position": _by_position("CLIPTokenizer"),
        "CLIPTokenizer-by-keyword": _by_keyword("CLIPTokenizer"),
        "CLIPTokenizer-of-tables": _of_tables("CLIPTokenizer"),
        "CLIPTokenizer-of-vocab-and-merges": _loaded("CLIPTokenizer", *_VOCABULARY),
        "CLIPTokenizer-of-tokenizer.json": _loaded("CLIPTokenizer", *_WHOLE, releases=_FIVE),
        "CLIPTokenizerFast-by-position": _by_position("CLIPTokenizerFast"),
        "CLIPTokenizerFast-by-keyword": _by_keyword("CLIPTokenizerFast"),
        "CLIPTokenizerFast-tokenizer_file": _of_tokenizer_file("CLIPTokenizerFast"),
        "CLIPTokenizerFast-of-vocab-and-merges": _loaded("CLIPTokenizerFast", *_VOCABULARY),
        "CLIPTokenizerFast-of-tokenizer.json": _loaded("CLIPTokenizerFast", *_WHOLE),
        "AutoTokenizer-of-vocab-and-merges": _loaded("AutoTokenizer", *_VOCABULARY, _CONFIG),
        "AutoTokenizer-of-tokenizer.json": _loaded("AutoTokenizer", *_WHOLE, _CONFIG),
        "PreTrainedTokenizerFast-tokenizer_file": _of_tokenizer_file("PreTrainedTokenizerFast"),
    }
)
"""Sources that need only some of a checkpoint's files; users build one by position or by keyword."""

COPIES: Mapping[str, Callable[[Clip, str], Any]] = MappingProxyType(
    {
        "saved": lambda clip, route: _saved(clip.processors, route),
        "pickled": lambda clip, route: pickle.loads(pickle.dumps(clip.processors.load(route))),
        "deepcopied": lambda clip, route: copy.deepcopy(clip.processors.load(route)),
    }
)
"""Ways to make a second tokenizer of one that was loaded by a class of `LOADED`."""


def all_texts(encoder: BytePairEncoder) -> tuple[str, ...]:
    """Return the hard texts, and each of the tokenizer's own added tokens among others, as it is and in other case.

    A token that the files contradict each other about keeps its case: releases differ in which file they follow.
    """
    settled = [token.content for token in encoder.added if not token.named_twice]
    cased = [text for token in settled for text in (f"a {token.upper()} b", f"x{token.title()}y")]
    written = [text for token in encoder.added for text in around(token.content)]
    return (*(hard.text for hard in (*HARD_TEXTS, *PATTERN_TEXTS)), *written, *cased)


def obstacle(clip: Clip, route: str) -> str | None:
    """Return why a class of `LOADED` cannot load this checkpoint's tokenizer; None if it can."""
    checkpoint = clip.checkpoint
    if is_python(route) and not all((checkpoint.processor_path / name).is_file() for name in _VOCABULARY):
        return f"the tokenizer written in Python needs {' and '.join(_VOCABULARY)}"
    if is_processor(route) and not checkpoint.holds.whole:
        return str(checkpoint.holds.lacking)
    if is_processor(route) and not checkpoint.has_image_processor:
        return "a processor needs an image processor too (preprocessor_config.json)"
    return None


def files_problem(clip: Clip) -> CheckpointError | None:
    """Return why the tokenizer's files, or those of a source of `PARTS`, cannot be followed; None if they can."""

    def look() -> CheckpointError | None:
        present = {name for name in (*_VOCABULARY, *_WHOLE) if (clip.checkpoint.processor_path / name).is_file()}
        try:
            for files in (None, *(files for files in (_VOCABULARY, _WHOLE) if present >= {*files})):
                _read_rules(clip, files)
        except CheckpointError as problem:
            return problem
        return None

    found: CheckpointError | None = clip.once(("problem of the tokenizer's files",), look)
    return found


def encoder_of(clip: Clip, way: str | None = None) -> BytePairEncoder:
    """Return the tokenizer's rules: as all files of the checkpoint say, or those that a source of `PARTS` reads.

    Raises:
        NotAskable: the files cannot be followed.
    """
    if problem := files_problem(clip):
        raise NotAskable(problem.what, finding=FOLLOWED, where=problem.where, fix=problem.fix)
    return _read_rules(clip, None if way is None else PARTS[way].files)


def is_processor(route: str) -> bool:
    """Return whether a class of `LOADED` loads a processor, with a tokenizer in it."""
    return route.endswith("Processor")


def require_whole_texts(clip: Clip, route: str, encoder: BytePairEncoder) -> None:
    """Raise NotAskable if a processor truncates every text to another length than the model's, whatever the options."""
    length = encoder.saved_length
    if is_processor(route) and length not in (None, clip.config.text.max_position_embeddings):
        raise NotAskable(f"a processor cuts every text to {length} tokens", finding=UNCUT, where="tokenizer.json")


def expected_rows(
    encoder: BytePairEncoder,
    route: str,
    texts: Sequence[str],
    *,
    truncation: bool | str | None = None,
    max_length: int | None = None,
) -> list[list[int]]:
    """Return the ids that a call without padding gives by a class of `LOADED`.

    A processor takes the length that `tokenizer.json` was saved with for a `max_length` that every call names, and a
    `max_length` alone asks for truncation (transformers documents both).
    """
    saved = encoder.saved_length if is_processor(route) and max_length is None else None
    cut = bool(truncation) or (truncation is None and saved is not None)
    return _as_loaded(encoder, route).rows(texts, truncation=cut, max_length=saved or max_length)


def expected_batch(
    encoder: BytePairEncoder,
    route: str,
    texts: Sequence[str],
    *,
    padding: bool | str,
    truncation: bool = False,
    max_length: int | None = None,
    pad_to_multiple_of: int = 1,
    padding_side: Literal["left", "right"] | None = None,
) -> TokenBatch:
    """Return the padded ids that a call gives by a class of `LOADED`; see `expected_rows`."""
    saved = encoder.saved_length if is_processor(route) and max_length is None else None
    return _as_loaded(encoder, route).batch(
        texts,
        padding="max_length" if padding == "max_length" else True,
        truncation=truncation,
        max_length=saved or max_length,
        multiple_of=pad_to_multiple_of,
        padding_side=padding_side,
    )


def tokenizer_by(clip: Clip, way: str) -> Any:
    """Return a new tokenizer from a source of `PARTS`."""
    return _with_files(clip, PARTS[way].files, lambda directory: PARTS[way].make(clip.processors, directory))


def tokenizer_of(loaded: Any) -> Any:
    """Return the tokenizer of what was loaded: the processor's, or it itself."""
    return getattr(loaded, "tokenizer", loaded)


def ids_by(clip: Clip, route: str, texts: tuple[str, ...]) -> list[list[int]]:
    """Return the ids that a class of `LOADED`, or a source of `PARTS`, gives for each text, unpadded and whole."""

    def ask() -> list[list[int]]:
        tokenizer = clip.processors.load(route) if route in LOADED else tokenizer_by(clip, route)
        return [list(ids) for ids in clip.processors.process(tokenizer, text=list(texts))["input_ids"]]

    ids: list[list[int]] = clip.once(("ids", route, texts), ask)
    return ids


def is_python(class_name: str) -> bool:
    """Return whether a class is the tokenizer written in Python, which transformers 4 has beside the fast one."""
    return class_name == "CLIPTokenizer" and _has_python_tokenizer()


def like_python(encoder: BytePairEncoder) -> BytePairEncoder:
    """Return the rules of the tokenizer written in Python: texts are repaired with ftfy if that is installed, else
    cleaned.
    """
    if not importlib.util.find_spec("ftfy"):
        return replace(encoder, clean=clean_like_python)
    fix = importlib.import_module("ftfy").fix_text
    return replace(encoder, clean=lambda text: fix(text).lower())


def with_special_tokens_in_any_case(encoder: BytePairEncoder) -> BytePairEncoder:
    """Return the rules with the begin, end and unknown token found in any letter case, unless a file says otherwise."""
    added = tuple(token if token.declared else replace(token, normalized=True) for token in encoder.added)
    return replace(encoder, added=added)


def _read_rules(clip: Clip, files: tuple[str, ...] | None) -> BytePairEncoder:
    def read() -> BytePairEncoder:
        if files is None:
            return BytePairEncoder.from_directory(clip.checkpoint.processor_path)
        encoder: BytePairEncoder = _with_files(clip, files, BytePairEncoder.from_directory)
        return encoder

    rules: BytePairEncoder = clip.once(("rules", files), read)
    return rules


def _as_loaded(encoder: BytePairEncoder, route: str) -> BytePairEncoder:
    """The rules with the sides that the tokenizer written in Python takes, which does not read `tokenizer.json`."""
    sides = (encoder.python_padding_side, encoder.python_truncation_side)
    if not is_python(route) or sides == (encoder.padding_side, encoder.truncation_side):
        return encoder
    return replace(encoder, padding_side=sides[0], truncation_side=sides[1])


def _has_python_tokenizer() -> bool:
    return transformers_release() < Version("5.0.0.dev0")


def _with_files(clip: Clip, files: tuple[str, ...], use: Callable[[Path], Any]) -> Any:
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        for name in files:
            shutil.copyfile(clip.checkpoint.processor_path / name, Path(directory) / name)
        return use(Path(directory))


def _saved(processors: Processors, route: str) -> Any:
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        processors.load(route).save_pretrained(directory)
        return processors.construct(route, directory, method="from_pretrained", local_files_only=True)
