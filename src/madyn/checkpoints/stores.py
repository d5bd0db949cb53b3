"""What the checkpoints of a model hold, known without reading them: from the Hub's listings, or from samples on disk.

Both kinds of store answer alike, so that `verifying` need not know where checkpoints lie. A key is a step, or `MAIN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from madyn.checkpoints.adapters import is_adapter
from madyn.checkpoints.fetching import RemoteCheckpoint, list_files, pull_request_commits
from madyn.checkpoints.finding import Checkpoint
from madyn.checkpoints.fingerprints import Piece, hash_piece, sample_files, step_inside
from madyn.checkpoints.folders import refuse_adapter_folder
from madyn.checkpoints.forms import takes_index, wanted_form
from madyn.checkpoints.weights import local_weight_files, no_weights
from madyn.errors import CheckpointError
from madyn.sharing import Sharing

AT_ONCE = 8  # requests under way; the Hub counts them over minutes, and `hub.retrying` waits where it is told to
_GIVE_UP = 3  # revisions that could not be listed, each after all its attempts: the others are not tried

Key = int | None
Advance = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")


class Store:
    """Checkpoints by their keys.

    Attributes:
        files: the names of all the files of each checkpoint.
        failed: why nothing is known of a checkpoint.
        inside: the step that a checkpoint says itself, and what says it.
        inherited: the same of a step that all say alike, so that it is the step of none; None where there is none.
        weak: pieces that are no evidence by themselves; `whole` those that are whole files.
        requests: that were made to the Hub.
        would_tell: what would say whose the weights are that several steps hold, in words.
    """

    would_tell = ""

    def __init__(self) -> None:
        self.files: dict[Key, set[str]] = {}
        self.failed: dict[Key, str] = {}
        self.inside: dict[int, tuple[int, str]] = {}
        self.inherited: tuple[int, str] | None = None
        self.weak: set[str] = set()
        self.whole: set[str] = set()
        self.requests = 0

    def weight_files(self, key: Key, form: str) -> tuple[str, ...]:
        """The files that would be read. Raises CheckpointError where there are none, or not all."""
        if takes_index(self.files[key], form):
            return self.told_by_index(key, form)
        wanted = wanted_form(self.files[key], form)
        if wanted is None:
            raise CheckpointError(no_weights(form))
        if wanted.missing:
            raise CheckpointError(f"{' and '.join(wanted.missing)} missing")
        return wanted.files

    def told_by_index(self, key: Key, form: str) -> tuple[str, ...]:
        """As `weight_files`, where shards of several saves lie together."""
        raise NotImplementedError

    def pieces(self, key: Key, files: Iterable[str]) -> dict[str, str]:
        """The pieces of some files, by name. Raises CheckpointError."""
        raise NotImplementedError

    def confirmed(
        self, held: Mapping[Key, Mapping[str, str]], sharings: Iterable[Sharing]
    ) -> dict[Key, dict[str, str]]:
        """What is held, where what seems to be shared was looked at whole."""
        return {key: dict(pieces) for key, pieces in held.items()}

    def pull_requests(self) -> dict[str, dict[str, str]]:
        """The files of every open or merged pull request, by its name."""
        return {}


class Listings(Store):
    """Revisions of a repository of the Hub: one request a commit, whatever the number of names it has."""

    would_tell = "main would, if it and the last step held them"

    def __init__(self, checkpoints: Mapping[Key, Checkpoint], advance: Advance) -> None:
        super().__init__()
        self._repo = next(iter(checkpoints.values())).source
        commits = {key: c.commit or c.revision or "main" for key, c in checkpoints.items()}
        found = self._list(dict.fromkeys(commits.values()), advance)
        self._remote: dict[Key, RemoteCheckpoint] = {}
        self._told: dict[tuple[str, str], tuple[str, ...]] = {}
        for key, commit in commits.items():
            remote = found[commit]
            if isinstance(remote, str):
                self.failed[key] = remote
            else:
                self._remote[key] = remote
                if is_adapter(remote.files):
                    self.failed[key] = "it is an adapter (PEFT), without the weights of its model"
                else:
                    self.files[key] = set(remote.files)

    def _list(self, commits: Iterable[str], advance: Advance) -> dict[str, RemoteCheckpoint | str]:
        asked: list[str] = []
        refused: list[str] = []

        def one(commit: str) -> RemoteCheckpoint | str:
            if len(refused) >= _GIVE_UP:
                return f"not asked for, since others could not be had: {refused[0]}"
            asked.append(commit)
            try:
                return list_files(self._repo, commit)
            except CheckpointError as e:
                refused.append(str(e))
                return str(e)

        found = _in_threads(one, list(commits), advance)
        self.requests += len(asked)
        return found

    def told_by_index(self, key: Key, form: str) -> tuple[str, ...]:
        remote = replace(self._remote[key], form=form)
        if (remote.commit, form) not in self._told:
            self.requests += 1  # for the index
            self._told[remote.commit, form] = tuple(file.name for file in remote.weights)
        return self._told[remote.commit, form]

    def pieces(self, key: Key, files: Iterable[str]) -> dict[str, str]:
        found = _hashes(self._remote[key], files)
        self.whole |= set(found)
        return found

    def pull_requests(self) -> dict[str, dict[str, str]]:
        commits = pull_request_commits(self._repo)
        self.requests += 1
        found = self._list(commits.values(), lambda done, total: None)
        listed = {name: found[commit] for name, commit in commits.items()}
        return {name: _hashes(r, r.files) for name, r in listed.items() if isinstance(r, RemoteCheckpoint)}


def _hashes(remote: RemoteCheckpoint, files: Iterable[str]) -> dict[str, str]:
    listed = [remote.files[name] for name in files]
    return {file.name: file.sha256 or file.git_sha1 or f"{remote.commit}/{file.name}" for file in listed}


class Folders(Store):
    """Checkpoints on disk: samples of their tensors, and all of what agrees in its samples."""

    would_tell = "a trainer_state.json with its global_step in each would"

    def __init__(self, checkpoints: Mapping[Key, Checkpoint], advance: Advance) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._samples: dict[tuple[Key, str], Piece] = {}
        for key, checkpoint in checkpoints.items():
            folder = Path(checkpoint.source)
            try:
                self.files[key] = {path.name for path in folder.iterdir() if path.is_file()}
            except OSError as e:
                self.failed[key] = f"{folder}: cannot be read: {e.strerror or e}"
                continue
            try:
                refuse_adapter_folder(folder)
            except CheckpointError as e:  # there is nothing to compare, and its measurement is refused with this reason
                del self.files[key]
                self.failed[key] = str(e)
                continue
            inside = None if checkpoint.gguf_file else step_inside(folder)
            if inside is not None and key is not None:
                self.inside[key] = (inside[0], f"{inside[1]} in it")
        self._set_inherited_apart()
        self._sampled = _in_threads(self._sample, [(key, self._paths(key)) for key in self.files], advance)

    def _set_inherited_apart(self) -> None:
        """Take away what all configs say alike: a config is copied from the model that a training began with."""
        of_config = {step: said for step, (said, by) in self.inside.items() if by.startswith("config.json")}
        recorded = {step for step in self.inside if step not in of_config}
        if len(of_config) > 1 and len(set(of_config.values())) == 1 and set(self.files) <= {*of_config, *recorded}:
            self.inherited = (next(iter(of_config.values())), "config.json")
            self.inside = {step: self.inside[step] for step in recorded}

    def _paths(self, key: Key, form: str | None = None) -> tuple[Path, ...]:
        checkpoint = self._checkpoints[key]
        try:
            return tuple(replace(checkpoint, form=form or checkpoint.form).weight_paths())
        except (CheckpointError, OSError):
            return ()  # none, or not all: `weight_files` says which

    def weight_files(self, key: Key, form: str) -> tuple[str, ...]:
        paths = self._paths(key, form)
        return tuple(path.name for path in paths) if paths else super().weight_files(key, form)

    def told_by_index(self, key: Key, form: str) -> tuple[str, ...]:
        return tuple(local_weight_files(Path(self._checkpoints[key].source), form))

    def _sample(self, item: tuple[Key, tuple[Path, ...]]) -> dict[str, Piece] | str:
        try:
            return sample_files(item[1])
        except CheckpointError as e:
            return str(e)

    def pieces(self, key: Key, files: Iterable[str]) -> dict[str, str]:
        paths = tuple(Path(self._checkpoints[key].source) / name for name in files)
        sampled = self._sampled.get((key, paths)) or self._sample((key, paths))
        if isinstance(sampled, str):
            raise CheckpointError(sampled)
        self.weak |= {name for name, piece in sampled.items() if piece.weak}
        self.whole |= {name for name, piece in sampled.items() if piece.start == 0}
        self._samples |= {(key, name): piece for name, piece in sampled.items()}
        return {name: piece.sample for name, piece in sampled.items()}

    def confirmed(
        self, held: Mapping[Key, Mapping[str, str]], sharings: Iterable[Sharing]
    ) -> dict[Key, dict[str, str]]:
        looked_at: set[tuple[Key, str]] = {
            (step, name) for s in sharings if s.suspects or s.whole for step in s.steps for name in s.pieces
        }
        full = _in_threads(self._whole, list(looked_at), lambda done, total: None)
        alike: dict[tuple[str, str], set[str]] = {}
        for (key, name), content in full.items():
            alike.setdefault((name, held[key][name]), set()).add(content)
        # A sample that stands for one content goes on standing for it: others hold it too, and were not looked at.
        return {
            key: {
                name: full.get((key, name), sample) if len(alike.get((name, sample), ())) > 1 else sample
                for name, sample in pieces.items()
            }
            for key, pieces in held.items()
        }

    def _whole(self, place: tuple[Key, str]) -> str:
        try:
            return hash_piece(self._samples[place])
        except CheckpointError as e:
            return str(e)  # agrees with nothing; its own measurement will fail


def _in_threads(call: Callable[[T], R], items: list[T], advance: Advance) -> dict[T, R]:
    found: dict[T, R] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for item, result in zip(items, pool.map(call, items), strict=True):
            found[item] = result
            advance(len(found), len(items))
    return found
