"""What was predicted, and how far to believe predictions: for people, in a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from madyn.summaries.numbers import band
from madyn.terminal import console, is_verbose, print_table

if TYPE_CHECKING:
    import pandas as pd

    from madyn.architecture import Architecture
    from madyn.prediction import Predictor, Training
    from madyn.prediction.evaluation import Evaluation

_SCORES = {
    "r2": "R2 of curves",
    "median_error": "typical error",
    "final_r2": "R2 at the end",
    "largest_r2": "R2 of the largest",
    "peak_within": "peak's step met",
    "coverage": "in its interval",
    "way": "of what can be had",
}
_MORE_SCORES = {
    "width": "interval's width",
    "r2_means": "R2 of curves, means",
    "final_r2_means": "at the end, means",
    "largest_r2_means": "of the largest, means",
}
_LEGEND = (
    "R2 of the log ratio over layers and steps, at the last step, and of the largest value: 1 is exact, 0 as close as "
    "the data's mean. Typical error: the median of |predicted / measured - 1|. Peak's step met: of the layers that "
    "have a peak, those predicted within a factor of 1.5. In its interval: measured values in their 90 % interval. Of "
    "what can be had: from the nearest architecture's R2 to the ceiling's, against the means over seeds. The ceiling "
    "is what a predictor would score that knew every architecture's mean; the rest is the seed's chance."
)
_MORE_LEGEND = (
    "Width: the interval's upper end over its lower. Means: against the means over an architecture's seeds, all other "
    "scores against single runs."
)
_ABSURD_ERROR = 10.0  # a typical error of ten times the value says nothing but that it is absurd


def print_prediction(
    predictor: Predictor,
    architecture: Architecture,
    steps: Sequence[int] | None,
    training: Training | None,
    parameters: bool = False,
) -> None:
    """The bands at a few of the steps and the quantities of each layer; its published curve if asked for."""
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
    print_table(title, ["layer", *names, "largest", "chance of a peak", "at step"], rows, most=_MOST_LAYERS)
    console.print(
        "top1 / median of |h|: median (90 % interval for a single run, each by itself). A peak: the largest value lies "
        "before the end and a tenth above it; at which step then."
    )
    if parameters or is_verbose():
        table = predictor.parameters(architecture, training=training)
        print_table("published curve fitted to the prediction", list(table.columns), table.to_numpy().tolist())
        console.print(
            "The parameters trade off against each other, so that single ones may be huge: what was predicted is the "
            "curve."
        )
    if predicted.attrs["caution"]:
        console.print(predicted.attrs["caution"], style="yellow")


_MOST_LAYERS = 25


def prediction_tables(
    predictor: Predictor, architecture: Architecture, steps: Sequence[int] | None, training: Training | None
) -> dict[str, Any]:
    """What is predicted, as plain values.

    Returns:
        architecture, its fields; caution, what to know first; steps; quantiles; ratio, by layer, step and quantile;
        quantities, records of layer, quantity, lower, value and upper; parameters, records of layer, beta, tau0, A1,
        A2, K and r2 of the published curve fitted to the prediction.
    """
    predicted = predictor.predict(architecture, steps, training=training)
    return {
        "architecture": architecture.to_dict(),
        "caution": predicted.attrs["caution"],
        "steps": predicted["step"].values,
        "quantiles": predicted["quantile"].values,
        "ratio": predicted.transpose("layer", "step", "quantile").values,
        "quantities": predictor.quantities(architecture, training=training).to_dict("records"),
        "parameters": predictor.parameters(architecture, training=training).to_dict("records"),
    }


def print_evaluation(evaluation: Evaluation) -> None:
    """How well every approach predicts architectures left out, then regions; with -v all scores."""
    from madyn.prediction.scoring import LEFT_OUT

    scores = {str(protocol): part for protocol, part in evaluation.scores.groupby("protocol", sort=False)}
    shown = {**_SCORES, **_MORE_SCORES} if is_verbose() else _SCORES
    for protocol, part in scores.items():
        if protocol == LEFT_OUT or is_verbose():
            _print_scores(protocol, part, shown)
    regions = {protocol: part for protocol, part in scores.items() if protocol != LEFT_OUT}
    if regions and not is_verbose():
        _print_regions(regions)
    console.print(_LEGEND, style="dim")
    if is_verbose():
        console.print(_MORE_LEGEND, style="dim")
        if evaluation.parameters is not None:
            _print_parameters(evaluation)
    else:
        console.print("-v shows every score, and those of the five parameters of the published curve", style="dim")
    for note in evaluation.notes:
        console.print(note, style="yellow")


def _print_scores(protocol: str, part: pd.DataFrame, shown: Mapping[str, str]) -> None:
    from madyn.prediction.evaluation import LABELS

    records = part.to_dict("records")
    rows = [[LABELS[row["approach"]], *(_cell(name, row[name]) for name in shown)] for row in records]
    title = f"{protocol}: {records[0]['layers']} layers of {records[0]['architectures']} architectures"
    print_table(title, ["predicted by", *shown.values()], rows, left=["predicted by"])


def _print_regions(regions: Mapping[str, pd.DataFrame]) -> None:
    """R2 where the largest of a size is left out, a column a region."""
    from madyn.prediction.evaluation import LABELS

    by_region = [dict(zip(part["approach"], part["r2"], strict=True)) for part in regions.values()]
    names = list(dict.fromkeys(name for part in by_region for name in part))
    rows = [[LABELS[name], *(_cell("r2", part.get(name, math.nan)) for part in by_region)] for name in names]
    columns = ["predicted by", *regions]
    print_table("R2 of curves beyond the data: all such architectures left out together", columns, rows, [columns[0]])


def _print_parameters(evaluation: Evaluation) -> None:
    from madyn.prediction.published.protocols import score_table

    assert evaluation.parameters is not None
    for score in ("r2", "mae", "rmse"):
        for protocol, table in score_table(evaluation.parameters, score).items():
            rows = [[target, *values] for target, values in zip(table.index, table.to_numpy(), strict=True)]
            columns = ["target", *(str(c) for c in table.columns)]
            print_table(f"{score.upper()} of the five parameters, {protocol}", columns, rows, left=["target"])


def _cell(name: str, value: float) -> str:
    """A score for a reader; where it is worse than what is easy, that is what is said."""
    if value != value:
        return "-"
    if name == "way":
        return f"{100 * value:.0f} %" if value >= 0 else "worse than nearest"
    if name == "median_error":
        return f"{100 * value:.0f} %" if value < _ABSURD_ERROR else "over tenfold"
    if name in ("peak_within", "coverage"):
        return f"{100 * value:.0f} %"
    if name == "width":
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0 else "worse than the mean"
