"""Hub ids, with the real client against a server on 127.0.0.1. No test leaves the machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.hub_server import Hub, Repository, serving

from clip_eval.checkpoint.hub import HubId, parse_hub_id

FIRST, SECOND = "1" * 40, "2" * 40
TOKEN = "hf_of_the_test"

# The client reads its environment when it is imported, so each environment is a process of its own.
CLIENT = """
import json, sys, time
wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.01))  # the client waits seconds before it asks again
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import CheckpointError
for source in sys.argv[1:]:
    try:
        found = open_checkpoint(source)
    except CheckpointError as problem:
        print(json.dumps({"error": str(problem)}))
    else:
        print(json.dumps({"path": str(found.path), "source": found.source, "revision": found.revision,
                          "weights": found.fingerprints().weights, "tokenizer": found.has_tokenizer}))
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A hub and an empty machine that knows no other."""

    hub: Hub
    home: Path

    def open(self, source: str, **environment: str) -> dict[str, str]:
        """What `open_checkpoint(source)` gives there."""
        (found,) = self.open_each([source], **environment)
        return found

    def open_each(self, sources: Sequence[str], **environment: str) -> list[dict[str, str]]:
        """What it gives for each, one after the other; all that it printed must be free of the token."""
        foreign = ("HF_", "HUGGING", "TRANSFORMERS_")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(foreign) and not name.lower().endswith("_proxy")
        }
        settings = {
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.home / "hf"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, *sources],
            env={**kept, **settings, **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return list(map(json.loads, done.stdout.splitlines()))


@pytest.fixture(scope="module")
def files(model: Path) -> dict[str, bytes]:
    """The files of a small checkpoint."""
    return {path.name: path.read_bytes() for path in model.iterdir()}


@pytest.fixture
def machine(files: dict[str, bytes], tmp_path: Path) -> Iterator[Machine]:
    """A hub with one good repository of two commits, and others that cannot be used."""
    extra = {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "README.md": b"", "sub/config.json": b"{}"}
    older = {**files, "config.json": files["config.json"].replace(b'"quick_gelu"', b'"gelu"')}
    text = {name: content for name, content in files.items() if name != "model.safetensors"}
    repositories = {
        "org/clip": Repository({"main": SECOND, "v1": FIRST}, {FIRST: older, SECOND: {**files, **extra}}),
        "org/pickled": Repository({"main": FIRST}, {FIRST: {**text, "pytorch_model.bin": b"pickle"}}),
        "org/empty": Repository({"main": FIRST}, {FIRST: {"README.md": b""}}),
        "org/inside": Repository(
            {"main": FIRST}, {FIRST: {"modules.json": b"[]", "0_CLIPModel/model.safetensors": b"weights"}}
        ),
        "org/adapter": Repository({"main": FIRST}, {FIRST: {"adapter_config.json": b"{}"}}),
        "org/gated": Repository({"main": FIRST}, {FIRST: files}, gated=True),
        "org/broken": Repository({"main": FIRST}, {FIRST: files}, broken=True),
        "org/cut": Repository({"main": FIRST}, {FIRST: files}, cut=True),
    }
    with serving(repositories) as hub:
        yield Machine(hub, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", HubId("org", "name", None)),
        ("org/na.me-2_b@v1.0", HubId("org", "na.me-2_b", "v1.0")),
        ("org/name@refs/pr/1", HubId("org", "name", "refs/pr/1")),
        ("name", None),
        ("./org/name", None),
        ("../name", None),
        ("/org/name", None),
        ("org/name/more", None),
        ("org/name@", None),
        ("org/name\n", None),
        ("C:/name", None),
        ("https://host/org", None),
    ],
)
def test_hub_ids_are_told_from_paths(text: str, expected: HubId | None) -> None:
    """Exactly org/name and org/name@revision are hub ids."""
    assert parse_hub_id(text) == expected
    assert expected is None or str(expected) == text


def test_repository_is_opened_at_its_commit(machine: Machine) -> None:
    """The branch is resolved to a commit, which is recorded; neither pickles nor code are downloaded."""
    observed = machine.open("org/clip")
    assert observed["source"] == "org/clip"
    assert observed["revision"] == SECOND
    assert observed["tokenizer"]
    names = {path.name for path in Path(observed["path"]).rglob("*")}
    assert "model.safetensors" in names
    assert not names & {"pytorch_model.bin", "modeling.py", "README.md", "sub"}
    assert not [request for request in machine.hub.requests if "pytorch_model" in request]
    assert machine.hub.tokens == {f"Bearer {TOKEN}"}


def test_revisions_can_be_named(machine: Machine) -> None:
    """A tag and a commit are taken as given, and recorded as the commit."""
    found = machine.open_each(["org/clip@v1", f"org/clip@{FIRST}", "org/clip@main"])
    assert [one["revision"] for one in found] == [FIRST, FIRST, SECOND]


def test_cache_serves_when_the_hub_does_not(machine: Machine) -> None:
    """What was downloaded once is opened offline, and while the hub cannot be reached, without a request."""
    expected = machine.open("org/clip")
    asked = len(machine.hub.requests)
    found = machine.open_each(["org/clip", f"org/clip@{SECOND}"], HF_HUB_OFFLINE="1")
    assert found[0] == expected
    assert found[1]["path"] == expected["path"]
    assert machine.open("org/clip", HF_ENDPOINT=closed_endpoint()) == expected
    assert len(machine.hub.requests) == asked


def test_second_look_downloads_nothing(machine: Machine) -> None:
    """Weights that are in the cache are not asked for again."""
    first = machine.open("org/clip")
    del machine.hub.requests[:]
    assert machine.open("org/clip") == first
    assert not [request for request in machine.hub.requests if request.startswith("GET /org")]


def test_moved_branch_is_followed(machine: Machine) -> None:
    """Where the branch moved on, the new commit is opened and recorded."""
    machine.hub.repositories["org/clip"].revisions["main"] = FIRST
    assert machine.open("org/clip")["revision"] == FIRST
    machine.hub.repositories["org/clip"].revisions["main"] = SECOND
    assert machine.open("org/clip")["revision"] == SECOND


def test_local_directory_wins(machine: Machine, files: dict[str, bytes]) -> None:
    """An existing path of the same form is opened, and where its parent exists a typing error asks no hub."""
    (machine.home / "org" / "clip").mkdir(parents=True)
    for name, content in files.items():
        (machine.home / "org" / "clip" / name).write_bytes(content)
    found, misspelt = machine.open_each(["org/clip", "org/clpi"])
    assert found["revision"] is None
    assert "The nearest name is org/clip" in misspelt["error"]
    assert machine.hub.requests == []


UNUSABLE = {
    "org/nothing": "the hub shows no such repository: org/nothing",
    "org/clip@v9": "the repository has no revision v9: org/clip@v9",
    "org/gated": "the repository is gated, and access was not granted: org/gated",
    "org/broken": "the hub answered with 503: org/broken",
    "org/cut": "the download failed (",
    "org/empty": f"the repository has no model.safetensors: org/empty@{FIRST}",
    "org/inside": f"the repository has its weights in 0_CLIPModel, and none beside it: org/inside@{FIRST}",
    "org/adapter": "the repository is an adapter of PEFT: org/adapter",
    "org/na--me": "this is not a valid repository name: org/na--me",
}


def test_unusable_repositories_are_refused(machine: Machine) -> None:
    """Each reason is one paragraph that names the repository and what to do."""
    for expected, found in zip(UNUSABLE.values(), machine.open_each([*UNUSABLE]), strict=True):
        message = found["error"]
        assert expected in message
        assert "\n" not in message
        assert message.count(". ") == 1, "what is wrong, and what to do"


def test_pickles_alone_are_refused(machine: Machine) -> None:
    """The commands that fetch and convert them are in the message; the pickle itself is not downloaded."""
    message = machine.open("org/pickled")["error"]
    assert "only in pytorch_model.bin" in message
    assert f"hf download org/pickled --revision {FIRST} --local-dir COPY" in message
    assert "clip-eval convert COPY --out DIR" in message
    assert not list(machine.home.rglob("pytorch_model.bin"))


def test_offline_without_cache_is_refused(machine: Machine) -> None:
    """Offline mode asks nobody, and is named as the reason."""
    assert "while HF_HUB_OFFLINE is set" in machine.open("org/clip", HF_HUB_OFFLINE="1")["error"]
    assert machine.hub.requests == []


def test_download_that_was_cut_is_not_taken_for_whole(machine: Machine) -> None:
    """What a broken download left in the cache is not opened offline, and the next one mends it."""
    machine.open("org/cut")
    assert "while HF_HUB_OFFLINE is set" in machine.open("org/cut", HF_HUB_OFFLINE="1")["error"]
    machine.hub.repositories["org/cut"].cut = False
    assert machine.open("org/cut")["revision"] == FIRST


def test_unreachable_hub_is_refused(machine: Machine) -> None:
    """A hub that does not answer is named as the reason."""
    message = machine.open("org/clip", HF_ENDPOINT=closed_endpoint())["error"]
    assert "there is no such directory, and the hub cannot be reached: org/clip" in message


def closed_endpoint() -> str:
    """An address on this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
