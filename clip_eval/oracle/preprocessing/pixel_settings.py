"""A checkpoint's image processor settings, and what happens to checks if they cannot be followed."""

from __future__ import annotations

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import CheckpointError, NotAskable
from clip_eval.oracle.preprocessing.image_processor import PixelSettings

__all__ = ["SETTINGS_FOLLOWED", "settings_of", "settings_problem"]

SETTINGS_FOLLOWED = "pixels.settings_can_be_followed"
"""The check that judges whether the image processor's settings can be followed."""


def settings_problem(checkpoint: Checkpoint) -> CheckpointError | None:
    """Return why the image processor's settings cannot be followed; None if they can."""
    try:
        PixelSettings.from_directory(checkpoint.processor_path)
    except CheckpointError as problem:
        return problem
    return None


def settings_of(checkpoint: Checkpoint) -> PixelSettings:
    """Return the image processor settings of a checkpoint's files.

    Raises:
        NotAskable: the settings cannot be followed.
    """
    if problem := settings_problem(checkpoint):
        raise NotAskable(problem.what, finding=SETTINGS_FOLLOWED, where=problem.where, fix=problem.fix)
    return PixelSettings.from_directory(checkpoint.processor_path)
