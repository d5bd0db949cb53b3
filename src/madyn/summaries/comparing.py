"""What `madyn compare` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.curves.comparison import Comparison


_HEADINGS = {
    "r2": "R2",
    "aicc": "AICc",
    "bic": "BIC",
    "wins": "wins",
    "akaike_weight": "Akaike weight",
    "kfold_error": "K-fold error",
    "last20_error": "last-20 % error",
}


def print_comparison(comparison: Comparison) -> None:
    """Table 5 of the paper for any dataset: all layers together, then the scores by model."""
    overall, by_model = comparison.overall, comparison.by_model
    columns = [str(name) for name in overall.columns]
    rows = overall.to_numpy().tolist()
    layers = len(comparison.layers) // len(overall)
    title = f"{comparison.quantity}: {layers} layers of {by_model['model'].nunique()} models"
    print_table(title, [_HEADINGS.get(name, name) for name in columns], rows, left=["hypothesis"])
    for score, heading in _HEADINGS.items():
        table = by_model.set_index(["model", "hypothesis"])[score].unstack(sort=False)
        rows = [[model, *values] for model, values in zip(table.index, table.to_numpy(), strict=True)]
        print_table(f"{heading} by model", ["model", *map(str, table.columns)], rows, left=["model"])
    for name, reason in comparison.not_ranked.items():
        console.print(f"{name}: {reason}; not counted in wins and weights")
    console.print(
        "R2, AICc, BIC and weights are means over the layers that have a fit, errors are medians. The errors are root "
        "mean squares at points left out (one in five in turn; the last 20 %), as shares of the series' standard "
        "deviation: 1 is as bad as the mean. AICc and weights take residuals for independent, which they are not from "
        "step to step: trust the errors first."
    )
    edges = comparison.layers["at_edge"].tolist().count(True)
    if edges:
        console.print(f"{edges} fits lie on an edge of their box; failures and remarks are in the file's last column")
