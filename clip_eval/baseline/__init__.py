"""Baseline packs on disk, and the comparison of a candidate with one.

A pack is a directory. `pack.json` is text for review: the checkpoint, its weights by digest, the approved
environments, sha256 of every other file. `record.safetensors` holds one numeric record, inputs included.
`surface-RELEASE-ATTENTION.json` holds the observable surface in one approved environment. `tasks.json` holds the
values of each sample of a dataset in each task, and `throughput.json` how fast the release was on each of some
machines, where asked for.
"""

from __future__ import annotations

from clip_eval.baseline.comparison import Baseline
from clip_eval.baseline.open_pack import open_pack
from clip_eval.baseline.pack import Environment, Pack, PackedTask, PackedTensor

__all__ = ["Baseline", "Environment", "Pack", "PackedTask", "PackedTensor", "open_pack"]
