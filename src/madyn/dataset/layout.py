"""The published layout: what each file of a dataset is called and where it lies.

Nothing outside this file spells a path of a dataset. Names follow the dataset card; what the card does not have
(`manifest/`, `locations/`, `positions/`, `training/`, `analysis/`) stands beside it.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path, PurePosixPath

from madyn.dataset.files import is_folder, list_folder
from madyn.dataset.schema import MAX_STEP
from madyn.errors import UsageError

QUANTITIES = ("top1", "top2", "top3", "median")
"""The rows of a statistics file, in order."""

FITTED_QUANTITIES = ("ratio", "top1", "median")
"""The quantities that curves are fitted to."""

PARAMETER_TABLE = "fitted_param_dataset_reparam.csv"

PACKED = (
    PARAMETER_TABLE, "LICENSE", "README.md", "*/stats/*", "manifest/**/*", "locations/**/*", "positions/**/*",
    "training/**/*",
)  # fmt: skip
"""What a dataset is without its pictures and `params/`, as patterns below its root."""

_STEP_FILE = re.compile(r"exp2_.*step([0-9]{1,16})(?:\.(?:json|txt))?")
_MANIFEST_FILE = re.compile(r"step([0-9]{1,16})\.json")
_LONGEST_NAME = 200  # bytes; a file system takes 255, and a statistics file is called after its model


def directory_name(model: str | Path) -> str:
    """The directory of a model: its Hub name without the owner, or the base name of a path, `-` as `_`.

    Raises:
        UsageError: what is left could not be a directory's name.

    >>> directory_name("EleutherAI/pythia-1.4b")
    'pythia_1.4b'
    """
    base = PurePosixPath(str(model).replace("\\", "/")).name.removesuffix(".gguf").replace("-", "_")
    name = unicodedata.normalize("NFC", base)  # file systems write one letter in two ways
    if not is_directory_name(name):
        raise UsageError(
            f"{str(model)!r} gives no usable directory name; give one with --name: letters (of any script), digits and "
            f"any of _ . + -, the first a letter or digit, at most {_LONGEST_NAME} bytes"
        )
    return name


def is_directory_name(name: str) -> bool:
    """Whether a model's directory may be called so.

    Letters of any script with their marks, digits and any of _ . + -, the first a letter or digit: no separator, and
    nothing that is hidden or leads elsewhere.

    >>> [name for name in ("pythia_14m", "模型", "été", "..", ".git", "a/b") if is_directory_name(name)]
    ['pythia_14m', '模型', 'été']
    """
    return (
        name[:1].isalnum()
        and len(name.encode(errors="replace")) <= _LONGEST_NAME
        and all(c.isalnum() or c in "_.+-" or unicodedata.category(c).startswith("M") for c in name)
    )


def is_hidden(root: Path, path: Path) -> bool:
    """Whether a path below a root is, or lies in, what no reader takes for data: what is being written, locks."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def statistics_folder(root: Path, model: str) -> Path:
    return root / model / "stats"


def statistics_path(root: Path, model: str, step: int) -> Path:
    return statistics_folder(root, model) / f"exp2_{model}_step{step}"


def statistics_files(root: Path, model: str) -> dict[int, Path]:
    """The statistics files that a model has, by step, ascending. Files of any other name are not looked at."""
    return _by_step(_STEP_FILE, statistics_folder(root, model))


def params_path(root: Path, model: str, quantity: str | None = None) -> Path:
    """The fits of one quantity, or those of all (the ratio's at the top level)."""
    suffix = f"_{quantity}" if quantity else ""
    return root / model / "params" / f"layer_fit_params{suffix}.json"


def manifest_path(root: Path, model: str, step: int) -> Path:
    return root / "manifest" / model / f"step{step}.json"


def manifest_files(root: Path, model: str) -> dict[int, Path]:
    """The manifests that a model has, by step, ascending."""
    return _by_step(_MANIFEST_FILE, root / "manifest" / model)


def _by_step(pattern: re.Pattern[str], folder: Path) -> dict[int, Path]:
    matches = [(pattern.fullmatch(p.name), p) for p in list_folder(folder)]
    return dict(sorted((int(m[1]), p) for m, p in matches if m and int(m[1]) <= MAX_STEP))


def probe_path(root: Path) -> Path:
    return root / "manifest" / "probe.json"


def locations_path(root: Path, model: str, step: int) -> Path:
    return root / "locations" / model / f"step{step}.json"


def positions_path(root: Path, model: str, step: int) -> Path:
    """The statistics of groups of positions, each B x Q x L."""
    return root / "positions" / model / f"step{step}.json"


def training_path(root: Path, model: str) -> Path:
    """How a model of the lab was trained, and its losses."""
    return root / "training" / f"{model}.json"


def tokenizer_folder(root: Path) -> Path:
    """The tokenizer of the lab's models."""
    return root / "training" / "tokenizer"


def lab_folder(root: Path) -> Path:
    """What the lab needs to go on, and nobody else does."""
    return root / ".lab"


def folders_of_units(root: Path, model: str) -> list[Path]:
    """The folders, beside the model's own, that hold a file for each of its units."""
    return [root / name / model for name in ("manifest", "locations", "positions")]


def tokens_path(root: Path) -> Path:
    """The token ids of the text that the lab's models learn from."""
    return lab_folder(root) / "tokens.npy"


def state_path(root: Path, model: str) -> Path:
    """What the lab needs to go on training a model."""
    return lab_folder(root) / f"{model}.pt"


def training_lock_path(root: Path, model: str) -> Path:
    """Held by the process that trains a model; gone afterwards."""
    return lab_folder(root) / f"{model}.lock"


def lock_path(root: Path, model: str, step: int) -> Path:
    """Held while a unit is measured; gone afterwards."""
    return root / ".locks" / model / f"step{step}"


def manifest_models(root: Path) -> list[str]:
    """The models that something was tried with, measured or not, by name."""
    return sorted(p.name for p in list_folder(root / "manifest") if is_folder(p))


def model_directories(root: Path) -> list[str]:
    """The models in a dataset: every directory that has a `stats` directory, by name."""
    return sorted(p.name for p in list_folder(root) if not p.name.startswith(".") and is_folder(p / "stats"))
