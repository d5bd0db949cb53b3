"""What `madyn intervene` says: a table of effects beside their controls, and what to conclude of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.summaries.tables import csv_text
from madyn.terminal import console, counted, print_table

if TYPE_CHECKING:
    import pandas as pd

    from madyn.intervention.experiment import Effects
    from madyn.intervention.origin import Origin

_HARMLESS = 0.02  # nats a token: 2 % of perplexity


def print_intervention(effects: Effects, title: str, origin: Origin | None = None) -> None:
    """The table of an experiment, and in words what it shows."""
    columns, rows = effect_rows(effects)
    print_table(title, columns, rows, left=["set", "values changed"])
    for line in explain_columns(effects):
        console.print(line)
    for line in [*conclusions(effects), *(origin.sentences if origin else [])]:
        console.print(line)
    for remark in effects.remarks:
        console.print(f"note: {remark}")


def effect_rows(effects: Effects) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of the printed table."""
    judged = effects.kind != "embedding"
    columns = ["set", "values changed", *(["perplexity", "change of loss", "95 % interval"] if judged else [])]
    columns.append("KL" if judged else "embedding moved")
    rows = []
    table: Any = effects.table
    for _, row in table.iterrows():
        untouched = row["kind"] == ""
        shown: list[Any] = [row["set"], "none" if untouched else _said(int(row["values"]), row["kind"])]
        if judged:
            shown += [_finite(row["perplexity"]), None if untouched else _finite(row["change"])]
            shown.append("-" if untouched else _interval(row, "change"))
        shown.append(None if untouched else _finite(row["divergence"]))
        rows.append(shown)
    return columns, rows


def _said(count: int, kind: str) -> str:
    return f"{count} {kind}"


def _finite(value: Any) -> Any:
    return float(value) if np.isfinite(value) else "not finite"


def _interval(row: Any, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{low:.3g} to {high:.3g}" if np.isfinite(low) and np.isfinite(high) else "-"


def explain_columns(effects: Effects) -> list[str]:
    """What the columns of the table are."""
    of = f"{counted(effects.sequences, 'sequence')} of {effects.length} tokens"
    places: Any = effects.places
    first = places[places["sequence"] == 0]
    many = len(first)
    lines = [
        f"changed behind layer {effects.layer} (counted from 0), in each of {of}; the massive value{'s' * (many > 1)} "
        f"of the first sequence: {_places(first)}"
    ]
    if effects.kind == "embedding":
        lines.append("embedding moved: one minus the cosine between the embeddings before and after, a mean")
        return lines
    what = "masked token" if effects.kind == "masked" else "token"
    lines.append(
        f"change of loss: in nats a {what}, against the untouched model on the same sequences; its interval is a "
        "bootstrap over them. KL: how far the predicted distribution moves, in nats"
    )
    return lines


def _places(rows: Any) -> str:
    said = [
        f"{row['value']:,.4g} at position {row['position']} ({row['token']!r}), feature {row['feature']}, "
        f"{row['ratio']:,.4g} times the median"
        for _, row in rows.head(3).iterrows()
    ]
    return "; ".join(said) + (f"; and {len(rows) - 3} more" if len(rows) > 3 else "")


def conclusions(effects: Effects) -> list[str]:
    """What the experiment shows, a sentence a setting."""
    found = []
    table: Any = effects.table
    by_layer: Any = effects.by_layer
    massive = table[table["kind"] == "massive"]
    after = by_layer[by_layer["kind"].isin(["", "massive"])]
    last = after["layer"].max()
    untouched = after[(after["set"] == "untouched") & (after["layer"] == last)].iloc[0]
    for _, row in massive.iterrows():
        end = after[(after["set"] == row["set"]) & (after["layer"] == last)].iloc[0]
        back = f"the largest |h| behind the last layer is then {end['top1']:,.4g} ({untouched['top1']:,.4g} untouched)"
        found.append(f"set to {row['set']}: {_verdict(row, effects)}; {back}")
    return found


def _verdict(row: Any, effects: Effects) -> str:
    if effects.kind == "embedding":
        controls = _controls(effects, row["set"], "divergence")
        return f"the embedding moves by {row['divergence']:.3g}{_beside(controls)}"
    change = float(row["change"])
    if not np.isfinite(change):
        return "the model's predictions are no longer finite"
    low, high = float(row["change_low"]), float(row["change_high"])
    known = np.isfinite(low)
    controls = _beside(_controls(effects, row["set"], "change"))
    if known and low > _HARMLESS:
        return f"the model needs these values, its loss rises by {change:.3g}{controls}"
    if abs(change) <= _HARMLESS and (not known or max(abs(low), abs(high)) <= _HARMLESS):
        return f"nothing much happens, the loss changes by {change:.2g}{controls}"
    return f"the loss changes by {change:.3g}, which these sequences do not settle{controls}"


def _controls(effects: Effects, setting: str, by: str) -> list[float]:
    table: Any = effects.table
    rows = table[(table["set"] == setting) & ~table["kind"].isin(["", "massive"])]
    return [float(value) for value in rows[by]]


def _beside(controls: list[float]) -> str:
    if not controls:
        return ""
    largest = max(controls, key=abs)
    return f" (at most {largest:.2g} for as many other values)"


def write_report(effects: Effects, title: str, folder: Path, origin: Origin | None = None) -> list[Path]:
    """A report to send: Markdown, the tables as CSV, and pictures.

    Raises:
        StorageError: a file cannot be written.
    """
    import pandas as pd

    from madyn.dataset.files import write_text
    from madyn.figures.pictures.function import decomposition_by_layer, sink_heads
    from madyn.figures.pictures.interventions import effects_figure, layers_after_figure
    from madyn.figures.png import save_figure

    written = []
    tables = {"effects": effects.table, "by_layer": effects.by_layer, "by_position": effects.by_position,
              "places": effects.places}  # fmt: skip
    pictures = {"effects": effects_figure(effects), "layers": layers_after_figure(effects.by_layer)}
    if origin is not None and origin.parts is not None:
        tables["parts"] = origin.parts
        pictures["parts"] = decomposition_by_layer(origin.parts)
    if origin is not None and origin.attention:
        tables["attention"] = pd.concat(dict(origin.attention), names=["set"]).reset_index("set")
        pictures["attention"] = sink_heads(origin.attention, f"attention to position {origin.position}")
    for name, table in tables.items():
        written.append(folder / f"{name}.csv")
        write_text(written[-1], csv_text(table))
    for name, figure in pictures.items():
        written.append(folder / f"{name}.png")
        save_figure(figure, written[-1], dpi=150)
    written.append(folder / "report.md")
    write_text(written[-1], report(effects, title, origin))
    return written


def report(effects: Effects, title: str, origin: Origin | None = None) -> str:
    """The report as Markdown, for a reader who was not there."""
    columns, rows = effect_rows(effects)
    lines = [f"# What massive activations do: {title}", "", *(f"- {line}" for line in conclusions(effects)), ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_shown(value) for value in row) + " |" for row in rows]
    lines += ["", *(f"{line}." for line in explain_columns(effects)), ""]
    lines += ["![change of the loss](effects.png)", "", "![largest and median by layer](layers.png)", ""]
    if origin is not None:
        lines += ["## Where it comes from, and what attends to it", "", *(f"- {one}" for one in origin.sentences), ""]
        lines += ["![what each block adds](parts.png)", ""] if origin.parts is not None else []
        lines += ["![attention by layer and head](attention.png)", ""] if origin.attention else []
    lines += [f"Note: {remark}." for remark in effects.remarks]
    lines += ["", "Every number is in the CSV files beside this page.", ""]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.4g}"


