"""What a checkpoint tells its image processor to do, and what becomes of checks where that cannot be followed."""

from __future__ import annotations

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import CheckpointError, NotAskable
from clip_eval.oracle.preprocessing.image_processor import PixelSettings

__all__ = ["SETTINGS_FOLLOWED", "settings_of", "settings_problem"]

SETTINGS_FOLLOWED = "pixels.settings_can_be_followed"
"""Name of the check that judges whether the image processor's settings say what can be done."""


def settings_problem(checkpoint: Checkpoint) -> CheckpointError | None:
    """Say why the image processor's settings cannot be followed; None if they can."""
    try:
        PixelSettings.from_directory(checkpoint.path)
    except CheckpointError as problem:
        return problem
    return None


def settings_of(checkpoint: Checkpoint) -> PixelSettings:
    """Return what the files tell the image processor to do.

    Raises:
        NotAskable: the settings cannot be followed.
    """
    if problem := settings_problem(checkpoint):
        raise NotAskable(problem.what, finding=SETTINGS_FOLLOWED, where=problem.where, fix=problem.fix)
    return PixelSettings.from_directory(checkpoint.path)
