"""A fitted predictor as a JSON file: the curves that it learned from, its hyper-parameters and its residuals.

Nothing in such a file is executed: the fit is made again from its numbers, and numbers that no fit leaves are refused.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np
from annotated_types import Ge, Le, MaxLen

from madyn.architecture import Architecture
from madyn.dataset.schema import MAX_STEP, Count, Line, Number, Step
from madyn.errors import DatasetError, MadynError, one_line
from madyn.prediction.approaches import approach_named
from madyn.prediction.derived import LARGEST_LOG, steps_of
from madyn.prediction.inputs import as_record, from_record
from madyn.prediction.left_out import Calibrated, calibrated
from madyn.prediction.table import table_of
from madyn.typing import Array

Size = Annotated[int, Ge(0), Le(2**31)]

_FORMAT = 1


def write_state(path: Path, approach: str, seed: int, state: Calibrated) -> None:
    """Raises StorageError where the file cannot be written."""
    import madyn
    from madyn.dataset.files import write_json

    write_json(
        path,
        {
            "madyn_predictor": _FORMAT,
            "version": madyn.__version__,
            "approach": approach,
            "seed": seed,
            "settings": dict(state.fitted.settings),
            "positions": state.table.positions.tolist(),
            "models": {name: as_record(subject) for name, subject in state.table.subjects.items()},
            "losses": dict(state.table.losses),
            "left_out": dict(state.table.left_out),
            "curves": state.table.curves.tolist(),
            "predicted": state.predicted.tolist(),
            # What is `uncalibrated` in code keeps its name in files.
            "claimed": state.uncalibrated.tolist(),
        },
    )


def read_state(path: Path) -> tuple[str, int, Calibrated]:
    """The approach, the seed and what was learned.

    Raises:
        DatasetError: the file is not one of a predictor, or of another format, or damaged.
    """
    from madyn.dataset.schema import read_as

    if read_as(path, _Marked).madyn_predictor != _FORMAT:
        raise DatasetError(f"{path}: not a predictor that this version of madyn has saved")
    content: _Saved = read_as(path, _Saved)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be fitted is refused below
            state = _state_of(content)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, ArithmeticError, MadynError) as e:
        raise DatasetError(f"{path}: damaged: {one_line(e)}") from e
    return content.approach, content.seed, state


def _state_of(content: _Saved) -> Calibrated:
    """Raises one of several errors where the parts do not belong together."""
    fit = approach_named(content.approach).fit
    subjects = {name: from_record(asdict(record)) for name, record in content.models.items()}
    layers = sum(subject.architecture.num_hidden_layers for subject in subjects.values())
    curves, predicted, uncalibrated = (_rectangle(c) for c in (content.curves, content.predicted, content.claimed))
    if (
        not layers == len(curves)
        or not curves.shape == predicted.shape == uncalibrated.shape
        or not (uncalibrated >= _LEAST_SPREAD).all()
    ):
        raise ValueError("its curves do not belong together")
    positions = np.array(content.positions, float)
    if not len(positions) or (np.diff(positions) <= 0).any() or positions[0] < 0:
        raise ValueError("its positions do not rise from 0")
    if steps_of(positions[-1:], max(subject.training.steps for subject in subjects.values()))[0] > 2 * MAX_STEP:
        raise ValueError("its positions go beyond any step of training")
    if max(np.abs(curves).max(), np.abs(predicted).max(), uncalibrated.max()) > LARGEST_LOG:
        raise ValueError("its curves are none of a ratio over the steps of a run")
    table = table_of(subjects, curves, positions, content.losses, content.left_out)
    fitted = fit(table.averaged(), content.seed, content.settings)
    state = calibrated(table, fitted, predicted, uncalibrated)
    if not all(np.isfinite(part).all() for part in fitted.predict(table.rows)):
        raise ValueError("what it predicts of its own models is not finite")
    return state


def _rectangle(rows: list[list[float]]) -> Array:
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError("its curves are not all of one length")
    return np.array(rows, float)


_LEAST_SPREAD = 1e-9
"""Standard deviations of log curves: no approach gives less than a millionth."""

_MOST_ROWS = 5000
"""Layers that a predictor is fitted to: its matrix has their square."""


_NUMBER: Any = Number  # which a type checker does not join with None outside of annotations
_VALUES = {int: Size, float: Number, float | None: _NUMBER | None, str: Line}

if TYPE_CHECKING:
    _Shape = Any
else:
    _Shape = make_dataclass(
        "_Shape",
        [
            (f.name, _VALUES[get_type_hints(Architecture)[f.name]], field(default=f.default))
            for f in fields(Architecture)
        ],
        frozen=True,
        kw_only=True,
    )
    """An architecture as it is written; what is missing is refused by `Architecture`."""


@dataclass(frozen=True)
class _Trained:
    steps: Step
    learning_rate: Number | None = None
    tokens_per_step: Count | None = None


@dataclass(frozen=True)
class _Learned:
    architecture: _Shape
    training: _Trained
    wiring: dict[str, Line] = field(default_factory=dict)


@dataclass(frozen=True)
class _Marked:
    """Enough to tell whether it is one."""

    madyn_predictor: Any = None


@dataclass(frozen=True)
class _Saved:
    """What `write_state` writes."""

    madyn_predictor: int
    approach: Line
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    settings: dict[str, Any]
    positions: Annotated[list[Number], MaxLen(100_000)]
    models: dict[str, _Learned]
    losses: dict[str, Number]
    left_out: dict[str, Line]
    curves: Annotated[list[list[Number]], MaxLen(_MOST_ROWS)]
    predicted: Annotated[list[list[Number]], MaxLen(_MOST_ROWS)]
    claimed: Annotated[list[list[Number]], MaxLen(_MOST_ROWS)]
