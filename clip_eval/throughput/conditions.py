"""What a subject's speed was measured under: two days' ratios are compared only if all of it is equal."""

from __future__ import annotations

import torch

from clip_eval.subject import precision_of
from clip_eval.subject.environment import cores, cpu_model
from clip_eval.subject.observations import Clip
from clip_eval.throughput.ratio import Conditions

__all__ = ["THREADS", "conditions_of"]

THREADS = 1
"""Threads of torch while a gate times a subject; see `clip_eval.throughput.clock`."""

_TRIAL = 1
"""Raised with every change of the plain forward, of the clock, or of the batches that are timed: older ratios are not
comparable then.
"""


def conditions_of(clip: Clip) -> Conditions:
    """Return what the speed of a subject is measured under here."""
    device = clip.subject.device
    precision = precision_of(clip.dtype, device)
    return Conditions(
        cpu=cpu_model(),
        cores=cores(),
        gpu=torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        torch=torch.__version__,
        dtype=f"{precision.dtype}, TF32 products" if precision.tf32_products else precision.dtype,
        attention=clip.attention,
        threads=THREADS,
        trial=_TRIAL,
    )
