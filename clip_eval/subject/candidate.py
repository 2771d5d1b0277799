"""One candidate: a checkpoint loaded one way, its observations and the oracle, each made when first asked for."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.checkpoint.dtypes import ROUNDED_DTYPES
from clip_eval.verdict.run_record import SubjectInfo

if TYPE_CHECKING:
    from clip_eval.oracle.expected.outputs import Oracle
    from clip_eval.probes.batches import Batch
    from clip_eval.subject.localise import Localiser
    from clip_eval.subject.observations import Clip
    from clip_eval.subject.runtime import Runtime
    from clip_eval.subject.runtimes.transformers import Subject

__all__ = ["Candidate"]


@dataclass
class Candidate:
    """A checkpoint and how it is loaded, with everything derived from that.

    Args:
        model: a checkpoint directory, or a hub id with or without @revision.
        asked_dtype: float32, bfloat16 or float16; None for the dtype the checkpoint is stored in.
        device: a torch device.
        asked_attention: an attention implementation; None for transformers' default.
        keep_calls: keep the last calls of the model with their answers, for scripts that show a failure.
        runtime_name: what runs it, one of `clip_eval.subject.runtimes.RUNTIMES`.
        variant: of the weights' file, such as "fp16"; None for model.safetensors.
        processor: a directory with the processor's files, if they are elsewhere.
    """

    model: str
    asked_dtype: str | None = None
    device: str = "cpu"
    asked_attention: str | None = None
    keep_calls: bool = False
    runtime_name: str = "transformers"
    variant: str | None = None
    processor: str | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The candidate on disk. Raises CheckpointError where there is none."""
        return open_checkpoint(self.model, variant=self.variant, processor=self.processor)

    @property
    def dtype(self) -> str:
        """The dtype asked for, else the one the checkpoint is stored in; float64 runs as float32, as users load it."""
        stored = self.checkpoint.dtype
        return self.asked_dtype or (stored if stored in ROUNDED_DTYPES else "float32")

    @cached_property
    def device_problem(self) -> str | None:
        """Why the device asked for cannot be used; None if it can."""
        from clip_eval.subject import device_problem

        return device_problem(self.device)

    @cached_property
    def attention_problem(self) -> str | None:
        """Why the attention implementation asked for cannot be used; None if it can, and where none was asked for."""
        from clip_eval.subject import attention_problem

        return None if self.asked_attention is None else attention_problem(self.asked_attention)

    @cached_property
    def runtime(self) -> Runtime:
        """What runs the candidate."""
        from clip_eval.subject import MOST_CALLS, Call
        from clip_eval.subject.runtimes import RUNTIMES

        calls: deque[Call] | None = None if not self.keep_calls else deque(maxlen=MOST_CALLS)
        open_runtime = RUNTIMES[self.runtime_name]
        return open_runtime(self.checkpoint, self.dtype, self.device, self.asked_attention, calls=calls)

    @property
    def subject(self) -> Subject:
        """The candidate as transformers loads it. Raises TypeError where another runtime runs it."""
        from clip_eval.subject.runtimes.transformers import subject_of

        return subject_of(self.runtime)

    @cached_property
    def batch(self) -> Batch:
        """The probe."""
        from clip_eval.probes.batches import make_batch

        return make_batch(self.checkpoint.config)

    @cached_property
    def clip(self) -> Clip:
        """The subject's observations on the probe."""
        from clip_eval.subject.observations import Clip

        return Clip(self.runtime, self.batch)

    @cached_property
    def oracle(self) -> Oracle:
        """The expected values on the probe."""
        return self.oracle_on(self.batch)

    @cached_property
    def localiser(self) -> Localiser:
        """Finds the module that a wrong number comes from."""
        from clip_eval.subject.localise import Localiser

        return Localiser(self.clip, self.oracle)

    def oracle_on(self, batch: Batch, dtype: str | None = None) -> Oracle:
        """Return the expected values on another batch, or for weights rounded to another dtype."""
        from clip_eval.oracle.expected.outputs import Oracle
        from clip_eval.subject import precision_of

        precision = precision_of(dtype or self.dtype, self.device)
        checkpoint = self.checkpoint
        return Oracle(
            checkpoint.family,
            checkpoint.weights(precision.dtype),
            checkpoint.config,
            precision,
            batch,
            standalone=checkpoint.standalone_config,
            holds=checkpoint.holds,
        )

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
            device=self.device,
            attention=attention or self.asked_attention,
        )
