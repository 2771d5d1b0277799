"""Speed as a ratio: the subject timed in turns with a plain torch forward of the same weights, in one process."""

from __future__ import annotations
