"""The checks: one module for each chapter of the CLIP contract, each check a plain pytest function.

Run them with `pytest --pyargs clip_eval.suite --clip-model CHECKPOINT`. Nothing here loads torch at import.
"""

from __future__ import annotations
