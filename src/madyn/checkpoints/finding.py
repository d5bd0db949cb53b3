"""Where checkpoints come from: revisions on the Hub, folders, GGUF files.

`find_checkpoints` lists what a model offers, by training step, and loads nothing; a `Checkpoint` loads its weights,
config and tokenizer when asked, through transformers' own loaders. Weights are read without running code of
theirs: safetensors, or pickles with `weights_only`; code from the Hub only where the user trusts it.

What their names mean is `naming`'s job; a new way of naming checkpoints is one pattern there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from madyn.checkpoints.adapters import CONFIG as ADAPTER_CONFIG
from madyn.checkpoints.adapters import is_adapter, refuse_adapter
from madyn.checkpoints.fetching import RemoteCheckpoint, fetch, fetch_file, list_files
from madyn.checkpoints.folders import FINAL, is_checkpoint, names_in, refuse_adapter_folder, step_of_folder
from madyn.checkpoints.gguf_files import forget, reading_once
from madyn.checkpoints.naming import (
    Collisions,
    LeftOut,
    Named,
    compile_revisions,
    describe_left_out,
    is_step_name,
    read_names,
    step_of,
)
from madyn.checkpoints.placing import judge, renamings
from madyn.checkpoints.records import read_json_as, refuse_absurd_config, refuse_other_than_files
from madyn.checkpoints.remote_code import describe_failure
from madyn.checkpoints.tokenizers import OTHERWISE, is_empty
from madyn.checkpoints.weights import Weights, hash_files, local_weight_files
from madyn.errors import CheckpointError, MadynError, UsageError
from madyn.hub import hub_errors, retrying
from madyn.paths import describe_missing, exists, means_path
from madyn.sharing import list_steps

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights.

    Attributes:
        source: the folder, or the name on the Hub, that holds it.
        step: its training step, None where it is not known.
        revision: its revision on the Hub; None for a folder.
        commit: the hash that the revision stood for when it was found, and that is loaded; None where it is not known.
        gguf_file: the name of the file, for a model in a GGUF file.
        trust_remote_code: run the code that comes with the model.
        load: gives the model at a step, for one that is not from transformers; `source` is then only a name.
        form: which of the forms that its weights are stored in is read, one of `weights.FORMS`.
    """

    source: str
    step: int | None = None
    revision: str | None = None
    gguf_file: str | None = None
    trust_remote_code: bool = False
    commit: str | None = None
    load: Callable[[int], Any] | None = None
    form: str = "auto"

    def __str__(self) -> str:
        parts = [self.source, *([self.gguf_file] if self.gguf_file else [])]
        return "/".join(parts) + (f" at {self.revision}" if self.revision else "")

    def config(self, folder: Path | None = None) -> Any:
        """The Hugging Face config, read in `folder` if given. Raises CheckpointError where it cannot be read."""
        from transformers import AutoConfig

        if self.revision is None and not self.gguf_file and not self.load:
            refuse_adapter_folder(Path(self.source))
        try:
            if self.gguf_file:  # what it says is bounded where it is read
                return self._load(AutoConfig.from_pretrained, folder=folder)
            return self._load(_bounded(AutoConfig), folder=folder)
        except CheckpointError as e:
            if self.revision is not None and "config.json" in str(e):
                self._refuse_adapter_of_the_hub()
            raise

    def tokenizer(self) -> Any:
        """The tokenizer that comes with the checkpoint. Raises CheckpointError where there is none."""
        from transformers import AutoTokenizer

        try:
            found = self._load(AutoTokenizer.from_pretrained, what="tokenizer")
        except CheckpointError as e:
            raise CheckpointError(f"{e}; {OTHERWISE}") from e
        if is_empty(found):
            raise CheckpointError(f"{self} has no tokenizer; {OTHERWISE}")
        return found

    def image_processor(self) -> Any:
        """What prepares images for the model, with Pillow. Raises CheckpointError where none comes with it."""
        from transformers import AutoImageProcessor

        return self._load(AutoImageProcessor.from_pretrained, what="image processor", backend="pil")

    def model(self, dtype: Any, device: str = "cpu", folder: Path | None = None) -> Any:
        """The model with its weights, as `load_whole` gives it."""
        return self.load_whole(dtype, device, folder)[0]

    def load_whole(self, dtype: Any, device: str = "cpu", folder: Path | None = None) -> tuple[Any, list[str]]:
        """The model with its weights, without a language-model head, in evaluation mode.

        Args:
            dtype: a torch dtype; the weights are converted to it whatever they are stored in.
            folder: where its files are, if they have been fetched.

        Returns:
            the model, and what is worth knowing of the checkpoint, a sentence each.

        Raises:
            CheckpointError: the weights cannot be read, do not fit the config, or some are missing.
        """
        if self.load is not None:
            return self._called().to(dtype).eval().to(device), []
        if folder is None:
            folder = self.folder()
        weights = None if folder is None else self.weights(folder)  # names the file that cannot be read
        model, report = self.load_reported(folder, weights, dtype=dtype)
        remarks = judge(str(self), model, report, weights)
        return model.eval().to(device), remarks

    def load_reported(self, folder: Path | None, weights: Weights | None, **options: Any) -> tuple[Any, dict[str, Any]]:
        """What transformers makes of the checkpoint, and its report of tensors that are missing or have no place.

        Args:
            options: for `from_pretrained`; with `device_map={"": "meta"}` nothing is read but the names.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        from transformers import AutoModel

        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        if weights is not None:
            config = self.config(folder)
            if getattr(config, "transformers_weights", None):
                raise CheckpointError(
                    f"{self}: its config names {config.transformers_weights} as its weights; only the usual names are "
                    "read: rename it to model.safetensors and take transformers_weights out of the config"
                )
            options["key_mapping"] = renamings(config, weights) or None
            options["use_safetensors"] = weights.files[0].suffix == ".safetensors"
        loaded = self._load(AutoModel.from_pretrained, folder=folder, **options)
        forget()
        return loaded

    def _called(self) -> Any:
        from torch import nn

        assert self.load is not None
        assert self.step is not None
        try:
            model = self.load(self.step)
        except Exception as e:  # the user's own code may raise anything
            raise CheckpointError(f"{self}: load({self.step}) failed: {type(e).__name__}: {e}") from e
        if not isinstance(model, nn.Module):
            raise CheckpointError(f"{self}: load({self.step}) gave a {type(model).__name__}, not a torch module")
        return model

    def weights(self, folder: Path) -> Weights:
        """Its tensors, in the folder where its files are. Raises CheckpointError where a file cannot be read."""
        return Weights(folder, self.form)

    def remote(self) -> RemoteCheckpoint | None:
        """What the Hub holds of it; None for a checkpoint on disk."""
        if self.revision is None:
            return None
        listed = list_files(self.source, self.commit or self.revision)
        return replace(listed, form=self.form, revision=self.revision)

    def folder(self, remote: RemoteCheckpoint | None = None) -> Path | None:
        """Where its files are, fetched from the Hub if they must be; None where they are in no folder of weights."""
        if self.load or self.gguf_file:
            return None
        if self.revision is None:
            refuse_adapter_folder(Path(self.source))
            return Path(self.source)
        remote = remote or self.remote()
        assert remote is not None
        self._refuse_adapter_of_the_hub(remote)
        return fetch(remote, with_code=self.trust_remote_code)

    def _refuse_adapter_of_the_hub(self, remote: RemoteCheckpoint | None = None) -> None:
        remote = remote or self.remote()
        if remote is not None and is_adapter(remote.files):
            refuse_adapter(str(self), remote.files, lambda: fetch_file(remote, ADAPTER_CONFIG))

    def weight_bytes(self) -> int:
        """How many bytes of weights there are to read (on the Hub: to download, if not yet in the cache)."""
        if self.load is not None:
            return 0
        remote = self.remote()
        if remote is not None:
            return sum(file.size for file in remote.weights)
        return sum(path.stat().st_size for path in self.weight_paths())

    def hash_weights(self) -> str | None:
        """XXH3 over the weight files of a checkpoint on disk; None on the Hub, where the commit says as much."""
        return None if self.revision is not None or self.load is not None else hash_files(self.weight_paths())

    def weight_paths(self) -> list[Path]:
        """The weight files of a checkpoint on disk."""
        folder = Path(self.source)
        if self.gguf_file:
            return [folder / self.gguf_file]
        return [folder / name for name in local_weight_files(folder, self.form)]

    def _reading_once(self) -> AbstractContextManager[None]:
        if self.gguf_file is None or find_spec("gguf") is None:  # without it, transformers says what to install
            return nullcontext()
        return reading_once(Path(self.source) / self.gguf_file)

    def _load(self, load: Any, what: str = "checkpoint", folder: Path | None = None, **options: Any) -> Any:
        if self.load is not None:
            raise CheckpointError(f"{self} is made by a function, and has no {what} of its own")
        if self.gguf_file:
            options["gguf_file"] = self.gguf_file
        if self.revision is None or folder is not None:
            refuse_other_than_files(Path(folder or self.source))
        if folder is None:
            options["revision"] = self.commit or self.revision or "main"
        try:
            remote = folder is None and self.revision is not None
            with hub_errors(f"{what} {self}", CheckpointError, remote=remote), _quiet_loading(), self._reading_once():
                return load(folder or self.source, trust_remote_code=self.trust_remote_code, **options)
        except MadynError:
            raise
        except Exception as e:  # a hostile or broken file can make the loaders raise anything at all
            reason = describe_failure(e, folder or self.source, trusted=self.trust_remote_code)
            raise CheckpointError(f"{what} {self} cannot be loaded: {reason}") from e


def _bounded(auto_config: Any) -> Callable[..., Any]:
    """`AutoConfig.from_pretrained`, once what the config says has been looked at: some build a list a layer."""
    from transformers import PreTrainedConfig

    def load(source: Any, *, trust_remote_code: bool, **options: Any) -> Any:
        own = Path(source) / "config.json"
        found = (
            read_json_as(own, dict[str, Any])
            if own.exists()
            else PreTrainedConfig.get_config_dict(source, **options)[0]
        )
        refuse_absurd_config(found, source)
        return auto_config.from_pretrained(source, trust_remote_code=trust_remote_code, **options)

    return load


@dataclass(frozen=True)
class Checkpoints:
    """What a model offers: its checkpoints by training step, ascending. `name` is what its directory is made from.

    Attributes:
        left_out: the names that were seen and are no checkpoint of these, with the reason of each.
        main: the one that its name alone means, on the Hub; None elsewhere.
        collisions: the steps that have several names, and are in `by_step` under none.
    """

    name: str
    source: str
    by_step: dict[int, Checkpoint]
    left_out: list[LeftOut] = field(default_factory=list)
    main: Checkpoint | None = None
    collisions: Collisions = field(default_factory=Collisions)

    @property
    def steps(self) -> list[int]:
        """All the steps that the model has, ascending: those with several names too."""
        return sorted({*self.by_step, *self.collisions.by_step})

    def at(self, steps: Iterable[int]) -> list[Checkpoint]:
        """The checkpoints at these steps, ascending.

        Raises:
            CheckpointError: a step has no checkpoint, or several.
        """
        wanted = sorted(set(steps))
        self.collisions.refuse(self.source, wanted)
        missing = [step for step in wanted if step not in self.by_step]
        if missing:
            raise CheckpointError(
                f"{self.source} has no checkpoint at {list_steps(missing)}; it has {list_steps(self.steps)}"
            )
        return [self.by_step[step] for step in wanted]


def find_checkpoint(
    model: str | Path, revision: str | None = None, *, trust_remote_code: bool = False, form: str = "auto"
) -> Checkpoint:
    """One checkpoint: a folder, a GGUF file, or a model of the Hub at a revision (its main one by default).

    Args:
        form: which of the forms that weights are stored in is read, one of `weights.FORMS`.

    Raises:
        CheckpointError: there is no such folder or file, and the name could not be one of the Hub.
        UsageError: a revision is asked of a folder or a file.
    """
    path = Path(model)
    if exists(path):
        if revision:
            raise UsageError(f"{model} is a path; --revision goes with a name of the Hub")
        if path.is_file():
            if path.suffix != ".gguf":
                raise CheckpointError(f"{model}: a model is a folder, a .gguf file, or a name of the Hub")
            return Checkpoint(str(path.parent), gguf_file=path.name)
        refuse_adapter_folder(path)
        if not exists(path / "config.json"):
            reason = describe_missing(path / "config.json")
            if reason.startswith("cannot be read"):
                raise CheckpointError(f"{path / 'config.json'}: {reason}")
            raise CheckpointError(f"{model}: no config.json in it; it is not a checkpoint's folder{_run_in(path)}")
        return Checkpoint(str(path), step=step_of_folder(path), trust_remote_code=trust_remote_code, form=form)
    if means_path(model):
        raise CheckpointError(f"{model}: {describe_missing(model)}")
    if not _HUB_NAME.fullmatch(str(model)):
        raise CheckpointError(f"{model}: no such folder or file, and not a name of the Hub")
    return Checkpoint(str(model), revision=revision or "main", trust_remote_code=trust_remote_code, form=form)


def find_checkpoints(
    model: str | Path, *, trust_remote_code: bool = False, revisions: str | None = None, form: str = "auto"
) -> Checkpoints:
    r"""All the training checkpoints of a model: a folder of them, one alone, or the revisions of a Hub repository.

    Args:
        revisions: a regular expression with a group named `step`, for revisions or folders named in a way of their own,
            such as `r"ckpt_(?P<step>\d+)k"`; the ways in use are tried if not given.
        form: which of the forms that weights are stored in is read, one of `weights.FORMS`.

    Raises:
        UsageError: the expression is none, or has no such group.
        CheckpointError: none is found whose training step is known.
    """
    pattern = None if revisions is None else compile_revisions(revisions)
    path = Path(model)
    named, main = Named(), None
    if not exists(path):
        one = find_checkpoint(model, trust_remote_code=trust_remote_code, form=form)
        commits = _hub_commits(str(model))
        main = replace(one, commit=commits["main"]) if "main" in commits else None
        named = read_names(commits, str(model), pattern, commits)
        # `main` is the model itself, which the checkpoints are compared with: nothing is left out with it.
        named = replace(named, left_out=[seen for seen in named.left_out if seen.name != "main"])
        found = {
            step: replace(one, step=step, revision=name, commit=commits[name]) for step, name in named.by_step.items()
        }
    elif path.is_dir() and _is_run(path, named := names_in(path, pattern)):
        found = {
            step: Checkpoint(str(path / name), step=step, trust_remote_code=trust_remote_code, form=form)
            for step, name in named.by_step.items()
        }
    else:
        one = find_checkpoint(path, trust_remote_code=trust_remote_code, form=form)
        named = Named(left_out=[seen for seen in named.left_out if seen.reason != FINAL])
        found = {} if one.step is None else {one.step: one}
        if one.step is not None and is_step_name(path.name, pattern):
            path = path.parent  # run/step1000 given alone belongs to the model `run`
    if not found:
        named.collisions.refuse(str(model), named.collisions.by_step)
        raise CheckpointError(
            f"{model}: no training checkpoints in it (stepN, checkpoint-N, ...); for one checkpoint use `madyn scan`"
            + "".join(f"; {sentence}" for sentence in describe_left_out(named.left_out))
        )
    name = path.resolve().name if path.exists() else str(model)
    return Checkpoints(name, str(model), dict(sorted(found.items())), named.left_out, main, named.collisions)


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


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without transformers' bar and report of weights loaded, new ones for each of hundreds of checkpoints."""
    from transformers.utils import logging

    before, verbosity = logging.set_tqdm_hook(_without_bar), logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
        logging.set_verbosity(verbosity)


def _without_bar(bar: Any, args: Any, kwargs: Any) -> Any:
    return bar(*args, **{**kwargs, "disable": True})


def _hub_commits(repo: str) -> dict[str, str]:
    """The commit of every branch and tag."""
    from huggingface_hub import list_repo_refs

    with hub_errors(f"there is no folder {repo}; on the Hub, model {repo}", CheckpointError):
        refs = retrying(list_repo_refs, repo)
    return {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
