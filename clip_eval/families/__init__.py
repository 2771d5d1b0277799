"""Model families: what a family is, the arithmetic that all share, and CLIP. Nothing else of the package tables names.

`registry.family_of` says which family a config.json belongs to; a checkpoint knows its own.
"""

from __future__ import annotations
