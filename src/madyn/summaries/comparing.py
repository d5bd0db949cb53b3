"""What `madyn compare` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from madyn.terminal import console, is_verbose, print_table

if TYPE_CHECKING:
    from madyn.analysis.comparison import Comparison


_HEADINGS = {
    "r2": "R2",
    "aicc": "AICc",
    "bic": "BIC",
    "aicc_above_best": "AICc above best",
    "akaike_weight": "Akaike weight",
    "wins": "layers won",
    "kfold_error": "K-fold error",
    "last20_error": "last-20 % error",
}
_FEW_MODELS = 6
_ALWAYS = ("r2", "last20_error")  # by model, where there are few


def comparison_tables(comparison: Comparison) -> dict[str, Any]:
    """What was compared, as plain values.

    Returns:
        quantity; overall, a record a hypothesis; by_model, a record a model and hypothesis; both with layers, r2, aicc,
        bic, aicc_above_best, akaike_weight, wins, kfold_error, last20_error and failed, as `Comparison.by_model`
        defines them; not_ranked, the reason by hypothesis; at_edge, how many fits lie on an edge of their box.
    """
    return {
        "quantity": comparison.quantity,
        "overall": comparison.overall.to_dict("records"),
        "by_model": comparison.by_model.to_dict("records"),
        "not_ranked": comparison.not_ranked,
        "at_edge": comparison.layers["at_edge"].tolist().count(True),
    }


def print_comparison(comparison: Comparison) -> None:
    """Table 5 of the paper for any dataset: all layers together; the scores by model where these are few."""
    overall, by_model = comparison.overall, comparison.by_model
    count = len(set(by_model["model"]))
    kept = ["hypothesis", *_HEADINGS, *(["failed"] if any(overall["failed"]) else [])]
    title = f"{comparison.quantity}: {len(comparison.layers) // len(overall)} layers of {count} models"
    columns = [_HEADINGS.get(name, "layers without a fit" if name == "failed" else name) for name in kept]
    print_table(title, columns, overall[kept].to_numpy().tolist(), left=["hypothesis"])
    shown = list(_HEADINGS) if is_verbose() else [*_ALWAYS] if 1 < count <= _FEW_MODELS else []
    for score in shown:
        table = by_model.set_index(["model", "hypothesis"])[score].unstack(sort=False)
        rows = [[model, *values] for model, values in zip(table.index, table.to_numpy(), strict=True)]
        print_table(f"{_HEADINGS[score]} by model", ["model", *map(str, table.columns)], rows, left=["model"])
    if count > 1 and len(shown) < len(_HEADINGS):
        console.print("-v shows every score by model; --out writes a row for each layer")
    for name, reason in comparison.not_ranked.items():
        console.print(f"{name}: {reason}; not counted in layers won and weights")
    console.print(
        "R2, AICc, BIC (less is better) and weights are means over the layers that have a fit, errors are medians. "
        "Layers won: those in which it has the least AICc. "
        "The errors are root mean squares at points left out (one in five in turn; the last 20 %), as shares of the "
        "series' standard deviation: 1 is as bad as the mean. AICc and weights take residuals for independent, which "
        "they are not from step to step: trust the errors first."
    )
    edges = comparison.layers["at_edge"].tolist().count(True)
    if edges:
        console.print(
            f"{edges} of {len(comparison.layers)} fits lie on an edge of the box that is searched: their parameters "
            "are not at a true optimum; --out names them"
        )
