"""First check of the tokenizer and image processor files, before anything is loaded.

Damaged files are refused here, with name and place, as are numbers that would make a release count or allocate without
end. The checks judge the meaning of the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from clip_eval.errors import CheckpointError
from clip_eval.files.read_write import read_json, read_text

__all__ = ["LARGEST_ID", "LARGEST_SIDE_PX", "look_at_processor_files"]

LARGEST_SIDE_PX = 4096
"""Largest side in pixels for resize and crop, four times that of the largest CLIP."""

_PICTURES = ("preprocessor_config.json", "processor_config.json")
_READ_ALWAYS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "chat_template.json", *_PICTURES)
_OVERRULED = ("special_tokens_map.json", "added_tokens.json")
_DEEPEST = 64  # nesting depth; real tokenizers have seven
_COPY_AGAIN = "Copy it again from its source"


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
