"""A Hugging Face Hub on the loopback interface, with as much of its protocol as the real client uses.

Repositories are held in memory as {branch: {path: content}}; one named refs/pr/N is a pull request. A commit's hash is
made from its content, as git does it, so that a file that changes changes the commit, and the client's cache cannot
serve the old one. What the client asked for stays in `requests`, and `fail` makes requests fail, so that a test can see
both what is fetched and what happens when it cannot be.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from loopback_writes import READER, WRITER, Files, Writes, card_faults, revision_written

Kind = Literal["models", "datasets"]

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(refs|revision|tree)(?:/([^/]+)(?:/(.*))?)?)?")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Fault:
    """What happens to the next `times` requests that hold `text`.

    They are answered with `status`, or (status 200) the body is spoilt: "dropped" before its first byte, "truncated"
    in its middle, "corrupt" in one byte, or "slow", at a hundredth of a second for every 16 KiB; or "cut": the
    connection ends in the middle of what the client sends.
    """

    text: str
    status: int
    times: int
    body: Literal["", "dropped", "truncated", "corrupt", "slow", "cut"] = ""
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Repository:
    kind: Kind
    name: str
    revisions: dict[str, Files]
    gated: bool
    private: bool = False

    def commit(self, revision: str) -> str:
        """The hash of a branch, or the same hash where it is given already."""
        hashes = {branch: _commit(files) for branch, files in self.revisions.items()}
        if revision not in hashes and revision not in hashes.values():
            raise _RefusedError(404, "RevisionNotFound")
        return hashes.get(revision, revision)

    def files(self, revision: str) -> Files:
        commit = self.commit(revision)
        return next(files for files in self.revisions.values() if _commit(files) == commit)


class LoopbackHub:
    """The server, listening from the start. Tests add repositories and faults, and read `requests`."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.writes = Writes()
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            def answer(self) -> None:
                hub._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Forget all repositories, faults and requests."""
        with self._lock:
            self._repositories.clear()
            self._faults.clear()
            self.requests.clear()
            self.writes.clear()

    def add(
        self, name: str, revisions: Mapping[str, Path | Files], *, kind: Kind = "models", gated: bool = False
    ) -> Repository:
        """Serve a repository, in place of one of the same name: {branch: a folder or {path: content}}.

        A gated repository lists its files to everyone and gives them to nobody, as the Hub's do.
        """
        held = {branch: _read(files) if isinstance(files, Path) else dict(files) for branch, files in revisions.items()}
        repository = Repository(kind, name, held, gated)
        with self._lock:
            self._repositories[kind, name] = repository
        return repository

    def fail(self, text: str, status: int, times: int = 1_000_000, **headers: str) -> None:
        """Answer with `status` to the next `times` requests that hold `text`, as they stand in `requests`."""
        with self._lock:
            self._faults.append(
                Fault(text, status, times, headers={k.replace("_", "-"): v for k, v in headers.items()})
            )

    def mend(self) -> None:
        """Forget the faults."""
        with self._lock:
            self._faults.clear()

    def spoil(self, text: str, body: Literal["dropped", "truncated", "corrupt", "slow", "cut"], times: int = 1) -> None:
        """Spoil the bodies of the next `times` answers to requests that hold `text`."""
        with self._lock:
            self._faults.append(Fault(text, 200, times, body))

    def _record(self, request: str) -> Fault | None:
        """Note a request; gives what is to happen to it, if anything is."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.times and fault.text in request:
                    fault.times -= 1
                    return fault
        return None

    def _answer(self, handler: _Handler) -> None:
        target = urlsplit(handler.path)
        handler.received = None
        try:
            fault = self._record(f"{handler.command} {unquote(target.path)}")
            if fault and fault.status != 200:
                raise _RefusedError(fault.status, headers=fault.headers)
            handler.spoilt = fault.body if fault else ""
            if handler.command in ("POST", "PUT"):
                self._write(handler, target.path)
            elif match := _API.fullmatch(target.path):
                kind, name, what, revision, folder = (unquote(part) if part else "" for part in match.groups())
                repository = self._find(kind, name, handler.token)
                if what == "tree":
                    handler.send_json(_tree(repository, revision, folder, "recursive=true" in target.query.lower()))
                elif what == "refs":
                    handler.send_json(_refs(repository, "include_prs=1" in target.query))
                else:
                    handler.send_json(_info(repository, revision or "main", "blobs=true" in target.query.lower()))
            elif match := _FILE.fullmatch(target.path):
                kind, name, revision, file = (unquote(part) if part else "models" for part in match.groups())
                repository = self._find(kind, name, handler.token)
                files = repository.files(revision)
                if repository.gated:
                    raise _RefusedError(403, "GatedRepo")
                if file not in files:
                    raise _RefusedError(404, "EntryNotFound", commit=repository.commit(revision))
                handler.send_file(files[file], commit=repository.commit(revision))
            else:
                raise _RefusedError(404)
        except _RefusedError as refused:
            handler.refuse(refused)
        except ConnectionAbortedError:
            return

    def _find(self, kind: str, name: str, token: str) -> Repository:
        found = self._repositories.get((kind, name))  # pyright: ignore[reportArgumentType, reportCallIssue]
        if found is None or (found.private and token not in (READER, WRITER)):
            raise _RefusedError(404 if found is None else 401, "RepoNotFound")
        return found

    def repository(self, name: str, kind: Kind = "datasets") -> Repository:
        """A repository as it is now. Raises KeyError where there is none."""
        return self._repositories[kind, name]

    def _write(self, handler: _Handler, path: str) -> None:
        body = handler.read_body()
        if path == "/api/validate-yaml":
            faults = card_faults(json.loads(body)["content"])
            handler.send_json({"errors": [{"message": one} for one in faults], "warnings": []}, 400 if faults else 200)
            return
        if handler.token != WRITER and not path.startswith("/lfs/"):  # whose addresses are secret and need no token
            raise _RefusedError(403 if handler.token == READER else 401)
        with self._lock:
            if path == "/api/repos/create":
                handler.send_json(*self._create(json.loads(body)))
                return
            files, revision = None, revision_written(path)
            if revision is not None:
                kind, name = path.split("/")[2], "/".join(path.split("/")[3:5])
                files = self._find(kind, name, handler.token).revisions[revision]
            answer = self.writes.answer(path, body, self.url, _blob, files)
        if answer is None:
            raise _RefusedError(404)
        handler.send_json(answer)

    def _create(self, asked: dict[str, Any]) -> tuple[dict[str, Any], int]:
        kind: Kind = "datasets" if asked["type"] == "dataset" else "models"
        name = f"{asked['organization']}/{asked['name']}"
        answer = {"name": name, "url": f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{name}"}
        if (kind, name) in self._repositories:
            return {**answer, "error": "You already created this repo"}, 409
        held = {"main": {".gitattributes": b"*.parquet filter=lfs\n"}}
        self._repositories[kind, name] = Repository(kind, name, held, False, asked.get("visibility") == "private")
        return answer, 200


class _RefusedError(Exception):
    def __init__(
        self, status: int, code: str | None = None, commit: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code)
        self.status = status
        self.headers = {
            **({"X-Error-Code": code} if code else {}),
            **({"X-Repo-Commit": commit} if commit else {}),
            **(headers or {}),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    spoilt = ""
    received: bytes | None = None
    wbufsize = -1  # unbuffered, every header is a packet of its own, and a response takes 40 ms

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def read_body(self) -> bytes:
        """What the client sends with a request; read once."""
        if self.received is None:
            self.received = self._receive()
        return self.received

    def _receive(self) -> bytes:
        if self.spoilt == "cut":
            self.rfile.read(int(self.headers.get("Content-Length", "2")) // 2)
            self.connection.close()
            self.close_connection = True
            raise ConnectionAbortedError
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: `LoopbackHub.requests` is the log."""

    def send_json(self, value: Any, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, refused: _RefusedError) -> None:
        if self.command in ("POST", "PUT"):
            self.read_body()  # else it would be taken for the next request
        self.send(refused.status, b"", refused.headers)

    def send_file(self, content: bytes, commit: str) -> None:
        headers = {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self.send(200, content, headers)
            return
        first = int(wanted[1])
        last = min(int(wanted[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(206, content[first : last + 1], headers)

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.spoilt in ("dropped", "truncated"):
            self.wfile.write(body[: len(body) // 2 if self.spoilt == "truncated" else 0])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
        elif self.spoilt == "corrupt":
            middle = len(body) // 2
            self.wfile.write(body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :])
        elif self.spoilt == "slow":
            for start in range(0, len(body), 1 << 14):
                time.sleep(0.01)
                self.wfile.write(body[start : start + (1 << 14)])
        else:
            self.wfile.write(body)


def _read(folder: Path) -> Files:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit(files: Files) -> str:
    return hashlib.sha1("".join(f"{path} {_blob(files[path])}\n" for path in sorted(files)).encode()).hexdigest()


def _info(repository: Repository, revision: str, sizes: bool) -> dict[str, Any]:
    siblings = [
        {"rfilename": path, **(_sizes(path, content) if sizes else {})}
        for path, content in repository.files(revision).items()
    ]
    return {
        "id": repository.name,
        "sha": repository.commit(revision),
        "private": False,
        "gated": "manual" if repository.gated else False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }


def _sizes(path: str, content: bytes) -> dict[str, Any]:
    """As the Hub lists them: weights are stored beside git, which has only a pointer with their SHA-256."""
    sizes: dict[str, Any] = {"size": len(content), "blobId": _blob(content)}
    if path.endswith((".safetensors", ".bin")):
        sizes["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return sizes


def _tree_sizes(path: str, content: bytes) -> dict[str, Any]:
    """The same in the words of a listing of a folder."""
    sizes = _sizes(path, content)
    lfs = {"lfs": {**sizes["lfs"], "oid": sizes["lfs"]["sha256"]}} if "lfs" in sizes else {}
    return {"oid": sizes["blobId"], "size": sizes["size"], **lfs}


def _refs(repository: Repository, pull_requests: bool) -> dict[str, Any]:
    """Branches, and where they are asked for the pull requests: revisions whose names begin with refs/pr/."""
    refs = [
        {
            "name": name,
            "ref": name if name.startswith("refs/") else f"refs/heads/{name}",
            "targetCommit": repository.commit(name),
        }
        for name in repository.revisions
    ]
    pulls = [ref for ref in refs if ref["ref"].startswith("refs/pr/")]
    listed = {"branches": [ref for ref in refs if ref not in pulls], "converts": [], "tags": []}
    return {**listed, "pullRequests": pulls} if pull_requests else listed


def _tree(repository: Repository, revision: str, folder: str, recursive: bool) -> list[dict[str, Any]]:
    entries = {path: entry for path, entry in _entries(repository, revision).items() if _inside(path, folder)}
    if not entries and folder:
        raise _RefusedError(404, "EntryNotFound")
    depth = len(Path(folder).parts) + 1
    return [entry for path, entry in entries.items() if recursive or len(Path(path).parts) == depth]


def _entries(repository: Repository, revision: str) -> dict[str, dict[str, Any]]:
    """Files and folders, by path."""
    files = repository.files(revision)
    folders = sorted({parent.as_posix() for path in files for parent in Path(path).parents} - {"."})
    return {
        **{path: {"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders},
        **{path: {"type": "file", "path": path, **_tree_sizes(path, c)} for path, c in files.items()},
    }


def _inside(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")
