"""Packs of a small checkpoint, for tests: recorded without the gate, changed on disk, and judged check by check."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clip_eval.baseline import Pack
from clip_eval.baseline.pack import Surface
from clip_eval.baseline.write_pack import write_pack
from clip_eval.run import approval
from clip_eval.run.approval import build_pack
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import transformers_release
from clip_eval.verdict.compare import Compare, Mismatch
from clip_eval.verdict.run_record import SurfaceChange

__all__ = [
    "RECORD",
    "SOME_SURFACE",
    "TENSOR",
    "Run",
    "changed_config",
    "changed_copy",
    "changed_model",
    "edit_manifest",
    "next_float",
    "observing",
    "record_small",
    "reseal",
    "session_on",
    "surface_file",
]


RECORD = "record.safetensors"
TENSOR = "vision_model.encoder.layers.1.mlp.fc2.weight"
SOME_SURFACE: Surface = {"CLIPModel()": "CLIPOutput"}
"""Stands for the surface in tests of something else: to observe one takes seconds."""


def surface_file() -> str:
    """Return the name of the surface's file under the installed transformers, with eager attention."""
    return f"surface-{transformers_release()}-eager.json"


def session_on(model: Path, *, pack: Path | None = None, dtype: str = "float32", **options: Any) -> Session:
    """Return a session on a checkpoint with eager attention, against a pack where one is given."""
    baseline = None if pack is None else str(pack)
    return Session(
        Settings(**{"model": str(model), "baseline": baseline, "dtype": dtype, "attention": "eager"} | options)
    )


def observing(patch: pytest.MonkeyPatch, surface: Surface) -> None:
    """Let whatever is recorded have this surface."""
    patch.setattr(approval, "observe_surface", lambda _: surface)


def record_small(model: Path, directory: Path, surface: Surface | None = None) -> Pack:
    """Write the pack of a small checkpoint, with its own surface unless one is given, and return what was written."""
    with pytest.MonkeyPatch.context() as patch:
        if surface is not None:
            observing(patch, surface)
        pack = build_pack(session_on(model))
    write_pack(directory, pack)
    return pack


def changed_copy(pack: Path, target: Path) -> Path:
    """Return a copy of a pack, to be damaged."""
    shutil.copytree(pack, target)
    return target


def edit_manifest(pack: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change pack.json."""
    data = json.loads((pack / "pack.json").read_text(encoding="utf-8"))
    edit(data)
    (pack / "pack.json").write_text(json.dumps(data), encoding="utf-8")


def reseal(pack: Path, name: str, content: bytes) -> None:
    """Replace a file of a pack and state its new sha256: damage that no digest shows."""
    (pack / name).write_bytes(content)
    sealed = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    edit_manifest(pack, lambda data: data["files"].update({name: sealed}))


def changed_model(model: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Return a copy of a checkpoint with changed tensors."""
    shutil.copytree(model, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def changed_config(model: Path, target: Path, **text: Any) -> Path:
    """Return a copy of a checkpoint with other statements on the text tower in its config."""
    shutil.copytree(model, target)
    raw = json.loads((target / "config.json").read_text(encoding="utf-8"))
    raw["text_config"].update(text)
    (target / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return target


def next_float(tensors: dict[str, Any]) -> None:
    """Change one element of one weight by one unit in its last place."""
    flat = tensors[TENSOR].reshape(-1)
    flat[7] = np.nextafter(flat[7], np.float32(np.inf))


class Run:
    """One check of the suite, run by hand: what it left, and how it ended."""

    def __init__(self, session: Session, check: Callable[..., None], **arguments: Any) -> None:
        properties: list[tuple[str, object]] = []
        evidence = Evidence(properties)
        available = {
            "baseline": session.baseline,
            "clip_session": session,
            "evidence": evidence,
            "compare": Compare(evidence.measurement),
        }
        wanted = {name: value for name, value in available.items() if name in check.__annotations__}
        self.error: Mismatch | None = None
        self.reason: str | None = None
        try:
            check(**wanted, **arguments)
        except Mismatch as error:
            self.error = error
        except pytest.skip.Exception as skipped:
            self.reason = str(skipped)
        self.left = [(name.removeprefix("clip_eval."), json.loads(str(value))) for name, value in properties]

    def changes(self) -> dict[str, SurfaceChange]:
        """The surface changes that it left, by id."""
        found = [SurfaceChange(**value) for name, value in self.left if name == "surface_change"]
        return {change.id: change for change in found}
