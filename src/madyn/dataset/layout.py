"""The published layout: what each file of a dataset is called and where it lies.

Nothing outside this file spells a path of a dataset. Names follow the dataset card; what the card does not have
(`manifest/`, `locations/`, `positions/`, `training/`, `monitor/`, `analysis/`, `throughput.json`) stands beside it. A
name or a step that would not be read back is refused here, where every path is made, and `unread` tells of those that
others left.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from madyn.dataset.files import is_folder, list_folder, storage_error
from madyn.dataset.schema import MAX_STEP
from madyn.errors import StorageError, UsageError, one_of, quoted

QUANTITIES = ("top1", "top2", "top3", "median")
"""The rows of a statistics file, in order."""

FITTED_QUANTITIES = ("ratio", "top1", "median")
"""The quantities that curves are fitted to."""

PARAMETER_TABLE = "fitted_param_dataset_reparam.csv"

PACKED = (
    PARAMETER_TABLE, "LICENSE", "README.md", "*/stats/*", "manifest/**/*", "locations/**/*", "positions/**/*",
    "training/**/*", "monitor/*", "throughput.json",
)  # fmt: skip
"""What a dataset is without its pictures and `params/`, as patterns below its root."""

_STEP_FILE = re.compile(r"exp2_.*step([0-9]{1,16})(?:\.(?:json|txt))?")
_MANIFEST_FILE = re.compile(r"step([0-9]{1,16})\.json")
_LONGEST_NAME = 200  # bytes; a file system takes 255, and a statistics file is called after its model

# What the layout calls its own, in upper or lower case: many file systems do not tell them apart.
_TAKEN = frozenset(
    ("manifest", "locations", "positions", "training", "analysis", "intervention", "monitor", "checkpoints", "stats",
     "params", "series", "per_layer_evolution", "example_fits", "metrics", "probe.json", "readme.md", "license",
     "throughput.json", PARAMETER_TABLE)
)  # fmt: skip
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # of Windows


def directory_name(model: str | Path) -> str:
    """The directory of a model: its Hub name without the owner, or the base name of a path, `-` as `_`.

    Raises:
        UsageError: what is left could not be a directory's name.

    >>> directory_name("EleutherAI/pythia-1.4b")
    'pythia_1.4b'
    """
    base = PurePosixPath(str(model).replace("\\", "/")).name.removesuffix(".gguf").replace("-", "_")
    name = unicodedata.normalize("NFC", base)  # file systems write one letter in two ways
    fault = fault_of_name(name)
    if fault:
        raise UsageError(f"{quoted(str(model))} gives no usable directory name (it {fault}); give one with --name")
    return name


def is_directory_name(name: str) -> bool:
    """Whether a model's directory may be called so.

    Letters of any script with their marks, digits and any of _ . + -, the first a letter or digit: no separator, and
    nothing that is hidden or leads elsewhere; nothing that the layout has a use for, or that Windows has.

    >>> [name for name in ("pythia_14m", "模型", "été", "..", ".git", "a/b", "Manifest") if is_directory_name(name)]
    ['pythia_14m', '模型', 'été']
    """
    return not fault_of_name(name)


def check_name(name: str) -> str:
    """A model's directory name as it is. Raises UsageError where it is none."""
    fault = fault_of_name(name)
    if fault:
        raise UsageError(f"{quoted(name)} cannot be a model's directory: it {fault}")
    return name


def check_step(step: Any) -> int:
    """A training step as a whole number. Raises UsageError where it is none, or one that would not be read back."""
    try:
        number = operator.index(step)
    except TypeError:
        raise UsageError(f"a step is {quoted(step)}; it is a whole number") from None
    if isinstance(step, bool) or not 0 <= number <= MAX_STEP:
        raise UsageError(f"a step is {quoted(step)}; it is a whole number from 0 to 2^53, {MAX_STEP}")
    return number


