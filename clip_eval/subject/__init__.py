"""A checkpoint loaded one way, and the installed transformers and torch.

The one package that knows transformers 4 from 5; nothing else imports torch or transformers. Both are imported when a
model is first loaded, since every pytest run loads the plugin.
"""

from __future__ import annotations

from clip_eval.subject.availability import (
    attention_problem,
    compiler_problem,
    device_problem,
    require_attention,
    require_device,
)
from clip_eval.subject.calls import MOST_CALLS, Call
from clip_eval.subject.loading import LoadingReport
from clip_eval.subject.processors import BUILDERS
from clip_eval.subject.releases import (
    dtype_on_load,
    features_are_tensors,
    has_torchvision,
    load_class,
    projected_features,
    provides,
    quiet,
    resizes_with_torchvision,
    transformers_module,
    transformers_release,
)
from clip_eval.subject.runtimes.transformers import Subject
from clip_eval.subject.tensors import precision_of, tensor_of

__all__ = [
    "BUILDERS",
    "MOST_CALLS",
    "Call",
    "LoadingReport",
    "Subject",
    "attention_problem",
    "compiler_problem",
    "device_problem",
    "dtype_on_load",
    "features_are_tensors",
    "has_torchvision",
    "load_class",
    "precision_of",
    "projected_features",
    "provides",
    "quiet",
    "require_attention",
    "require_device",
    "resizes_with_torchvision",
    "tensor_of",
    "transformers_module",
    "transformers_release",
]
