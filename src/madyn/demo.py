"""The main job on a small scale: train a family, measure it, fit it, draw it, predict one more model, and check.

Everything here is real and small: GPT-NeoX models a laptop trains in seconds, on the Python standard library's own
sources, measured as they learn; one model's checkpoints are kept and traced as any other model's are. Each stage leaves
its results on disk and passes over what is there, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from madyn.analysis.fitting import fit_dataset
from madyn.checking import check_dataset
from madyn.dataset import Dataset, open_dataset
from madyn.errors import DatasetError
from madyn.lab import LabReport, LabSuite, Measuring, ModelEntry, Recipe, TrainingText, run_suite
from madyn.lab.corpora import probe_of
from madyn.report import dataset_parts, write_report
from madyn.summaries import print_evaluation, print_fits
from madyn.summaries.numbers import band
from madyn.sweep import trace
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.architecture import Architecture
    from madyn.prediction import Predictor

DOCUMENTS = 200
_LAST_BITS = 1e-4
SAVED_STEPS = 19
FAMILY = [(2, 32, 4), (2, 64, 8), (3, 48, 6), (4, 32, 4), (4, 64, 8), (6, 48, 3)]  # layers, hidden size, heads
UNSEEN = (4, 48, 6)
RECIPE = Recipe(steps=600, length=64)  # half of the usual length: the steps that this saves show more


def suite_of(name: str, shapes: list[tuple[int, int, int]], recipe: Recipe) -> LabSuite:
    """GPT-NeoX models of some shapes, trained on the standard library's sources."""
    return LabSuite(
        name=name,
        recipe=recipe,
        text=TrainingText(documents=DOCUMENTS),
        measure=Measuring(count=SAVED_STEPS),
        model=[
            ModelEntry(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads)
            for layers, hidden, heads in shapes
        ],
    )


def run_demo(
    out: Path,
    family: list[tuple[int, int, int]] = FAMILY,
    unseen: tuple[int, int, int] = UNSEEN,
    recipe: Recipe = RECIPE,
) -> Dataset:
    """Train, measure, fit, draw and predict, and print what came of it.

    Args:
        out: the folder of the dataset; the unseen model and its checkpoints go to `out/unseen`.
        family, unseen, recipe: what is trained (layers, hidden size and heads); smaller ones make a quicker run.

    Raises:
        StorageError: the folder cannot be written.
        DatasetError: the dataset written does not pass its own check.
    """
    from madyn.figures.draw import draw_figures
    from madyn.prediction import Predictor

    suite, apart = suite_of("demo", family, recipe), suite_of("unseen", [unseen], recipe)
    tokens = (len(family) + 1) * recipe.steps * recipe.batch_size * recipe.length
    text = suite.text.source.partition("#")[0]
    console.print(
        f"1. Train {len(family) + 1} models, {tokens / 1e6:.1f} M tokens of {text}, and measure them", style="bold"
    )
    _require_whole(run_suite(suite, out))
    _require_whole(run_suite(apart, out / "unseen", keep_weights=True))

    console.print("2. Trace the unseen model's checkpoints, as you would your own", style="bold")
    _trace_again(out / "unseen", apart)

    console.print("3. Fit the published hypotheses to ratio, top1 and median", style="bold")
    dataset = fit_dataset(out)
    measured = fit_dataset(out / "unseen")

    console.print("4. Predict a model that is not in the family", style="bold")
    predictor = Predictor().fit(dataset)
    shape = measured.architecture(measured.models[0])
    _print_prediction(predictor, dataset, measured, shape)
    _draw_outcome(predictor, measured, shape, out / "unseen" / "predicted_and_measured.png")

    console.print("5. Draw the figures", style="bold")
    drawing = draw_figures(dataset)
    if drawing.failed:
        name, reason = next(iter(drawing.failed.items()))
        raise DatasetError(f"{len(drawing.failed)} figures failed, {name} first: {reason}")

    console.print("6. Write the report", style="bold")
    write_report(dataset_parts(dataset), out / "report.html", "demo")

    faults = [fault for path in (out, out / "unseen") for fault in check_dataset(path).faults]
    if faults:
        raise DatasetError(f"the dataset does not pass its check: {faults[0]}")
    _print_summary(dataset, len(drawing.drawn) + len(drawing.unchanged))
    return dataset


