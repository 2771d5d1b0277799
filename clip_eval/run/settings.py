"""What the user asked for: the options of a run, as plain values that every process of it shares."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from clip_eval.user_values import require_dtype, require_utf8
from clip_eval.verdict.plain_values import Json

__all__ = ["REPORTS", "Settings"]


REPORTS = ("report.html", "summary.md", "junit.xml", "run.json")
"""What a run writes to `Settings.out`, in this order: run.json comes last and says that the others are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one run.

    Attributes:
        model: a checkpoint directory, or a hub id with or without @revision.
        baseline: a pack directory.
        accepted: a file of acceptances, which excuse differences from the pack.
        dataset: an evaluation set.
        dtype: one of `DTYPES`; None for the dtype the checkpoint is stored in.
        device: a torch device.
        attention: an attention implementation; None for the library's default.
        new_weights: the candidate has other weights than the pack, on purpose.
        throughput: time the model.
        compile: judge the model under torch.compile, too.
        policy: a file that says what is asked beyond the rules.
        baseline_python: another interpreter, in which the checkpoint is timed in turns with this one.
        repro: directory for what shows each failed check without pytest; None writes none.
        out: directory for the reports; None writes none.

    Raises:
        UsageError: the dtype is none of `DTYPES`; the nearest is named. Or a name is not UTF-8.
    """

    model: str
    baseline: str | None = None
    accepted: str | None = None
    dataset: str | None = None
    dtype: str | None = None
    device: str = "cpu"
    attention: str | None = None
    new_weights: bool = False
    throughput: bool = True
    compile: bool = False
    policy: str | None = None
    baseline_python: str | None = None
    repro: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None:
            require_dtype(self.dtype)
        require_utf8(self.arguments().values())

    def arguments(self) -> dict[str, Json]:
        """Return every option with its value, for the run record."""
        return {**asdict(self), "out": None if self.out is None else str(self.out)}

    def options(self, prefix: str) -> list[str]:
        """Return the command-line options that give these settings, without model and out.

        Args:
            prefix: "--" for clip-eval, "--clip-" for pytest.
        """
        named = {
            "baseline": self.baseline,
            "accepted": self.accepted,
            "dataset": self.dataset,
            "dtype": self.dtype,
            "attn": self.attention,
            "device": None if self.device == "cpu" else self.device,
            "policy": self.policy,
            "baseline-python": self.baseline_python,
            "repro": self.repro,
        }
        options = [part for name, value in named.items() if value is not None for part in (f"{prefix}{name}", value)]
        switches = {"new-weights": self.new_weights, "no-throughput": not self.throughput, "compile": self.compile}
        return options + [f"{prefix}{name}" for name, on in switches.items() if on]

    def pytest_options(self) -> list[str]:
        """Return the options that give pytest this checkpoint and these settings, without out."""
        return ["--clip-model", self.model, *self.options("--clip-")]

    def rerun(self, function: str) -> str:
        """Return the command that runs the checks whose name contains `function`."""
        return shlex.join(["clip-eval", "gate", self.model, *self.options("--"), "-k", function])
