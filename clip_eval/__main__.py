"""`python -m clip_eval` is the clip-eval command."""

from __future__ import annotations

from clip_eval.cli.main import main

main()
