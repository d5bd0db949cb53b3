"""A checkpoint of the Hub, brought to a folder: only the files that are needed, and the bytes that the Hub stands for.

The Hub's client checks the size of what it downloads and not its content. Here a file that was just downloaded is held
against the hash that the repository lists for it (SHA-256 for large files, git's for small ones); one that differs is
fetched once more, and then refused.

Where asked, the weights that the decoder does not need (a language-model head, above all) are left on the Hub: the
header of a safetensors file says where each tensor lies, and only the wanted ranges are read. Such a file cannot be
held against the hash of the whole, which is why this is not the default.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from madyn.checkpoints.adapters import refuse_adapter_beside
from madyn.checkpoints.weights import index_file, no_weights, weight_files
from madyn.dataset.files import write_bytes, write_json
from madyn.dataset.leftovers import sweep_beside
from madyn.dataset.partial import replacing
from madyn.errors import CheckpointError
from madyn.hub import hub_errors, retrying

_CHUNK = 1 << 24
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its size in bytes and the hash that the Hub lists, of one kind or the other."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class RemoteCheckpoint:
    """What one revision of a repository holds.

    Attributes:
        form: the one of `settings.FORMS` that is wanted of it.
        revision: the name that it was asked for by, which messages say; the commit's hash where there is none.
    """

    repo: str
    commit: str
    files: dict[str, RemoteFile]
    form: str = "auto"
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo} at {self.revision or self.commit[:12]}"

    @property
    def weights(self) -> list[RemoteFile]:
        """The weight files. An index of shards is fetched only where the names do not tell which are the model.

        Raises:
            CheckpointError: a shard is missing, or the index cannot be had.
        """
        names = weight_files(self.files, self.form, lambda index: fetch_file(self, index).read_bytes())
        absent = [name for name in names if name not in self.files]
        if absent:
            raise CheckpointError(f"checkpoint {self}: {absent[0]} is missing, says its index")
        return [self.files[name] for name in names]


def list_files(repo: str, revision: str) -> RemoteCheckpoint:
    """The files of a revision, with sizes and hashes, of its top folder: one request where it is a commit's hash.

    A commit that was listed is not asked for again: what it holds does not change.

    Raises:
        CheckpointError: there is no such revision, or the Hub cannot be reached.
    """
    from huggingface_hub import model_info

    if _COMMIT.fullmatch(revision):
        return _list_commit(repo, revision)
    with hub_errors(f"checkpoint {repo} at {revision}", CheckpointError):
        info = retrying(model_info, repo, revision=revision)
    return _list_commit(repo, info.sha or revision)


@lru_cache(maxsize=10_000)
def _list_commit(repo: str, commit: str) -> RemoteCheckpoint:
    from huggingface_hub import list_repo_tree
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(f"checkpoint {repo} at {commit[:12]}", CheckpointError):
        entries = retrying(lambda: list(list_repo_tree(repo, revision=commit)))
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return RemoteCheckpoint(
        repo,
        commit,
        {f.path: RemoteFile(f.path, f.size, f.lfs.sha256 if f.lfs else None, f.blob_id) for f in files},
    )


def pull_request_commits(repo: str) -> dict[str, str]:
    """The commit of every pull request, by its name on the Hub (refs/pr/N). Raises CheckpointError."""
    from huggingface_hub import list_repo_refs

    with hub_errors(f"pull requests of {repo}", CheckpointError):
        refs = retrying(list_repo_refs, repo, include_pull_requests=True)
    return {ref.ref: ref.target_commit for ref in refs.pull_requests or []}


def fetch(remote: RemoteCheckpoint, *, with_code: bool = False) -> Path:
    """The folder of the Hub's cache that holds config and weights of a checkpoint, downloaded if it must be.

    Raises:
        CheckpointError: there are no weights, or a file cannot be had, or its bytes are not those that the Hub lists.
    """
    weights = [file.name for file in remote.weights]
    if not weights:
        raise CheckpointError(f"checkpoint {remote}: {no_weights(remote.form)}")
    refuse_adapter_beside(f"checkpoint {remote}", remote.files)
    wanted = ["config.json", *([index_file(weights)] if index_file(weights) else []), *weights]
    if with_code:
        wanted += [name for name in remote.files if name.endswith(".py")]
    folder: Path | None = None
    for name in wanted:
        path = fetch_file(remote, str(name))
        folder = path.parent if folder is None else folder
    assert folder is not None
    return folder


def is_cached(remote: RemoteCheckpoint) -> bool:
    """Whether a weight file of it is in the Hub's cache already."""
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(remote.repo, file.name, revision=remote.commit), str)
        for file in remote.weights
    )


