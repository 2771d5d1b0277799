"""The options of a gate, each declared once: a field of `Settings` with its kind, its metavar and its help.

The options of the command line, those of pytest and the arguments of `clip_eval.gate` follow from the fields.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from clip_eval.user_values import named, require_dtype, require_utf8
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.policy import project_policy

__all__ = [
    "DEFAULT_OUT",
    "OPTIONS",
    "REPORTS",
    "FilesOptions",
    "GateOptions",
    "Option",
    "RecordOptions",
    "Settings",
    "VariantOptions",
]


REPORTS = ("report.html", "summary.md", "junit.xml", "run.json")
"""What a run writes to `Settings.out`, in this order: run.json comes last and says that the others are there."""

DEFAULT_OUT = Path("reports/latest")

Kind = Literal["input", "output", "name", "dtype", "switch"]
"""A path or id that is read, a directory that is written, a word, one of `DTYPES`, on or off."""


@dataclass(frozen=True, slots=True)
class Option:
    """The option of one setting.

    Attributes:
        setting: name of the field of `Settings`, and of the argument in Python.
        kind: the type of its value.
        metavar: of its value in the help; empty for a switch.
        help: one sentence.
        name: its name on command lines, without dashes.
        default: the value if left out, on the command line and in Python.
    """

    setting: str
    kind: Kind
    metavar: str
    help: str
    name: str
    default: Any

    @property
    def turns_off(self) -> bool:
        """Whether the switch makes a setting false that is true without it."""
        return self.default is True

    def flag(self, prefix: str = "--") -> str:
        """Return the option as it is typed; pytest's begin with "--clip-"."""
        return prefix + self.name

    def from_flag(self, value: Any) -> Any:
        """Return the setting for a value from an option parser."""
        return not value if self.turns_off else value

    def checked(self, value: object, called: str) -> Any:
        """Return the setting for a value that the user gave.

        Args:
            value: anything.
            called: the option's name for the user.

        Raises:
            UsageError: it is empty, not text or a path, or not a valid file name.
        """
        if self.kind in ("switch", "dtype") or (value is None and self.default is None):
            return value  # `Settings` checks dtypes
        text = named(value, called)
        return Path(text) if self.setting == "out" else text

    def words(self, value: Any, prefix: str) -> list[str]:
        """Return the command-line arguments that give the setting its value; empty for the default."""
        if value in (None, self.default):
            return []
        return [self.flag(prefix)] if self.kind == "switch" else [self.flag(prefix), str(value)]


def _option(kind: Kind, metavar: str, help: str, **rest: Any) -> dict[str, Any]:
    return {"kind": kind, "metavar": metavar, "help": help, **rest}


