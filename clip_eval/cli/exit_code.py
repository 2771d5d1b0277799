"""Keep the exit code of a command under `python -i` and PYTHONINSPECT."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn

__all__ = ["ends_the_process"]


def ends_the_process(main: Callable[[], object]) -> Callable[[], NoReturn]:
    """Return `main` as a function that ends the process with the code that `main` passes to `sys.exit`.

    If Python is inspected after the program, it prints a traceback for SystemExit and drops its code: a failed gate
    would end with 0. That cannot be switched off from inside, so the process then exits at once.
    """

    @functools.wraps(main)
    def ending() -> NoReturn:
        try:
            main()
            sys.exit(0)
        except SystemExit as end:
            if not (sys.flags.inspect or os.environ.get("PYTHONINSPECT")):
                raise
            if end.code is not None and not isinstance(end.code, int):
                sys.stderr.write(f"{end.code}\n")
            _leave(0 if end.code is None else end.code if isinstance(end.code, int) else 1)

    return ending


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed pipe must not prevent the exit
            stream.flush()
    os._exit(code & 0xFF)