def print_study(table: pd.DataFrame, title: str) -> None:
    """What each checkpoint of a run showed, a row a step, and since when the model depends on the values."""
    rows_of: Any = table
    settings = list(dict.fromkeys(rows_of.loc[rows_of["kind"] == "massive", "set"]))
    rows: list[list[Any]] = []
    for step, one in rows_of.groupby("step"):
        first = one.iloc[0]
        if first["failure"] is not None and first["failure"] == first["failure"]:
            rows.append([int(step), *([None] * (3 + 2 * len(settings))), first["failure"]])
            continue
        shown: list[Any] = [int(step), first["value"], first["ratio"], first["sink"]]
        for setting in settings:
            massive = one[(one["set"] == setting) & (one["kind"] == "massive")].iloc[0]
            shown += [_finite(massive["change"]), _interval(massive, "change")]
        rows.append([*shown, first["writer"] or "-"])
    columns = ["step", "|value|", "ratio", "attention to it"]
    for setting in settings:
        columns += [f"{setting}: change of loss", "95 %"]
    print_table(title, [*columns, "written by"], rows, left=["written by"])
    about = table.attrs
    console.print(
        f"the values that are largest behind layer {about['layer']} at step {about['chosen_at']} (in the first "
        f"sequence position {about['positions'][0]}, feature {about['features'][0]}), followed through the run; "
        "ratio: to the median |h|; attention to it: the share that its position gets in the layer where that is "
        "largest; change of loss: in nats a token; written by: the block that adds most to it"
    )
    for line in study_conclusions(table):
        console.print(line)


def study_conclusions(table: pd.DataFrame) -> list[str]:
    """Since which step a model depends on the values, a sentence a setting."""
    rows: Any = table
    found = []
    massive = rows[rows["kind"] == "massive"]
    for setting, one in massive.groupby("set", sort=False):
        needs = one[one["change_low"] > _HARMLESS].sort_values("step")
        if needs.empty:
            found.append(f"set to {setting}: at no step the loss rises by more than {_HARMLESS} nats for certain")
            continue
        since = needs["step"].iloc[0]
        worst = one.loc[one["change"].idxmax()]
        after = one[one["step"] >= since]
        always = bool((after["change_low"] > _HARMLESS).all())
        found.append(
            f"set to {setting}: the model depends on these values {'from' if always else 'first at'} step {since} "
            f"{'on' if always else '(not at every step after it)'}, most at step {worst['step']} "
            f"({worst['change']:.3g} nats a token)"
        )
    return found


def write_study(table: pd.DataFrame, folder: Path, model: str) -> list[Path]:
    """The study as CSV and as a picture, in the dataset's folder `intervention/`."""
    from madyn.dataset.files import write_text
    from madyn.figures.pictures.interventions import study_figure
    from madyn.figures.png import save_figure

    written = [folder / "intervention" / f"{model}.csv", folder / "intervention" / f"{model}.png"]
    write_text(written[0], csv_text(table))
    save_figure(study_figure(table), written[1], dpi=150)
    return written
