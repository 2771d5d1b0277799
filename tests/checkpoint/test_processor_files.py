"""The first look at the files of tokenizer and image processor: what is refused, what becomes a note, what passes."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clip_eval.checkpoint.fingerprints import image_processor_fields, tokenizer_fields, tokenizer_fingerprint
from clip_eval.checkpoint.processor_files import LARGEST_ID, LARGEST_SIDE_PX, look_at_processor_files
from clip_eval.errors import CheckpointError
from clip_eval.oracle.preprocessing.image_processor import PixelSettings
from clip_eval.oracle.preprocessing.tokenizer_files import read_tokenizer_files

FIXTURE = Path(__file__).parents[2] / "fixtures" / "shapes-clip"
FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
    "preprocessor_config.json",
)
DAMAGED = {
    "empty": b"",
    "no JSON": b'{"a": ',
    "a list": b"[]",
    "null": b"null",
    "no UTF-8": b'{"a": "\xff"}',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep enough to be read": b'{"a":' * 400 + b"1" + b"}" * 400,
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The processor's files of the shipped checkpoint."""
    for name in FILES:
        shutil.copyfile(FIXTURE / name, tmp_path / name)
    return tmp_path


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Alter the content of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_sound_files_pass_without_a_note(home: Path) -> None:
    """Those of the shipped checkpoint, with tokens named like settings of pictures, and a directory with none."""
    change(home / "vocab.json", lambda data: data.update(size=LARGEST_SIDE_PX + 1, crop_size=0))
    assert look_at_processor_files(home) == ()
    assert look_at_processor_files(home / "nothing") == ()


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "vocab.json", "preprocessor_config.json", "processor_config.json"],
)
def test_a_damaged_file_is_refused_by_name(home: Path, name: str, content: bytes) -> None:
    """Whatever is wrong with it."""
    (home / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        look_at_processor_files(home)
    assert caught.value.where == str(home / name)
    assert caught.value.fix


def test_merges_that_are_no_text_are_refused(home: Path) -> None:
    """What else is wrong with merges a check says."""
    (home / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"not UTF-8 text: .*merges\.txt"):
        look_at_processor_files(home)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_a_damaged_file_that_nothing_reads_is_a_note(home: Path, name: str) -> None:
    """Where tokenizer_config.json lists the added tokens, it decides alone; else the file is refused."""
    (home / name).write_bytes(b"{")
    (note,) = look_at_processor_files(home)
    assert note.startswith(f"{name} is damaged (the file is not JSON")
    change(home / "tokenizer_config.json", lambda data: data.pop("added_tokens_decoder"))
    with pytest.raises(CheckpointError, match=name):
        look_at_processor_files(home)


IDS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "of vocab.json": ("vocab.json", lambda data: data.update(a="1")),
    "negative": ("vocab.json", lambda data: data.update(a=-1)),
    "a fraction": ("tokenizer.json", lambda data: data["model"]["vocab"].update(a=1.5)),
    "of an added token": ("tokenizer.json", lambda data: data["added_tokens"][0].update(id=None)),
    "too large": ("tokenizer.json", lambda data: data["added_tokens"][0].update(id=LARGEST_ID + 1)),
    "in the config": ("tokenizer_config.json", lambda data: data["added_tokens_decoder"].update({"9" * 5000: "x"})),
    "of added_tokens.json": ("added_tokens.json", lambda data: data.update({"<x>": True})),
}


@pytest.mark.parametrize(("name", "edit"), IDS.values(), ids=IDS)
def test_an_id_that_cannot_be_one_is_refused(home: Path, name: str, edit: Callable[[Any], object]) -> None:
    """Some releases count up to the largest id, one at a time."""
    change(home / name, edit)
    with pytest.raises(CheckpointError, match="has the id") as caught:
        look_at_processor_files(home)
    assert caught.value.where == str(home / name)
    assert len(str(caught.value)) < 400 + len(str(home))


@pytest.mark.parametrize("size", [LARGEST_SIDE_PX + 1, 10**200, -5, {"height": 32, "width": 10**9}, [0, 32]])
def test_a_picture_that_cannot_be_is_refused(home: Path, size: object) -> None:
    """Nothing is allocated for it."""
    change(home / "preprocessor_config.json", lambda data: data.update(crop_size=size))
    with pytest.raises(CheckpointError, match="crop_size is"):
        look_at_processor_files(home)


def test_whatever_the_files_hold_is_read_or_refused(home: Path) -> None:
    """Values of JSON files replaced at random: no reader ends in anything but a CheckpointError."""
    generator = random.Random(0)
    sound = {name: (home / name).read_bytes() for name in FILES}
    odd = (None, True, -1, 1.5, 2**70, 10**400, "", "x", "\ud800", [], {}, [[]], {"content": 5}, float("nan"))
    for _ in range(100):
        name = generator.choice(FILES)
        if name == "merges.txt":
            text = bytearray(sound[name])
            text[generator.randrange(len(text))] = generator.randrange(256)
            (home / name).write_bytes(bytes(text))
        else:
            change(home / name, lambda data: _replace_one(data, generator, odd))
        with contextlib.suppress(CheckpointError):
            look_at_processor_files(home)
            _read_all(home)
        (home / name).write_bytes(sound[name])


def _replace_one(value: Any, generator: random.Random, odd: tuple[object, ...]) -> None:
    """Go down at random and put something odd in a place."""
    while True:
        key = generator.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or generator.random() < 0.3:
            value[key] = generator.choice(odd)
            return
        value = inner


def _read_all(directory: Path) -> None:
    tokenizer_fingerprint(directory)
    tokenizer_fields(directory)
    image_processor_fields(directory)
    with contextlib.suppress(CheckpointError):
        read_tokenizer_files(directory)
    PixelSettings.from_directory(directory)
