"""The command line: help, lists, and every bad input as one paragraph with exit code 4 that leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from support.commands import Ended, Run, assert_refused

from clip_eval import __version__
from clip_eval.cli.main import cli
from clip_eval.run.declared_checks import declared_checks

COMMANDS = sorted(cli.commands)


@pytest.fixture
def checkpoint(bare_model: Path, tmp_path: Path) -> Path:
    """A small checkpoint, to spoil."""
    return Path(shutil.copytree(bare_model, tmp_path / "my-clip"))


def spoilt_config(checkpoint: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> Path:
    """Change config.json."""
    raw = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    change(raw)
    (checkpoint / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return checkpoint


def no_such_path(checkpoint: Path) -> Path:
    """A path with a misspelt end."""
    return checkpoint.with_name("my-clib")


def empty_directory(checkpoint: Path) -> Path:
    """A directory without a file."""
    (checkpoint / "empty").mkdir()
    return checkpoint / "empty"


def a_file(checkpoint: Path) -> Path:
    """The weights instead of their directory."""
    return checkpoint / "model.safetensors"


def another_architecture(checkpoint: Path) -> Path:
    """A checkpoint of another model type."""
    return spoilt_config(checkpoint, lambda raw: raw.update(model_type="bert"))  # type: ignore[call-overload]


def truncated_weights(checkpoint: Path) -> Path:
    """A safetensors file that lost its end."""
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return checkpoint


def truncated_header(checkpoint: Path) -> Path:
    """A safetensors file that lost nearly everything."""
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    return checkpoint


def pickle_only(checkpoint: Path) -> Path:
    """A checkpoint of before safetensors."""
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    return checkpoint


def missing_field(checkpoint: Path) -> Path:
    """A config without what no tensor can tell."""
    return spoilt_config(checkpoint, lambda raw: raw["vision_config"].pop("num_attention_heads"))


def missing_tower(checkpoint: Path) -> Path:
    """A config without a tower."""
    return spoilt_config(checkpoint, lambda raw: raw.pop("text_config"))


def broken_config(checkpoint: Path) -> Path:
    """A config that is no JSON."""
    (checkpoint / "config.json").write_text('{"model_type": ', encoding="utf-8")
    return checkpoint


BAD_CHECKPOINTS: dict[Callable[[Path], Path], tuple[str, ...]] = {
    no_such_path: ("the checkpoint does not exist", "my-clib", "my-clip"),
    empty_directory: ("empty",),
    a_file: ("directory",),
    another_architecture: ("bert", "not a CLIP"),
    truncated_weights: ("model.safetensors",),
    truncated_header: ("model.safetensors",),
    pickle_only: ("pytorch_model.bin", "clip-eval convert"),
    missing_field: ("num_attention_heads", "config.json"),
    missing_tower: ("text_config", "config.json"),
    broken_config: ("config.json", "not JSON"),
}
"""How a checkpoint is spoilt, and what the paragraph must say of it."""


@pytest.mark.parametrize("spoil", BAD_CHECKPOINTS, ids=lambda spoil: spoil.__name__)
def test_a_bad_checkpoint_is_refused(run: Run, checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], Path]) -> None:
    """A checkpoint that cannot be gated ends with exit code 4, says why and what to do, and leaves no report."""
    named = spoil(checkpoint)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(run("gate", named, "--out", tmp_path / "out" / "deep"), *BAD_CHECKPOINTS[spoil])
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_written_where_no_out_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused gate makes no reports/latest in the working directory either."""
    monkeypatch.chdir(tmp_path)
    assert_refused(run("gate", "no-such-clip"), "no-such-clip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/below", "file/below/deep"])
def test_an_out_that_cannot_be_written_is_refused(run: Run, checkpoint: Path, tmp_path: Path, below: str) -> None:
    """Reports that have no place are refused before anything is run."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert_refused(run("gate", checkpoint, "--out", tmp_path / below), "cannot be written", "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_refused_gate_leaves_no_earlier_reports(run: Run, tmp_path: Path) -> None:
    """What is in the folder is of this run or nothing: an earlier pass cannot be taken for the refused run's."""
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert_refused(run("gate", tmp_path / "no-such-clip", "--out", tmp_path))
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gate CLIP --baseline no/such/pack", ("no/such/pack",)),
        ("gate CLIP --baseline CLIP", ("pack",)),
        ("gate CLIP --dataset no/such/dataset", ("no/such/dataset",)),
        ("gate CLIP --dataset CLIP", ("my-clip",)),
        ("gate CLIP --dtype int8", ("--dtype", "int8", "float32", "gate --help")),
        ("gate CLIP --colour", ("--colour", "gate --help")),
        ("gate CLIP --out", ("--out",)),
        ("gate CLIP CLIP", ("unexpected extra argument",)),
        ("gate", ("CHECKPOINT", "gate --help")),
        ("grade CLIP", ("grade", "clip-eval --help")),
        ("gat CLIP", ("No such command 'gat'", "'gate'", "clip-eval --help")),
        ("checks contrastive_head.logits_are_symetric", ("contrastive_head.logits_are_symmetric",)),
        ("convert CLIP --out out", ("safetensors already",)),
        ("convert CLIP", ("--out",)),
        ("record CLIP", ("--out", "--add-to")),
    ],
)
def test_a_bad_option_is_refused(run: Run, checkpoint: Path, arguments: str, said: tuple[str, ...]) -> None:
    """A misspelt or missing option, command, check, pack or dataset ends with exit code 4 and names the way out."""
    before = sorted(checkpoint.parent.rglob("*"))
    assert_refused(run(*shlex.split(arguments.replace("CLIP", str(checkpoint)))), *said)
    assert sorted(checkpoint.parent.rglob("*")) == before


