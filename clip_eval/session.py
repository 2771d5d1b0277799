"""What the checks of one process share: the checkpoint, the subject, its observations and the oracle, each made when
first asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from clip_eval.acceptances import Acceptance, Ruling, read_acceptances, rule
from clip_eval.checkpoint import Checkpoint, open_checkpoint
from clip_eval.errors import LibraryError, PackError, UsageError
from clip_eval.interpreters import require_clip_eval
from clip_eval.policy import Policy, read_policy
from clip_eval.run_record import SubjectInfo
from clip_eval.settings import DTYPES, Settings

if TYPE_CHECKING:
    from clip_eval.baseline import Baseline, Pack
    from clip_eval.expect import Oracle
    from clip_eval.library import Library
    from clip_eval.localise import Localiser
    from clip_eval.observe import Clip
    from clip_eval.probes import Batch
    from clip_eval.subject import Subject
    from clip_eval.tasks.zero_shot import ZeroShotScores

__all__ = ["Session"]


@dataclass
class Session:
    """One candidate, loaded one way, with everything derived from it."""

    settings: Settings

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The candidate on disk. Raises CheckpointError where there is none."""
        return open_checkpoint(self.settings.model)

    def look(self) -> None:
        """Open everything the user named, before long work. Raises ClipEvalError."""
        self.checkpoint  # noqa: B018 - opening it is the look
        if self.library is not None:
            self.library.require_complete()
        self.pack  # noqa: B018 - opening it is the look
        self.acceptances  # noqa: B018 - reading them is the look
        self.policy  # noqa: B018 - reading it is the look
        if self.settings.baseline_python is not None:
            require_clip_eval(self.settings.baseline_python)
        self.require_place()

    def require_place(self) -> None:
        """Look whether the device and the attention asked for can be used; loads torch only where one was named that
        may be missing. Raises UsageError with the nearest name.
        """
        if self.settings.device == "cpu" and self.settings.attention in (None, "eager", "sdpa"):
            return
        from clip_eval.subject import require_attention, require_device

        require_device(self.settings.device)
        if self.settings.attention is not None:
            require_attention(self.settings.attention)

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
    def attention_problem(self) -> str | None:
        """Why the attention implementation asked for cannot be used; None if it can, and where none was asked for."""
        from clip_eval.subject import attention_problem

        return None if self.settings.attention is None else attention_problem(self.settings.attention)

    @cached_property
    def subject(self) -> Subject:
        """The candidate as transformers loads it."""
        from clip_eval.subject import MOST_CALLS, Call, Subject

        calls: deque[Call] | None = None if self.settings.repro is None else deque(maxlen=MOST_CALLS)
        return Subject(self.checkpoint, self.dtype, self.settings.device, self.settings.attention, calls=calls)

    @cached_property
    def library(self) -> Library | None:
        """The evaluation set; None where none was asked for. Raises LibraryError where it is none."""
        from clip_eval.library import open_library

        return None if self.settings.library is None else open_library(self.settings.library)

    @cached_property
    def zero_shot(self) -> ZeroShotScores:
        """The subject's answers to the library's zero-shot task. Raises LibraryError where there is none."""
        from clip_eval.tasks.zero_shot import score_zero_shot

        if self.library is None:
            raise LibraryError("there is no library to score", fix="Add --library DIR")
        return score_zero_shot(self.subject, self.library)

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

    @cached_property
    def localiser(self) -> Localiser:
        """Who names the module that a wrong number comes from."""
        from clip_eval.localise import Localiser

        return Localiser(self.clip, self.oracle)

    def oracle_on(self, batch: Batch, dtype: str | None = None) -> Oracle:
        """Return the expected values on another batch, or for weights rounded to another dtype."""
        from clip_eval.expect import Oracle
        from clip_eval.subject import precision_of

        precision = precision_of(dtype or self.dtype, self.settings.device)
        return Oracle(self.checkpoint.weights(precision.dtype), self.checkpoint.config, precision, batch)

    @cached_property
    def pack(self) -> Pack | None:
        """The baseline pack; None where none was asked for. Raises PackError where it is none, or for another input."""
        from clip_eval.baseline import open_pack

        if self.settings.baseline is None:
            return None
        pack = open_pack(self.settings.baseline)
        if not self.settings.new_weights:
            pack.require_inputs_fit(self.checkpoint.config, where=self.settings.baseline)
        return pack

    @cached_property
    def baseline(self) -> Baseline:
        """The candidate against the pack; on equal inputs, what was observed is shared. Raises PackError."""
        from clip_eval.baseline import Baseline
        from clip_eval.observe import Clip

        if self.pack is None:
            raise PackError("there is no pack to compare with", fix="Add --baseline PACK")
        same_inputs = self.pack.has_inputs(self.batch)
        same_question = same_inputs and self.pack.config == self.checkpoint.config
        return Baseline(
            self.pack,
            self.clip,
            self.clip if same_inputs else Clip(self.subject, self.pack.inputs),
            self.oracle if same_question else replace(self.oracle_on(self.pack.inputs), config=self.pack.config),
        )

    @cached_property
    def acceptances(self) -> tuple[Acceptance, ...]:
        """What the user accepts of the differences from the pack; empty where no file was named. Raises UsageError."""
        if self.settings.accepted is None:
            return ()
        if self.settings.baseline is None:
            raise UsageError(
                "--accepted excuses differences from a pack, and none was named", fix="Add --baseline PACK"
            )
        return read_acceptances(self.settings.accepted)

    @cached_property
    def policy(self) -> Policy:
        """What is asked beyond the rules; nothing where no file was named. Raises UsageError."""
        return Policy() if self.settings.policy is None else read_policy(self.settings.policy)

    @cached_property
    def ruling(self) -> Ruling:
        """Every difference of the surface from the pack, with what excuses it today (UTC)."""
        changes = self.baseline.surface_changes()
        return rule(changes, self.acceptances, today=datetime.now(tz=timezone.utc).date())

    @property
    def pack_info(self) -> SubjectInfo | None:
        """How the baseline appears in the run record."""
        if self.pack is None:
            return None
        return SubjectInfo(
            source=str(self.settings.baseline),
            revision=f"sha256 {self.pack.digest}",
            fingerprints=asdict(self.pack.fingerprints),
            dtype="float32",
            device=self.pack.device,
            attention=self.pack.recorded_in.attention,
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
            device=self.settings.device,
            attention=attention or self.settings.attention,
        )
