"""Files of others: what is opened, and what JSON and TOML are taken. Each refusal is at once, and in a sentence."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.datasets import write_dataset
from support.raw_safetensors import write_raw
from support.shards import entries, write_shard

from clip_eval.baseline import open_pack
from clip_eval.checkpoint.tensor_files import read_header
from clip_eval.dataset import open_dataset
from clip_eval.dataset.settings import read_settings
from clip_eval.dataset.tar_members import members
from clip_eval.dataset.text_lines import read_entries
from clip_eval.errors import CheckpointError, ClipEvalError, DatasetError, UsageError
from clip_eval.files import untrusted as foreign
from clip_eval.files.read_write import read_json, read_text, write_text
from clip_eval.files.untrusted import LINE_BYTES, lines_of, opened, parse_json, parse_toml, read_bytes
from clip_eval.verdict.acceptances import read_acceptances
from clip_eval.verdict.plain_values import decode_float
from clip_eval.verdict.policy import read_policy

Read = Callable[[Path], object]

READERS: dict[str, Read] = {
    "dataset": open_dataset,
    "acceptances": read_acceptances,
    "json": lambda file: read_json(file, error=CheckpointError),
    "pack": open_pack,
    "policy": read_policy,
    "prompts": read_entries,
    "settings": read_settings,
    "tensors": read_header,
    "text": lambda file: read_text(file, error=CheckpointError),
}


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """No test here takes seconds of the processor."""
    begin = time.process_time()
    yield
    assert time.process_time() - begin < 5


def refusal(read: Read, file: Path) -> str:
    """The paragraph with which a file is refused."""
    with pytest.raises(ClipEvalError) as refused:
        read(file)
    text = str(refused.value)
    text.encode()
    assert "\n" not in text
    assert refused.value.exit_code == 4
    return text


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "device", "loop", "long name", "NUL", "half"])
def test_only_regular_files_are_opened(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe would be waited for, a device has no end, and some names no file can have."""
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    file = Path("f")
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("f")
    elif kind == "directory":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "loop":
        file.symlink_to(file)
    else:
        file = Path({"long name": "x" * 5_000, "NUL": "a\0b", "half": "a\ud800b"}[kind])
    refusal(READERS[name], file)


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    """The sentence says what is there instead."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    assert "it is a named pipe, not a regular file" in refusal(READERS["text"], tmp_path / "link")
    assert "it is a device, not a regular file" in refusal(READERS["text"], Path("/dev/zero"))
    (tmp_path / "file").write_bytes(b"a\r\nb\rc")
    (tmp_path / "other").symlink_to("file")
    assert read_text(tmp_path / "other", error=CheckpointError) == "a\nb\nc"


def test_a_file_that_is_swapped_for_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was really opened is looked at again: between the first look and the opening anything can happen."""
    os.mkfifo(tmp_path / "f")
    regular = os.stat(__file__)  # noqa: PTH116 - what `opened` calls
    monkeypatch.setattr(foreign.os, "stat", lambda path: regular)
    with pytest.raises(OSError, match="it is a named pipe"):
        opened(tmp_path / "f")


@pytest.mark.parametrize(("name", "limit"), [("config.json", 16), ("tokenizer.json", 32), ("pack.json", 4)])
def test_a_file_beyond_its_limit_is_not_read(name: str, limit: int, tmp_path: Path) -> None:
    """A terabyte without content takes no disk, and would take all memory."""
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    assert f"and the limit is {limit << 20:,}" in refusal(READERS["json"], tmp_path / name)
    with pytest.raises(OSError, match="more than 3"):
        read_bytes("/proc/self/status", limit_bytes=3)  # whose size is not known before it is read


@pytest.mark.parametrize("name", ["acceptances", "policy", "settings"])
@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5_000 + "]" * 5_000,
        "a = " + "[" * 100_000 + "]" * 100_000,
        "a = " + "{a = " * 5_000 + "1" + "}" * 5_000,
        f"a = {'9' * 5_000}",
        f"[throughput]\nleast_efficiency = {'9' * 400}",
        f"[throughput]\nleast_efficiency = 0x{'f' * 5_000}",
        f"[throughput]\nleast_efficiency = [0x{'f' * 5_000}]",
        "[throughput]\nleast_efficiency = 1e400",
        "[throughput]\nleast_efficiency = 5e-324",
        "[throughput]\nleast_efficiency = nan",
        f"{'.'.join('k' * 200_000)} = 1",
        f"a = '{'x' * 900_000}",
        "a = 1\na = 2",
        "\ufeffa = 1",
        "",
    ],
)
def test_hostile_toml_is_refused(name: str, text: str, tmp_path: Path) -> None:
    """Deep, long, huge, twice, nothing: one sentence each, for every file in TOML."""
    (tmp_path / "f").write_text(text, encoding="utf-8")
    said = refusal(READERS[name], tmp_path / "f")
    if text.startswith("\ufeff"):
        assert "it begins with a byte order mark" in said
    if "999" in text or "fff" in text:  # it is TOML, so that is not what is wrong with it
        assert "holds a number of more than 300 digits: " in said
    if "[[" in text:
        assert "is nested more than 100 deep: " in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 5_000 + "]" * 5_000, "nested more than 100 deep"),
        ("[" * 100_000 + "]" * 100_000, "nested more than 100 deep"),
        ("[" * 150 + "]" * 150, "nested more than 100 deep"),
        ("9" * 5_000, "^holds a number of 5,000 digits, and 300 are the most"),
        ("-" + "9" * 400, "^holds a number of 400 digits, and 300 are the most"),
        ('{"a": 1, "a": 2}', "holds the key a twice"),
        ("NaN", "NaN is not JSON"),
        ("1e400", "holds the number 1e400, which is too large"),
        (r'["\ud800"]', "holds a lone surrogate"),
        ("", "Expecting value"),
    ],
)
def test_hostile_json_is_refused(text: str, expected: str) -> None:
    """Of a form that this package writes, more is refused than of a config, which Python may have written."""
    with pytest.raises(ValueError, match=expected):
        parse_json(text, own=True)


