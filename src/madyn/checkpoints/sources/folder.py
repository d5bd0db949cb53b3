"""Checkpoints in folders: one alone, or those of a run's folder, as transformers saves them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madyn.checkpoints.fingerprints import step_inside
from madyn.checkpoints.folders import FINAL, is_checkpoint, names_in, refuse_adapter_folder, step_of_folder
from madyn.checkpoints.naming import Named, is_step_name, step_of
from madyn.checkpoints.sources.pretrained import Pretrained
from madyn.checkpoints.sources.protocol import Asked, Checkpoint, Checkpoints, Files, Source
from madyn.checkpoints.stores import Advance, Folders, Store
from madyn.checkpoints.weights import local_weight_files, read_ahead
from madyn.errors import CheckpointError
from madyn.paths import describe_missing, exists


@dataclass(frozen=True)
class Folder(Pretrained):
    """A folder with a config and weights."""

    def config(self, folder: Path | None = None) -> Any:
        refuse_adapter_folder(Path(self.source))
        return super().config(folder)

    def folder(self) -> Path:
        refuse_adapter_folder(Path(self.source))
        return Path(self.source)

    def fetch(self, *, decoder_only: bool = False) -> Files:
        folder = self.folder()
        read_ahead(folder, self.form)
        return Files(folder)

    def weight_files(self, form: str | None = None) -> dict[str, Path]:
        folder = Path(self.source)
        return {name: folder / name for name in local_weight_files(folder, form or self.form)}

    def files(self) -> dict[str, Path]:
        folder = Path(self.source)
        try:
            found = {path.name: path for path in folder.iterdir() if path.is_file()}
        except OSError as e:
            raise CheckpointError(f"{folder}: cannot be read: {e.strerror or e}") from e
        refuse_adapter_folder(folder)
        return found

    def store(self, found: Checkpoints, asked: Iterable[int], advance: Advance) -> Store:
        return Folders({**found.by_step}, advance)  # if there are no weights in any, that is said

    def step_inside(self) -> tuple[int, str] | None:
        found = step_inside(Path(self.source))
        return None if found is None else (found[0], f"{found[1]} in it")


class _Folders(Source):
    words, last = "a folder", True

    def takes(self, model: str | Path) -> bool:
        return exists(model) and not Path(model).is_file()

    def find(self, model: str | Path, asked: Asked) -> Checkpoint:
        path = Path(model)
        refuse_adapter_folder(path)
        if not exists(path / "config.json"):
            reason = describe_missing(path / "config.json")
            if reason.startswith("cannot be read"):
                raise CheckpointError(f"{path / 'config.json'}: {reason}")
            raise CheckpointError(f"{model}: no config.json in it; it is not a checkpoint's folder{_run_in(path)}")
        return _folder(path, step_of_folder(path), asked)

    def find_all(self, model: str | Path, asked: Asked) -> Checkpoints:
        path, named = Path(model), Named()
        if path.is_dir() and _is_run(path, named := names_in(path, asked.pattern)):
            found = {step: _folder(path / name, step, asked) for step, name in named.by_step.items()}
        else:
            one = self.find(path, asked)
            named = Named(left_out=[seen for seen in named.left_out if seen.reason != FINAL])
            found = {} if one.step is None else {one.step: one}
            if one.step is not None and is_step_name(path.name, asked.pattern):
                path = path.parent  # run/step1000 given alone belongs to the model `run`
        return Checkpoints(path.resolve().name, str(model), found, named.left_out, collisions=named.collisions)


SOURCE = _Folders()


def _folder(path: Path, step: int | None, asked: Asked) -> Checkpoint:
    return Folder(str(path), step, trust_remote_code=asked.trust_remote_code, form=asked.form)


def _is_run(folder: Path, named: Named) -> bool:
    """Whether a folder holds checkpoints and is not one alone."""
    return bool(named.by_step or named.collisions.by_step) or not is_checkpoint(folder)


def _run_in(folder: Path) -> str:
    """What to do with a folder that is no checkpoint and holds some; nothing where it holds none."""
    names = [path.name for path in folder.iterdir() if is_checkpoint(path)]
    names.sort(key=lambda name: (step_of(name) is None, step_of(name), name))
    if not names:
        return ""
    shown = ", ".join(names) if len(names) <= 3 else f"{names[0]} ... {names[-1]}"
    return f"; it holds {shown}: `madyn scan {folder / names[0]}`, or `madyn trace {folder}`"
