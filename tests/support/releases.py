"""Which release of transformers has what takes long in its ordinary runs: CI runs both, and each has its share."""

from __future__ import annotations

import pytest

from clip_eval.subject import transformers_release

__all__ = ["ordinary_under"]

_HERE = "4" if transformers_release().major < 5 else "5"


def ordinary_under(release: str | None) -> list[pytest.MarkDecorator]:
    """Marks of a test that ordinary runs have under transformers "4" or "5" only, or None: under neither.

    `tox run -e faults` and `-e faults457` have all of them.
    """
    return [] if release == _HERE else [pytest.mark.slow]
