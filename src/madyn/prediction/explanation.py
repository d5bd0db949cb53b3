"""Why the predictor says what it says: Shapley values, partial dependence and interactions.

All of it is about one quantity of a layer (`derived.quantity`), on the scale of its natural logarithm, on which an
effect is a factor. The players are what a user can change: the features of a model that vary in the data, and the
layer's relative depth. That a layer is the first or the last follows from its depth inside the model, so that no
credit is split among several columns of one number. What moves here is the predictor and not a training: other inputs
are held where they are while one is moved, also where no model of the data stands. So read the scores on architectures
left out first, and of what is said here that which holds over resamples of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from madyn.errors import UsageError
from madyn.prediction import derived
from madyn.prediction.inputs import DEPTH, LINEAR, OF_MODEL, Subject, Training, check_possible
from madyn.prediction.left_out import Calibrated
from madyn.prediction.shapley import Explanation, quiet_shap
from madyn.prediction.table import rows_of
from madyn.typing import Array
from madyn.wirings import Wiring

if TYPE_CHECKING:
    import pandas as pd

    from madyn.architecture import Architecture


_EVALUATIONS = 2_000_000  # of the predictor for all Shapley values, before those are saved that occur twice
_FEWEST_ROWS = 20
_MOST_ROWS = 250  # that a two-way partial dependence is a mean over
_GRID_POINTS = 20
_BAND = (0.1, 0.9)


class Explained(Protocol):
    """What is asked of a predictor here; `Predictor` has it."""

    @property
    def state(self) -> Calibrated:
        """What was learned."""
        ...

    @property
    def training(self) -> Training:
        """How the models that it learned from were trained."""
        ...

    @property
    def wiring(self) -> Wiring:
        """How most of them are wired."""
        ...


@dataclass(frozen=True)
class Interaction:
    """How two inputs act together.

    Attributes:
        feature, other: which.
        grid: the two-way partial dependence, a row a value of `feature` and a column one of `other`, both in people's
            units; the quantity itself (a geometric mean over the rows).
        seen: of the same shape: whether the data hold a layer with both values (the nearest on the grid).
        h2: Friedman's H2, see `interactions`.
        strength: the same without the denominator, as a factor, see `interactions`.
    """

    feature: str
    other: str
    grid: pd.DataFrame
    seen: pd.DataFrame
    h2: float
    strength: float


def features_of(predictor: Explained) -> list[str]:
    """The inputs that are explained: the features of a model that vary in the data, and the relative depth.

    Raises:
        UsageError: the predictor is not fitted.
    """
    return [*predictor.state.table.features, DEPTH]


def in_units(feature: str, values: Array) -> Array:
    """A feature's values as people write them: 64 for a hidden size of log2 6, without the noise of the logarithm."""
    return np.array([float(f"{v:.9g}") for v in (values if feature in LINEAR else np.exp2(values))])


class Response:
    """The logarithm of a quantity as a function of the explained inputs alone, (n, F) to (n,).

    Few values of each input occur, and explanations ask for the same layers over and over; each is computed once.
    """

    def __init__(self, predictor: Explained, quantity: str) -> None:
        derived.quantity(quantity)  # the error for an unknown one comes first
        self._state = predictor.state
        self._quantity = quantity
        self._known: dict[bytes, float] = {}
        self.features = features_of(predictor)
        self.table = self._state.table.averaged()
        self.x = self.table.rows[self.features].to_numpy(float)

    def __call__(self, x: Array) -> Array:
        distinct, number = np.unique(np.asarray(x, float), axis=0, return_inverse=True)
        keys = [row.tobytes() for row in distinct]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            values = self._computed(distinct[new]).tolist()
            self._known.update(zip((keys[i] for i in new), values, strict=True))
        return np.array([self._known[key] for key in keys])[number.reshape(-1)]

    def column(self, feature: str) -> int:
        if feature not in self.features:
            raise UsageError(f"there is no feature {feature!r}; the features are {', '.join(self.features)}")
        return self.features.index(feature)

    def units(self, x: Array) -> pd.DataFrame:
        """Inputs (n, F) in people's units."""
        import pandas as pd

        return pd.DataFrame({name: in_units(name, x[:, i]) for i, name in enumerate(self.features)})

    def _computed(self, x: Array) -> Array:
        import pandas as pd

        # What does not vary is not learned from, but the table's columns are all expected, and the run's length read.
        common = self.table.rows.loc[[0], list(OF_MODEL)]
        rows = pd.concat([common] * len(x), ignore_index=True)
        rows = rows.assign(**{name: x[:, i] for i, name in enumerate(self.features)})
        curves = self._state.fitted.predict(rows)[0]
        return derived.read_quantity(self._quantity, curves, self.table.positions, rows, everywhere=True)


