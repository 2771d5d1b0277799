"""What the user of `bench` asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from clip_eval.errors import UsageError
from clip_eval.user_values import require_dtype, require_utf8
from clip_eval.verdict.plain_values import Json, plain

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one bench run.

    Attributes:
        model: a checkpoint directory, or a hub id with or without @revision.
        variant: of its weights' file, such as "fp16"; None for model.safetensors.
        against: another checkpoint, timed in turns with it; None for the same one where `against_python` is given.
        against_python: the interpreter in whose environment the other side runs; None for this one.
        devices: torch devices. The first is measured; several compute at once as well, a worker process each.
        dtypes: to be tried; by default the dtype the checkpoint is stored in, and bfloat16.
        attentions: to be tried; by default transformers' own choice and eager.
        compiled: try torch.compile on the fastest configuration.
        threads: of torch.
        most_rows: the largest batch; None for what usually fits the device.

    Raises:
        UsageError: an option is out of range.
    """

    model: str
    variant: str | None = None
    against: str | None = None
    against_python: str | None = None
    devices: tuple[str, ...] = ("cpu",)
    dtypes: tuple[str, ...] = ()
    attentions: tuple[str, ...] = ()
    compiled: bool = False
    threads: int = 1
    most_rows: int | None = None

    def __post_init__(self) -> None:
        for dtype in self.dtypes:
            require_dtype(dtype)
        require_utf8((self.model, self.variant, self.against, self.against_python))
        if not self.devices:
            raise UsageError("no device is named", fix="Name one, such as cpu")
        if self.most_rows is not None and self.most_rows < 1:
            raise UsageError(f"--most-rows {self.most_rows} is not a batch size", fix="Give 1 or more")
        if self.threads < 1:
            raise UsageError(f"--threads {self.threads} is not a number of threads", fix="Give 1 or more")

    @property
    def device(self) -> str:
        """The device that is measured."""
        return self.devices[0]

    def arguments(self) -> Json:
        """Return every option with its value, for the record."""
        return plain(asdict(self))
