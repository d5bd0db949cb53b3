"""How much worse architectures that were left out are predicted when an input of theirs is another's.

What a fit relies on says nothing of whether it is right to; so importances are measured on architectures that the fit
has not seen, and over many draws of those that it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from madyn.errors import DatasetError, UsageError
from madyn.prediction.approaches import approach_named
from madyn.prediction.cautions import ENOUGH_ARCHITECTURES
from madyn.prediction.derived import read_quantity
from madyn.prediction.explanation import Response
from madyn.prediction.inputs import DEPTH
from madyn.prediction.scoring import r_squared
from madyn.prediction.table import CurveTable
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd

    from madyn.prediction.predictor import Predictor


_SHUFFLES = 5
_INTERVAL = (0.05, 0.95)


def importances(predictor: Predictor, quantity: str, resamples: int = 20, seed: int = 0) -> pd.DataFrame:
    """How much worse architectures that were left out are predicted when one input of theirs is exchanged.

    Permutation importance (Breiman 2001; as switched values, Fisher, Rudin & Dominici 2019), over resamples of two
    thirds of the architectures: the approach is fitted to these, with its hyper-parameters kept, and the importance of
    an input is how far R2 of the quantity's logarithm on the layers of the other third falls when every architecture is
    given the value of another one (all its layers the same), or every layer the depth of another layer of its own
    model. The architectures are drawn without replacement: a bootstrap draws some of them twice, and a model whose
    layers come twice is no second witness but looks like one to a regression. Two thirds are about as many distinct
    ones as a bootstrap holds.

    The interval shows which differences hold whatever architectures were trained. Each resample is scored on a third
    only, so it is wider than that of a mean, and what is learned from two thirds is a little less than what the
    predictor knows.

    Args:
        resamples: how many.
        seed: of the resamples and of the exchanges, of which each resample takes the mean of five.

    Returns:
        A row a feature, the most important first: feature; importance, the mean over the resamples; lower and upper,
        their 5 % and 95 % quantiles; r2, the mean with nothing exchanged, the same in all rows. The fall of R2 can
        exceed 1; where r2 is not above 0, nothing was learned that could fall. Of "peak step", layers whose measured
        curve has a peak are scored.

    Raises:
        UsageError: there is no such quantity, no resample is asked for, or the predictor is not fitted.
        DatasetError: there are fewer than five architectures; R2 cannot be told in any resample; or a feature has
            another value in so few architectures that two thirds of them rarely show it.
    """
    import pandas as pd

    features = Response(predictor, quantity).features
    if resamples < 1:
        raise UsageError(f"resamples is {resamples}; it must be 1 or more")
    table = predictor.state.table.averaged()
    require_architectures(table.architectures)
    fit, rng = approach_named(predictor.approach).fit, np.random.default_rng(seed)
    falls, scores = [], []
    for _ in range(resamples):
        drawn = _two_thirds(table, features, rng)
        fitted, rest = fit(table.take(drawn), predictor.seed, predictor.state.fitted.settings), table.take(~drawn)
        observed = read_quantity(quantity, rest.curves, rest.positions, rest.rows)

        def score(rows: pd.DataFrame, fitted: Any = fitted, observed: Array = observed) -> float:
            predicted = read_quantity(quantity, fitted.predict(rows)[0], table.positions, rows, everywhere=True)
            return _r2(observed, predicted)

        scores.append(score(rest.rows))
        exchanged = [[score(_exchanged(rest.rows, f, rng)) for _ in range(_SHUFFLES)] for f in features]
        falls.append(scores[-1] - np.mean(exchanged, axis=1))
    told = np.isfinite(scores)
    if not told.any():
        raise DatasetError(f"in no resample can R2 of the {quantity} be told; too few layers have one")
    by_feature = np.array(falls)[told]
    ranking = pd.DataFrame(
        {
            "feature": features,
            "importance": by_feature.mean(axis=0),
            "lower": np.quantile(by_feature, _INTERVAL[0], axis=0),
            "upper": np.quantile(by_feature, _INTERVAL[1], axis=0),
            "r2": float(np.array(scores)[told].mean()),
        }
    )
    return ranking.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)


def require_architectures(count: int) -> None:
    """Raises DatasetError where there are too few to leave some out."""
    if count < ENOUGH_ARCHITECTURES:
        raise DatasetError(
            f"{count} architecture{'' if count == 1 else 's'}: with fewer than {ENOUGH_ARCHITECTURES} nothing can be "
            "said of one that is left out"
        )


def _two_thirds(table: CurveTable, features: list[str], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The rows of two thirds of the architectures, drawn until every feature varies among them, as it does in all."""
    groups = np.unique(table.groups)
    for _ in range(100):
        drawn = np.isin(table.groups, rng.choice(groups, round(2 * len(groups) / 3), replace=False))
        part = table.rows.loc[drawn, features].to_numpy(float)
        if (np.ptp(part, axis=0) > 0).all():
            return drawn
    raise DatasetError("a feature has another value in so few architectures that two thirds of them rarely show it")


def _exchanged(rows: pd.DataFrame, feature: str, rng: np.random.Generator) -> pd.DataFrame:
    """Rows in which every model has this feature of another model, or every layer the depth of another of its model.

    In a cycle of random order, so that none keeps its own unless it is the only one.
    """
    cells, values = rows["cell"].to_numpy(), rows[feature].to_numpy(float)
    given = np.empty_like(values)
    if feature == DEPTH:
        for cell in np.unique(cells):
            order = rng.permutation(np.flatnonzero(cells == cell))
            given[order] = values[np.roll(order, 1)]
        return rows.assign(**{feature: given})
    _, first, number = np.unique(cells, return_index=True, return_inverse=True)
    order = rng.permutation(first)
    given[order] = values[np.roll(order, 1)]
    return rows.assign(**{feature: given[first][number]})


def _r2(observed: Array, predicted: Array) -> float:
    """Over the rows that have the quantity; nan where there are none."""
    known = np.isfinite(observed)
    return r_squared(observed[known], predicted[known]) if known.any() else np.nan