def same_name(name: str) -> str:
    """What two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


@lru_cache(maxsize=4096)
def fault_of_name(name: str) -> str:
    """Why a model's directory may not be called so; empty where it may."""
    if same_name(name) in _TAKEN:
        return "is a name of the layout's own"
    if _DEVICES.fullmatch(name):
        return "is a device's name on Windows"
    if len(name.encode(errors="replace")) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    if not name[:1].isalnum() or name.endswith("."):
        return "does not begin with a letter or digit, or ends with a dot"
    if not all(c.isalnum() or c in "_.+-" or unicodedata.category(c).startswith("M") for c in name):
        return "holds something else than letters (of any script), digits and _ . + -"
    if name != unicodedata.normalize("NFC", name):
        return "is not written in composed letters (NFC), so that its twin would be another"
    return ""


def refuse_twin(root: Path, name: str) -> None:
    """Raise UsageError where a dataset has a model whose name only a part of all file systems tells from this one."""
    if isinstance(root, Path):
        names = [p.name for p in list_folder(root)]
        twin = next((other for other in names if other != name and same_name(other) == same_name(name)), None)
        if twin is not None:
            raise UsageError(f"{root} has {twin}, which many file systems do not tell from {name}: give another name")


def inside(root: Path, path: Path) -> Path:
    """A path below the root of a dataset as it is, where it leads nowhere else. The root itself may be a link.

    What lies elsewhere is somebody else's: it is not written to, and not packed or copied as a part of the dataset.

    Raises:
        StorageError: a link on its way leads out of the dataset.
    """
    if isinstance(root, Path):
        on_the_way = root
        for part in path.relative_to(root).parts:
            on_the_way /= part
            if _is_link(on_the_way) and not on_the_way.resolve().is_relative_to(root.resolve()):
                raise StorageError(
                    f"{on_the_way} is a link that leads out of the dataset, to {on_the_way.resolve()}; put a folder or "
                    "a copy in its place, or work on the dataset that it leads to"
                )
    return path


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError as e:
        raise storage_error(path, e) from e