def test_a_bad_expression_is_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    """An expression that pytest cannot read reaches the user as one paragraph too, and leaves no report."""
    ended = run("gate", checkpoint, "--out", tmp_path / "out", "-k", "a and (")
    assert_refused(Ended(ended.code, "", ended.err), "-k", "a and (")
    assert not (tmp_path / "out").exists()


def test_paths_stay_whole() -> None:
    """A long path is never cut at the end of a line or at a hyphen: it can be copied."""
    path = f"/a-long-way/{'-'.join(['from-home'] * 12)}"
    done = subprocess.run(
        [sys.executable, "-m", "clip_eval", "gate", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert path in done.stderr


@pytest.mark.parametrize("module", [True, False], ids=["python -m clip_eval", "clip-eval"])
def test_both_ways_to_start(module: bool) -> None:
    """`python -m clip_eval` and the installed command are the same program."""
    script = Path(sys.executable).with_name("clip-eval")
    command = [sys.executable, "-m", "clip_eval"] if module else [str(script)]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    assert done.stdout.strip() == f"clip-eval, version {__version__} ({libraries})"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell: str) -> None:
    """Click's completion, as the README turns it on, knows commands and options."""
    script = Path(sys.executable).with_name("clip-eval")
    asked = {**os.environ, "_CLIP_EVAL_COMPLETE": f"{shell}_source"}
    source = subprocess.run([str(script)], env=asked, capture_output=True, text=True, check=True).stdout
    assert f"_CLIP_EVAL_COMPLETE={shell}_complete" in source
    typed = {"COMP_WORDS": "clip-eval gate --bas", "COMP_CWORD": "--bas" if shell == "fish" else "2"}
    asked |= {"_CLIP_EVAL_COMPLETE": f"{shell}_complete", **typed}
    found = subprocess.run([str(script)], env=asked, capture_output=True, text=True, check=True).stdout
    assert "--baseline" in found
    assert "--dataset" not in found


def test_help_lists_every_command(run: Run) -> None:
    """`clip-eval --help` says what it is, lists every command with a whole sentence, and the exit codes."""
    ended = run("--help")
    assert ended.code == 0
    for name in COMMANDS:
        assert name in ended.out
    assert "..." not in ended.out.replace("[ARGS]...", "")
    for code in ("0 pass", "1 fail", "2 interrupted", "3 internal", "4 usage", "10 inconclusive"):
        assert code in " ".join(ended.out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    """Each command's help fits 80 columns and shows an example that the command can parse."""
    ended = run(name, "--help")
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    example = next(line.strip() for line in ended.out.splitlines() if line.strip().startswith("Example: "))
    words = shlex.split(example.removeprefix("Example: "))
    assert words[:2] == ["clip-eval", name]
    cli.commands[name].make_context(name, words[2:], parent=click.Context(cli))


def test_checks_fit_a_terminal(run: Run) -> None:
    """The list shows every id whole on a line of its own, its promise below, in 80 columns."""
    ended = run("checks")
    lines = ended.out.splitlines()
    assert ended.code == 0
    assert [line for line in lines if line and not line.startswith(" ")] == [check.id for check in declared_checks()]
    assert max(map(len, lines)) <= 80
    text = " ".join(ended.out.split())
    assert all(check.promise in text for check in declared_checks())


@pytest.mark.parametrize("check", declared_checks(), ids=lambda check: check.id)
def test_a_check_is_explained(run: Run, check: object) -> None:
    """`clip-eval checks ID` gives the check's scope and promise, within 80 columns."""
    ended = run("checks", check.id)  # type: ignore[attr-defined]
    assert ended.code == 0
    assert ended.out.startswith(f"{check.id}  ({check.scope})\n")  # type: ignore[attr-defined]
    assert check.promise in " ".join(ended.out.split())  # type: ignore[attr-defined]
    assert max(map(len, ended.out.splitlines())) <= 80


def test_convert_writes_a_checkpoint(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    """`clip-eval convert` turns a pickled checkpoint into one that can be opened, and says where it is."""
    import torch
    from safetensors.torch import load_file

    from clip_eval.checkpoint.checkpoint import open_checkpoint

    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    ended = run("convert", checkpoint, "--out", tmp_path / "new")
    assert (ended.code, ended.err) == (0, "")
    assert str(tmp_path / "new" / "model.safetensors") in ended.out
    assert open_checkpoint(tmp_path / "new").dtype == "float32"
    assert_refused(run("convert", checkpoint, "--out", tmp_path / "new"), "not empty")
