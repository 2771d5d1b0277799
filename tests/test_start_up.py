"""What starting costs: the plugin is part of every pytest run, so neither it nor the package loads anything heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "numpy", "PIL", "scipy", "jinja2", "jsonschema", "huggingface_hub")


def loaded(code: str, cwd: Path) -> list[str]:
    """Heavy libraries that a fresh interpreter has loaded after `code`, which may end by SystemExit."""
    program = f"""
import sys
try:
    {code}
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    """`import clip_eval` loads neither torch nor transformers nor NumPy."""
    assert loaded("import clip_eval", tmp_path) == []


@pytest.mark.parametrize("arguments", ["--help", "--version", "--fixtures -q", "--collect-only"])
def test_pytest_with_the_plugin_loads_nothing_heavy(tmp_path: Path, arguments: str) -> None:
    """A pytest run in an environment with the plugin, without --clip-model, loads nothing heavy for it."""
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")
    isolated = ["-p", "clip_eval.plugin", *arguments.split()]
    code = f"import os, pytest; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'; sys.exit(pytest.main({isolated!r}))"
    assert loaded(code, tmp_path) == []


def test_the_installed_plugin_is_found_and_shows_its_options(tmp_path: Path) -> None:
    """`pytest --help` of an environment with the package lists every --clip option, and loads no torch for that."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pytest", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("model", "baseline", "dataset", "dtype", "device", "attn", "new-weights", "no-throughput", "out"):
        assert f"--clip-{name}" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "clip_eval.run.settings" in imported, "the plugin imports it"
    assert not imported & {"torch", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["checks"], ["gate", "--help"]], ids=" ".join)
def test_the_command_line_answers_without_torch(tmp_path: Path, arguments: list[str]) -> None:
    """Help, version and the list of checks need nothing heavy."""
    code = f"from clip_eval.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
    assert loaded(code, tmp_path) == []


def test_the_parent_of_a_gate_needs_no_torch(tmp_path: Path) -> None:
    """What the user named is looked at before the child starts, without torch and transformers."""
    code = (
        "import clip_eval.run.hermetic_pytest, clip_eval.checkpoint.checkpoint, clip_eval.dataset, clip_eval.baseline"
    )
    assert not {"torch", "transformers"} & set(loaded(code, tmp_path))


@pytest.mark.parametrize("options", ["", ", attention='sdpa'", ", device='cpu', dtype='float16'"])
def test_the_look_before_a_gate_needs_no_torch(tmp_path: Path, options: str) -> None:
    """Where no device or attention is named that could be missing, the parent looks at everything without torch."""
    model = Path(__file__).parents[1] / "fixtures" / "shapes-clip"
    code = (
        "from clip_eval.run.session import Session; from clip_eval.run.settings import Settings; "
        f"Session(Settings(model={str(model)!r}{options})).open_inputs()"
    )
    assert not {"torch", "transformers"} & set(loaded(code, tmp_path))


def test_a_misspelt_attention_needs_no_torch(tmp_path: Path) -> None:
    """The names of attention implementations are read, not imported, and one that is not there is refused by them."""
    code = (
        "import pytest; from clip_eval.errors import UsageError; from clip_eval.subject import require_attention; "
        "pytest.raises(UsageError, require_attention, 'flash').match('nearest is flash_attention_2')"
    )
    assert not {"torch", "transformers"} & set(loaded(code, tmp_path))
