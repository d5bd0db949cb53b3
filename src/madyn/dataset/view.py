"""A dataset as labelled arrays.

`open_dataset` gives an object that reads what is asked for when it is asked for: statistics and trajectories as xarray
DataArrays, fits as an xarray Dataset, the parameter table as pandas. Positional axes end here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from madyn.architecture import Architecture
from madyn.dataset import fit_files, layout, manifest
from madyn.dataset.copying import bring
from madyn.dataset.files import is_there, read_bytes, root_path, sha256
from madyn.dataset.labelled import labelled_fits, labelled_statistics, named_quantity, quantity_of
from madyn.dataset.leftovers import sweep
from madyn.dataset.long_form import joined, long_form
from madyn.dataset.overview import model_rows
from madyn.dataset.remote import is_shipped, locate, match_remote
from madyn.dataset.statistics import MAX_BYTES, parse_statistics, read_statistics
from madyn.dataset.training import TrainingRecord, read_record
from madyn.errors import ArchitectureError, DatasetError, UsageError, listed, one_of, quoted
from madyn.labels import describe
from madyn.notebook import Shown
from madyn.suites import PYTHIA
from madyn.terminal import few, say_wrong

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

RatioOf = Literal["sequences", "means"]


def open_dataset(path: str | Path | Dataset) -> Dataset:
    """Open a dataset in the published layout. One that is open already is given back as it is.

    Args:
        path: a folder; or a dataset of the Hub as `hf://datasets/OWNER/NAME[@REVISION]` or `OWNER/NAME`, of which all
            but the pictures is fetched into the Hub's cache; or one that comes with madyn, `tiny-suite`. That bare name
            always means the one that comes with madyn; a folder of that name is `./tiny-suite`, or a `Path`.

    Raises:
        DatasetError: there is no such dataset, or it holds no model.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> len(data.models), data.models[0]
    (162, 'neox_2x128_h1_m256_s0')
    """
    if isinstance(path, Dataset):
        return path
    return _open(locate(path), shared=_is_elsewhere(path))


def open_to_write(path: str | Path, out: str | Path | None = None) -> Dataset:
    """Open a dataset that is going to be written to.

    Args:
        path: as for `open_dataset`.
        out: the folder to bring it into first, and to write to; without it, a folder is written to where it is.

    Raises:
        DatasetError: there is no such dataset, or nothing in it was measured, or `out` holds something else.
        UsageError: no `out` is given for a dataset of the Hub, or one that comes with madyn: the caches that they are
            read from are shared with other programs, and never written to.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> madyn.dataset.open_to_write(root).models
    ['tiny']
    """
    elsewhere = _is_elsewhere(path)
    if out is not None and (elsewhere or root_path(out).absolute() != root_path(path).absolute()):
        dataset = _open(bring(path, out))
    elif elsewhere:
        where = "comes with madyn" if is_shipped(path) else "lies on the Hub"
        raise UsageError(f"{path} {where} and is not written to: say with --out (out=) which folder to copy it into")
    else:
        dataset = _open(locate(path))
    if not dataset.models:
        raise DatasetError(f"{dataset.path}: nothing in it was measured; see `madyn show {dataset.path}`")
    sweep(dataset.path)
    return dataset


def _is_elsewhere(path: str | Path) -> bool:
    """Whether a dataset is in no folder of the user's yet."""
    return is_shipped(path) or match_remote(path) is not None


def _open(root: Path, shared: bool = False) -> Dataset:
    models = layout.model_directories(root)
    if not models and not layout.manifest_models(root):
        raise DatasetError(f"{root}: no model in it (no MODEL/stats folder); is this the dataset's own folder?")
    return Dataset(root, models, shared)


