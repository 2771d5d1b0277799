"""Model families: what a family is, the arithmetic that all share, and CLIP. No other package lists a model's names.

`registry.family_of` says which family a config.json belongs to; a checkpoint knows its own.
"""

from __future__ import annotations
