"""How sure decisions on throughput are, and the speed of the published shapes."""

from __future__ import annotations
