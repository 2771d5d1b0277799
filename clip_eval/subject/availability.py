"""Why a device, a compiler or an attention implementation cannot be used here."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from clip_eval.errors import UsageError
from clip_eval.nearest import listed
from clip_eval.subject.releases import quiet

__all__ = ["attention_problem", "compiler_problem", "device_problem", "require_attention", "require_device"]

_ALWAYS_THERE = ("eager", "sdpa")
"""Attention implementations of every supported release on every device: they need no test."""
_ATTENTIONS = {"math": "eager", "manual": "eager", "native": "eager", "fa": "flash_attention_2",
               "fa2": "flash_attention_2", "fa3": "flash_attention_3", "scaled_dot_product_attention": "sdpa",
               "torch": "sdpa"}  # fmt: skip
_KINDS = {"gpu": "cuda", "nvidia": "cuda", "rocm": "cuda", "hip": "cuda", "metal": "mps", "apple": "mps"}


def device_problem(device: str) -> str | None:
    """Return why `device` cannot be used here, None if it can: a number is put there and read back."""
    import torch

    kind = device.partition(":")[0]
    try:
        torch.zeros(1, device=device).item()  # `meta` takes a tensor and holds no number
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "device type at start of device string" in reason:
            return f"device {device!r} is not available: torch knows no kind of device {kind!r}"
        return f"device {device!r} is not available ({kind}): {reason.partition('. ')[0]}"
    return None


def require_device(device: str) -> None:
    """Raise UsageError, with the devices that are here, unless `device` can be used."""
    if device == "cpu":
        return
    if problem := device_problem(device):
        raise UsageError(problem, fix=_other_device(device))


def _other_device(device: str) -> str:
    import torch

    kind, _, place = device.lower().partition(":")
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]
    if kind in _KINDS and not any(name.startswith(_KINDS[kind]) for name in known):
        return f"torch calls it {_KINDS[kind]}, and finds none here; choose {' or '.join(known)}"
    return listed(f"{_KINDS.get(kind, kind)}{place and f':{place}'}", known)


def require_attention(attention: str) -> None:
    """Raise UsageError, with the names that transformers knows, unless the attention implementation can be used.

    Kernels of the hub, whose names have a slash, are refused: downloaded code is not run.
    """
    if attention in _ALWAYS_THERE:
        return
    known = _attention_names()
    problem = f"there is no attention {attention!r}" if attention not in known else attention_problem(attention)
    if problem:
        raise UsageError(problem, fix=listed(attention, known, _ATTENTIONS))


def _attention_names() -> list[str]:
    """Every name that a user can give; those that always work first."""
    loaded = "transformers.modeling_utils" in sys.modules  # names may have been added to those of its source
    names = _registered_names() if loaded else _written_names() or _registered_names()
    known = sorted(name for name in names if not name.startswith("paged|"))
    return [*_ALWAYS_THERE, *(name for name in known if name not in _ALWAYS_THERE)]


def _registered_names() -> list[str]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return list(ALL_ATTENTION_FUNCTIONS.valid_keys())


def _written_names() -> list[str]:
    """The names in transformers' source, since its import takes seconds.

    None if its source declares them in another way.
    """
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        return []
    tree = ast.parse(Path(package.origin).with_name("modeling_utils.py").read_bytes())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "AttentionInterface"]
    return [
        key.value
        for statement in (statement for node in classes for statement in node.body)
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_global_mapping"
        for key in (statement.value.keys if isinstance(statement.value, ast.Dict) else ())
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]


def compiler_problem(device: str) -> str | None:
    """Return why torch.compile cannot work on `device` here; None if it can.

    Its default backend generates C++ for a CPU, which needs a compiler, and Triton for a GPU.
    """
    if device.startswith("cuda"):
        return None if importlib.util.find_spec("triton") else "torch.compile needs triton, which is not installed"
    compiler = os.environ.get("CXX") or ("cl" if os.name == "nt" else "g++")
    if any(shutil.which(name) for name in (compiler, "clang++")):
        return None
    return f"torch.compile needs a C++ compiler, and there is no {compiler}"


def attention_problem(attention: str) -> str | None:
    """Return why the installed transformers cannot use an attention implementation here; None if it can."""
    import transformers

    try:
        with quiet():
            config = transformers.CLIPTextConfig(
                hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8
            )
            transformers.AutoModel.from_config(config, attn_implementation=attention)
    except (ImportError, ValueError) as error:
        return f"attention {attention!r} is not available: {str(error).strip().partition('. ')[0]}"
    return None
