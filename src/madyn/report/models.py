"""What a report says of a single model: what `madyn scan` measures, and what `madyn intervene` finds.

The model is loaded twice, as the two commands do: without its head to be measured, with it to be judged. A model that
cannot be judged (weights that stream from disk, a vision model) has the first part alone, and says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.errors import MadynError, reason_of
from madyn.quantization import effective_bits
from madyn.report import charts
from madyn.report.contents import Part, Table
from madyn.report.reading import words
from madyn.settings import Probe, Settings
from madyn.terminal import counted, progress_display

if TYPE_CHECKING:
    import pandas as pd

_SEQUENCES, _LENGTH, _DOCUMENTS = 4, 512, 50


def model_parts(
    model: str | Path,
    revision: str | None = None,
    *,
    probe: Probe | None = None,
    settings: Settings | None = None,
    tokenizer: Any = None,
    inputs: Any = None,
) -> list[Part]:
    """All parts of a report of a model, in the order of the page.

    Args:
        model: a folder, a GGUF file, or a name of the Hub, there at `revision` if given.
        probe: four sequences of the standard library by default.
        tokenizer, inputs: as in `scan_checkpoint`.

    Raises:
        CheckpointError, ArchitectureError, TextError, NonFiniteError: it cannot be measured.
    """
    from madyn.sweep import scan_checkpoint

    text = probe or Probe(sequences=_SEQUENCES, documents=_DOCUMENTS)
    table = scan_checkpoint(model, revision, probe=text, settings=settings, tokenizer=tokenizer, inputs=inputs)
    parts = [_measured(table), _rounded(table)]
    try:
        parts.append(_without(model, revision, text, settings or Settings(), tokenizer, inputs))
    except MadynError as e:
        parts.append(Part("without", "Without its largest value", f"Not in this report: {reason_of(e)}."))
    return parts


def _measured(table: pd.DataFrame) -> Part:
    ratio = table["ratio"].to_numpy(float)
    layer = int(np.nanargmax(ratio))
    row: Any = table.iloc[layer]
    massive = int((table["published"].to_numpy() > 0).sum())
    token = f" ({row['token']!r})" if row["token"] else ""
    layers = counted(massive, "layer") if massive else "no layer"
    says = (
        f"{counted(len(table), 'layer')}, measured on {table.attrs['inputs']}. Layer {layer} has the largest ratio: "
        f"top 1 is {words(float(row['ratio']))} times the median. Its largest value, {words(float(row['largest']))}, "
        f"stands at position {int(row['position'])}{token}, feature {int(row['feature'])}. By the published rule "
        f"(above 100 and 1000 times the median) there are massive values in {layers}."
    )
    columns = [
        "layer",
        "top 1",
        "top 2",
        "top 3",
        "median",
        "ratio",
        "largest",
        "position",
        "token",
        "feature",
        "massive in",
    ]
    rows = [
        [int(number), *(float(one[name]) for name in ("top1", "top2", "top3", "median", "ratio", "largest")),
         int(one["position"]), str(one["token"]), int(one["feature"]), int(one["published"])]
        for number, one in zip(table.index, table.to_dict("records"), strict=True)
    ]  # fmt: skip
    chart = charts.by_layer({"largest |h| (top 1)": table["top1"], "median |h|": table["median"]}, "|h|", log=True)
    return Part(
        "overview", "Layer by layer", says, {"layers": chart}, tables=[Table(columns, rows, "layers.csv")],
        notes=list(table.attrs["remarks"]),
    )  # fmt: skip


def _rounded(table: pd.DataFrame) -> Part:
    bits = effective_bits(table["top1"], table["median"])
    worst = int(np.nanargmin(bits))
    says = (
        "What int8 with one scale a tensor would leave to the bulk of each layer's values, estimated from top 1 and "
        f"median: the fewest effective bits, {bits[worst]:.1f}, in layer {worst}; {np.nanmedian(bits):.1f} in the "
        "median. `madyn quantization` rounds the model and runs it."
    )
    return Part(
        "quantization", "What quantization costs", says,
        {"bits": charts.by_layer({"effective bits": bits}, "effective bits of int8", log=False)},
    )  # fmt: skip


def _without(
    model: str | Path, revision: str | None, probe: Probe, settings: Settings, tokenizer: Any, ids: Any
) -> Part:
    """What becomes of the model's predictions when its largest value is set to zero, or to its mean."""
    from madyn.intervention import find_origin, measure_effects
    from madyn.sweep.subjects import Subject

    subject = Subject.find(model, revision, probe, settings, tokenizer, ids is not None)
    inputs, _ = subject.prepare(subject.probe) if ids is None else subject.given(ids)
    loaded, remarks = subject.load_with_head()
    with progress_display() as progress:
        task = progress.add_task("forwards of one sequence", total=None)
        effects = measure_effects(
            loaded,
            inputs.values,
            tokenizer=subject.tokenizer,
            layers=settings.layers,
            seed=probe.seed,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    found = find_origin(loaded, inputs.values, effects, layers=settings.layers)
    judged = "divergence" if effects.kind == "embedding" else "change"
    rows = [
        [str(one["set"]) or "untouched", str(one["kind"]) or None, int(one["values"]),
         *(float(one[name]) if name in one else None for name in ("loss", "perplexity", judged))]
        for one in effects.table.to_dict("records")
    ]  # fmt: skip
    changed = {row[0]: row[-1] for row in rows if row[1] == "massive"}
    unit = "one minus the cosine of its embedding" if effects.kind == "embedding" else "nats a token more loss"
    said = " and ".join(f"set to {name} {words(value)}" for name, value in changed.items())
    says = (
        f"The largest value of each sequence, replaced behind layer {effects.layer}: {said} ({unit}, on "
        f"{counted(effects.sequences, 'sequence')}). Beside it as many other values, replaced in the same way."
    )
    columns = ["set to", "values", "how many", "loss", "perplexity", "change"]
    return Part(
        "without", "Without its largest value", says, tables=[Table(columns, rows, "without.csv")],
        notes=[*found.sentences, *effects.remarks, *remarks],
    )  # fmt: skip
