"""One gate run: its settings, its session, the pytest process that runs the checks, and what became of each."""

from __future__ import annotations