def _sample(x: Array, most: int) -> Array:
    """All rows, or so many of them without replacement, always the same ones."""
    if len(x) <= most:
        return x
    return x[np.sort(np.random.default_rng(0).choice(len(x), most, replace=False))]


# Shapley values ----------------------------------------------------------------------------------------------------


def explain_layer(predictor: Explained, architecture: Architecture, layer: int, quantity: str) -> Explanation:
    """The Shapley values of one layer, trained as the dataset's models were; see `shapley_values`.

    Returns:
        an explanation with one row.

    Raises:
        UsageError: there is no such layer or quantity, the model lacks something that all others have (a rotary base,
            say), or the predictor is not fitted.
        ArchitectureError: no such model can be built.
        MissingDependencyError: shap is not installed.
    """
    response = Response(predictor, quantity)
    check_possible(architecture)
    if layer not in range(architecture.num_hidden_layers):
        raise UsageError(f"there is no layer {layer!r}; the model has layers 0 to {architecture.num_hidden_layers - 1}")
    rows = rows_of([Subject(architecture, predictor.training, predictor.wiring)])
    x = rows.loc[[layer], response.features].to_numpy(float)
    unknown = [name for name, value in zip(response.features, x[0], strict=True) if not np.isfinite(value)]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: the model has none, where every model that was learned from had one")
    return _shapley(response, x, quantity)


def shapley_values(predictor: Explained, quantity: str) -> Explanation:
    """The Shapley values of every layer that was learned from (the means over seeds, `table.averaged()`).

    Exact: all subsets of the inputs are enumerated (`shap.ExactExplainer`). What a subset is worth is the mean
    prediction with the inputs of the subset taken from the layer that is explained and the others from a background
    layer (the interventional game of Lundberg & Lee 2017 and Janzing et al. 2020). The background is all layers, or so
    many of them that two million combinations are not exceeded, at least 20. That is seconds for five inputs and
    minutes for ten.

    For "peak step" the logarithm of 1 + the step at which the predicted curve is largest is explained, which every
    curve has; `derived.quantity` gives nan where that is no peak. It moves in jumps, from one step of the grid to
    another.

    Raises:
        UsageError: there is no such quantity, or the predictor is not fitted.
        MissingDependencyError: shap is not installed.
    """
    response = Response(predictor, quantity)
    return _shapley(response, response.x, quantity)


def _shapley(response: Response, x: Array, quantity: str) -> Explanation:
    import pandas as pd

    most = _EVALUATIONS // (len(response.x) << len(response.features))
    background = _sample(response.x, max(_FEWEST_ROWS, most))
    with quiet_shap() as shap:
        masker = shap.maskers.Independent(background, max_samples=len(background))
        shapley: Any = shap.ExactExplainer(response, masker)(x, silent=True)
    values = pd.DataFrame(np.asarray(shapley.values, float), columns=response.features)
    return Explanation(quantity, values, float(response(background).mean()), response.units(x))


# Partial dependence ------------------------------------------------------------------------------------------------


def dependence(predictor: Explained, quantity: str, feature: str) -> pd.DataFrame:
    """What becomes of the predictions of all layers when one input is set to each of its values in turn.

    Partial dependence (Friedman 2001), and how far the layers differ in it.

    Returns:
        A row a value (those that occur, or 20 evenly from the least to the largest, sizes by their logarithm, if more
        do): value, in people's units; prediction, the geometric mean over the layers that were learned from, in the
        quantity's own unit (for a step, of 1 + step); lower and upper, the 10 % and 90 % quantiles over them. A peak's
        step is that of the largest value, see `shapley_values`.

    Raises:
        UsageError: there is no such quantity or feature (the message lists them), or the predictor is not fitted.
    """
    import pandas as pd

    response = Response(predictor, quantity)
    column = response.column(feature)
    values = _grid(response.x[:, column])
    curves = _predictions(response, response.x, [column], values[:, np.newaxis])
    columns = {
        "prediction": curves.mean(axis=1),
        "lower": np.quantile(curves, _BAND[0], axis=1),
        "upper": np.quantile(curves, _BAND[1], axis=1),
    }
    own = {name: derived.in_units(quantity, logs) for name, logs in columns.items()}
    return pd.DataFrame({"value": in_units(feature, values), **own})


