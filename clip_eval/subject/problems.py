"""Why a device, a compiler or an attention implementation cannot be used here."""

from __future__ import annotations

import importlib.util
import os
import shutil

from clip_eval.subject.releases import quiet

__all__ = ["attention_problem", "compiler_problem", "device_problem"]


def device_problem(device: str) -> str | None:
    """Say why `device` cannot be used here, or None if it can."""
    import torch

    kind = device.partition(":")[0]
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"device {device!r} is not available ({kind}): {reason}"
    return None


def compiler_problem(device: str) -> str | None:
    """Say why torch.compile cannot work on `device` here, or None if it can.

    Its default backend writes C++ for a CPU, which a compiler has to turn into code, and Triton for a GPU.
    """
    if device.startswith("cuda"):
        return None if importlib.util.find_spec("triton") else "torch.compile needs triton, which is not installed"
    compiler = os.environ.get("CXX") or ("cl" if os.name == "nt" else "g++")
    if any(shutil.which(name) for name in (compiler, "clang++")):
        return None
    return f"torch.compile needs a C++ compiler, and there is no {compiler}"


def attention_problem(attention: str) -> str | None:
    """Say why the installed transformers cannot use an attention implementation here, or None if it can."""
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
