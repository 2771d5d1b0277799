"""What the checks of one process share: checkpoint, subject, observations and oracle, each created on first use."""

from __future__ import annotations

import pickle
import shutil
import weakref
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timezone
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from clip_eval.checkpoint.changes import Watched, watch
from clip_eval.checkpoint.original import Original, open_original
from clip_eval.errors import DatasetError, PackError, UsageError
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.history.database import require_usable
from clip_eval.processes import require_clip_eval
from clip_eval.run.policy_names import require_known_names
from clip_eval.run.settings import Settings
from clip_eval.subject.candidate import Candidate
from clip_eval.verdict.acceptances import Acceptance, GroupAcceptance, Ruling, read_acceptances, rule
from clip_eval.verdict.change_causes import with_causes
from clip_eval.verdict.policy import Policy, read_policy
from clip_eval.verdict.run_record import SubjectInfo
from clip_eval.verdict.warnings import soften_changes

if TYPE_CHECKING:
    import pytest

    from clip_eval.baseline import Baseline, Pack
    from clip_eval.dataset import Dataset
    from clip_eval.embedding.embedded import Embedded
    from clip_eval.tasks.task import Scored, Task

__all__ = ["Session"]

_INPUTS = ("dataset", "pack", "acceptances", "policy", "original", "watched")
_SETTINGS_FILE, _INPUTS_FILE = "settings.json", "inputs.pickle"