def test_what_python_writes_is_read() -> None:
    """Files of others may hold what JSON does not have and Python writes, and ten levels of anything."""
    assert parse_json('{"a": Infinity, "a": [1e400]}') == {"a": [float("inf")]}
    assert parse_json(r'"\ud83d\ude00"', own=True) == "\U0001f600"
    assert parse_toml('a.b = "x.y"') == {"a": {"b": "x.y"}}
    with pytest.raises(ValueError, match="larger than any float"):
        decode_float(10**400)


def test_a_long_line_is_told_and_passed_over(tmp_path: Path) -> None:
    """A line without end takes no memory, and the next one is read."""
    stream = io.BytesIO(b"a\n" + b"x" * (3 * LINE_BYTES) + b"\nb\n" + b"y" * LINE_BYTES)
    assert [len(line) for line in lines_of(stream)] == [2, LINE_BYTES + 1, 2, LINE_BYTES]
    root = write_dataset(tmp_path / "dataset")
    manifest = root / "manifest.jsonl"
    manifest.write_bytes(b'{"id": "' + b"x" * LINE_BYTES + b'"}\n' + manifest.read_bytes())
    first, second, *_ = open_dataset(root).entries()
    assert first.problem == "it has more than 1,048,576 bytes"
    assert second.problem is None


@pytest.mark.parametrize("name", ["manifest.jsonl", "dataset.toml"])
def test_a_pipe_in_a_dataset_is_no_dataset(name: str, tmp_path: Path) -> None:
    """Neither settings nor samples are waited for; an image is a sample with a problem."""
    root = write_dataset(tmp_path / "dataset")
    image = next(path for path in root.rglob("*.png"))
    image.unlink()
    os.mkfifo(image)
    assert any(entry.problem == "it is not a file" for entry in open_dataset(root).entries())
    (root / name).unlink()
    os.mkfifo(root / name)
    with pytest.raises(DatasetError, match=f"has no {name}"):
        open_dataset(root)


def test_a_header_of_an_archive_is_not_read_whatever_size_it_states(tmp_path: Path) -> None:
    """A name, or attributes, can be said to take gigabytes; and names can stand within each other without end."""
    shard = write_shard(tmp_path / "0.tar", entries(1))
    long_name = tarfile.TarInfo("x")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 36
    with shard.open("wb") as file:
        file.write(long_name.tobuf())
        file.truncate(1 << 37)
    with members(shard) as found:
        assert [member.problem is None for member in found] == [False]
    long_name.size = 512
    shard.write_bytes((long_name.tobuf() + bytes(512)) * 3_000 + bytes(1024))
    with members(shard) as found:
        assert [member.problem is None for member in found] == [False]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1 << 70, 0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1] * 40, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [10**200] * 1000, "data_offsets": [0, 4]},
    ],
)
def test_a_header_of_impossible_shapes_is_refused(entry: dict[str, object], tmp_path: Path) -> None:
    """Shapes are looked at one size at a time, before they are multiplied."""
    refusal(read_header, write_raw(tmp_path / "f", {"a": entry}, bytes(4)))


def test_a_header_with_many_names_is_read_once(tmp_path: Path) -> None:
    """That a name occurs twice is found without comparing each with each; a header of 20 MB is refused unread."""
    entries = ",".join(f'"{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(50_000))
    header = f'{{{entries},"49999":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}}}'.encode()
    assert "49999 twice" in refusal(read_header, write_raw(tmp_path / "f", header, b""))
    assert "are the most" in refusal(read_header, write_raw(tmp_path / "f", header.ljust(20 << 20), b""))


def test_an_error_is_one_line_that_can_be_printed() -> None:
    """Names on disk can hold bytes that are no text, line ends and colours, and have no end."""
    problem = UsageError("it is \ud800\n" + "x" * 10_000, where=Path("a\udcffb\x1b[31m"))
    assert str(problem).encode()
    assert "\n" not in str(problem)
    assert "a\\udcffb\\x1b[31m" in str(problem)
    assert len(str(problem)) < 3_000


def test_text_with_half_of_a_character_is_written(tmp_path: Path) -> None:
    """A report names files, and a name can hold what UTF-8 cannot."""
    write_text(tmp_path / "f", "a\udcffb")
    assert (tmp_path / "f").read_bytes() == b"a\\udcffb"
