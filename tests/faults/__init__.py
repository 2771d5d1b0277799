"""Deliberate defects, applied from outside, that prove what the gate sees; and healthy runs that it must leave
alone.
"""

from __future__ import annotations
