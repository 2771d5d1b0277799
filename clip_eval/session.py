"""What the checks of one process share: the checkpoint, the subject, its observations and the oracle, each made when
first asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from clip_eval.checkpoint import Checkpoint, open_checkpoint
from clip_eval.run_record import SubjectInfo
from clip_eval.settings import DTYPES, Settings

if TYPE_CHECKING:
    from clip_eval.expect import Oracle
    from clip_eval.observe import Clip
    from clip_eval.probes import Batch
    from clip_eval.subject import Subject

__all__ = ["Session"]


@dataclass
class Session:
    """One candidate, loaded one way, with everything derived from it."""

    settings: Settings

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The candidate on disk. Raises CheckpointError where there is none."""
        return open_checkpoint(self.settings.model)

    @property
    def dtype(self) -> str:
        """The dtype asked for, else the one the checkpoint is stored in; float64 is run as float32, which users load it
        as.
        """
        stored = self.checkpoint.dtype
        return self.settings.dtype or (stored if stored in DTYPES else "float32")

    @cached_property
    def device_problem(self) -> str | None:
        """Why the device asked for cannot be used; None if it can."""
        from clip_eval.subject import device_problem

        return device_problem(self.settings.device)

    @cached_property
    def subject(self) -> Subject:
        """The candidate as transformers loads it."""
        from clip_eval.subject import Subject

        return Subject(self.checkpoint, self.dtype, self.settings.device, self.settings.attention)

    @cached_property
    def batch(self) -> Batch:
        """The probe."""
        from clip_eval.probes import make_batch

        return make_batch(self.checkpoint.config)

    @cached_property
    def clip(self) -> Clip:
        """The subject's observations on the probe."""
        from clip_eval.observe import Clip

        return Clip(self.subject, self.batch)

    @cached_property
    def oracle(self) -> Oracle:
        """The expected values on the probe."""
        return self.oracle_on(self.batch)

    def oracle_on(self, batch: Batch, dtype: str | None = None) -> Oracle:
        """Return the expected values on another batch, or for weights rounded to another dtype."""
        from clip_eval.expect import Oracle
        from clip_eval.subject import precision_of

        precision = precision_of(dtype or self.dtype, self.settings.device)
        return Oracle(self.checkpoint.weights(precision.dtype), self.checkpoint.config, precision, batch)

    def info(self, attention: str | None = None) -> SubjectInfo:
        """Return how the candidate appears in the run record.

        Args:
            attention: the implementation that the model really used, where it was loaded.
        """
        return SubjectInfo(
            source=self.checkpoint.source,
            revision=self.checkpoint.revision,
            fingerprints=asdict(self.checkpoint.fingerprints()),
            dtype=self.dtype,
            device=self.settings.device,
            attention=attention or self.settings.attention,
        )
