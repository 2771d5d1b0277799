"""First check of the tokenizer and image processor files, before anything is loaded.

Damaged files are refused here, with name and place, as are numbers that would make a release count or allocate without
end. The checks judge the meaning of the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_eval.checkpoint.fingerprints import has_image_processor, has_tokenizer
from clip_eval.checkpoint.locate import local_directory
from clip_eval.errors import CheckpointError, UsageError
from clip_eval.families.holding import Holding
from clip_eval.files.read_write import read_json, read_text

__all__ = ["LARGEST_ID", "LARGEST_SIDE_PX", "ProcessorFiles", "find_processor", "look_at_processor_files"]

_PIPELINE = {"text_encoder": "tokenizer", "image_encoder": "feature_extractor"}
"""Folders of a diffusers pipeline: an encoder, and what prepares its inputs. A second one ends in _2."""

LARGEST_SIDE_PX = 4096
"""Largest side in pixels for resize and crop, four times that of the largest CLIP."""

_PICTURES = ("preprocessor_config.json", "processor_config.json")
_READ_ALWAYS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "chat_template.json", *_PICTURES)
_OVERRULED = ("special_tokens_map.json", "added_tokens.json")
_DEEPEST = 64  # nesting depth; real tokenizers have seven
_COPY_AGAIN = "Copy it again from its source"


@dataclass(frozen=True, slots=True)
class ProcessorFiles:
    """Where the tokenizer's and the image processor's files are, and what the report says if that is elsewhere."""

    path: Path
    note: str | None = None


def find_processor(directory: Path, holding: Holding, *, named: Path | None) -> ProcessorFiles:
    """The directory with a checkpoint's tokenizer and image processor: the one that is named, its own, or beside it.

    Beside it, only the folders of a diffusers pipeline are looked at: tokenizer beside text_encoder, tokenizer_2 beside
    text_encoder_2, feature_extractor beside image_encoder.

    Args:
        directory: of the checkpoint.
        holding: which part of a model it holds.
        named: what the user names; None for what is found.

    Raises:
        CheckpointError: the directory that is named does not exist.
        UsageError: it has no files for a tower of the checkpoint.
    """
    if named is not None:
        return ProcessorFiles(_named(named, holding), f"The processor is read from {named}, as --processor says.")
    if holding.whole or _serves(directory, holding):
        return ProcessorFiles(directory)
    for encoder, part in _PIPELINE.items():
        beside = directory.with_name(directory.name.replace(encoder, part))
        if directory.name.startswith(encoder) and _serves(beside, holding):
            return ProcessorFiles(beside, f"The {part} is read from {beside}, beside it in the pipeline.")
    return ProcessorFiles(directory)


def _named(directory: Path, holding: Holding) -> Path:
    directory = local_directory(directory)
    if not _serves(directory, holding):
        wanted = [name for name in ("tokenizer", "image processor") if not holding.lacks_part(name)]
        what = (
            f"--processor names a directory without {' and '.join(wanted)}, and the checkpoint holds {holding.in_words}"
        )
        raise UsageError(what, where=directory, fix="Name the directory that save_pretrained of the processor wrote")
    return directory


def _serves(directory: Path, holding: Holding) -> bool:
    return (holding.texts and has_tokenizer(directory)) or (holding.images and has_image_processor(directory))


def look_at_processor_files(directory: Path) -> tuple[str, ...]:
    """Read every existing file of the tokenizer and the image processor, and return notes for the report.

    Args:
        directory: of a checkpoint.

    Raises:
        CheckpointError: a file is not UTF-8, not a JSON object or nested too deeply; an id or a side in pixels is out
            of range.
    """
    contents = {name: _object(directory / name) for name in _READ_ALWAYS if (directory / name).is_file()}
    if (directory / "merges.txt").is_file():
        read_text(directory / "merges.txt", error=CheckpointError)
    overruled = "added_tokens_decoder" in contents.get("tokenizer_config.json", {})
    notes = []
    for name in _OVERRULED:
        if (directory / name).is_file():
            try:
                contents[name] = _object(directory / name)
            except CheckpointError as problem:
                if not overruled:
                    raise
                notes.append(_ignored(name, problem))
    for name, content in contents.items():
        _check_ids(_ids(name, content), where=directory / name)
    for name in _PICTURES:
        _check_sides(contents.get(name, {}), where=directory / name)
    return tuple(notes)


def _object(file: Path) -> Mapping[str, object]:
    content = read_json(file, error=CheckpointError)
    if not isinstance(content, dict):
        raise CheckpointError("the file does not hold a JSON object", where=file, fix=_COPY_AGAIN)
    _check_depth(content, where=file)
    return content


def _ignored(name: str, problem: CheckpointError) -> str:
    return (
        f"{name} is damaged ({problem.what}). Nothing reads it here, as tokenizer_config.json lists the added tokens: "
        "copy it again, or delete it."
    )


def _check_depth(content: object, *, where: Path) -> None:
    """Refuse files nested deeper than any tokenizer: walking them would exhaust the stack."""
    layer, depth = [content], 0
    while layer:
        depth += 1
        if depth > _DEEPEST:
            raise CheckpointError(f"the file is nested over {_DEEPEST} deep", where=where, fix=_COPY_AGAIN)
        layer = [inner for outer in layer for inner in _inner(outer) if isinstance(inner, dict | list)]


def _inner(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _ids(name: str, content: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The ids in a file, each with a description."""
    if name in ("vocab.json", "added_tokens.json"):
        yield from content.items()
    elif name == "tokenizer.json":
        model, added = content.get("model"), content.get("added_tokens")
        vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
        yield from vocabulary.items() if isinstance(vocabulary, Mapping) else ()
        listed = [token for token in added if isinstance(token, Mapping)] if isinstance(added, list) else []
        yield from ((str(token.get("content")), token.get("id")) for token in listed)
    elif name == "tokenizer_config.json":
        decoder = content.get("added_tokens_decoder")
        for number, token in decoder.items() if isinstance(decoder, Mapping) else ():
            short = number.isdecimal() and len(number) < 20
            yield str(token.get("content") if isinstance(token, Mapping) else token), int(number) if short else number


def _check_ids(ids: Iterator[tuple[str, object]], *, where: Path) -> None:
    for token, number in ids:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST_ID:
            shown = repr(number) if len(repr(number)) < 40 else f"{repr(number)[:37]}..."
            raise CheckpointError(
                f"the token {token[:40]!r} has the id {shown}",
                where=where,
                fix=f"Set it to a row of the token embedding, 0 to {LARGEST_ID}, or save the tokenizer again",
            )


def _check_sides(content: Mapping[str, object], *, where: Path) -> None:
    section = content.get("image_processor", content)
    for key in ("size", "crop_size"):
        stated = section.get(key) if isinstance(section, Mapping) else None
        for value in _inner(stated) if isinstance(stated, dict | list) else (stated,):
            if isinstance(value, int | float) and not 0 < value <= LARGEST_SIDE_PX:
                raise CheckpointError(
                    f"{key} is {str(value)[:20]} pixels", where=where, fix=f"Set it to 1 to {LARGEST_SIDE_PX} pixels"
                )


LARGEST_ID = 2**24
"""The largest id that a token can have, sixty times the largest vocabulary in use. Of a larger one some releases count
up to it, one id at a time.
"""
