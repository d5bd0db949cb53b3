"""What the checkpoints of a model hold, known without reading them: from the Hub's listings, or from samples on disk.

Both kinds of store answer alike, so that `verifying` need not know where checkpoints lie. A key is a step, or `MAIN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from madyn.checkpoints.adapters import is_adapter
from madyn.checkpoints.fetching import RemoteCheckpoint, list_files, pull_request_commits
from madyn.checkpoints.fingerprints import Piece, hash_piece, sample_files
from madyn.checkpoints.forms import takes_index, wanted_form
from madyn.checkpoints.weights import no_weights
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
        keys: all the checkpoints that were to be looked at.
        would_tell: what would say whose the weights are that several steps hold, in words.
        looks_further: what looks for mended weights elsewhere, in words.
    """

    would_tell = ""
    looks_further = ""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = frozenset(keys)
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
    looks_further = "`madyn verify --pull-requests` looks for mended files in pull requests"

    def __init__(self, repo: str, commits: Mapping[Key, str], advance: Advance) -> None:
        super().__init__(commits)
        self._repo = repo
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


class OnDisk(Protocol):
    """What is asked of a checkpoint whose files are here; `checkpoints.sources.protocol.Checkpoint` says it."""

    def files(self) -> dict[str, Path]: ...

    def weight_files(self, form: str | None = None) -> dict[str, Path]: ...

    def step_inside(self) -> tuple[int, str] | None: ...


class Folders(Store):
    """Checkpoints on disk: samples of their tensors, and all of what agrees in its samples."""

    would_tell = "a trainer_state.json with its global_step in each would"

    def __init__(self, checkpoints: Mapping[Key, OnDisk], advance: Advance) -> None:
        super().__init__(checkpoints)
        self._checkpoints = checkpoints
        self._located: dict[Key, dict[str, Path]] = {}
        self._samples: dict[tuple[Key, str], Piece] = {}
        for key, checkpoint in checkpoints.items():
            try:
                self._located[key] = checkpoint.files()
            except CheckpointError as e:  # there is nothing to compare, and its measurement is refused with this reason
                self.failed[key] = str(e)
                continue
            self.files[key] = set(self._located[key])
            inside = checkpoint.step_inside()
            if inside is not None and key is not None:
                self.inside[key] = inside
        self._set_inherited_apart()
        self._sampled = _in_threads(self._sample, [(key, self._weights(key)) for key in self.files], advance)

    def _set_inherited_apart(self) -> None:
        """Take away what all configs say alike: a config is copied from the model that a training began with."""
        of_config = {step: said for step, (said, by) in self.inside.items() if by.startswith("config.json")}
        recorded = {step for step in self.inside if step not in of_config}
        if len(of_config) > 1 and len(set(of_config.values())) == 1 and set(self.files) <= {*of_config, *recorded}:
            self.inherited = (next(iter(of_config.values())), "config.json")
            self.inside = {step: self.inside[step] for step in recorded}

    def _weights(self, key: Key, form: str | None = None) -> tuple[str, ...]:
        try:
            found = self._checkpoints[key].weight_files(form)
        except (CheckpointError, OSError):
            return ()  # none, or not all: `weight_files` says which
        self._located[key] |= found
        return tuple(found)

    def weight_files(self, key: Key, form: str) -> tuple[str, ...]:
        return self._weights(key, form) or super().weight_files(key, form)

    def told_by_index(self, key: Key, form: str) -> tuple[str, ...]:
        return tuple(self._checkpoints[key].weight_files(form))

    def _sample(self, item: tuple[Key, tuple[str, ...]]) -> dict[str, Piece] | str:
        key, names = item
        pieces: dict[str, Piece] = {}
        try:
            for name in names:
                path = self._located[key][name]
                # A whole file goes by the name that it has in every checkpoint, which its own may not be.
                pieces |= {name if own == path.name else own: piece for own, piece in sample_files([path]).items()}
        except CheckpointError as e:
            return str(e)
        return pieces

    def pieces(self, key: Key, files: Iterable[str]) -> dict[str, str]:
        names = tuple(files)
        sampled = self._sampled.get((key, names)) or self._sample((key, names))
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
