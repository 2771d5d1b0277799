"""The options of a run: what travels to the child, the record and the rerun line."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import typing
from pathlib import Path

import pytest

from clip_eval.run.settings import OPTIONS, REPORTS, GateOptions, Option, RecordOptions, Settings
from clip_eval.user_values import DTYPES

FULL = Settings(
    model="a clip",
    baseline="pack",
    accepted="accepted.toml",
    dataset="images",
    dtype="float16",
    device="cuda:0",
    attention="eager",
    new_weights=True,
    throughput=False,
    compile=True,
    history="runs.sqlite",
    repro="shown",
    policy="policy.toml",
    baseline_python="python4",
    converted_from="original",
    variant="fp16",
    processor="tokenizer",
    out=Path("reports"),
)


def test_defaults_give_no_options() -> None:
    """A run of a checkpoint alone passes nothing on that is not asked for."""
    assert Settings(model="clip").options("--clip-") == []


def test_every_setting_becomes_an_option() -> None:
    """Every field but model and out is passed on, under the prefix asked for."""
    assert FULL.options("--clip-") == [
        "--clip-variant", "fp16", "--clip-processor", "tokenizer",
        "--clip-baseline", "pack", "--clip-accepted", "accepted.toml", "--clip-dataset", "images", "--clip-dtype",
        "float16", "--clip-attn", "eager", "--clip-device", "cuda:0", "--clip-policy", "policy.toml",
        "--clip-baseline-python", "python4", "--clip-converted-from", "original", "--clip-history", "runs.sqlite",
        "--clip-repro", "shown",
        "--clip-new-weights", "--clip-no-throughput", "--clip-compile",
    ]  # fmt: skip
    changed = [
        field.name
        for field in dataclasses.fields(Settings)
        if field.name not in ("model", "out") and getattr(FULL, field.name) == getattr(Settings(model=""), field.name)
    ]
    assert changed == [], "the example above sets every field"


def test_options_are_those_of_the_plugin(pytestconfig: pytest.Config) -> None:
    """The plugin defines every option."""
    for option in OPTIONS.values():
        pytestconfig.getoption(option.flag("--clip-"))
    assert pytestconfig.getoption("--clip-model") is None


def test_the_rerun_line_can_be_pasted() -> None:
    """The rerun line is one shell command with the same settings and the check's name."""
    words = shlex.split(FULL.rerun("logits_are_symmetric"))
    assert words[:3] == ["clip-eval", "gate", "a clip"]
    assert words[3:-2] == FULL.options("--")
    assert words[-2:] == ["-k", "logits_are_symmetric"]


def test_arguments_are_plain_values() -> None:
    """The run record holds every setting as JSON."""
    arguments = json.loads(json.dumps(FULL.arguments()))
    assert set(arguments) == {field.name for field in dataclasses.fields(Settings)}
    assert arguments["out"] == "reports"
    assert Settings(model="clip").arguments()["out"] is None


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_every_option_is_declared_in_full(option: Option) -> None:
    """An option has a sentence of help, without the percent sign that argparse reads, and a metavar unless it is a
    switch.
    """
    assert re.fullmatch(r"\S[^%]+\.", option.help)
    assert (option.metavar == "") == (option.kind == "switch")


def test_type_checkers_know_every_option() -> None:
    """The TypedDicts of `gate` and `record` name the fields of `Settings`; what is a path may be a `Path`."""
    known, fields = typing.get_type_hints(GateOptions), typing.get_type_hints(Settings)
    assert set(known) == set(fields) - {"model"}
    assert set(RecordOptions.__annotations__) < set(known)
    for name, hint in known.items():
        is_path = OPTIONS[name].kind in ("input", "output")
        expected = set(typing.get_args(fields[name] | None)) | ({str, Path} if is_path else set())
        assert set(typing.get_args(hint | None)) == expected, name


def test_a_settings_file_holds_every_setting() -> None:
    """What is read back is what was written."""
    assert Settings.from_json(FULL.to_json()) == FULL
    assert Settings.from_json(Settings(model="clip").to_json()) == Settings(model="clip")


def test_settings_for_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read becomes absolute where it exists, what is written always; hub ids and words stay."""
    monkeypatch.chdir(tmp_path)
    for name in ("clip", "pack", "images", "cpu", "eager"):
        (tmp_path / name).mkdir()
    assert Settings(model="org/name@main").absolute() == Settings(model="org/name@main")
    named = {"baseline": "pack", "dataset": "images", "repro": "shown"}
    there = Settings(
        model="clip", **named, baseline_python="python4", attention="eager", out=Path("reports")
    ).absolute()
    assert there == Settings(
        model=str(tmp_path / "clip"),
        **{name: str(tmp_path / value) for name, value in named.items()},
        baseline_python="python4",
        attention="eager",
        out=tmp_path / "reports",
    )


def test_names_of_dtypes_and_reports() -> None:
    """Dtypes are torch's names; run.json is written last, since it says that the others are there."""
    import torch

    assert all(isinstance(getattr(torch, name), torch.dtype) for name in DTYPES)
    assert REPORTS[-1] == "run.json"
    assert set(REPORTS) == {"run.json", "report.html", "summary.md", "junit.xml"}
