"""A stand-in for the Hugging Face hub on 127.0.0.1: the routes that the real client asks for, and what it asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "Repository", "serving"]


@dataclass(slots=True)
class Repository:
    """A repository.

    Attributes:
        revisions: branch or tag to commit.
        commits: commit to files by name.
        gated: files are refused, though the repository can be listed, as on the hub.
        broken: every answer is an error of the server.
        cut: the connection ends in the middle of every file.
    """

    revisions: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    gated: bool = False
    broken: bool = False
    cut: bool = False


@dataclass(slots=True)
class Hub:
    """What is served, where, and every request so far as `METHOD path`."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: dict[str, str]
    content: bytes


@contextlib.contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Serve repositories on a free port while the block runs."""
    hub = Hub(repositories)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers from the hub's repositories."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(with_content=True)

    def do_HEAD(self) -> None:
        self._send(with_content=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def _send(self, *, with_content: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token)
        answer = _answer(self.hub, path)
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content and "X-Cut" in answer.headers:
            self.wfile.write(answer.content[: len(answer.content) // 2])
            self.close_connection = True
        elif with_content:
            self.wfile.write(answer.content)


def _answer(hub: Hub, path: str) -> _Answer:
    parts = path.strip("/").split("/")
    is_api = parts[:2] == ["api", "models"]
    parts = parts[2:] if is_api else parts
    repository = hub.repositories.get("/".join(parts[:2]))
    if repository is None:
        return _error(401 if is_api else 404, "RepoNotFound")
    if repository.gated and not is_api:
        return _error(403, "GatedRepo")
    if repository.broken:
        return _error(503, "")
    route, rest = (parts[2], parts[3:]) if len(parts) > 2 else ("revision", ["main"])
    revision = rest[0] if rest else "main"
    commit = repository.revisions.get(revision, revision)
    if commit not in repository.commits:
        return _error(404, "RevisionNotFound")
    files = repository.commits[commit]
    if route == "revision":
        return _json({"id": "/".join(parts[:2]), "sha": commit, "siblings": [{"rfilename": name} for name in files]})
    if route == "tree":
        return _json(
            [{"type": "file", "path": name, "size": len(files[name]), "oid": _oid(files[name])} for name in files]
        )
    return _file(files, "/".join(rest[1:]), commit, {"X-Cut": "yes"} if repository.cut else {})


def _file(files: dict[str, bytes], name: str, commit: str, more: dict[str, str]) -> _Answer:
    if name not in files:
        return _error(404, "EntryNotFound")
    return _Answer(200, {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": commit, **more}, files[name])


def _json(value: object) -> _Answer:
    return _Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _error(status: int, code: str) -> _Answer:
    return _Answer(status, {"X-Error-Code": code} if code else {}, b"")


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
