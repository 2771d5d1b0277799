"""Files that are read and written whole, files of others, and a folder that belongs to one run at a time."""

from __future__ import annotations
