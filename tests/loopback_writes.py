"""What a Hub on the loopback interface answers to a client that writes: repositories, cards, files, commits.

The endpoints are those that huggingface_hub 2.4 calls to publish a folder: a repository is created, its card validated,
the Hub asked how each file is to be sent, large files put beside git under their SHA-256, and all of it committed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Files = dict[str, bytes]

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens that the Hub knows: one may write, one may read private repositories alone."""

_PREUPLOAD = re.compile(r"/api/(?:models|datasets)/[^/]+/[^/]+/preupload/([^/]+)")
_COMMIT = re.compile(r"/api/(?:models|datasets)/[^/]+/[^/]+/commit/([^/]+)")
_FRONT = re.compile(r"\s*---[\r\n]+([\S\s]*?)[\r\n]+---(?:\r\n|\n|$)")


@dataclass
class Writes:
    """What was sent.

    Attributes:
        beside_git: how the names of files end that are stored beside git.
        stored: their contents by SHA-256, committed or not.
        commits: the summaries of all commits, in order.
    """

    beside_git: tuple[str, ...] = ()
    stored: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.beside_git = ()
        self.stored.clear()
        self.commits.clear()

    def answer(self, path: str, body: bytes, url: str, blob: Callable[[bytes], str], files: Files | None) -> Any:
        """What is answered to a request that writes; None for one that is none of these.

        Args:
            url: of the Hub.
            blob: a content's hash as git has it.
            files: of the branch that the path names.
        """
        if path.endswith("/objects/batch"):
            objects = json.loads(body)["objects"]
            return {"transfer": "basic", "objects": [self._object(one, url) for one in objects]}
        if path.startswith("/lfs/"):
            return self._put(path.removeprefix("/lfs/"), body)
        if files is None:
            return None
        if _PREUPLOAD.fullmatch(path):
            asked = json.loads(body)["files"]
            return {"files": [self._mode(one["path"], files, blob) for one in asked]}
        kind, owner, name = path.split("/")[2:5]
        return self._commit(body, files, f"{url}/{'datasets/' if kind == 'datasets' else ''}{owner}/{name}")

    def _object(self, asked: Mapping[str, Any], url: str) -> dict[str, Any]:
        known = {"oid": asked["oid"], "size": asked["size"]}
        return (
            known
            if asked["oid"] in self.stored
            else {**known, "actions": {"upload": {"href": f"{url}/lfs/{asked['oid']}"}}}
        )

    def _put(self, oid: str, body: bytes) -> dict[str, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            raise ValueError("not what its SHA-256 says")
        self.stored[oid] = body
        return {}

    def _mode(self, path: str, files: Files, blob: Callable[[bytes], str]) -> dict[str, Any]:
        beside = path.endswith(self.beside_git) if self.beside_git else False
        held = files.get(path)
        oid = None if held is None else hashlib.sha256(held).hexdigest() if beside else blob(held)
        mode = "lfs" if beside else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})}

    def _commit(self, body: bytes, files: Files, url: str) -> dict[str, Any]:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                self.commits.append(value["summary"])
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            else:
                raise ValueError(f"no operation that is known: {item['key']}")
        return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{url}/commit/{'0' * 40}"}


def revision_written(path: str) -> str | None:
    """The branch that a request to write to a repository names."""
    match = _PREUPLOAD.fullmatch(path) or _COMMIT.fullmatch(path)
    return match[1] if match else None


def card_faults(text: str) -> list[str]:
    """What the Hub refuses in a card: a front matter that is not YAML, or no mapping, or a licence of no known form."""
    match = _FRONT.match(text)
    try:
        front = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as e:
        return [f"YAML: {e}"]
    if not isinstance(front, dict):
        return ["the front matter is no mapping"]
    kinds = {"license": str, "pretty_name": str, "tags": list, "size_categories": list, "configs": list}
    return [
        f'"{name}" must be a {kind.__name__}'
        for name, kind in kinds.items()
        if not isinstance(front.get(name, kind()), kind)
    ]
