"""Checkpoints on the Hub: revisions of a repository, listed before they are fetched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from madyn.checkpoints.adapters import CONFIG as ADAPTER_CONFIG
from madyn.checkpoints.adapters import is_adapter, refuse_adapter
from madyn.checkpoints.building import build_model
from madyn.checkpoints.fetching import (
    RemoteCheckpoint,
    fetch,
    fetch_file,
    fetch_needed,
    forget,
    is_cached,
    list_files,
)
from madyn.checkpoints.fingerprints import TRAINER_STATE, step_inside
from madyn.checkpoints.naming import read_names
from madyn.checkpoints.sources.pretrained import Pretrained
from madyn.checkpoints.sources.protocol import Asked, Checkpoint, Checkpoints, Files, Source
from madyn.checkpoints.stores import Advance, Key, Listings, Store
from madyn.errors import CheckpointError
from madyn.hub import hub_errors, retrying
from madyn.paths import exists, means_path
from madyn.sharing import MAIN

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_MAIN_REVISION = "main"
_FEW = 4  # steps; fewer give nothing to compare with, and some more are listed


@dataclass(frozen=True)
class HubRevision(Pretrained):
    """A revision of a repository. What is loaded is the commit that it stood for, where that is known."""

    def place(self, folder: Path | None) -> tuple[str | Path, dict[str, Any]]:
        return (self.source, {"revision": self._wanted}) if folder is None else (folder, {})

    def is_remote(self, folder: Path | None) -> bool:
        return folder is None

    @property
    def _wanted(self) -> str:
        return self.commit or self.revision or _MAIN_REVISION

    def config(self, folder: Path | None = None) -> Any:
        try:
            return super().config(folder)
        except CheckpointError as e:
            if "config.json" in str(e):
                self._refuse_adapter(self.listed())
            raise

    def listed(self) -> RemoteCheckpoint:
        """What the Hub holds of it. Raises CheckpointError where that cannot be had."""
        return replace(list_files(self.source, self._wanted), form=self.form, revision=self.revision)

    def _refuse_adapter(self, listed: RemoteCheckpoint) -> None:
        if is_adapter(listed.files):
            refuse_adapter(str(self), listed.files, lambda: fetch_file(listed, ADAPTER_CONFIG))

    def folder(self) -> Path:
        return self._fetched(self.listed())

    def _fetched(self, listed: RemoteCheckpoint) -> Path:
        self._refuse_adapter(listed)
        return fetch(listed, with_code=self.trust_remote_code)

    def is_here(self) -> bool:
        return is_cached(self.listed())

    def count_away(self, checkpoints: Sequence[Checkpoint]) -> int:
        listed = self.listed()  # the others have files of the same names
        return sum(not is_cached(replace(listed, commit=other.commit or listed.commit)) for other in checkpoints)

    def fetch(self, *, decoder_only: bool = False) -> Files:
        listed = self.listed()
        hashes = _hashes(listed)
        if not decoder_only:
            return Files(self._fetched(listed), sha256=hashes)
        folder, left_out = fetch_needed(listed, self._needed_names())
        return Files(folder, left_out, hashes)

    def _needed_names(self) -> Callable[[str], bool]:
        """Whether a tensor of a file belongs to the decoder, as a function of its name."""
        import torch

        with torch.device("meta"):
            model = build_model(self.config(), self, trust_remote_code=self.trust_remote_code)
        names = set(model.state_dict())
        prefix = f"{model.base_model_prefix}."
        return lambda name: name in names or name.removeprefix(prefix) in names

    def forget(self) -> None:
        forget(self.listed())

    def weight_bytes(self) -> int:
        return sum(file.size for file in self.listed().weights)

    def holds(self, xxh3: str | None, sha256: Mapping[str, str]) -> bool | None:
        hashes = _hashes(self.listed())
        return hashes == sha256 if hashes and sha256 else None

    def late_step(self) -> tuple[int, str] | None:
        """The Trainer's record alone is asked.

        A config may be that of the model that the training began with, which only all of them together tell.
        """
        listed = self.listed()
        if TRAINER_STATE not in listed.files:
            return None
        found = step_inside(fetch_file(listed, TRAINER_STATE).parent)
        return found if found is not None and found[1] == TRAINER_STATE else None

    def siblings(self) -> Checkpoints | None:
        return None if self.revision == _MAIN_REVISION else SOURCE.find_all(self.source, Asked(form=self.form))

    def store(self, found: Checkpoints, asked: Iterable[int], advance: Advance) -> Store | None:
        """The steps asked about, the last, `main`, and for a few steps the first and the middle one."""
        every, asked = list(found.by_step), list(asked)
        steps = {*asked, every[-1], *((every[0], every[len(every) // 2]) if len(asked) < _FEW else ())}
        keys: dict[Key, Checkpoint] = {step: found.by_step[step] for step in sorted(steps)}
        if found.main is not None:
            keys[MAIN] = found.main
        commits = {key: one.commit or one.revision or _MAIN_REVISION for key, one in keys.items()}
        return Listings(self.source, commits, advance)


class _Hub(Source):
    words, last = "a name of the Hub", True

    def takes(self, model: str | Path) -> bool:
        return not exists(model) and not means_path(model) and _HUB_NAME.fullmatch(str(model)) is not None

    def find(self, model: str | Path, asked: Asked) -> Checkpoint:
        return HubRevision(str(model), None, asked.revision or _MAIN_REVISION, asked.trust_remote_code, form=asked.form)

    def find_all(self, model: str | Path, asked: Asked) -> Checkpoints:
        one, commits = self.find(model, asked), _commits(str(model))
        named = read_names(commits, str(model), asked.pattern, commits)
        # `main` is the model itself, which the checkpoints are compared with: nothing is left out with it.
        left_out = [seen for seen in named.left_out if seen.name != _MAIN_REVISION]
        main = replace(one, commit=commits[_MAIN_REVISION]) if _MAIN_REVISION in commits else None
        found = {
            step: replace(one, step=step, revision=name, commit=commits[name]) for step, name in named.by_step.items()
        }
        return Checkpoints(str(model), str(model), found, left_out, main, named.collisions)


SOURCE = _Hub()


def _hashes(listed: RemoteCheckpoint) -> dict[str, str]:
    """The SHA-256 that the Hub lists for the weight files, by their names."""
    return {file.name: file.sha256 for file in listed.weights if file.sha256}


def _commits(repo: str) -> dict[str, str]:
    """The commit of every branch and tag."""
    from huggingface_hub import list_repo_refs

    with hub_errors(f"there is no folder {repo}; on the Hub, model {repo}", CheckpointError):
        refs = retrying(list_repo_refs, repo)
    return {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
