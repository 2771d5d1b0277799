"""The version of this package. Nothing inside imports the package itself to learn it."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