class Dataset(Shown):
    """A dataset in the published layout. Iterating gives the names of its models.

    Attributes:
        path: the folder it lies in.
        models: directory names, sorted.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:2])
    >>> model = few.models[0]
    >>> few.steps(model)[-1], few.architecture(model).hidden_size, few.parameter_count(model)
    (3000, 128, 527360)
    >>> dict(few.statistics(model).sizes)
    {'step': 37, 'sequence': 10, 'quantity': 4, 'layer': 2}
    >>> ratio = few.trajectories(model, "ratio")
    >>> ratio.dims, few.per_sequence(model, "ratio").dims
    (('step', 'layer'), ('step', 'sequence', 'layer'))
    >>> list(few.to_dataframe().columns)[-2:]
    ['median', 'ratio']
    >>> few.to_xarray()["ratio"].dims
    ('model', 'step', 'sequence', 'layer')
    >>> list(few.sequence_spread(model).columns)
    ['mean', 'cv', 'sem', 'ci95']
    >>> list(few.massive(model)), few.values_of_sequence(model)
    (['published', 'start'], 8192)
    >>> few.units(model)[0].step, few.training(model).complete
    (0, True)
    >>> len(few.statistics_hash(model)), few.sound().models == few.models
    (64, True)
    >>> data.is_own_folder
    False
    """

    def __init__(self, path: Path, models: Iterable[str], shared: bool = False) -> None:
        self.path = path
        self.models = list(models)
        self._shared = shared
        self._statistics: dict[str, xr.DataArray] = {}
        self._hashes: dict[str, str] = {}

    def __repr__(self) -> str:
        count = f"{len(self.models)} model{'' if len(self.models) == 1 else 's'}"
        return (
            f"<madyn Dataset at {self.path}\n {count}: {few(self.models)}\n "
            "statistics(model), trajectories(model, quantity), fits(model, quantity), parameters, ...>"
        )

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        return model_rows(self.path, self.models[:most]), len(self.models)

    def plot(self, model: str | None = None, quantity: str = "ratio") -> Figure:
        """Trajectories of a model's layers; of several models, how far each one's ratio gets.

        Args:
            model: which one; not needed where there is one.
            quantity: of its trajectories: top1, top2, top3, median, or ratio.

        Raises:
            ArchitectureError: of several models, how large they are is not known of all.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> data.plot(data.models[0]).axes[0].get_xlabel()
        'training step'
        """
        return self._drawn(model=model, quantity=quantity)

    def __iter__(self) -> Iterator[str]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def select(self, models: str | Iterable[str]) -> Dataset:
        """The same dataset with fewer models, in the order given.

        Raises:
            UsageError: a name is not one of `models`.
        """
        wanted = listed("models", models)
        for model in wanted:
            self._known(model)
        return Dataset(self.path, wanted, self._shared)

    def sound(self) -> Dataset:
        """The same dataset without the models whose statistics or training records are damaged; each of those is said
        on standard error, and costs the others nothing.

        Raises:
            DatasetError: no model is left; the first one's error.
        """
        errors: dict[str, DatasetError] = {}
        for model in self.models:
            try:
                self.statistics(model)
                self.training(model)
            except DatasetError as e:
                errors[model] = e
        if errors and len(errors) == len(self.models):
            raise next(iter(errors.values()))
        for model, error in errors.items():
            say_wrong(f"{model} is left out: {error}")
        if not errors:
            return self
        rest = self.select([model for model in self.models if model not in errors])
        rest._statistics.update({model: self._statistics[model] for model in rest.models})
        return rest

    @property
    def is_own_folder(self) -> bool:
        """Whether it is a folder that may be written to, and no cache of what the Hub or madyn has."""
        return not self._shared

    def require_own_folder(self) -> None:
        """Raise DatasetError where this dataset lies in the Hub's cache, which is never written to.

        >>> import madyn
        >>> try:
        ...     madyn.open_dataset("tiny-suite").require_own_folder()
        ... except madyn.MadynError as error:
        ...     print(type(error).__name__)
        DatasetError
        """
        if self._shared:
            raise DatasetError(f"{self.path} is a cache, which is not written to; give the dataset's name instead")

    def steps(self, model: str) -> list[int]:
        """The training steps measured, ascending."""
        return list(layout.statistics_files(self.path, self._known(model)))

    def statistics(self, model: str) -> xr.DataArray:
        """All that was measured of a model.

        Returns:
            dims (step, sequence, quantity, layer), steps ascending, quantities top1, top2, top3 and median, float64.

        Raises:
            DatasetError: a file is malformed, the model has none, or two files differ in shape.
        """
        if self._known(model) not in self._statistics:
            self._statistics[model] = self._read_statistics(model)
        return self._statistics[model]

    def sound_part(self, model: str) -> tuple[Dataset, list[str]]:
        """A model alone with its damaged statistics files passed over, and what is wrong with those, a sentence each.

        Of files that differ in shape, those of the most frequent one are sound.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> part, faults = data.sound_part(data.models[0])
        >>> part.models == data.models[:1], faults
        (True, [])
        """
        faults: list[str] = []
        arrays: dict[int, np.ndarray] = {}
        files = layout.statistics_files(self.path, self._known(model))
        for step, path in files.items():
            try:
                arrays[step] = read_statistics(path)
            except DatasetError as e:
                faults.append(str(e))
        shapes = Counter(array.shape for array in arrays.values()).most_common(1)
        for step, array in list(arrays.items()):
            if array.shape != shapes[0][0]:
                faults.append(f"{files[step]}: shape {array.shape} where most steps have {shapes[0][0]}")
                del arrays[step]
        part = Dataset.holding(self.path, model, arrays) if arrays else Dataset(self.path, [model])
        part._shared = self._shared
        return part, faults

    @classmethod
    def holding(cls, path: Path, model: str, arrays: Mapping[int, np.ndarray]) -> Dataset:
        """A model alone, of which these statistics were read already, by step, each (sequence, quantity, layer) and all
        of one shape. They are not read again.

        >>> import numpy as np
        >>> import madyn
        >>> part = madyn.dataset.Dataset.holding(Path("pythia"), "pythia_14m", {0: np.ones((10, 4, 6))})
        >>> part.statistics("pythia_14m").shape
        (1, 10, 4, 6)
        """
        part = cls(path, [model])
        part._statistics[model] = labelled_statistics(arrays, model)
        return part

    def _read_statistics(self, model: str) -> xr.DataArray:
        files = layout.statistics_files(self.path, model)
        if not files:
            raise DatasetError(f"{layout.statistics_folder(self.path, model)}: no statistics files in it")
        read = {step: read_bytes(path, MAX_BYTES) for step, path in files.items()}
        arrays = {step: parse_statistics(files[step], data) for step, data in read.items()}
        shapes = {array.shape: files[step] for step, array in arrays.items()}
        if len(shapes) > 1:
            (a, first), (b, second) = list(shapes.items())[:2]
            raise DatasetError(f"{second}: shape {b} where {first.name} has {a}; all steps of a model must agree")
        self._hashes[model] = _hash_steps(read)
        return labelled_statistics(arrays, model)

    def trajectories(self, model: str, quantity: str, ratio_of: RatioOf = "sequences") -> xr.DataArray:
        """A quantity over the training steps, averaged over the sequences.

        Args:
            quantity: top1, top2, top3, median, or ratio.
            ratio_of: "sequences" takes top1 / median in each sequence, then the mean; "means" divides the mean top1 by
                the mean median. The paper writes both.

        Returns:
            dims (step, layer), the steps as coordinate, ascending.
        """
        one_of("ratio_of", ratio_of, ("sequences", "means"))
        if ratio_of == "sequences" or quantity != "ratio":
            return named_quantity(self.per_sequence(model, quantity).mean("sequence"), quantity, model)
        return quantity_of(self.statistics(model).mean("sequence"), "ratio", model)

    def per_sequence(self, model: str, quantity: str) -> xr.DataArray:
        """A quantity over the training steps for every sequence: dims (step, sequence, layer)."""
        one_of("quantity", quantity, (*layout.QUANTITIES, "ratio"))
        return quantity_of(self.statistics(model), quantity, model)

    def to_dataframe(self) -> pd.DataFrame:
        """The statistics of all models in long form.

        Returns:
            a row a model, step, sequence and layer, in this order; columns model, step, sequence, layer, then top1,
            top2, top3, median and ratio (top1 / median). About 80 bytes a row.

        Raises:
            DatasetError: as `statistics`; `sound()` leaves out the models that are damaged.
        """
        return long_form({model: self.statistics(model) for model in self.models})

    def to_xarray(self) -> xr.Dataset:
        """The statistics of all models as one labelled Dataset, joined by steps, sequences and layers.

        Models differ in depth and in the steps that they were measured at: what one lacks is nan, which xarray's means
        pass over. So memory goes with models x all their steps x the most sequences x the most layers, 40 bytes each,
        whatever part of it was measured; `to_dataframe` holds only that part.

        Returns:
            variables top1, top2, top3, median and ratio, dims (model, step, sequence, layer); coordinate `layers`
            (model), how many layers each has.

        Raises:
            DatasetError: as `statistics`.
            UsageError: it would take more than 4 GB.
        """
        return joined({model: self.statistics(model) for model in self.models})

    def sequence_spread(self, model: str, quantity: str = "ratio") -> pd.DataFrame:
        """The spread over the sequences at the last step, as in Table 2 of the paper.

        Returns:
            a row a layer: mean, cv (standard deviation over mean), sem (standard error over mean) and ci95 (half the
            95 % interval of the mean over the mean, by Student's t), the last three as shares of the mean.
        """
        import numpy as np
        import pandas as pd
        from scipy.stats import t

        last = self.per_sequence(model, quantity).isel(step=-1)
        n, mean = last.sizes["sequence"], last.mean("sequence").values
        with np.errstate(all="ignore"):  # infinite values have no spread
            cv = last.std("sequence", ddof=1).values / mean if n > 1 else np.full(mean.shape, np.nan)
        sem = cv / math.sqrt(n)
        ci95 = sem * t.ppf(0.975, n - 1) if n > 1 else sem
        frame = pd.DataFrame({"mean": mean, "cv": cv, "sem": sem, "ci95": ci95}, index=last["layer"].values)
        return frame.rename_axis("layer")

    def massive(self, model: str) -> xr.Dataset:
        """In how many sequences a layer's largest value is massive, by rule.

        Returns:
            dims (step, layer), whole numbers: `published`, by Sun et al. (2024); and `start`, beyond what the same
            layer showed at step 0, with one false alarm in a hundred checkpoints at most (`massive_by_start`).
            `start` is there if the dataset holds step 0 and says how long its sequences are.
        """
        import xarray as xr

        from madyn.massive import massive_by_start, massive_published

        top1, median = self.per_sequence(model, "top1"), self.per_sequence(model, "median")
        marks = {"published": top1.copy(data=massive_published(top1.values, median.values))}
        values = self.values_of_sequence(model)
        if values is not None and 0 in top1["step"]:
            start = top1.sel(step=0).values, median.sel(step=0).values
            steps = zip(top1.values, median.values, strict=True)
            verdicts = [massive_by_start(top, middle, *start, values).massive for top, middle in steps]
            marks["start"] = top1.copy(data=verdicts)
        return describe(xr.Dataset({rule: mark.sum("sequence").astype(int) for rule, mark in marks.items()}))

    def values_of_sequence(self, model: str) -> int | None:
        """How many values |h| a sequence has at a layer, where the manifest says it."""
        units, _ = manifest.read_sound_units(self.path, model)
        unit = next((unit for unit in units.values() if unit.length and unit.architecture), None)
        return manifest.values_of_sequence(unit) if unit else None

    def fit_records(self, model: str, quantity: str) -> list[dict[str, dict[str, Any]]]:
        """The fits as they are on disk: a list by layer of {hypothesis: record}.

        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import madyn
        >>> root = Path(mkdtemp())
        >>> (root / "tiny" / "stats").mkdir(parents=True)
        >>> for step in range(0, 30_000, 1000):
        ...     values = f"[[[{9 + step / 1000}], [2.0], [1.5], [0.5]]]"  # sequences x quantities x layers
        ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
        >>> fitted = madyn.fit_dataset(root, quantities=["ratio"])
        >>> sorted(fitted.fit_records("tiny", "ratio")[0]["reparam"])[:3]
        ['aic', 'aicc', 'at_edge']
        """
        return fit_files.read_fit_records(self.path, self._known(model), quantity)

    def readable_fits(self, model: str, quantity: str) -> list[dict[str, dict[str, Any]]] | None:
        """As `fit_records`; None where there are none, or they are damaged, which is said on standard error.

        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import madyn
        >>> root = Path(mkdtemp())
        >>> (root / "tiny" / "stats").mkdir(parents=True)
        >>> for step in range(0, 30_000, 1000):
        ...     values = f"[[[{9 + step / 1000}], [2.0], [1.5], [0.5]]]"  # sequences x quantities x layers
        ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
        >>> fitted = madyn.fit_dataset(root, quantities=["ratio"])
        >>> len(fitted.readable_fits("tiny", "ratio")), fitted.readable_fits("tiny", "top1")
        (1, None)
        """
        try:
            return self.fit_records(model, quantity)
        except DatasetError as e:
            if is_there(layout.params_path(self.path, model, quantity)):
                say_wrong(str(e))
            return None

    def has_fits(self, model: str, quantity: str) -> bool:
        """Whether a quantity was fitted, and the fits can be read; damaged ones are said on standard error.

        >>> import madyn
        >>> data = madyn.open_dataset("tiny-suite")
        >>> data.has_fits(data.models[0], "ratio")  # `madyn fit` was not run
        False
        """
        return self.readable_fits(model, quantity) is not None

    def fits(self, model: str, quantity: str = "ratio") -> xr.Dataset:
        """The fits of a quantity as labelled arrays.

        Returns:
            dims hypothesis, layer, parameter (the union of the hypotheses' parameter names) and step; variables popt
            (hypothesis, layer, parameter), pcov (hypothesis, layer, parameter, parameter_2), r2 and aic (hypothesis,
            layer), residuals (hypothesis, layer, step) and message. What a hypothesis lacks, or a failed fit could not
            give, is NaN.

        Raises:
            DatasetError: the quantity was not fitted, or the residuals do not belong to the steps on disk.

        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import madyn
        >>> root = Path(mkdtemp())
        >>> (root / "tiny" / "stats").mkdir(parents=True)
        >>> for step in range(0, 30_000, 1000):
        ...     values = f"[[[{9 + step / 1000}], [2.0], [1.5], [0.5]]]"  # sequences x quantities x layers
        ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
        >>> fitted = madyn.fit_dataset(root, quantities=["ratio"])
        >>> fitted.has_fits("tiny", "ratio"), fitted.fits("tiny", "ratio")["popt"].dims
        (True, ('hypothesis', 'layer', 'parameter'))
        """
        return labelled_fits(self.fit_records(model, quantity), self.steps(model), f"{self.path / model} ({quantity})")

    @property
    def parameters(self) -> pd.DataFrame:
        """The parameter table: a row a model and layer, the card's columns first. Only the selected models' rows.

        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import madyn
        >>> root = Path(mkdtemp())
        >>> (root / "tiny" / "stats").mkdir(parents=True)
        >>> for step in range(0, 30_000, 1000):
        ...     values = f"[[[{9 + step / 1000}], [2.0], [1.5], [0.5]]]"  # sequences x quantities x layers
        ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
        >>> fitted = madyn.fit_dataset(root, quantities=["ratio"])
        >>> fitted.parameters[["model", "layer_index"]].values.tolist()
        [['tiny', 0]]
        """
        table = fit_files.read_parameter_table(self.path)
        return table.loc[table["model"].isin(self.models)].reset_index(drop=True)

    def architecture(self, model: str) -> Architecture:
        """The shape of a model, from its manifest, else from the parameter table, else (for Pythia) from its name.

        Raises:
            ArchitectureError: none of the three knows it.
        """
        self._known(model)
        units, damaged = manifest.read_sound_units(self.path, model)
        for unit in units.values():
            if unit.architecture:
                return Architecture.from_config(unit.architecture)
        try:
            table = {row["model"]: row for row in reversed(fit_files.read_table_rows(self.path))}
        except DatasetError as e:
            table, damaged = {}, [*damaged, str(e)]
        if table.get(model, {}).get("hidden_size"):
            return Architecture.from_config(fit_files.shape_of(table[model]))
        for name, architecture in PYTHIA.architectures.items():
            if layout.directory_name(name) == model:
                return architecture
        why = f" ({damaged[0]})" if damaged else ""
        raise ArchitectureError(f"{self.path / model}: its architecture is neither in a manifest nor in the table{why}")

    def parameter_count(self, model: str) -> int:
        """The number of parameters as counted when measured, else that of a GPT-NeoX of the same shape."""
        units, _ = manifest.read_sound_units(self.path, self._known(model))
        counts = [unit.parameters for unit in units.values() if unit.parameters]
        return counts[0] if counts else self.architecture(model).num_parameters

    def units(self, model: str) -> dict[int, manifest.Unit]:
        """The manifest of a model by step, failures included; empty for a dataset without a manifest."""
        return manifest.read_units(self.path, self._known(model))

    def training(self, model: str) -> TrainingRecord | None:
        """How a model of the lab was trained, and its losses; None for any other model."""
        return read_record(self.path, self._known(model))

    def statistics_hash(self, model: str) -> str:
        """SHA-256 over the model's statistics files in the order of their steps: what fits say they were made from.

        It is that of the bytes that `statistics` was read from, where that was done: a file may change meanwhile.
        """
        if self._known(model) in self._hashes:
            return self._hashes[model]
        files = layout.statistics_files(self.path, model)
        return _hash_steps({step: read_bytes(path) for step, path in files.items()})

    def _known(self, model: str) -> str:
        if not isinstance(model, str) or model not in self.models:
            raise UsageError(f"{self.path} has no model {quoted(model)}; it has {few(self.models)}")
        return model


def _hash_steps(read: Mapping[int, bytes]) -> str:
    return sha256(*(part for step, data in read.items() for part in (str(step).encode(), data)))
