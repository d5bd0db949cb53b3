"""What `madyn forecast` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.summaries.numbers import band
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    import xarray as xr


_MOST_LAYERS = 25
_NEVER = 0.001  # a probability below this is told as none
_DETERMINED = 20.0  # an interval wider than this many times the value seen says nothing


def print_forecast(forecast: xr.Dataset) -> None:
    """What each layer will do: where it is, where it will be half-way and at the end, its peak and its plateau."""
    about, steps = forecast.attrs, forecast["step"].values
    shown = sorted({len(steps) // 2, len(steps) - 1})
    rows = []
    for layer in forecast["layer"].values:
        one = forecast.sel(layer=layer)
        seen = one["seen"].values[~one["seen"].isnull().values]
        bands = [band(*(one[name].values[i] for name in ("median", "lower", "upper"))) for i in shown]
        extra = []
        if "peak_inside" in one:
            chance = one["peak_inside"].item()
            extra = [f"{100 * chance:.0f} %" if chance == chance else "-", band(*one["peak_step"].values)]
        if "plateau" in one:
            extra.append(band(*one["plateau"].values, known=_DETERMINED * abs(seen[-1]) if seen.size else 0.0))
        rows.append([layer, seen[-1] if seen.size else None, *bands, *extra])
    columns = ["layer", f"measured at {forecast['seen_step'].values[-1]:g}", *(f"step {steps[i]:g}" for i in shown)]
    columns += ["peaks in the run", "at step"] if "peak_inside" in forecast else []
    columns += ["plateau"] if "plateau" in forecast else []
    title = f"{about['model']}, {about['quantity']}: steps {about['at']:g} to {about['last_step']:g}"
    print_table(title, columns, rows, most=_MOST_LAYERS)
    console.print(
        f"median ({100 * about['level']:g} % band); prior: {about['prior']}. The peak's step is given that the curve's "
        "maximum lies inside the run; the plateau is what the curve tends to long after it."
    )
    for sentence in decided(forecast):
        console.print(sentence)
    known = forecast["measured"].notnull()
    if bool(known.any()):
        inside = (forecast["measured"] >= forecast["lower"]) & (forecast["measured"] <= forecast["upper"])
        console.print(f"measured later: {int((inside & known).sum())} of {int(known.sum())} points lie in their bands")
    by_message: dict[str, list[str]] = {}
    for layer, message in zip(forecast["layer"].values, forecast["message"].values, strict=True):
        by_message.setdefault(str(message), []).append(str(layer))
    for message, layers in by_message.items():
        if message:
            console.print(f"layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}: {message}", style="yellow")


def decided(forecast: xr.Dataset) -> list[str]:
    """A sentence for each threshold: whether any layer will pass it in this run, and how sure that is."""
    quantity, sentences = forecast.attrs["quantity"], []
    for threshold in forecast["threshold"].values:
        one = forecast.sel(threshold=threshold)
        chances, chance = one["exceed"].fillna(0).values, one["exceed_any"].item()
        already = [str(layer) for layer in forecast["layer"].values[chances >= 1]]
        if already:
            many = len(already) > 1
            sentences.append(
                f"{'layers' if many else 'layer'} {', '.join(already)}: {quantity} has been above {threshold:g} already"
            )
        elif chance < _NEVER:
            sentences.append(f"no layer's {quantity} will pass {threshold:g} in this run: more than 99.9 %")
        else:
            sentences.append(
                f"no layer's {quantity} will pass {threshold:g} in this run: {100 * (1 - chance):.3g} % (likeliest to: "
                f"layer {forecast['layer'].values[chances.argmax()]}, {100 * chances.max():.2g} %)"
            )
    return sentences