def _require_whole(report: LabReport) -> None:
    for model, reason in report.failures.items():
        raise DatasetError(f"{report.path}: {model} failed: {reason}")


def _trace_again(out: Path, suite: LabSuite) -> None:
    """Measure the checkpoints that were kept: what was measured in training, but for the last bits, which depend on the
    number of threads.
    """
    model = suite.runs()[0].name
    report = trace(out / "checkpoints" / model, out / "traced", probe=probe_of(suite))
    for failure in report.failures:
        raise DatasetError(f"{report.path}: {failure.model} step {failure.step} failed: {failure.failure}")
    here, there = report.open().statistics(model), open_dataset(out).statistics(model)
    difference = float(abs(here / there - 1).max())
    if difference > _LAST_BITS:
        raise DatasetError(f"{report.path}: traced and measured in training differ by {difference:.1e}")
    console.print(
        f"{here.sizes['step']} checkpoints traced; measured in training and traced differ by {difference:.0e}"
    )


def _print_prediction(predictor: Predictor, dataset: Dataset, measured: Dataset, unseen: Architecture) -> None:
    from madyn.prediction.evaluation import evaluate

    # Enough to see what a prediction is worth here; `madyn evaluate` compares all approaches.
    print_evaluation(evaluate(dataset, approaches=["gaussian_process", "mean_curve", "nearest"]))
    model = measured.models[0]
    actual = measured.trajectories(model, "ratio")
    guess = predictor.predict(unseen, actual["step"].values)
    low, high = (guess.sel(quantile=q, drop=True).transpose(*actual.dims) for q in (0.05, 0.95))
    inside = int(((actual >= low) & (actual <= high)).sum())
    last = int(actual["step"][-1])
    rows = []
    for layer in actual["layer"].values:
        ends = [guess.sel(layer=layer, step=last, quantile=q).item() for q in (0.5, 0.05, 0.95)]
        rows.append([layer, band(*ends), actual.sel(layer=layer, step=last).item()])
    columns = ["layer", f"step {last}: predicted (90 % interval)", "measured"]
    print_table(f"ratio of {model}, predicted and measured", columns, rows)
    console.print(f"{inside} of {actual.size} measured values lie in their 90 % intervals")
    console.print(predictor.caution(unseen), style="yellow")


def _draw_outcome(predictor: Predictor, measured: Dataset, unseen: Architecture, path: Path) -> None:
    from madyn.figures.pictures.outcome import predicted_and_measured
    from madyn.figures.png import save_figure
    from madyn.figures.steps import curve_steps

    model = measured.models[0]
    actual = measured.trajectories(model, "ratio")
    guess = predictor.predict(unseen, curve_steps(actual["step"].values))
    save_figure(predicted_and_measured(guess, actual, title=model), path)


def _print_summary(dataset: Dataset, figures: int) -> None:
    rows = []
    for model in dataset:
        ratio = dataset.trajectories(model, "ratio")
        step, layer = (int(i) for i in divmod(int(ratio.values.argmax()), ratio.sizes["layer"]))
        first, last = ratio.isel(step=0).max().item(), ratio.isel(step=-1).max().item()
        rows.append([model, first, last, ratio.values[step, layer], int(ratio["step"][step]), layer])
    print_table(
        "largest ratio of top1 to median over the layers",
        ["model", "at first", "at last", "largest", "at step", "in layer"],
        rows,
        left=["model"],
    )
    print_fits(dataset)
    console.print(f"{figures} figures and the dataset: {dataset.path}/; the unseen model: {dataset.path}/unseen/")
    console.print(
        f"the pictures: {dataset.path}/analysis/ first, then {dataset.path}/unseen/predicted_and_measured.png"
    )
    console.print(f"open {dataset.path}/report.html in a browser: all of it on one page", style="bold")