def fetch_file(remote: RemoteCheckpoint, name: str) -> Path:
    """One file of a checkpoint, in the Hub's cache, held against its hash when it comes. Raises CheckpointError."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    known = try_to_load_from_cache(remote.repo, name, revision=remote.commit)
    if isinstance(known, str):
        return Path(known)
    for _ in range(2):
        with hub_errors(f"checkpoint {remote}: {name}", CheckpointError):
            path = Path(retrying(hf_hub_download, remote.repo, name, revision=remote.commit))
        if name not in remote.files or _is_as_listed(path, remote.files[name]):
            return path
        path.resolve().unlink()  # the blob that the snapshot's link leads to
        path.unlink(missing_ok=True)
    raise CheckpointError(
        f"checkpoint {remote}: {name} was downloaded twice, and its bytes do not have the hash that the Hub lists; "
        "a proxy or a mirror may hold another file"
    )


def _is_as_listed(path: Path, listed: RemoteFile) -> bool:
    if path.stat().st_size != listed.size:
        return False
    if listed.sha256:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == listed.sha256
    if listed.git_sha1:
        digest = hashlib.sha1(b"blob %d\0" % listed.size)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == listed.git_sha1
    return True


def fetch_needed(remote: RemoteCheckpoint, needed: Callable[[str], bool]) -> tuple[Path, int]:
    """As `fetch`, with only those tensors whose names are needed: the folder, and the bytes that were not fetched.

    The folder lies beside the Hub's cache, and holds safetensors files with fewer tensors.

    Raises:
        CheckpointError: as `fetch`; also where the weights are not safetensors, which cannot be read in part.
    """
    from huggingface_hub import cached_assets_path, parse_safetensors_file_metadata

    weights = remote.weights
    if not weights or not weights[0].name.endswith(".safetensors"):
        raise CheckpointError(f"checkpoint {remote}: its weights are not safetensors; only those can be read in part")
    folder = cached_assets_path("madyn", namespace=remote.repo, subfolder=remote.commit)
    saved = 0
    for file in weights:
        with hub_errors(f"checkpoint {remote}: {file.name}", CheckpointError):
            header = retrying(parse_safetensors_file_metadata, remote.repo, file.name, revision=remote.commit)
        kept = {name: info for name, info in header.tensors.items() if needed(name)}
        saved += sum(i.data_offsets[1] - i.data_offsets[0] for n, i in header.tensors.items() if n not in kept)
        if not (folder / file.name).exists():
            _fetch_ranges(remote, file.name, kept, folder / file.name)
    _keep_names(remote, folder)
    return folder, saved


def _fetch_ranges(remote: RemoteCheckpoint, name: str, tensors: dict[str, Any], to: Path) -> None:
    """Write a safetensors file of these tensors alone, from their ranges of the one on the Hub."""
    from huggingface_hub import HfFileSystem

    ordered = sorted(tensors.items(), key=lambda item: item[1].data_offsets[0])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor, info in ordered:
        size = info.data_offsets[1] - info.data_offsets[0]
        header[tensor] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    files, address = HfFileSystem(), f"{remote.repo}@{remote.commit}/{name}"
    with hub_errors(f"checkpoint {remote}: {name}", CheckpointError):
        length = int.from_bytes(_read_range(files, address, 0, 8), "little")
        sweep_beside(to)
        with replacing(to) as out:
            out.write(len(encoded).to_bytes(8, "little") + encoded)
            for start, end in _merged([info.data_offsets for _, info in ordered]):
                for first in range(start, end, _CHUNK):
                    last = min(first + _CHUNK, end)
                    body = _read_range(files, address, 8 + length + first, 8 + length + last)
                    if len(body) != last - first:
                        raise CheckpointError(f"checkpoint {remote}: {name}: a part of it came back short")
                    out.write(body)


def _read_range(files: Any, address: str, start: int, end: int) -> bytes:
    return retrying(files.cat_file, address, start=start, end=end)


def _merged(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges in order, those that touch as one."""
    start, end = ranges[0] if ranges else (0, 0)
    for first, last in ranges[1:]:
        if first != end:
            yield start, end
            start = first
        end = last
    if end > start:
        yield start, end


def _keep_names(remote: RemoteCheckpoint, folder: Path) -> None:
    """Config and index beside the weights; the index names only what was fetched."""
    from safetensors import safe_open

    write_bytes(folder / "config.json", fetch_file(remote, "config.json").read_bytes())
    files = sorted(folder.glob("*.safetensors"))
    index = index_file(path.name for path in files)
    if index is not None:
        names = {}
        for path in files:
            with safe_open(path, framework="pt") as file:
                names |= dict.fromkeys(file.keys(), path.name)
        write_json(folder / index, {"metadata": {}, "weight_map": names})


def forget(remote: RemoteCheckpoint) -> None:
    """Take a checkpoint out of the Hub's cache, its blobs too where no other revision has them."""
    import shutil

    from huggingface_hub import cached_assets_path, scan_cache_dir

    cache = scan_cache_dir()
    # A copy of a repository has the same commits, and what is the user's there must stay.
    own = frozenset(repo for repo in cache.repos if (repo.repo_type, repo.repo_id) == ("model", remote.repo))
    replace(cache, repos=own).delete_revisions(remote.commit).execute()
    shutil.rmtree(cached_assets_path("madyn", namespace=remote.repo, subfolder=remote.commit), ignore_errors=True)
