"""The predictor: what a model that nobody has trained will do, layer by layer and step by step, and how sure that is.

It learns from the curves of a dataset, not from parameters fitted to them, and its intervals come from architectures
that were left out in turn. It stays with what it was given: what it says of a shape outside the data is wider, and is
marked as extrapolation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from madyn.architecture import Architecture
from madyn.errors import ArchitectureError, UsageError, check_range, one_of
from madyn.labels import describe
from madyn.notebook import Shown
from madyn.prediction.approaches import approach_named
from madyn.prediction.cautions import left_out, too_few, unlearned
from madyn.prediction.derived import LARGEST_LOG, QUANTITIES, in_units, quantity, steps_of
from madyn.prediction.inputs import (
    SHAPE,
    Subject,
    Training,
    as_steps,
    as_wiring,
    check_possible,
    complete,
    in_words,
    of_model,
)
from madyn.prediction.left_out import Calibrated, fit_calibrated
from madyn.prediction.saved import read_state, write_state
from madyn.prediction.table import CurveTable, curve_table, positions, rows_of
from madyn.typing import Array
from madyn.wirings import USUAL, Wiring, departing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from madyn.dataset import Dataset
    from madyn.prediction.shapley import Explanation


DEFAULT = "gaussian_process"
QUANTILES = (0.05, 0.5, 0.95)
_SAME = 1e-9


class Predictor(Shown):
    """Predicts the ratio of every layer of an architecture over its training, with intervals for a single run.

    Args:
        approach: how; one of `madyn.prediction.approaches.APPROACHES`. The default did best on architectures left out
            (`madyn evaluate`).
        seed: of those approaches that draw numbers.

    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> predictor = madyn.Predictor("nearest").fit(few)
    >>> shape = predictor.architecture(num_hidden_layers=2, hidden_size=48, num_attention_heads=2, mlp_ratio=4)
    >>> dict(predictor.predict(shape, [0, 300, 3000]).sizes)
    {'layer': 2, 'step': 3, 'quantile': 3}
    >>> predictor.quantities(shape)["quantity"].unique().tolist()
    ['final ratio', 'largest ratio', 'peak chance', 'peak step']
    >>> list(predictor.parameters(shape).columns)
    ['layer', 'beta', 'tau0', 'A1', 'A2', 'K', 'r2']
    >>> predictor.training.steps, predictor.wiring.attention, predictor.get_params()
    (3000, 'softmax', {'approach': 'nearest', 'seed': 0})
    >>> list(predictor.to_dataframe().columns), len(predictor.plot(shape).axes) > 0
    (['model', 'layer', 'step', 'measured', 'predicted'], True)
    >>> len(predictor.caution(shape)) > 0, predictor.not_learned()
    (True, [])
    >>> path = mkdtemp() + "/predictor.json"
    >>> predictor.save(path)
    >>> again = madyn.Predictor.load(path)
    >>> again.state.table.architectures, again.set_params(approach="mean_curve").get_params()["approach"]
    (6, 'mean_curve')
    """

    def __init__(self, approach: str = DEFAULT, *, seed: int = 0) -> None:
        approach_named(approach)
        self.approach = approach
        self.seed = check_range("seed", seed, 0, 2**32 - 1)  # as scikit-learn takes them
        self._state: Calibrated | None = None

    def __repr__(self) -> str:
        if self._state is None:
            return f"<madyn Predictor by {self.approach}, not fitted>"
        table = self._state.table
        return (
            f"<madyn Predictor by {self.approach}\n learned from {len(table.curves)} layers of {table.architectures} "
            f"architectures that differ in {', '.join(table.features)}\n "
            "architecture(...), predict(shape, steps), quantities(shape), save(path), ...>"
        )

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        import pandas as pd

        if self._state is None:
            return pd.DataFrame(), 0
        table, predicted = self._state.table, self._state.predicted
        ends = pd.DataFrame({
            "model": table.rows["model"], "layers": 1,
            "final ratio": np.exp(table.curves[:, -1]), "predicted, left out": np.exp(predicted[:, -1]),
        })  # fmt: skip
        of = {"layers": "sum", "final ratio": "max", "predicted, left out": "max"}
        models = ends.groupby("model", sort=False).agg(of).reset_index()
        return models.head(most), len(models)

    def to_dataframe(self) -> pd.DataFrame:
        """What it learned from, beside what it says of each architecture when that is left out, in long form.

        Returns:
            a row a model, layer and position in the run: model, layer, step, measured and predicted (the ratio).

        Raises:
            UsageError: the predictor is not fitted.
        """
        import pandas as pd

        table = self.state.table
        count = len(table.positions)
        rows = table.rows.loc[table.rows.index.repeat(count), ["model", "layer"]].reset_index(drop=True)
        last = [table.subjects[model].training.steps for model in table.rows["model"]]
        rows["step"] = np.concatenate([steps_of(table.positions, end) for end in last])
        return pd.concat(
            [
                rows,
                pd.DataFrame(
                    {"measured": np.exp(table.curves).ravel(), "predicted": np.exp(self.state.predicted).ravel()}
                ),
            ],
            axis=1,
        )

    def plot(self, architecture: Architecture | None = None, quantity: str = "final ratio") -> Figure:
        """What is predicted of an architecture, layer by layer; without one, how good predictions are: those of
        architectures left out against what was measured.

        Args:
            architecture: a shape, as `architecture(...)` gives it.
            quantity: without one: final ratio, largest ratio, or peak step.

        Raises:
            UsageError: the predictor is not fitted, or there is no such quantity.
            ArchitectureError: no such model can be built.
        """
        return self._drawn(architecture=architecture, quantity=quantity)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that it was made with, by name, as scikit-learn asks for them: `sklearn.base.clone` works."""
        return {"approach": self.approach, "seed": self.seed}

    def set_params(self, **params: Any) -> Self:
        """Change arguments. A predictor that learned with others is not fitted any more.

        Raises:
            UsageError: there is no such argument, or it cannot have this value.
        """
        known = self.get_params()
        for name in params:
            one_of("a parameter of Predictor", name, known)
        fresh = type(self)(**{**known, **params})
        if fresh.get_params() != known:
            self.approach, self.seed, self._state = fresh.approach, fresh.seed, None
        return self

    def fit(self, dataset: Dataset | str | Path) -> Self:
        """Learn from a dataset, its path or its name.

        Raises:
            DatasetError: no model in it was measured to the end of its training.
            MissingDependencyError: scikit-learn is not installed.
            UsageError: it is neither a dataset nor a path.
        """
        from madyn.dataset import open_dataset

        return self.fit_table(curve_table(open_dataset(dataset)))

    def fit_table(self, table: CurveTable) -> Self:
        """Learn from the curves of a table, as `curve_table` makes it of a dataset.

        Raises:
            DatasetError: the table holds a single layer.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> few = data.select(data.models[:18:3])
        >>> table = curve_table(few)
        >>> madyn.Predictor("nearest").fit_table(table).state.table is table
        True
        """
        self._state = fit_calibrated(table, self.approach, self.seed)
        return self

    @property
    def state(self) -> Calibrated:
        """What was learned, and the predictions for architectures left out.

        Raises:
            UsageError: the predictor is not fitted.
        """
        if self._state is None:
            raise UsageError("this predictor is not fitted; call its fit method with a dataset first")
        return self._state

    @property
    def training(self) -> Training:
        """How the models that it learned from were trained; of several ways, the most common one."""
        ways = [subject.training for subject in self.state.table.subjects.values()]
        return max(ways, key=ways.count)

    def architecture(self, **fields: Any) -> Architecture:
        """An architecture; what is not given is what all models of the dataset have in common.

        Raises:
            ArchitectureError: a size is missing, a name unknown, or no such model can be built.
        """
        return complete(fields, self._family())

    @property
    def wiring(self) -> Wiring:
        """How most of the models that were learned from are wired, field by field; of the wirings that there are, the
        one that comes nearest to that, as where each model departs from a plain one in something else."""
        ways = [subject.wiring for subject in self.state.table.subjects.values()]
        levels = {name: [getattr(way, name) for way in ways] for name in USUAL}
        common = Wiring(
            **{
                name: max(seen, key=lambda level: (seen.count(level), level == USUAL[name]))
                for name, seen in levels.items()
            }
        )
        return min(ways, key=lambda way: (len(departing(way, common)), -ways.count(way)))

    def _subject(
        self, architecture: Architecture, training: Training | None, wiring: Mapping[str, str] | None
    ) -> Subject:
        """What is not said is as most of the dataset's models have it."""
        wired = as_wiring({**asdict(self.wiring), **(wiring or {})})
        return Subject(architecture, training or self.training, wired)

    def predict(
        self,
        architecture: Architecture,
        steps: ArrayLike | None = None,
        *,
        quantiles: Sequence[float] = QUANTILES,
        training: Training | None = None,
        wiring: Mapping[str, str] | None = None,
    ) -> xr.DataArray:
        """The ratio (top1 / median, a mean over sequences) of every layer at these steps of training, for a single run.

        Args:
            architecture: the shape.
            steps: (S,) training steps from 0; those of the dataset's grid by default. After the last step of training
                the last value is held, and the interval widens as log curves moved over the last doubling of steps.
            quantiles: ascending, between 0 and 1.
            training: how it is trained; by default as the dataset's models were.
            wiring: a level for each field of `madyn.wirings.Wiring` in which it is unlike most of the dataset's
                models.

        Returns:
            an array called "ratio", dims (layer, step, quantile). Each quantile holds for one layer and step. No value
            is below 1, since no largest value is under the median. The attribute `caution` says what to know first.

        Raises:
            UsageError: steps or quantiles that cannot be, or a predictor that is not fitted.
            ArchitectureError: no such model can be built.
        """
        import xarray as xr

        subject = self._subject(architecture, training, wiring)
        grid = steps_of(self.state.table.positions, subject.training.steps)
        at = np.unique(np.rint(grid)) if steps is None else as_steps(steps)
        p, calibration = _quantiles(quantiles), self.state.calibration
        curves, spread = self.log_curves([subject])[0]
        where = positions(at, subject.training.steps)
        middle, width = (_along(where, self.state.table.positions, part) for part in (curves, spread))
        median = middle + width * calibration.quantile(0.5)
        width = np.hypot(width, self._drift(where, subject.training.steps))
        off = [calibration.quantile(q) - calibration.quantile(0.5) for q in p]
        log = median[..., np.newaxis] + width[..., np.newaxis] * off
        said = [self._caution(subject)]
        if calibration.is_proven and not all(calibration.shows(q) for q in p):
            said.append(
                f"Quantiles so far out cannot be shown by {calibration.architectures} architectures: they are the "
                "farthest residuals."
            )
        return describe(
            xr.DataArray(
                np.exp(np.clip(log, 0.0, LARGEST_LOG)),
                {"layer": np.arange(len(curves)), "step": at, "quantile": p},
                ("layer", "step", "quantile"),
                "ratio",
                {"caution": " ".join(sentence for sentence in said if sentence)},
            )
        )

    def log_curves(self, subjects: Sequence[Subject]) -> list[tuple[Array, Array]]:
        """Log curves and their calibrated standard deviations, both (layers, P), of each of several models.

        P are the positions in a run of the table that was learned from (`state.table.positions`).

        Raises:
            ArchitectureError: one cannot be built.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> few = data.select(data.models[:18:3])
        >>> predictor = madyn.Predictor("nearest").fit(few)
        >>> shape = predictor.architecture(num_hidden_layers=2, hidden_size=48, num_attention_heads=2, mlp_ratio=4)
        >>> subject = Subject(shape, predictor.training, predictor.wiring)
        >>> curves, spread = predictor.log_curves([subject])[0]
        >>> curves.shape == spread.shape
        True
        """
        for subject in subjects:
            check_possible(subject.architecture)
        rows = rows_of(subjects)
        for name in self.state.table.features:
            if not np.isfinite(rows[name].to_numpy(float)).all():
                raise ArchitectureError(
                    f"{name} is not known of this model, and the models that were learned from differ in it: give it"
                )
        curves, uncalibrated = self.state.fitted.predict(rows)
        spread = uncalibrated * self.state.calibration.scale
        ends = np.cumsum([subject.architecture.num_hidden_layers for subject in subjects])[:-1]
        return list(zip(np.split(curves, ends), np.split(spread, ends), strict=True))

    def quantities(
        self,
        architecture: Architecture,
        *,
        training: Training | None = None,
        wiring: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """The final and the largest ratio of each layer, its chance of a peak and the step of that, for a single run.

        Returns:
            a row a layer and quantity: layer, quantity, and the quantiles lower (0.05), value (0.5) and upper (0.95).
            "peak chance" is the probability that the layer has a peak, a ratio at least a tenth above that of the last
            step, and has no interval; "peak step" is the step of its peak, if it has one.

        Raises:
            UsageError: the predictor is not fitted.
            ArchitectureError: no such model can be built.
        """
        import pandas as pd

        subject = self._subject(architecture, training, wiring)
        lines: list[dict[str, Any]] = []
        calibration = self.state.calibration
        for layer, (curve, spread) in enumerate(zip(*self.log_curves([subject])[0], strict=True)):
            possible = calibration.possible(curve, spread)
            for name in QUANTITIES:
                values = quantity(name)(possible, self.state.table.positions, subject.training.steps)
                if name == "peak step":
                    chance = float(calibration.weights @ np.isfinite(values))
                    lines.append({"layer": layer, "quantity": "peak chance", "value": chance})
                ends = [calibration.quantile_of(values, p) for p in QUANTILES]
                if not calibration.is_proven and name != "peak step":
                    # Too few residuals to show the ends: those of the whole curve's interval.
                    band = [curve + spread * calibration.quantile(p) for p in QUANTILES]
                    low, _, high = quantity(name)(np.array(band), self.state.table.positions, subject.training.steps)
                    ends[0], ends[2] = min(ends[0], low), max(ends[2], high)
                ends = in_units(name, np.clip(ends, 0.0, LARGEST_LOG))
                lines.append(
                    {"layer": layer, "quantity": name, **dict(zip(("lower", "value", "upper"), ends, strict=True))}
                )
        return pd.DataFrame(lines, columns=["layer", "quantity", "lower", "value", "upper"])

    def parameters(self, architecture: Architecture, *, training: Training | None = None) -> pd.DataFrame:
        """The five parameters of the published curve for each layer: the reparam curve fitted to the predicted one.

        Returns:
            a row a layer: layer, beta, tau0, A1, A2, K (in steps and units of the ratio), and r2 of that fit. The
            parameters trade off against each other; the curve is what was predicted.

        Raises:
            UsageError: the predictor is not fitted.
            ArchitectureError: no such model can be built.
        """
        import pandas as pd

        subject = self._subject(architecture, training, None)
        curves = self.log_curves([subject])[0][0]
        table = fitted_parameters(curves, self.state.table.positions, subject.training.steps)
        return pd.concat([pd.DataFrame({"layer": np.arange(len(curves))}), table], axis=1)

    def explain(self, architecture: Architecture, layer: int, quantity: str = "final ratio") -> Explanation:
        """What makes this layer's prediction differ from that of a layer drawn from the dataset: Shapley values.

        Args:
            layer: 0 for the first.
            quantity: final ratio, largest ratio, peak step, or `"ratio at STEP"`.

        Raises:
            UsageError: there is no such layer or quantity.
            MissingDependencyError: shap is not installed.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> few = data.select(data.models[:18:3])
        >>> predictor = madyn.Predictor("nearest").fit(few)
        >>> shape = predictor.architecture(num_hidden_layers=2, hidden_size=48, num_attention_heads=2, mlp_ratio=4)
        >>> sorted(predictor.explain(shape, layer=1).values.columns)
        ['MLP ratio', 'depth', 'heads', 'hidden size']
        """
        from madyn.prediction.explanation import explain_layer

        return explain_layer(self, architecture, layer, quantity)

    def caution(self, architecture: Architecture | None = None, training: Training | None = None) -> str:
        """What to know before believing a prediction; empty when there is nothing.

        Args:
            architecture: one to be predicted; what of it lies outside the data is named.
        """
        if architecture is None:
            return self._caution(None)
        return self._caution(self._subject(architecture, training, None))

    def _caution(self, subject: Subject | None) -> str:
        state, said = self.state, [left_out(self.state.table.left_out)]
        said += [too_few(state.table.architectures, "architectures", state.calibration.is_proven)]
        said.append(unlearned(state.table))
        if subject is not None:
            outside, unvaried = self.outside(subject), self.unvaried(subject)
            if outside:
                said.append(f"Outside the data, so extrapolated and wider: {'; '.join(outside)}.")
            if unvaried:
                said.append(
                    "Unlike all of the data, of which the prediction and its interval know nothing: "
                    f"{'; '.join(unvaried)}."
                )
        return " ".join(sentence for sentence in said if sentence)

    def not_learned(self) -> list[str]:
        """Which models, and which of the features that vary, were not learned from, in words."""
        return [said for said in (left_out(self.state.table.left_out), unlearned(self.state.table)) if said]

    def outside(self, subject: Subject) -> list[str]:
        """In which features that vary in the data a model lies outside their range, in words; [] for one within.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> few = data.select(data.models[:18:3])
        >>> predictor = madyn.Predictor("nearest").fit(few)
        >>> shape = predictor.architecture(num_hidden_layers=2, hidden_size=512, num_attention_heads=2, mlp_ratio=4)
        >>> predictor.outside(Subject(shape, predictor.training, predictor.wiring))
        ['hidden size is 512, outside 32..128']
        """
        rows, said = self.state.table.rows, []
        for name in self.state.table.features:
            seen, value = rows[name].to_numpy(float), of_model(subject)[name]
            if not seen.min() - _SAME <= value <= seen.max() + _SAME:
                ends = f"{in_words(name, seen.min())}..{in_words(name, seen.max())}"
                said.append(f"{name} is {in_words(name, value)}, outside {ends}")
        return said

    def unvaried(self, subject: Subject) -> list[str]:
        """In what a model departs from that in which all models of the data agree, in words.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> few = data.select(data.models[:18:3])
        >>> predictor = madyn.Predictor("nearest").fit(few)
        >>> shape = predictor.architecture(num_hidden_layers=4, hidden_size=48, num_attention_heads=2, mlp_ratio=4)
        >>> predictor.unvaried(Subject(shape, predictor.training, predictor.wiring))
        ['layers is 4, not 2']
        """
        rows, said = self.state.table.rows, []
        for name, value in of_model(subject).items():
            seen = rows[name].dropna().unique()
            if name in self.state.table.features or len(seen) > 1:
                continue
            if len(seen) and not np.isfinite(value):
                said.append(f"{name} is none, not {in_words(name, seen[0])}")
            elif len(seen) and abs(value - seen[0]) > _SAME:
                said.append(f"{name} is {in_words(name, value)}, not {in_words(name, seen[0])}")
            elif not len(seen) and np.isfinite(value) and name in SHAPE:
                said.append(f"{name} is {in_words(name, value)}, where no model had one")
        kinds = {a.model_type for a in self._family()}
        if subject.architecture.model_type not in kinds:
            said.append(f"model type is {subject.architecture.model_type}, not {' or '.join(sorted(kinds))}")
        return said

    def save(self, path: str | Path) -> None:
        """Write the predictor to a JSON file: the curves it learned from, its hyper-parameters and its residuals.

        Raises:
            StorageError: the file cannot be written.
        """
        write_state(Path(path), self.approach, self.seed, self.state)

    @classmethod
    def load(cls, path: str | Path) -> Predictor:
        """Read a predictor that `save` wrote. Nothing in the file is executed; the fit is made again from its numbers.

        Raises:
            DatasetError: the file is not one of a predictor, or of a later format.
        """
        approach, seed, state = read_state(Path(path))
        predictor = cls(approach, seed=seed)
        predictor._state = state
        return predictor

    def _family(self) -> list[Architecture]:
        return [subject.architecture for subject in self.state.table.subjects.values()]

    def _drift(self, where: Array, last_step: float) -> Array:
        """How far log curves wander after the end of training, as a standard deviation at each position, (S,)."""
        table = self.state.table
        half = positions([last_step / 2], last_step)
        earlier = _along(half, table.positions, table.curves)[:, 0]
        moved = float(np.sqrt(np.square(table.curves[:, -1] - earlier).mean()))
        doublings = np.log2(np.maximum((1 + last_step) ** (where - 1), 1.0))
        return moved * np.sqrt(doublings)


def fitted_parameters(curves: Array, at: Array, last_step: float) -> pd.DataFrame:
    """The reparam curve fitted to log curves (n, P): beta, tau0, A1, A2, K and r2, a row a curve."""
    import pandas as pd

    from madyn.curves.fitting.fits import fit_curves

    fits = fit_curves(steps_of(at, last_step), np.exp(curves), hypothesis="reparam")
    table = pd.DataFrame(np.asarray(fits.popt).reshape(len(curves), -1), columns=list(fits.hypothesis.param_names))
    return table.assign(r2=np.asarray(fits.r2).reshape(-1))


def _along(where: Array, at: Array, curves: Array) -> Array:
    """Curves (L, P) at other positions, (L, S)."""
    return np.array([np.interp(where, at, row) for row in curves])


def _quantiles(quantiles: Sequence[float]) -> list[float]:
    try:
        p = [float(q) for q in quantiles]
    except (TypeError, ValueError):
        p = []
    if not p or not all(0 < q < 1 for q in p) or sorted(set(p)) != p:
        raise UsageError(f"quantiles are ascending numbers between 0 and 1, not {quantiles!r:.80}")
    return p