def _grid(values: Array) -> Array:
    distinct = np.unique(values)
    return distinct if len(distinct) <= _GRID_POINTS else np.linspace(distinct[0], distinct[-1], _GRID_POINTS)


def _predictions(response: Response, rows: Array, columns: list[int], points: Array) -> Array:
    """The response of n rows with these columns set to each of m points (m, C): (m, n)."""
    x = np.tile(rows, (len(points), 1))
    x[:, columns] = np.repeat(points, len(rows), axis=0)
    return response(x).reshape(len(points), len(rows))


# Interactions ------------------------------------------------------------------------------------------------------


def interactions(predictor: Explained, quantity: str) -> pd.DataFrame:
    """How strongly each pair of inputs acts together, the strongest first.

    `h2` is H2 of Friedman & Popescu (2008, equation 44): with F the partial dependence of one or both inputs, centred
    over the layers, the sum of (F_jk - F_j - F_k)^2 over the layers, as a share of that of F_jk^2. It is 0 where the
    two add up (in logarithms: where their factors multiply) and 1 where there is nothing but their interaction. A pair
    that does next to nothing can have a large share of it; `strength` has no denominator: the exponential of the root
    mean square of F_jk - F_j - F_k, the factor by which the interaction typically moves the quantity. Both are means
    over the layers that were learned from, over 250 of them where there are more.

    Returns:
        A row a pair: feature, other, h2 (0 where neither does anything) and strength.

    Raises:
        UsageError: there is no such quantity, or the predictor is not fitted.
    """
    import pandas as pd

    response = Response(predictor, quantity)
    pairs = [
        (*pair, *_h2(response, *(response.column(name) for name in pair)))
        for pair in combinations(response.features, 2)
    ]
    table = pd.DataFrame(pairs, columns=["feature", "other", "h2", "strength"])
    return table.sort_values("strength", ascending=False, kind="stable").reset_index(drop=True)


def interaction(predictor: Explained, quantity: str, feature: str, other: str) -> Interaction:
    """The two-way partial dependence on a pair of inputs, and how strongly they act together; see `interactions`.

    Raises:
        UsageError: there is no such quantity or feature (the message lists them), the two are one, or the predictor is
            not fitted.
    """
    import pandas as pd

    response = Response(predictor, quantity)
    columns = [response.column(feature), response.column(other)]
    if feature == other:
        raise UsageError(f"{feature} with itself is no pair")
    first, second = (_grid(response.x[:, column]) for column in columns)
    points = np.array([(a, b) for a in first for b in second])
    means = _predictions(response, _sample(response.x, _MOST_ROWS), columns, points).mean(axis=1)
    seen = np.zeros((len(first), len(second)), bool)
    seen[_nearest(first, response.x[:, columns[0]]), _nearest(second, response.x[:, columns[1]])] = True
    index = pd.Index(in_units(feature, first), name=feature)
    names = pd.Index(in_units(other, second), name=other)
    grid = derived.in_units(quantity, means).reshape(seen.shape)
    return Interaction(
        feature,
        other,
        pd.DataFrame(grid, index=index, columns=names),
        pd.DataFrame(seen, index=index, columns=names),
        *_h2(response, *columns),
    )


def _nearest(grid: Array, values: Array) -> NDArray[np.intp]:
    return np.abs(values[:, np.newaxis] - grid).argmin(axis=1)


def _h2(response: Response, column: int, other: int) -> tuple[float, float]:
    """H2 and the strength of a pair."""
    rows = _sample(response.x, _MOST_ROWS)

    def centred(columns: list[int]) -> Array:
        points, number = np.unique(rows[:, columns], axis=0, return_inverse=True)
        means = _predictions(response, rows, columns, points).mean(axis=1)[number.reshape(-1)]
        return means - means.mean()

    together = centred([column, other])
    apart = np.square(together - centred([column]) - centred([other])).mean()
    whole = np.square(together).mean()
    # Below a millionth part the numbers are what rounding left.
    return (float(apart / whole) if whole > 1e-12 else 0.0), float(np.exp(np.sqrt(apart)))
