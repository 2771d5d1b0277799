"""From measurements to pass, fail or inconclusive: budgets, comparison, the run record and the decision."""

from __future__ import annotations
