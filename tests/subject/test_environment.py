"""Provenance: what a record says about where it was made, and that nothing in it is a guess."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from clip_eval import __version__
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject import environment
from clip_eval.verdict.run_record import PROVENANCE_KEYS


def provenance(bare_model: Path, **settings: Any) -> dict[str, Any]:
    """The provenance of a run on `bare_model`."""
    return environment.provenance(Session(Settings(model=str(bare_model), **settings)).candidate)


def test_every_key_is_there(bare_model: Path) -> None:
    """Each key that the run record asks for is present, and all values are plain JSON."""
    found = provenance(bare_model)
    assert set(PROVENANCE_KEYS) <= set(found)
    json.dumps(found, allow_nan=False)


def test_versions_are_the_installed_ones(bare_model: Path) -> None:
    """Versions are those of the interpreter and the installed distributions."""
    found = provenance(bare_model)
    assert found["clip_eval"] == __version__
    assert found["python"] == platform.python_version()
    for name in ("torch", "transformers", "tokenizers", "pillow"):
        assert found[name] == version(name)


def test_an_absent_distribution_is_none(bare_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is recorded as none."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", absent)
    assert provenance(bare_model)["tokenizers"] is None


def test_settings_that_change_numbers_are_recorded(bare_model: Path) -> None:
    """Threads and TF32 are what torch says in this process, once torch is loaded in it."""
    import torch

    found = provenance(bare_model)
    assert found["threads"] == torch.get_num_threads()
    assert found["tf32"] == {
        "products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
    }
    assert found["gpu"] is None


def test_an_absent_gpu_has_no_name(bare_model: Path) -> None:
    """A GPU that was asked for and is not there leaves the record without a name for it, not without a record."""
    assert provenance(bare_model, device="cuda:99")["gpu"] is None


def test_torch_is_not_loaded_for_the_record(bare_model: Path) -> None:
    """A process that has not loaded torch, such as an xdist controller, records none instead of loading it."""
    code = f"""
import sys
from clip_eval.subject.environment import attention_used, provenance
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
candidate = Session(Settings(model={str(bare_model)!r})).candidate
assert provenance(candidate)["threads"] is None
assert attention_used(candidate) is None
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_attention_is_the_one_really_used(bare_model: Path) -> None:
    """The attention implementation is known once a model is loaded, and is then the model's own."""
    session = Session(Settings(model=str(bare_model), attention="eager"))
    assert environment.attention_used(session.candidate) is None
    session.candidate.clip.forward(images=1, texts=1)
    assert environment.attention_used(session.candidate) == "eager"


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in git's place, the only one there is, for a test to write."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "git"
    program.touch(mode=0o755)
    return program


def test_a_checkpoint_in_git_names_its_revision(bare_model: Path, git: Path) -> None:
    """A checkpoint in a git checkout has the commit recorded that git names for its directory."""
    git.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    assert provenance(bare_model)["git_revision"] == f"-C {bare_model} rev-parse HEAD"


def test_a_checkpoint_outside_of_git_has_no_revision(bare_model: Path, git: Path) -> None:
    """Where git knows no checkout the revision is none."""
    git.write_text("#!/bin/sh\necho fatal: not a git repository\nexit 128\n", encoding="utf-8")
    assert provenance(bare_model)["git_revision"] is None


def test_a_machine_without_git_has_no_revision(bare_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git the revision is none, and nothing fails."""
    monkeypatch.setenv("PATH", "")
    assert provenance(bare_model)["git_revision"] is None
