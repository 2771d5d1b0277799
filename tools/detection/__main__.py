"""`PYTHONPATH=tests:tools python -m detection DIRECTORY [PART]` writes the kill matrix; PART is a part of an id."""

from __future__ import annotations

import sys
from pathlib import Path

from detection.detect import detect

if __name__ == "__main__":
    sys.exit(detect(Path(sys.argv[1]), *sys.argv[2:3]))