def is_hidden(root: Path, path: Path) -> bool:
    """Whether a path below a root is, or lies in, what no reader takes for data: what is being written, locks."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def statistics_folder(root: Path, model: str) -> Path:
    return root / check_name(model) / "stats"


def statistics_path(root: Path, model: str, step: int) -> Path:
    return statistics_folder(root, model) / f"exp2_{model}_step{check_step(step)}"


def statistics_files(root: Path, model: str) -> dict[int, Path]:
    """The statistics files that a model has, by step, ascending. Files of any other name are not looked at."""
    return _by_step(_STEP_FILE, statistics_folder(root, model))


def params_path(root: Path, model: str, quantity: str | None = None) -> Path:
    """The fits of one quantity, or those of all (the ratio's at the top level)."""
    suffix = "" if quantity is None else f"_{one_of('quantity', quantity, (*QUANTITIES, 'ratio'))}"
    return root / check_name(model) / "params" / f"layer_fit_params{suffix}.json"


def manifest_path(root: Path, model: str, step: int) -> Path:
    return _unit_path(root, "manifest", model, step)


def _unit_path(root: Path, folder: str, model: str, step: int) -> Path:
    return root / folder / check_name(model) / f"step{check_step(step)}.json"


def manifest_files(root: Path, model: str) -> dict[int, Path]:
    """The manifests that a model has, by step, ascending."""
    return _by_step(_MANIFEST_FILE, root / "manifest" / check_name(model))


def _by_step(pattern: re.Pattern[str], folder: Path) -> dict[int, Path]:
    """Files by the step in their names, ascending. Of two for one step that with the shorter name is the layout's."""
    found = [(int(m[1]), p) for p in list_folder(folder) if (m := pattern.fullmatch(p.name))]
    found.sort(key=lambda one: (one[0], -len(one[1].name), one[1].name))
    return {step: path for step, path in found if step <= MAX_STEP}


def study_path(root: Path, model: str, step: int | None) -> Path:
    """What a checkpoint showed when values of it were replaced; None: what the study of the model follows."""
    folder = root / "intervention" / check_name(model)
    return folder / ("site.json" if step is None else f"step{check_step(step)}.json")


def study_files(root: Path, model: str) -> dict[int, Path]:
    return _by_step(_MANIFEST_FILE, root / "intervention" / check_name(model))


def monitor_folder(root: Path) -> Path:
    return root / "monitor"


def monitor_path(root: Path, model: str) -> Path:
    """What a monitor says of a run that it watches, and its alerts."""
    return monitor_folder(root) / f"{check_name(model)}.json"


def monitor_files(root: Path) -> dict[str, Path]:
    """The records of monitors, by model. Files of any other name are not looked at."""
    found = sorted(p for p in list_folder(monitor_folder(root)) if p.suffix == ".json" and is_directory_name(p.stem))
    return {path.stem: path for path in found}


def monitor_inputs_path(root: Path) -> Path:
    """The sequences that a monitor took from the first batch of a run."""
    return root / "monitor" / "inputs.npy"


def monitor_lock_path(root: Path, model: str) -> Path:
    """Held while a run is watched; gone afterwards."""
    return root / ".locks" / check_name(model) / ".monitor"


def probe_path(root: Path) -> Path:
    return root / "manifest" / "probe.json"


def locations_path(root: Path, model: str, step: int) -> Path:
    return _unit_path(root, "locations", model, step)


def positions_path(root: Path, model: str, step: int) -> Path:
    """The statistics of groups of positions, each B x Q x L."""
    return _unit_path(root, "positions", model, step)


def step_of_file(name: str) -> int | None:
    """The step that a statistics file is of, by its name; None for a file of another kind.

    >>> step_of_file("exp2_pythia_14m_step512"), step_of_file("notes.csv")
    (512, None)
    """
    match = _STEP_FILE.fullmatch(name)
    return int(match[1]) if match else None


def training_path(root: Path, model: str) -> Path:
    """How a model of the lab was trained, and its losses."""
    return root / "training" / f"{check_name(model)}.json"


def throughput_path(root: Path) -> Path:
    """How fast the lab's models train beside one another, where somebody timed it."""
    return root / "throughput.json"


def training_files(root: Path) -> list[Path]:
    """The records of the lab's models, by name."""
    return sorted(p for p in (root / "training").glob("*.json") if is_directory_name(p.stem))


def tokenizer_folder(root: Path) -> Path:
    """The tokenizer of the lab's models."""
    return root / "training" / "tokenizer"


def lab_folder(root: Path) -> Path:
    """What the lab needs to go on, and nobody else does."""
    return root / ".lab"


def folders_of_units(root: Path, model: str) -> list[Path]:
    """The folders, beside the model's own, that hold a file for each of its units."""
    return [root / name / check_name(model) for name in ("manifest", "locations", "positions")]


def paths_of_lab(root: Path, model: str) -> list[Path]:
    """The folders and files that the lab writes for a model, and removes with it."""
    own = [statistics_folder(root, model), training_path(root, model), root / "checkpoints" / check_name(model)]
    return [*own, *folders_of_units(root, model), tokenizer_folder(root), lab_folder(root) / f"{model}.pt"]


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
    return root / ".locks" / check_name(model) / f"step{check_step(step)}"


def manifest_models(root: Path) -> list[str]:
    """The models that something was tried with, measured or not, by name."""
    return sorted(p.name for p in list_folder(root / "manifest") if is_directory_name(p.name) and is_folder(p))


def model_directories(root: Path) -> list[str]:
    """The models in a dataset: every directory that has a `stats` directory, by name."""
    return sorted(p.name for p in list_folder(root) if is_directory_name(p.name) and is_folder(p / "stats"))


def unread(root: Path) -> list[Path]:
    """What lies where data of a dataset would, and has no name that is read: models and units of somebody else's."""
    with_data = [p for p in list_folder(root) if is_folder(p / "stats")]
    folders = [*with_data, *(p for p in list_folder(root / "manifest") if is_folder(p))]
    models = [p for p in folders if not p.name.startswith(".") and not is_directory_name(p.name)]
    units = [
        p
        for model in model_directories(root)
        for read in [set(statistics_files(root, model).values())]
        for p in list_folder(statistics_folder(root, model))
        if p.name.startswith("exp2_") and p not in read
    ]
    return sorted((*models, *units))
