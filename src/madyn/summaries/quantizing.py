"""What `madyn quantization` says of a model, and of a dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from madyn.terminal import console, counted, print_table

if TYPE_CHECKING:
    import pandas as pd

    from madyn.quantization import Costs

_WITHIN = 1.01  # of the perplexity without rounding: what counts as nothing lost
_MOVED = 0.01
_JUDGE = {"causal": "perplexity", "masked": "perplexity", "embedding": "moved"}
_FEW_MODELS = 20

BITS = (
    "bits: effective bits, (SNR - 1.76) / 6.02, of the values of at most ten medians; 8 is what int8 can have, and "
    "below 0 only zeros are left"
)


def quantization_records(costs: Costs, model: str, revision: str | None) -> dict[str, Any]:
    """What quantization costs a model, as JSON; docs/json.md says what the keys are."""
    return {
        "model": model,
        "revision": revision,
        "kind": costs.kind,
        "inputs": costs.inputs,
        "loss": costs.loss,
        "keep": costs.keep,
        "remarks": list(costs.remarks),
        "layers": costs.layers.reset_index().to_dict("records"),
        "rounding": costs.rounding.to_dict("records"),
        "together": costs.together.to_dict("records"),
    }


def print_quantization(costs: Costs, title: str) -> None:
    """The layers of a model, then all of them together in every scheme, and what is to be concluded."""
    for name, columns, rows, left in quantization_tables(costs):
        print_table(f"{title}: {name}", columns, rows, left=left)
        for line in explained(costs, name):
            console.print(line)
    for line in [*conclusions(costs), *costs.remarks]:
        console.print(line)


def quantization_tables(costs: Costs) -> list[tuple[str, list[str], list[list[Any]], list[str]]]:
    """For each table its name, columns, rows, and the columns that stand to the left."""
    judge: str = _JUDGE[costs.kind]
    shown = [
        "ratio", "token_spread", "feature_spread", "bits_tensor", "estimated_bits", "zeroed_tensor", "bits_token",
        "bits_channel", "bits_kept", "bits_rotated", judge,
    ]  # fmt: skip
    several = len(set(costs.layers["stack"])) > 1
    rows = [
        [layer, *([f"{row['stack']} {row['layer_in_stack']}"] if several else []), *_cells(row, shown)]
        for layer, row in zip(costs.layers.index.tolist(), costs.layers.to_dict("records"), strict=True)
    ]
    columns = [
        "layer", *(["stack"] if several else []), "ratio", "tokens", "features", "bits", "estimate", "to zero",
        "per token", "per channel", f"{costs.keep} apart", "rotated", judge,
    ]  # fmt: skip
    cells: dict[tuple[str, str], float] = {
        (row["scheme"], row["form"]): row[judge] for row in costs.together.to_dict("records")
    }
    schemes, forms = list(dict.fromkeys(key[0] for key in cells)), list(dict.fromkeys(key[1] for key in cells))
    together = [[scheme, *(cells[scheme, form] for form in forms)] for scheme in schemes]
    heads = {"plain": "as it is", "kept apart": f"{costs.keep} kept apart"}
    return [
        ("each layer in int8", columns, rows, ["stack"]),
        (f"all layers together, {judge}", ["scheme", *(heads.get(form, form) for form in forms)], together, ["scheme"]),
    ]


def explained(costs: Costs, name: str) -> list[str]:
    """What the columns of a table of `quantization_tables` are."""
    alone = "of the model with this layer alone rounded, one scale a tensor"
    if name != "each layer in int8":
        return [f"{_judged(costs)}; without rounding {_number(_whole(costs))}"]
    return [
        "ratio: top1 / median; tokens, features: the largest over the median of the tokens' maxima, and of the "
        "features'",
        f"{BITS}: with one scale a tensor, estimated from the ratio alone, and beside it the share of all values that "
        "become zero",
        f"per token, per channel: bits with a scale each; {costs.keep} apart, rotated: bits with one scale a tensor, "
        f"and the {costs.keep} largest kept in full precision, or the features turned by a Hadamard matrix",
        f"{_JUDGE[costs.kind]}: {alone}",
    ]


def conclusions(costs: Costs) -> list[str]:
    """What to take from the tables, a sentence each."""
    layers, judge = costs.layers, _JUDGE[costs.kind]
    worst, row = min(enumerate(layers.to_dict("records")), key=lambda item: item[1]["bits_tensor"])
    said = [
        f"With one scale a tensor layer {worst} loses most: {_number(row['bits_tensor'])} bits are left, "
        f"{row['zeroed_tensor']:.1%} of its values become zero, and {judge} goes from {_number(_whole(costs))} to "
        f"{_number(row[judge])}. There " + _remedy(row, costs.keep)
    ]
    limit = _MOVED if costs.kind == "embedding" else _WITHIN * _whole(costs)
    good = [row for row in costs.together.to_dict("records") if row[judge] <= limit]
    plain = {row["scheme"] for row in good if row["form"] == "plain"}
    names = [
        f"{row['scheme']}{_FORM[row['form']]}"
        for row in good
        if row["form"] == "plain" or row["scheme"] not in plain  # what is good as it is needs nothing done before
    ]
    bound = f"{judge} stays below {_MOVED}" if costs.kind == "embedding" else f"{judge} rises by 1 % at most"
    said.append(f"All layers together, {bound} in: {', '.join(names) if names else 'none of these'}")
    return said


_FORM = {"plain": "", "kept apart": " with the largest apart", "rotated": " rotated"}


def _remedy(row: Any, keep: int) -> str:
    ways = {
        "a scale a token": row["bits_token"],
        "a scale a channel": row["bits_channel"],
        f"keeping {keep} apart": row["bits_kept"],
        "a rotation": row["bits_rotated"],
    }
    ordered = sorted(ways.items(), key=lambda way: -way[1])
    return ", ".join(f"{name} leaves {_number(bits)}" for name, bits in ordered)


def _judged(costs: Costs) -> str:
    if costs.kind == "embedding":
        return "moved: one minus the cosine between the embeddings before and after, a mean over the sequences"
    at = "at masked tokens" if costs.kind == "masked" else "of the next token"
    return f"perplexity {at}"


def _whole(costs: Costs) -> float:
    if costs.kind == "embedding":
        return 0.0
    return math.exp(costs.loss)


def estimate_records(estimates: pd.DataFrame, worst: pd.DataFrame, path: str) -> dict[str, Any]:
    """Estimates of a dataset as JSON; docs/json.md says what the keys are."""
    return {"path": path, "models": worst.to_dict("records"), "layers": estimates.to_dict("records")}


ESTIMATE_COLUMNS = ["model", "step", "worst layer", "ratio", "bits", "to zero", "headroom", "in layer"]


def estimate_rows(worst: pd.DataFrame) -> list[list[Any]]:
    """A row a model."""
    return [
        [
            row["model"], int(row["step"]), int(row["layer"]), row["ratio"], row["effective_bits"],
            _share(row["zeroed"]), row["headroom"], int(row["headroom_layer"]),
        ]
        for row in worst.to_dict("records")
    ]  # fmt: skip


ESTIMATE_EXPLAINED = (
    f"estimated from top1 and median alone, for int8 with one scale a tensor. {BITS}; within half a bit in most layers "
    "of models it was not made on (docs/quantization.md)",
    "ratio: top1 / median; to zero: the share of the values that become zero; headroom: how many times the largest "
    "value can double before float16 overflows, negative past that, and in which layer that is least",
)


def print_estimates(worst: pd.DataFrame, path: str) -> None:
    """A row a model, the one with the fewest effective bits first."""
    title = f"{path}: the layer with the fewest effective bits of {counted(len(worst), 'model')}"
    print_table(title, ESTIMATE_COLUMNS, estimate_rows(worst), left=["model"], most=_FEW_MODELS)
    for line in [*ESTIMATE_EXPLAINED, estimate_conclusion(worst)]:
        console.print(line)


def estimate_conclusion(worst: pd.DataFrame) -> str:
    """What to take from the table, in a sentence."""
    known = worst.dropna(subset=["effective_bits"]).to_dict("records")
    if not known:
        return "Of no model is there a ratio to estimate from"
    lost, first = sum(row["zeroed"] > 0.5 for row in known), known[0]
    return (
        f"One scale a tensor rounds most of some layer's values to zero in {lost} of {counted(len(known), 'model')}; "
        f"the most, {_share(first['zeroed'])}, in layer {int(first['layer'])} of {first['model']}"
    )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *([_number(cell) for cell in row] for row in rows)]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def quantization_report(costs: Costs, title: str) -> str:
    """What `print_quantization` prints, as Markdown."""
    parts = [f"# Quantization of {title}\n"]
    for name, columns, rows, _ in quantization_tables(costs):
        parts += [
            f"## {name.capitalize()}\n",
            markdown(columns, rows),
            *(f"- {line}\n" for line in explained(costs, name)),
        ]
    parts += ["## What to conclude\n", *(f"- {line}\n" for line in [*conclusions(costs), *costs.remarks])]
    return "\n".join(parts)


def estimate_report(worst: pd.DataFrame, path: str) -> str:
    """What `print_estimates` prints, as Markdown, of all models."""
    rows = estimate_rows(worst)
    lines = [f"# Quantization of {path}, estimated\n", markdown(ESTIMATE_COLUMNS, rows)]
    return "\n".join([*lines, *(f"- {line}\n" for line in [*ESTIMATE_EXPLAINED, estimate_conclusion(worst)])])


def _cells(row: dict[str, Any], names: Sequence[str]) -> list[Any]:
    return [_share(row[name]) if name.startswith("zeroed") else row[name] for name in names]


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2%}"


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
