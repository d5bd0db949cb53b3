"""What every kind of checkpoint answers, so that nobody who uses one asks of which kind it is.

A kind is a `Checkpoint` (one set of weights, with its config and tokenizer) and a `Source`, which says of a name that a
user gives whether it means checkpoints of this kind, and which. What is said here of both is true of files on disk that
only their own kind can read; a kind overrides where it knows more. It must say how a model is loaded, and for text how
a config and a tokenizer are; and it should say which files hold the weights, so that they can be hashed and compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from madyn.checkpoints.naming import Collisions, LeftOut
from madyn.checkpoints.stores import Advance, Folders, Store
from madyn.checkpoints.weights import Weights, hash_files
from madyn.dataset.lab_files import hash_file
from madyn.errors import CheckpointError
from madyn.paths import exists
from madyn.sharing import list_steps


@dataclass(frozen=True)
class Files:
    """What was brought to this machine of a checkpoint.

    Attributes:
        folder: where its files of tensors are; None where it has none that transformers finds by their names.
        bytes_left_out: how many bytes of weights were not fetched, where only what the decoder needs was.
        sha256: of each file, where the checkpoint's source lists it.
    """

    folder: Path | None
    bytes_left_out: int | None = None
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights.

    Attributes:
        source: what holds it: a folder, a file, a name on the Hub, or only a name.
        step: its training step, None where it is not known.
        revision: its name within the source, for one that has names; a revision on the Hub.
        commit: the hash that the revision stood for when it was found, and that is loaded; None where it is not known.
        trust_remote_code: run the code that comes with the model.
        form: which of the forms that its weights are stored in is read, one of `settings.FORMS`.
    """

    source: str
    step: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    commit: str | None = None
    form: str = "auto"

    origin: ClassVar[str] = ""
    """How it came to be, for a message that reads on with "has no tokenizer"."""

    def __str__(self) -> str:
        return self.source + (f" at {self.revision}" if self.revision else "")

    def config(self, folder: Path | None = None) -> Any:
        """The Hugging Face config, read in `folder` if given. Raises CheckpointError where it cannot be read."""
        raise self.lacks("config")

    def tokenizer(self) -> Any:
        """The tokenizer that comes with the checkpoint. Raises CheckpointError where there is none."""
        raise CheckpointError(f"{self.lacks('tokenizer')}; {OTHERWISE}")

    def image_processor(self) -> Any:
        """What prepares images for the model, with Pillow. Raises CheckpointError where none comes with it."""
        raise self.lacks("image processor")

    def lacks(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self} {self.origin}has no {what} of its own")

    def model(self, dtype: Any, device: str = "cpu", folder: Path | None = None) -> Any:
        """The model with its weights, as `load_whole` gives it."""
        return self.load_whole(dtype, device, folder)[0]

    def load_whole(
        self, dtype: Any, device: str = "cpu", folder: Path | None = None, *, head: bool = False
    ) -> tuple[Any, list[str]]:
        """The model with its weights, in evaluation mode.

        Args:
            dtype: a torch dtype; the weights are converted to it whatever they are stored in.
            folder: where its files are, if they have been fetched.
            head: with the head that predicts tokens, where the checkpoint has one; else without any.

        Returns:
            the model, and what is worth knowing of the checkpoint, a sentence each.

        Raises:
            CheckpointError: the weights cannot be read, do not fit the config, or some are missing.
        """
        raise NotImplementedError

    # A checkpoint that has a folder of tensors can be loaded by exchanging weights, and be streamed.

    def folder(self) -> Path | None:
        """Where its files are, fetched if they must be; None where transformers finds no tensors by their names."""
        return None

    def weights(self, folder: Path) -> Weights:
        """Its tensors, in the folder where its files are. Raises CheckpointError where a file cannot be read."""
        return Weights(folder, self.form)

    def load_reported(self, folder: Path | None, weights: Weights | None, **options: Any) -> tuple[Any, dict[str, Any]]:
        """What transformers makes of the checkpoint, and its report of tensors that are missing or have no place.

        Args:
            options: `kind`, the class of transformers to build, AutoModel by default; the others are for its
                `from_pretrained`. With `device_map={"": "meta"}` nothing is read but the names.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        raise NotImplementedError

    # How it gets here, for one that is elsewhere.

    def is_here(self) -> bool:
        """Whether it is on this machine, some of its weights at the least."""
        return True

    def count_away(self, checkpoints: Sequence[Checkpoint]) -> int:
        """How many of some checkpoints of its model have to be fetched. Raises CheckpointError."""
        return 0

    def fetch(self, *, decoder_only: bool = False) -> Files:
        """Bring its weights to this machine, and near to it where they are on it already.

        Args:
            decoder_only: only those that the decoder needs, of a checkpoint that can be had in parts.

        Raises:
            CheckpointError: they cannot be had.
        """
        return Files(self.folder())

    def forget(self) -> None:
        """Take what was fetched away again."""

    def weight_bytes(self) -> int:
        """How many bytes of weights there are to read, or to fetch if they are not here. Raises CheckpointError."""
        return sum(path.stat().st_size for path in self.weight_files().values())

    # Which one it is, told without loading it.

    def weight_files(self, form: str | None = None) -> dict[str, Path]:
        """The weight files of a checkpoint on disk, by the names that they have in all checkpoints of a model.

        Args:
            form: another than its own.

        Raises:
            CheckpointError: which they are cannot be told, or one is missing.
        """
        return {}

    def files(self) -> dict[str, Path]:
        """As `weight_files`, with all others that it has."""
        return self.weight_files()

    def hash_weights(self) -> str | None:
        """XXH3 over the weight files of a checkpoint on disk; None where there are none, or a commit says as much."""
        files = self.weight_files()
        return hash_files(files.values()) if files else None

    def holds(self, xxh3: str | None, sha256: Mapping[str, str]) -> bool | None:
        """Whether its weights are those of these hashes (of all, and of each file); None where that cannot be told.

        Raises:
            CheckpointError: the files cannot be had; OSError where they cannot be read.
        """
        if xxh3 is not None:
            own = self.hash_weights()
            return None if own is None else own == xxh3
        files = self.weight_files()
        shared = [name for name in sha256 if name in files]
        return hash_file(files[shared[0]]) == sha256[shared[0]] if shared else None

    def step_inside(self) -> tuple[int, str] | None:
        """The step that its files say it is, where they are here, and what says it."""
        return None

    def late_step(self) -> tuple[int, str] | None:
        """As `step_inside`, of one whose `store` could not know it: for that, files have to be fetched."""
        return None

    def siblings(self) -> Checkpoints | None:
        """All of its model, where it was found alone and its name says which of them it is. Raises CheckpointError."""
        return None

    def store(self, found: Checkpoints, asked: Iterable[int], advance: Advance) -> Store | None:
        """What its model's checkpoints hold, to compare them; None where nothing can be known without measuring.

        Args:
            asked: the steps that are to be measured; others may be looked at too, to compare with.
            advance: called with the number of checkpoints looked at so far, and of all.
        """
        with suppress(CheckpointError, OSError):
            if not any(one.weight_files() for one in found.by_step.values()):
                return None
        return Folders({**found.by_step}, advance)


OTHERWISE = "give --tokenizer NAME or FOLDER (tokenizer=), or token ids with --tokens FILE.npy (inputs=)"
"""What to do where a checkpoint has no tokenizer."""


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


@dataclass(frozen=True)
class Asked:
    """What a user says of a model besides its name; `pattern` is how names are read, the known ways if None."""

    revision: str | None = None
    trust_remote_code: bool = False
    form: str = "auto"
    pattern: re.Pattern[str] | None = None


class Source:
    """A kind of checkpoint: which names mean some of it, and what they mean.

    Attributes:
        words: what a model of this kind is, such as "a folder", for a message that says what there is.
        last: whether it takes what others may know better, and is asked after them.
    """

    words: str = ""
    last: bool = False

    def takes(self, model: str | Path) -> bool:
        """Whether a name means a checkpoint of this kind, or several."""
        raise NotImplementedError

    def find(self, model: str | Path, asked: Asked) -> Checkpoint:
        """The one checkpoint that a name means. Raises CheckpointError where there is none."""
        raise NotImplementedError

    def find_all(self, model: str | Path, asked: Asked) -> Checkpoints:
        """The checkpoints of a model whose steps are known; none, where there are none. Raises CheckpointError."""
        one = self.find(model, asked)
        name = Path(model).resolve().name if exists(model) else str(model)
        return Checkpoints(name, str(model), {} if one.step is None else {one.step: one})

    def tokenizer(self, name: str | Path, *, trust_remote_code: bool = False) -> Any:
        """The tokenizer in what a name means. What fails is for the caller to put into words."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)
