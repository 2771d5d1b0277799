"""The gate of action.yml: its inputs, which are variables, become options; verdict and exit code become outputs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

DECIDED = (0, 1, 10)
NAMED = ("baseline", "dataset", "policy", "accepted")


def main() -> int:
    """Run the gate, write the outputs, return the gate's exit code."""
    out = Path(os.environ["CLIP_OUT"])
    options = [f"--{name}={value}" for name in NAMED if (value := os.environ.get(f"CLIP_{name.upper()}"))]
    words = [
        *options,
        f"--out={out}",
        *shlex.split(os.environ.get("CLIP_ARGS", "")),
        "--",
        os.environ["CLIP_CHECKPOINT"],
    ]
    code = subprocess.run([sys.executable, "-m", "clip_eval", "gate", *words], check=False).returncode
    decided = code in DECIDED  # else a run.json there is of an earlier gate
    verdict = json.loads((out / "run.json").read_text(encoding="utf-8"))["verdict"] if decided else ""
    outputs = {"verdict": verdict, "exit-code": code, "summary": out / "summary.md" if decided else ""}
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as stream:
        stream.writelines(f"{name}={value}\n" for name, value in outputs.items())
    return code


if __name__ == "__main__":
    sys.exit(main())
