"""The main job on a small scale: train a family, trace it, fit it, draw it, predict one more model, and check.

Everything here is real and small: GPT-NeoX models a laptop trains in seconds, on the Python standard library's own
sources, with checkpoints saved as any other model's are. Each stage leaves its results on disk and passes over what is
there, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from madyn.architecture import Architecture
from madyn.curves.fitting import fit_dataset
from madyn.dataset import Dataset
from madyn.dataset.checking import check_dataset
from madyn.errors import DatasetError
from madyn.lab import Recipe, checkpoint_steps, train_family
from madyn.summaries import print_fits, print_scores
from madyn.sweep import Probe, trace
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.prediction import Predictor

LENGTH = 64  # half of the recipe's: the steps that this saves show more than the context would
VOCABULARY = 1024
SAVED_STEPS = 19
DOCUMENTS = 200
TEXT = "stdlib"


def _shape(layers: int, hidden: int, heads: int, ratio: int = 4) -> Architecture:
    return Architecture(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, intermediate_size=ratio * hidden,
        vocab_size=VOCABULARY, max_position_embeddings=LENGTH,
    )  # fmt: skip


FAMILY = [
    _shape(2, 32, 4), _shape(2, 64, 8), _shape(3, 48, 6), _shape(4, 32, 4), _shape(4, 64, 8), _shape(6, 48, 4),
]  # fmt: skip
UNSEEN = _shape(4, 48, 8)
RECIPE = Recipe(steps=300, length=LENGTH)


def run_demo(
    out: Path, family: list[Architecture] = FAMILY, unseen: Architecture = UNSEEN, recipe: Recipe = RECIPE
) -> Dataset:
    """Train, trace, fit, draw and predict, and print what came of it.

    Args:
        out: the folder of the dataset; checkpoints go to `out/checkpoints`, the unseen model to `out/unseen`.
        family, unseen, recipe: what is trained; smaller ones make a quicker run.

    Raises:
        StorageError: the folder cannot be written.
        DatasetError: the dataset written does not pass its own check.
    """
    from madyn.figures.draw import draw_figures
    from madyn.prediction import Predictor

    folders = {out / "checkpoints" / _name(shape): shape for shape in family}
    apart = out / "unseen" / "checkpoints" / _name(unseen)
    steps = checkpoint_steps(recipe.steps, SAVED_STEPS)

    tokens = (len(family) + 1) * recipe.steps * recipe.batch_size * recipe.length
    console.print(f"1. Train {len(family) + 1} models, {tokens / 1e6:.1f} M tokens of {TEXT} in all", style="bold")
    train_family({**folders, apart: unseen}, recipe, corpus=out / "corpus", text=f"{TEXT}#train", documents=DOCUMENTS,
                 save_at=steps)  # fmt: skip

    console.print(f"2. Trace {(len(family) + 1) * len(steps)} checkpoints", style="bold")
    probe = Probe(f"{TEXT}#held-out", sequences=10, length=recipe.length, bos=True, documents=10)
    reports = [trace(list(folders), out, probe=probe), trace(apart, out / "unseen", probe=probe)]
    for report in reports:
        if report.failures:
            raise DatasetError(
                f"{report.path}: {len(report.failures)} checkpoints failed: {report.failures[0].failure}"
            )

    console.print("3. Fit the published hypotheses to ratio, top1 and median", style="bold")
    dataset = fit_dataset(out)
    measured = fit_dataset(out / "unseen")

    console.print("4. Predict a model that is not in the family", style="bold")
    predictor = Predictor().fit(dataset)
    _print_prediction(predictor, measured, unseen)
    _draw_outcome(predictor, measured, unseen, out / "unseen" / "predicted_and_measured.png")

    console.print("5. Draw the figures", style="bold")
    drawing = draw_figures(dataset, predictor=predictor)
    if drawing.failed:
        name, reason = next(iter(drawing.failed.items()))
        raise DatasetError(f"{len(drawing.failed)} figures failed, {name} first: {reason}")

    faults = [fault for path in (out, out / "unseen") for fault in check_dataset(path).faults]
    if faults:
        raise DatasetError(f"the dataset does not pass its check: {faults[0]}")
    _print_summary(dataset, len(drawing.drawn) + len(drawing.unchanged))
    return dataset


def _name(shape: Architecture) -> str:
    return f"neox_{shape.num_hidden_layers}x{shape.hidden_size}_h{shape.num_attention_heads}"


def _print_prediction(predictor: Predictor, measured: Dataset, unseen: Architecture) -> None:
    print_scores(predictor)
    model = measured.models[0]
    actual = measured.trajectories(model, "ratio")
    guess = predictor.predict(unseen, actual["step"].values)
    last = int(actual["step"][-1])
    rows = [
        [layer, guess.sel(layer=layer, step=last).item(), actual.sel(layer=layer, step=last).item(),
         guess.sel(layer=layer).max().item(), actual.sel(layer=layer).max().item()]
        for layer in actual["layer"].values
    ]  # fmt: skip
    columns = ["layer", f"step {last} predicted", "measured", "largest predicted", "measured"]
    print_table(f"ratio of {model}, predicted and measured", columns, rows)


def _draw_outcome(predictor: Predictor, measured: Dataset, unseen: Architecture, path: Path) -> None:
    import io

    from madyn.dataset.files import write_bytes
    from madyn.figures.outcome import predicted_and_measured

    model = measured.models[0]
    actual = measured.trajectories(model, "ratio")
    figure = predicted_and_measured(predictor.predict(unseen, actual["step"].values), actual, title=model)
    png = io.BytesIO()
    figure.savefig(png, dpi=300, format="png")
    write_bytes(path, png.getvalue())


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
    console.print(f"look at {dataset.path}/analysis/ first, then {dataset.path}/unseen/predicted_and_measured.png")
