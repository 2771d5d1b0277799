"""First use: what a new user misspells or leaves empty ends at once in one paragraph that names the nearest."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.commands import Run, assert_refused

from clip_eval.cli.main import cli
from clip_eval.run.declared_checks import declared_checks


@pytest.fixture
def checkpoint(bare_model: Path, tmp_path: Path) -> Path:
    """A small checkpoint in a directory of its own."""
    return Path(shutil.copytree(bare_model, tmp_path / "my-clip"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gate CLIP --dtype fp16", ("'fp16'", "nearest is float16", "gate --help")),
        ("gate CLIP --dtype half", ("nearest is float16",)),
        ("gate CLIP --dtype bf16", ("nearest is bfloat16",)),
        ("gate CLIP --dtype fp32", ("nearest is float32",)),
        ("bench CLIP --dtype half", ("nearest is float16", "bench --help")),
        ("gate CLIP --device gpu", ("device 'gpu' is not available", "cpu")),
        ("gate CLIP --device meta", ("device 'meta' is not available", "cpu")),
        ("record CLIP --out NEW --device cuda:99", ("'cuda:99' is not available", "cpu")),
        ("bench PARENT/my-clop", ("the checkpoint does not exist", "nearest name is PARENT/my-clip")),
        ("bench CLIP --against PARENT/my-clop", ("the checkpoint does not exist", "nearest name is PARENT/my-clip")),
        ("bench CLIP --against-python no/such/python", ("the interpreter does not exist: no/such/python",)),
        ("bench CLIP --out CLIP/config.json", ("cannot be written",)),
        ("record CLIP", ("for an existing one. See",)),
        ("gate CLIP --policy PARENT", ("is a directory", "Name a file that is there")),
        ("bench CLIP --device cuda:99", ("'cuda:99' is not available", "cpu")),
        ("gate CLIP --attn eagr", ("no attention 'eagr'", "nearest is eager", "sdpa")),
        ("gate CLIP --attn flash", ("no attention 'flash'", "nearest is flash_attention_2")),
        ("record CLIP --out NEW --attn nonsense", ("no attention 'nonsense'", "Choose from eager, sdpa")),
        ("bench CLIP --attn SDPA", ("no attention 'SDPA'", "nearest is sdpa")),
        ("gate CLIP --attn kernels-community/fast", ("kernels-community/fast", "eager")),
        ("gate CLIP --baseline PARENT/my-clop", ("the pack does not exist", "nearest name is PARENT/my-clip")),
        ("gate CLIP --dataset PARENT/my-clop", ("the dataset does not exist", "nearest name is PARENT/my-clip")),
        ("gate CLIP --policy CLIP/config.jsn", ("no such file", "nearest name is CLIP/config.json")),
        ("gate CLIP --baseline NEW --accepted x", ("the pack does not exist",)),
        ("record PARENT/my-clop --out NEW", ("the checkpoint does not exist", "nearest name is PARENT/my-clip")),
        ("record CLIP --out CLIP", ("the directory is not empty",)),
        ("record CLIP --out CLIP/config.json/pack", ("cannot be written",)),
        ("record CLIP --out NEW --report CLIP/config.json/reports", ("cannot be written",)),
    ],
)
@pytest.mark.usefixtures("nothing_runs")
def test_what_cannot_be_used_is_refused_before_the_run(
    run: Run, checkpoint: Path, arguments: str, said: tuple[str, ...]
) -> None:
    """A dtype, device, attention or path that is not there ends at once with exit code 4, with what is nearest, and
    leaves nothing behind: nobody waits for a whole run of skips.
    """

    def filled(text: str) -> str:
        places = {"CLIP": checkpoint, "PARENT": checkpoint.parent, "NEW": checkpoint.parent / "new"}
        for word, place in places.items():
            text = text.replace(word, str(place))
        return text

    before = sorted(checkpoint.parent.rglob("*"))
    assert_refused(run(*shlex.split(filled(arguments))), *map(filled, said))
    assert sorted(checkpoint.parent.rglob("*")) == before


def _named_options() -> list[tuple[str, str, str]]:
    """(command, words that make it whole but for one value, what that value is called), of every command."""
    found = []
    for name, command in cli.commands.items():
        leaves = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for leaf, inner in leaves:
            path = f"{name} {leaf}".strip()
            checkpoint = "CLIP" if any(param.name == "checkpoint" for param in inner.params) else ""
            arguments = [param for param in inner.params if isinstance(param, click.Argument)]
            for param in inner.params:
                if param.callback is None:
                    continue
                if param in arguments:
                    first = "CLIP " * arguments.index(param)
                    found.append((path, f"{first}''", str(param.human_readable_name).strip("[].")))
                else:
                    found.append((path, f"{checkpoint} {param.opts[0]} ''", param.opts[0]))
    return found


@pytest.mark.parametrize(("command", "words", "called"), _named_options())
@pytest.mark.usefixtures("nothing_runs")
def test_an_empty_value_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str, called: str
) -> None:
    """A value that is empty, as of a shell variable that is not set, never means the working directory."""
    monkeypatch.chdir(tmp_path)
    ended = run(*shlex.split(f"{command} {words}"))
    assert ended.code == 4
    said = " ".join(ended.err.split())
    assert called.strip("-").casefold() in said.casefold()
    assert "is empty" in said or "no dtype ''" in said
    assert list(tmp_path.iterdir()) == []


def test_every_name_that_a_user_gives_is_looked_at() -> None:
    """No option of a path, id or name goes without the look: only switches, numbers and texts that may be empty do."""
    unlooked = {
        (name, param.opts[0])
        for name, command in cli.commands.items()
        for param in command.params
        if param.callback is None
        and not getattr(param, "is_flag", False)
        and not isinstance(param.type, (click.IntRange, click.types.FloatParamType, click.Choice))
        and param.name not in ("help", "version")
    }
    assert unlooked == set()


@pytest.mark.parametrize("value", ["x" * 5000, "./" + "b" * 300])
def test_a_name_that_no_file_can_have_is_refused(run: Run, value: str) -> None:
    """A name that is too long for the system is said to be so, without a traceback."""
    assert_refused(run("gate", value), "CHECKPOINT", "too long")


@pytest.mark.parametrize("command", ["gate", "record --out new", "bench"])
@pytest.mark.usefixtures("nothing_runs")
def test_a_name_that_is_not_utf8_is_refused_before_the_run(run: Run, command: str) -> None:
    """No report could hold it: that is said at once and not by a traceback after the run."""
    name, *options = command.split()
    assert_refused(run(name, "caf\udce9/my-clip", *options), "not UTF-8", "caf\\udce9/my-clip", "symbolic link")


@pytest.mark.parametrize("arguments", ["", "path"])
def test_a_command_alone_shows_its_help(run: Run, arguments: str) -> None:
    """`clip-eval` alone, and a group of commands alone, show what there is, with exit code 0."""
    ended, asked = run(*arguments.split()), run(*arguments.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == asked.out


def test_part_of_an_id_finds_the_check(run: Run) -> None:
    """The end of an id, the name of its test and what pytest prints of it find the check; a chapter lists its own."""
    for word in (
        "nested_towers",
        "test_nested_towers",
        "reference_values.nested_towers",
        "clip_eval/suite/numbers/test_reference_values.py::test_nested_towers[padding]",
    ):
        ended = run("checks", word)
        assert ended.code == 0
        assert ended.out.startswith("reference_values.nested_towers  (contract)\n")
    listed = run("checks", "masks").out
    ids = [line for line in listed.splitlines() if line and not line.startswith(" ")]
    assert ids == [check.id for check in declared_checks() if check.chapter == "masks"]
    assert len(ids) > 1


def test_a_reader_that_leaves_is_no_error() -> None:
    """`clip-eval checks | head -1` ends without a traceback."""
    program = f"{shlex.quote(sys.executable)} -m clip_eval checks | head -1"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == f"{declared_checks()[0].id}\n"


def test_a_pack_inside_is_named(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    """Where the directory of packs is named instead of one, that one, or each of several, is named."""
    for name in ("one", "two"):
        (tmp_path / "packs" / name).mkdir(parents=True)
        (tmp_path / "packs" / name / "pack.json").write_text("{}", encoding="utf-8")
        inner = tmp_path / "packs" / name
        said = "It holds one: name" if name == "one" else "It holds 2: name one of"
        assert_refused(run("gate", checkpoint, "--baseline", tmp_path / "packs"), "no pack.json", said, str(inner))


def test_record_refuses_an_existing_pack_before_the_suite(
    run: Run, checkpoint: Path, tmp_path: Path, nothing_runs: None
) -> None:
    """An --out that holds a pack is refused at once, and nothing says that the suite is running."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "pack.json").write_text("{}", encoding="utf-8")
    ended = run("record", checkpoint, "--out", tmp_path / "pack")
    assert_refused(ended, "holds a pack", "--add-to")
    assert "running" not in ended.err


@pytest.mark.parametrize("keyword", ["logits_are_symetric", "contrastive_head.logits_are_symetric", "mask and nosuch"])
def test_an_expression_that_matches_nothing_is_refused(
    run: Run, checkpoint: Path, tmp_path: Path, keyword: str
) -> None:
    """-k with no match ends with exit code 4 before the checkpoint is loaded, and earlier reports stay."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}", encoding="utf-8")
    near = "logits_are_symmetric" if "symetric" in keyword else "clip-eval checks"
    assert_refused(run("gate", checkpoint, "--out", tmp_path / "out", "-k", keyword), "matches no check", near)
    assert (tmp_path / "out" / "run.json").read_text(encoding="utf-8") == "{}"