def _switch(help: str, **rest: Any) -> dict[str, Any]:
    return _option("switch", "", help, **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user asked for: one value for each option, shared by every process of a run.

    Raises:
        UsageError: the dtype is not one of `DTYPES` (the message has the nearest), or a name is not UTF-8.
    """

    model: str = field(
        metadata=_option(
            "input",
            "CHECKPOINT",
            "A checkpoint directory, or a hub id with or without @revision.",
        )
    )
    variant: str | None = field(
        default=None,
        metadata=_option("name", "NAME", "The variant of the weights, such as fp16 for model.fp16.safetensors."),
    )
    processor: str | None = field(
        default=None,
        metadata=_option("input", "DIR", "Tokenizer or image processor, if they are not beside the weights."),
    )
    baseline: str | None = field(
        default=None, metadata=_option("input", "PACK", "The pack of the last approved release, to compare with.")
    )
    accepted: str | None = field(
        default=None, metadata=_option("input", "FILE", "Differences from the pack that are wanted, with reasons.")
    )
    new_weights: bool = field(default=False, metadata=_switch("The weights differ from the pack's on purpose."))
    dataset: str | None = field(default=None, metadata=_option("input", "DIR", "Evaluation set for task scores."))
    out: Path | None = field(  # None writes no reports
        default=None,
        metadata=_option("output", "DIR", "Where the reports go, run.json among them.", default=str(DEFAULT_OUT)),
    )
    dtype: str | None = field(
        default=None,
        metadata=_option("dtype", "DTYPE", "float32, bfloat16 or float16; by default as the checkpoint is stored."),
    )
    attention: str | None = field(
        default=None,
        metadata=_option(
            "name", "NAME", "Attention implementation, such as eager or sdpa; by default transformers' own choice.",
            name="attn",
        ),
    )  # fmt: skip
    device: str = field(default="cpu", metadata=_option("name", "DEVICE", "A torch device, such as cuda:0."))
    throughput: bool = field(default=True, metadata=_switch("Do not time the model.", name="no-throughput"))
    compile: bool = field(
        default=False, metadata=_switch("Judge the model under torch.compile, too; takes tens of seconds.")
    )
    policy: str | None = field(
        default=None,
        metadata=_option(
            "input",
            "FILE",
            "What is asked beyond the rules, and what only warns; by default [tool.clip-eval] of pyproject.toml.",
        ),
    )
    baseline_python: str | None = field(
        default=None,
        metadata=_option(
            "input", "EXE", "The Python of another environment with the same clip-eval: what the checkpoint does there "
            "is the baseline, where no pack is named, and the model is timed in turns with it.",
        ),
    )  # fmt: skip
    converted_from: str | None = field(
        default=None,
        metadata=_option(
            "input", "ORIGINAL", "The open_clip checkpoint that this one was converted from, a directory or a "
            "safetensors file: weights, config and image processor are held to it.",
        ),
    )  # fmt: skip
    history: str | None = field(
        default=None,
        metadata=_option("output", "FILE", "Add the run to this history, which `clip-eval history` lists and draws."),
    )
    repro: str | None = field(
        default=None,
        metadata=_option("output", "DIR", "Write a standalone script for each failed check to this directory."),
    )

    def __post_init__(self) -> None:
        if self.dtype is not None:
            require_dtype(self.dtype)
        require_utf8(self.arguments().values())

    @classmethod
    def from_python(cls, model: object, options: Mapping[str, object]) -> Settings:
        """Return the settings for keyword arguments with the options' names.

        Raises:
            UsageError: as `Option.checked`, or a setting cannot be used.
        """
        checked = {name: OPTIONS[name].checked(value, name) for name, value in options.items()}
        return cls(model=named(model, "checkpoint"), **checked)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `to_json` wrote."""
        data = json.loads(text)
        return cls(**{**data, "out": None if data["out"] is None else Path(data["out"])})

    def to_json(self) -> str:
        """Return the text of a settings file, which a gate hands to its child."""
        return json.dumps(self.arguments(), indent=2)

    def arguments(self) -> dict[str, Json]:
        """Return every option with its value, for the run record."""
        return {**asdict(self), "out": None if self.out is None else str(self.out)}

    def options(self, prefix: str) -> list[str]:
        """Return the command-line options that give these settings, without model and out; switches come last.

        Args:
            prefix: "--" for clip-eval, "--clip-" for pytest.
        """
        wanted = [option for name, option in OPTIONS.items() if name not in ("model", "out")]
        ordered = sorted(wanted, key=lambda option: option.kind == "switch")  # a stable sort
        return [word for option in ordered for word in option.words(getattr(self, option.setting), prefix)]

    def pytest_options(self) -> list[str]:
        """Return the options that give pytest this checkpoint and these settings, without out."""
        return ["--clip-model", self.model, *self.options("--clip-")]

    def rerun(self, function: str) -> str:
        """Return the command that runs the checks whose name contains `function`."""
        return shlex.join(["clip-eval", "gate", self.model, *self.options("--"), "-k", function])

    def with_project_policy(self) -> Settings:
        """Return the same settings with the policy in the working directory's pyproject.toml, unless one is named.

        Raises:
            UsageError: pyproject.toml speaks of clip-eval and cannot be read.
        """
        file = None if self.policy is not None else project_policy(Path())
        return self if file is None else replace(self, policy=str(file))

    def absolute(self) -> Settings:
        """Return the same settings for a process that runs in another directory.

        Paths that are read become absolute if they exist: a hub id, or a program on PATH, stays as it is.
        """
        values = {option.setting: getattr(self, option.setting) for option in OPTIONS.values()}
        paths = {
            name: type(value)(Path(value).absolute())
            for name, value in values.items()
            if value is not None
            and (OPTIONS[name].kind == "output" or (OPTIONS[name].kind == "input" and Path(value).exists()))
        }
        return replace(self, **paths)


OPTIONS: Mapping[str, Option] = {
    each.name: Option(
        **{"setting": each.name, "name": each.name.replace("_", "-"), "default": each.default, **each.metadata}
    )
    for each in fields(Settings)
}
"""Setting to option, in the order that help shows them in; the model is an argument of the commands."""


class VariantOptions(TypedDict, total=False):
    """The option that every command on a checkpoint's weights takes, for type checkers."""

    variant: str | None


class FilesOptions(VariantOptions, total=False):
    """The same with the one of commands that read images or texts."""

    processor: str | Path | None


class RecordOptions(FilesOptions, total=False):
    """The options that `record` shares with `gate`, for type checkers."""

    dataset: str | Path | None
    attention: str | None
    device: str


class GateOptions(RecordOptions, total=False):
    """The options of `gate`, for type checkers; a test compares them with the fields of `Settings`."""

    baseline: str | Path | None
    accepted: str | Path | None
    new_weights: bool
    out: str | Path
    dtype: str | None
    throughput: bool
    compile: bool
    policy: str | Path | None
    baseline_python: str | Path | None
    converted_from: str | Path | None
    history: str | Path | None
    repro: str | Path | None
