"""What the user of `evaluate` asked for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from clip_eval.errors import UsageError
from clip_eval.user_values import require_dtype, require_utf8
from clip_eval.verdict.plain_values import Json, plain

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one evaluation.

    Attributes:
        model: a checkpoint directory, or a hub id with or without @revision.
        variant: of its weights' file, such as "fp16"; None for model.safetensors.
        processor: a directory with its processor's files, if they are elsewhere.
        dataset: its directory.
        tasks: their names; by default every task that the dataset can serve.
        against: another checkpoint, scored on the same samples; None for none.
        margin: the largest loss against it that passes, for scores from 0 to 1; None for each score's own.
        device: a torch device, for both.
        dtype: for both; None for the dtype that each is stored in.
        attention: for both; None for transformers' own choice.
        store: directory of stored embeddings, used and added to; None for none.
        workers: threads that decode images; None for one a core.
        approximate: search for what is retrieved by FAISS, and not exactly.

    Raises:
        UsageError: an option is out of range.
    """

    model: str
    dataset: str
    variant: str | None = None
    processor: str | None = None
    tasks: tuple[str, ...] = ()
    against: str | None = None
    margin: float | None = None
    device: str = "cpu"
    dtype: str | None = None
    attention: str | None = None
    store: str | None = None
    workers: int | None = None
    approximate: bool = False

    def __post_init__(self) -> None:
        require_utf8((self.model, self.variant, self.processor, self.dataset, self.against, self.store))
        if self.dtype is not None:
            require_dtype(self.dtype)
        if self.margin is not None and not (math.isfinite(self.margin) and 0 < self.margin < 1):
            raise UsageError(f"--margin {self.margin:g} is not a loss", fix="Give a number above 0 and below 1")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers} is no number of threads", fix="Give 1 or more")
        if self.margin is not None and self.against is None:
            raise UsageError("--margin is a loss against another checkpoint", fix="Add --against CHECKPOINT")

    def arguments(self) -> Json:
        """Return every option with its value, for the record."""
        return plain(asdict(self))