@dataclass
class Session:
    """One candidate, loaded one way, with everything derived from it."""

    settings: Settings
    _scored: dict[str, Scored] = field(default_factory=dict, init=False, repr=False)
    _handed_over: bool = False

    @cached_property
    def candidate(self) -> Candidate:
        """The checkpoint under test and how it is loaded."""
        settings = self.settings
        return Candidate(
            settings.model, settings.dtype, settings.device, settings.attention, keep_calls=settings.repro is not None,
            variant=settings.variant, processor=settings.processor,
        )  # fmt: skip

    @cached_property
    def shallow(self) -> Candidate:
        """The candidate, or its first layers if it is deep: what checks ask that are marked `shallow`.

        It stays whole if a class does not load, so that its checks are not run, and for repro scripts, which load it.
        """
        from clip_eval.subject.shallow import first_layers

        candidate, holds = self.candidate, self.candidate.checkpoint.holds
        loads = not any(candidate.runtime.loading_finding(name) for name in holds.classes if name in MODEL_CLASSES)
        if self.settings.repro is not None or candidate.runtime_name != "transformers" or not loads:
            return candidate
        directory = Path(mkdtemp(prefix="clip-eval-"))
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        cut = first_layers(candidate.checkpoint, directory)
        if cut is None:
            return candidate
        made = replace(candidate, model=cut.source, asked_dtype=candidate.dtype, variant=None, processor=None)
        vars(made)["checkpoint"] = cut  # fills the cached property
        return made

    def asked(self, check: pytest.Item) -> Candidate:
        """What a check asks: the candidate, or its first layers."""
        return self.candidate if check.get_closest_marker("shallow") is None else self.shallow

    @property
    def depth_note(self) -> str:
        """What the report says of a candidate whose first layers were asked."""
        whole, cut = (candidate.checkpoint for candidate in (self.candidate, self.shallow))
        depths = [
            f"{getattr(cut.config, tower).num_hidden_layers} of {getattr(whole.config, tower).num_hidden_layers}"
            for tower in whole.holds.towers
        ]
        layers = " and ".join(dict.fromkeys(depths))
        return f"Checks of calls, masks and refusals asked the first layers ({layers}); values were judged on all."

    def open_inputs(self) -> None:
        """Open everything the user named, before long work; what a parent handed over is open already.

        Raises:
            ClipEvalError: something cannot be read or used.
        """
        if self._handed_over:
            return
        self.candidate.checkpoint  # noqa: B018 - reading a cached property opens its file
        if self.dataset is not None:
            self.dataset.require_complete()
        self.pack, self.acceptances, self.policy, self.original  # noqa: B018 - as above
        if self.settings.baseline_python is not None:
            require_clip_eval(self.settings.baseline_python)
        if self.settings.history is not None:
            require_usable(self.settings.history)
        self.require_place()
        self.watched  # noqa: B018 - as above

    def compare_with(self, pack: Path) -> None:
        """Take a pack that was recorded meanwhile as the baseline. Raises PackError as `pack` does."""
        self.settings = replace(self.settings, baseline=str(pack))
        vars(self).pop("pack", None)
        self.pack  # noqa: B018 - as in `open_inputs`

    def hand_over(self, directory: Path) -> Path:
        """Write settings and opened inputs for a child process, and return the settings file.

        The inputs travel as a pickle, as between processes of `multiprocessing`: the directory is private to this run.

        Args:
            directory: where the two files go.

        Raises:
            OSError: they cannot be written.
        """
        inputs = {"checkpoint": self.candidate.checkpoint, **{name: getattr(self, name) for name in _INPUTS}}
        (directory / _INPUTS_FILE).write_bytes(pickle.dumps(inputs))
        file = directory / _SETTINGS_FILE
        file.write_text(self.settings.to_json(), encoding="utf-8")
        return file

    @classmethod
    def handed_over(cls, file: Path) -> Session:
        """Return the session that a parent has written with `hand_over`; its inputs are not opened again."""
        session = cls(Settings.from_json(file.read_text(encoding="utf-8")), _handed_over=True)
        inputs: dict[str, Any] = pickle.loads(file.with_name(_INPUTS_FILE).read_bytes())
        vars(session.candidate)["checkpoint"] = inputs.pop("checkpoint")  # fills the cached properties
        vars(session).update(inputs)
        return session

    def require_place(self) -> None:
        """Refuse a device or an attention that cannot be used; imports torch only for one that may be missing.

        Raises:
            UsageError: the nearest name is given.
        """
        if self.settings.device == "cpu" and self.settings.attention in (None, "eager", "sdpa"):
            return
        from clip_eval.subject import require_attention, require_device

        require_device(self.settings.device)
        if self.settings.attention is not None:
            require_attention(self.settings.attention)

    @cached_property
    def dataset(self) -> Dataset | None:
        """The evaluation set; None if none was named.

        Raises:
            DatasetError: it is not one.
            UsageError: the checkpoint is a part of a model, which has no scores of images against texts.
        """
        from clip_eval.dataset import open_dataset

        holds = self.candidate.checkpoint.holds
        if self.settings.dataset is not None and not holds.whole:
            what = f"tasks compare images with texts, and the checkpoint holds {holds.in_words} only"
            raise UsageError(what, where=self.settings.model, fix="Leave out --dataset")
        return None if self.settings.dataset is None else open_dataset(self.settings.dataset)

    @cached_property
    def embedded(self) -> Embedded:
        """The subject's embeddings of the dataset, for all tasks. Raises DatasetError if none was named."""
        from clip_eval.embedding.embedded import embed_dataset

        if self.dataset is None:
            raise DatasetError("no dataset is given", fix="Add --dataset DIR")
        return embed_dataset(self.candidate.runtime, self.dataset)

    def scored(self, task: Task) -> Scored:
        """The subject's scores in a task, computed once. Raises DatasetError where the dataset cannot serve it."""
        from clip_eval.tasks.task import score_task

        if task.name not in self._scored:
            self._scored[task.name] = score_task(task, self.embedded)
        return self._scored[task.name]

    @cached_property
    def pack(self) -> Pack | None:
        """The baseline pack; None if none was named. Raises PackError if it is not one, or is for other inputs."""
        from clip_eval.baseline import open_pack

        if self.settings.baseline is None:
            return None
        pack = open_pack(self.settings.baseline)
        pack.require_same_part(self.candidate.checkpoint.holds, where=self.settings.baseline)
        if not self.settings.new_weights:
            pack.require_inputs_fit(self.candidate.checkpoint.config, where=self.settings.baseline)
        return pack

    @cached_property
    def baseline(self) -> Baseline:
        """The candidate against the pack; on equal inputs, observations are shared. Raises PackError."""
        from clip_eval.baseline import Baseline
        from clip_eval.subject.observations import Clip

        if self.pack is None:
            raise PackError("no pack is given", fix="Add --baseline PACK")
        same_inputs = self.pack.has_inputs(self.candidate.batch)
        same_question = same_inputs and self.pack.config == self.candidate.checkpoint.config
        return Baseline(
            self.pack,
            self.candidate.clip,
            self.candidate.clip if same_inputs else Clip(self.candidate.runtime, self.pack.inputs),
            self.candidate.oracle
            if same_question
            else replace(self.candidate.oracle_on(self.pack.inputs), config=self.pack.config),
        )

    @cached_property
    def acceptances(self) -> tuple[Acceptance | GroupAcceptance, ...]:
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
        """What is required beyond the rules; nothing if no file was named. Raises UsageError, for unknown names too."""
        if self.settings.policy is None:
            return Policy()
        policy = read_policy(self.settings.policy)
        require_known_names(policy, where=self.settings.policy)
        return policy

    @cached_property
    def original(self) -> Original | None:
        """What the checkpoint was converted from; None if nothing was named. Raises CheckpointError."""
        named = self.settings.converted_from
        return None if named is None else open_original(named, self.candidate.checkpoint)

    @cached_property
    def watched(self) -> Watched:
        """The checkpoint as it was before it is judged; reads every tensor once. Raises CheckpointError."""
        return watch(self.candidate.checkpoint)

    def changed(self) -> tuple[str, ...]:
        """The files of the checkpoint, and of its original, that are others than before the run."""
        return (*self.watched.changed(), *(() if self.original is None else self.original.changed))

    @cached_property
    def ruling(self) -> Ruling:
        """Every difference of the surface from the pack, with the acceptance that covers it today (UTC)."""
        baseline = self.baseline
        approved, now = baseline.pack.nearest(baseline.environment), baseline.environment
        changes = with_causes(baseline.surface_changes(), before=approved.transformers, after=now.transformers)
        ruling = rule(changes, self.acceptances, today=self.today, uses=self.policy.uses)
        return replace(ruling, changes=soften_changes(ruling.changes, policy=self.policy, today=self.today))

    @cached_property
    def today(self) -> date:
        """The day (UTC) that what expires is compared with."""
        return datetime.now(tz=timezone.utc).date()

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

    def pack_info_in(self, transformers: str, attention: str | None) -> SubjectInfo | None:
        """The same with the approved environment whose surface is compared in an environment of this run."""
        from clip_eval.baseline.pack import Environment

        if self.pack is None or self.pack_info is None or attention is None:
            return self.pack_info
        return replace(self.pack_info, surface=str(self.pack.nearest(Environment(transformers, attention))))
