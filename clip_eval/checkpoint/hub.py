"""Checkpoints on the Hugging Face hub: downloaded by the hub's own client, pinned to a commit.

Endpoint, cache, token and offline mode are those of `huggingface_hub`
(https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables). Only weights and text files are
downloaded, never pickles or code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from clip_eval.errors import CheckpointError

__all__ = ["ALLOWED_FILES", "TEXT_FILES", "HubId", "Snapshot", "download", "parse_hub_id"]

TEXT_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Files of a checkpoint beside its weights."""

ALLOWED_FILES = (*TEXT_FILES, "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
"""Patterns of downloaded files."""

_OTHERS = {"adapter_config.json": "an adapter of PEFT", "open_clip_config.json": "one of open_clip"}
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*)/([A-Za-z0-9_][\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)
_TRANSPORTS = ("h11", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository on the hub, and a branch, tag or commit if the user named one."""

    organisation: str
    name: str
    revision: str | None

    @property
    def repository(self) -> str:
        """The id on the hub: organisation/name."""
        return f"{self.organisation}/{self.name}"

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository's files in the hub's cache, and their commit."""

    path: Path
    revision: str


def parse_hub_id(text: str) -> HubId | None:
    """The parts of `org/name` or `org/name@revision`; None for a text of another form."""
    match = _HUB_ID.fullmatch(text)
    return HubId(match[1], match[2], match[3]) if match else None


def download(hub_id: HubId, variant: str | None = None) -> Snapshot:
    """The checkpoint's files in the hub's cache, those of a variant too; missing ones are downloaded.

    If the hub cannot be reached, or HF_HUB_OFFLINE is set, the cached files of the revision are used.

    Raises:
        CheckpointError: no such repository or revision, no access, no connection, or no safetensors in it.
    """
    import huggingface_hub  # imported here: it takes a third of a second, and most checkpoints are local

    try:
        # the default revision is the branch main; the client resolves it to a commit, the directory's name
        folder = huggingface_hub.snapshot_download(
            hub_id.repository, revision=hub_id.revision, allow_patterns=[*ALLOWED_FILES, *_of_variant(variant)]
        )
    except Exception as problem:
        explained = _explained(problem, hub_id)
        if explained is None:
            raise
        raise explained from problem
    snapshot = Snapshot(Path(folder), Path(folder).name)
    if not any(snapshot.path.glob("model*.safetensors")):
        raise _without_safetensors(hub_id, snapshot.revision)
    return snapshot


def _of_variant(variant: str | None) -> tuple[str, ...]:
    if variant is None:
        return ()
    return (f"model.{variant}.safetensors", f"model.{variant}-*.safetensors", f"model.safetensors.index.{variant}.json")


def _explained(problem: Exception, hub_id: HubId) -> CheckpointError | None:
    """The error in the user's words; None for errors that a user cannot fix.

    The client's own messages are left out, since they may contain signed addresses.
    """
    from huggingface_hub import errors

    if isinstance(problem, errors.GatedRepoError):
        return CheckpointError(
            "the repository is gated, and access was not granted",
            where=hub_id,
            fix="Ask for access on its page, then run hf auth login or set HF_TOKEN",
        )
    if isinstance(problem, errors.RepositoryNotFoundError):
        return CheckpointError(
            "there is no such directory, and the hub shows no such repository",
            where=hub_id,
            fix="Check the name; if the repository is private, run hf auth login or set HF_TOKEN",
        )
    if isinstance(problem, errors.RevisionNotFoundError):
        return CheckpointError(
            f"the repository has no revision {hub_id.revision or 'main'}",
            where=hub_id,
            fix="Name a branch, tag or commit",
        )
    if isinstance(problem, errors.LocalEntryNotFoundError) and not isinstance(problem.__cause__, errors.HfHubHTTPError):
        return _unreachable(hub_id)
    return _transport_error(problem, hub_id)


def _unreachable(hub_id: HubId) -> CheckpointError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return CheckpointError(
            "there is no such directory, and the hub's cache lacks files of it while HF_HUB_OFFLINE is set",
            where=hub_id,
            fix="Unset HF_HUB_OFFLINE, or name a checkpoint directory",
        )
    return CheckpointError(
        "there is no such directory, and the hub cannot be reached",
        where=hub_id,
        fix="Check the network, or name a checkpoint directory",
    )


def _transport_error(problem: Exception, hub_id: HubId) -> CheckpointError | None:
    from huggingface_hub import errors

    if isinstance(problem, errors.HFValidationError):
        return CheckpointError("this is not a valid repository name", where=hub_id, fix="Name it as org/name")
    answers = [error for error in (problem, problem.__cause__) if isinstance(error, errors.HfHubHTTPError)]
    if answers:
        status = getattr(answers[-1].response, "status_code", "an error")
        return CheckpointError(f"the hub answered with {status}", where=hub_id, fix="Try again later")
    if isinstance(problem, OSError) or type(problem).__module__.partition(".")[0] in _TRANSPORTS:
        reason = getattr(problem, "strerror", None) or type(problem).__name__
        return CheckpointError(f"the download failed ({reason})", where=hub_id, fix="Check the network and the disk")
    return None


def _without_safetensors(hub_id: HubId, revision: str) -> CheckpointError:
    """The error for a repository without safetensors: it needs converting, or has no weights."""
    import huggingface_hub

    pinned = HubId(hub_id.organisation, hub_id.name, revision)
    try:
        names = huggingface_hub.HfApi().list_repo_files(hub_id.repository, revision=revision)
    except Exception as problem:
        if _explained(problem, hub_id) is None:
            raise
        return _unreachable(hub_id)  # an earlier download was cut short, and the hub is offline
    if any(name.startswith("pytorch_model") for name in names):
        return CheckpointError(
            "the repository has its weights only in pytorch_model.bin, a format that can run code when it is read",
            where=pinned,
            fix=f"Convert it first: hf download {hub_id.repository} --revision {revision} --local-dir COPY, then "
            "clip-eval convert COPY --out DIR",
        )
    what = next((what for marker, what in _OTHERS.items() if marker in names), None)
    if what is not None and "config.json" not in names:
        return CheckpointError(f"the repository is {what}", where=pinned, fix="Name a CLIP of transformers")
    inside = sorted({name.rpartition("/")[0] for name in names if name.endswith("/model.safetensors")})
    if inside:
        directories = ", ".join(inside[:3])
        return CheckpointError(
            f"the repository has its weights in {directories}, and none beside it",
            where=pinned,
            fix=f"Download it, hf download {hub_id.repository} --revision {revision} --local-dir COPY, and name COPY",
        )
    return CheckpointError(
        "the repository has no model.safetensors", where=pinned, fix="Name one saved by save_pretrained"
    )
