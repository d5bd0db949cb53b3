"""A fitted predictor as a JSON file: the curves that it learned from, its hyper-parameters and its residuals.

Nothing in such a file is executed: the fit is made again from its numbers, and numbers that no fit leaves are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madyn.errors import DatasetError, MadynError
from madyn.prediction.approaches import approach_named
from madyn.prediction.calibrated import Calibrated, calibrated
from madyn.prediction.derived import LARGEST_LOG
from madyn.prediction.inputs import as_record, from_record
from madyn.prediction.table import table_of

Floats = NDArray[np.float64]

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
            "claimed": state.claimed.tolist(),
        },
    )


def read_state(path: Path) -> tuple[str, int, Calibrated]:
    """The approach, the seed and what was learned.

    Raises:
        DatasetError: the file is not one of a predictor, or of another format, or damaged.
    """
    from madyn.dataset.files import read_json

    content = read_json(path)
    if not isinstance(content, dict) or content.get("madyn_predictor") != _FORMAT:
        raise DatasetError(f"{path}: not a predictor that this version of madyn has saved")
    try:
        approach, seed = content["approach"], int(content["seed"])
        fit = approach_named(approach).fit
        subjects = {name: from_record(record) for name, record in content["models"].items()}
        table = table_of(
            subjects, _floats(content["curves"]), _floats(content["positions"]),
            {name: float(_floats(loss)) for name, loss in content["losses"].items()}, content["left_out"],
        )  # fmt: skip
        predicted, claimed = _floats(content["predicted"]), _floats(content["claimed"])
        if not table.curves.shape == predicted.shape == claimed.shape or not (claimed > 0).all():
            raise ValueError("its curves do not belong together")
        rising = (np.diff(table.positions) > 0).all() and table.positions[0] >= 0
        if not rising or np.abs(table.curves).max() > LARGEST_LOG:
            raise ValueError("its curves are none of a ratio over the steps of a run")
        fitted = fit(table.averaged(), seed, content["settings"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, MadynError) as e:
        raise DatasetError(f"{path}: damaged: {e}") from e
    return approach, seed, calibrated(table, fitted, predicted, claimed)


def _floats(value: Any) -> Floats:
    array = np.asarray(value, float)
    if not np.isfinite(array).all():
        raise ValueError("a number in it is not finite")
    return array
