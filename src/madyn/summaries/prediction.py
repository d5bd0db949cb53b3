"""What was predicted, and how far to believe predictions: for people, in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from madyn.summaries.numbers import band
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.architecture import Architecture
    from madyn.prediction import Predictor, Training
    from madyn.prediction.evaluation import Evaluation

_COLUMNS = {
    "r2": "R2",
    "median_error": "error",
    "final_r2": "final",
    "largest_r2": "largest",
    "peak_within": "peak step",
    "coverage": "coverage",
    "width": "width",
    "r2_means": "R2*",
    "final_r2_means": "final*",
    "largest_r2_means": "largest*",
    "way": "way",
}
_LEGEND = (
    "R2 of the log ratio over layers and steps; error: median |predicted / measured - 1|; final, largest: R2 of the "
    "log ratio at the end and of the largest; peak step: of layers that have a peak, the share predicted within a "
    "factor of 1.5; coverage and width (upper over lower end) of 90 % intervals. All these against single runs, "
    "those with a star against the means over an architecture's seeds. way: from the nearest architecture's "
    "R2 to the ceiling's. The ceiling is what a predictor would score that knew every architecture's mean; the rest is "
    "the seed's chance."
)
_AS_SHARE = ("median_error", "peak_within", "coverage", "way")


def print_prediction(
    predictor: Predictor,
    architecture: Architecture,
    steps: Sequence[int] | None,
    training: Training | None,
    out: Path | None,
) -> None:
    """The bands at a few of the steps, the quantities and the five parameters of each layer; all steps as CSV."""
    predicted = predictor.predict(architecture, steps, training=training)
    at = predicted["step"].values
    shown = sorted({0, len(at) // 3, 2 * len(at) // 3, len(at) - 1})
    quantities = predictor.quantities(architecture, training=training)
    rows = []
    for layer in predicted["layer"].values:
        low, middle, high = predicted.sel(layer=layer).transpose("quantile", "step").values
        of = {row["quantity"]: row for row in quantities.loc[quantities["layer"] == layer].to_dict("records")}
        chance, peak = of["peak chance"]["value"], of["peak step"]
        largest = band(*(of["largest ratio"][name] for name in ("value", "lower", "upper")))
        step = band(peak["value"], peak["lower"], peak["upper"]) if math.isfinite(peak["value"]) else "-"
        bands = [band(middle[i], low[i], high[i]) for i in shown]
        rows.append([layer, *bands, largest, f"{100 * chance:.0f} %", step])
    title = f"predicted ratio of one run: {architecture.num_hidden_layers} layers x {architecture.hidden_size}"
    names = [f"step {at[i]:g}" for i in shown]
    print_table(title, ["layer", *names, "largest", "peak", "at step"], rows)
    console.print(
        "median (90 % interval for a single run, each by itself); peak: the chance that the largest value lies before "
        "the end and a tenth above it, and at which step then."
    )
    parameters = predictor.parameters(architecture, training=training)
    print_table("published curve fitted to the prediction", list(parameters.columns), parameters.to_numpy().tolist())
    if predicted.attrs["caution"]:
        console.print(predicted.attrs["caution"], style="yellow")
    if out is not None:
        from madyn.dataset.files import write_text

        write_text(out, predicted.to_series().reset_index().to_csv(index=False))
        console.print(f"written: {out}")


def print_evaluation(evaluation: Evaluation) -> None:
    """The scores of every approach for each protocol, then those of the five parameters."""
    from madyn.prediction.evaluation import LABELS

    for protocol, part in evaluation.scores.groupby("protocol", sort=False):
        rows = [
            [LABELS[row["approach"]], *(_cell(name, row[name]) for name in _COLUMNS)] for row in part.to_dict("records")
        ]
        first = part.to_dict("records")[0]
        print_table(
            f"{protocol}: {first['layers']} layers of {first['architectures']} architectures",
            ["", *_COLUMNS.values()],
            rows,
            left=[""],
        )
    console.print(_LEGEND, style="dim")
    if evaluation.parameters is not None:
        _print_parameters(evaluation)
    for note in evaluation.notes:
        console.print(note, style="yellow")


def _print_parameters(evaluation: Evaluation) -> None:
    from madyn.prediction.published.protocols import score_table

    assert evaluation.parameters is not None
    for score in ("r2", "mae", "rmse"):
        for protocol, table in score_table(evaluation.parameters, score).items():
            rows = [[target, *values] for target, values in zip(table.index, table.to_numpy(), strict=True)]
            columns = ["target", *(str(c) for c in table.columns)]
            print_table(f"{score.upper()} of the five parameters, {protocol}", columns, rows, left=["target"])


def _cell(name: str, value: float) -> str:
    if value != value:
        return "-"
    if name in _AS_SHARE:
        return f"{100 * value:.0f} %"
    if name == "width":
        return f"{value:.2f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
