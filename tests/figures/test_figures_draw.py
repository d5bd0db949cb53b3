"""`draw_figures` on datasets written to disk: which files it writes, when it writes them again, and what it says."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from madyn.analysis.records import fit_records
from madyn.architecture import Architecture
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.dataset import layout, open_dataset
from madyn.dataset.fit_files import PARAMETER_COLUMNS, write_fit_records, write_parameter_table
from madyn.dataset.manifest import Unit, write_unit
from madyn.dataset.statistics import read_statistics, write_statistics
from madyn.errors import StorageError, UsageError
from madyn.figures.draw import draw_figures
from madyn.figures.entries import picture
from madyn.figures.registry import PICTURES
from madyn.prediction.published import ParameterPredictor

STEPS = (0, 1, 2, 4, 8, 16, 32, 64)
SHAPES = {
    "tiny": Architecture(num_hidden_layers=6, hidden_size=32, num_attention_heads=2, vocab_size=256),
    "wide": Architecture(num_hidden_layers=5, hidden_size=64, num_attention_heads=4, vocab_size=256),
}
REMEDIES = {f"analysis/control_{n}.png" for n in ("remedies", "pareto", "trajectories")}
FAMILY = {f"analysis/effects_{n}.png" for n in ("trajectories", "sizes", "variance", "layers", "locations")}
PREDICTION = {"analysis/prediction_importances.png"} | {
    f"analysis/prediction_{kind}_{quantity}_ratio.png"
    for kind in ("shap", "waterfall", "dependence", "interaction", "residuals")
    for quantity in ("final", "largest")
}
DPI = 30  # enough to see that a picture is there


def measure(root: Path) -> None:
    rng = np.random.default_rng(0)
    for model, shape in SHAPES.items():
        layers = np.arange(shape.num_hidden_layers)
        for step in STEPS:
            ratio = np.exp(-0.02 * step) * (2 + layers) * np.log(step + 3) + 5 + shape.hidden_size / 16
            median = 0.1 * (1 + layers) * np.exp(rng.normal(0, 0.02, (3, len(layers))))
            top1 = ratio * median * np.exp(rng.normal(0, 0.02, median.shape))
            write_statistics(
                layout.statistics_path(root, model, step), np.stack([top1, 0.6 * top1, 0.4 * top1, median], axis=1)
            )
            write_unit(root, Unit(model=model, step=step, source=model, architecture=shape.to_dict()))


def fit(root: Path) -> None:
    dataset = open_dataset(root)
    rows = []
    for model in dataset.models:
        for quantity in layout.FITTED_QUANTITIES:
            series = dataset.trajectories(model, quantity)
            records = fit_records(series["step"].values, series.values, ["reparam_regularized", "step1"])
            records = [{**r, "reparam": r["reparam_regularized"]} for r in records]  # converges on every layer
            write_fit_records(root, model, {quantity: records})
            if quantity == "ratio":
                for layer, record in enumerate(records):
                    p = dict(zip(HYPOTHESES["reparam"].param_names, record["reparam"]["popt"], strict=True))
                    columns = {column: p[name] for column, name in PARAMETER_COLUMNS.items()}
                    shape = SHAPES[model].to_dict()
                    rows.append({"model": model, "layer_index": layer, **shape, **columns})
    write_parameter_table(root, rows)


def expected(models: list[str], targets: bool = True) -> set[str]:
    """The file names that the layout promises, spelled out."""
    names = {f"analysis/{n}.png" for n in ("final_ratio", "peak_height", "peak_step", "r2_map", "r2_by_layer")}
    names |= {"analysis/t_peak_surface.png", "analysis/sequence_spread.png"}
    for model in models:
        names |= {f"{model}/series/{n}.png" for n in ("magnitudes", "median", "ratio", "top1")}
        names |= {f"{model}/per_layer_evolution/step{step}.png" for step in STEPS}
        names |= {f"analysis/{model}/{n}.png" for n in ("first_and_last_step", "ratio_by_layer")}
        for quantity in ("median", "ratio", "top1"):
            names |= {f"{model}/example_fits/{quantity}/{d}.png" for d in ("shallow", "middle", "deep")}
            names |= {f"{model}/metrics/{measure}_{quantity}.png" for measure in ("r2", "aic")}
    if targets:
        names |= {"analysis/importances.png", "analysis/residuals.png"}
        kinds = ("shap_summary", "shap_waterfall", "partial_dependence")
        names |= {f"analysis/{kind}_{target}.png" for kind in kinds for target in ("A", "lam", "gamma", "t0", "K")}
    return names


def names(root: Path, paths: list[Path]) -> set[str]:
    return {path.relative_to(root).as_posix() for path in paths}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measured")
    measure(root)
    return root


@pytest.fixture(scope="module")
def fitted(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fitted") / "dataset"
    shutil.copytree(measured, root)
    fit(root)
    return root


def test_every_file_is_drawn_once_and_again_only_when_its_data_changes(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(fitted)
    predictor = ParameterPredictor(regressors=["ridge"]).fit(dataset)
    seen: list[tuple[int, int]] = []
    first = draw_figures(
        dataset, jobs=1, dpi=DPI, predictor=predictor, progress=lambda done, total: seen.append((done, total))
    )
    everything = expected(list(SHAPES))
    assert first.failed == {}
    assert set(first.left_out) == FAMILY | PREDICTION | REMEDIES
    why = dict.fromkeys(FAMILY, "fewer than 3 architectures make no family")
    why |= dict.fromkeys(REMEDIES, "no model departs in wiring or recipe")
    for name, reason in first.left_out.items():
        assert why.get(name, "2 architectures") in reason
    assert names(fitted, first.drawn) == everything
    assert seen[-1] == (len(everything), len(everything))
    assert all(Image.open(path).format == "PNG" for path in first.drawn)

    second = draw_figures(fitted, jobs=1, dpi=DPI)
    assert second.drawn == []
    assert names(fitted, second.unchanged) == everything

    path = layout.statistics_path(fitted, "wide", 64)
    write_statistics(path, 1.5 * read_statistics(path) + 1)
    keep_only(
        monkeypatch,
        "{model}/per_layer_evolution/step{step}.png",
        "{model}/metrics/r2_{quantity}.png",
        "analysis/final_ratio.png",
        "analysis/r2_map.png",
    )
    third = draw_figures(fitted, jobs=1, dpi=DPI)
    # All steps of the model, whose common y range has changed, and what shows all models; the fits have not changed.
    profiles = {f"wide/per_layer_evolution/step{step}.png" for step in STEPS}
    assert names(fitted, third.drawn) == {*profiles, "analysis/final_ratio.png"}


def test_processes_draw_the_same_and_what_cannot_be_drawn_yet_is_left_out(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_statistics = {"magnitudes.png", "per_layer", "first_and_last", "ratio_by_layer", "final_ratio", "spread"}
    for pattern in [p for p in PICTURES if any(part in p for part in from_statistics)]:
        monkeypatch.delitem(PICTURES, pattern)  # only to save time
    one = draw_figures(measured, models=["tiny"], out=tmp_path / "one", jobs=1, dpi=DPI)
    two = draw_figures(measured, models=["tiny"], out=tmp_path / "two", jobs=2, dpi=DPI)
    assert names(tmp_path / "one", one.drawn) == {f"tiny/series/{q}.png" for q in ("median", "ratio", "top1")}
    for a, b in zip(one.drawn, two.drawn, strict=True):
        assert a.read_bytes() == b.read_bytes()
    everything = {name for name in expected(["tiny"]) if not any(part in name for part in from_statistics)}
    assert set(two.left_out) == everything - names(tmp_path / "two", two.drawn) | FAMILY | PREDICTION | REMEDIES
    assert "madyn fit" in two.left_out["analysis/r2_map.png"]
    assert not list(measured.glob("*/series"))


def test_too_few_models_leave_out_the_predictor_alone(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = [pattern for pattern, picture in PICTURES.items() if picture.derive]
    keep_only(monkeypatch, *costly, "analysis/r2_map.png")
    result = draw_figures(fitted, models="tiny", out=tmp_path, jobs=1, dpi=DPI)
    assert set(result.left_out) == (expected([]) - expected([], targets=False)) | PREDICTION
    assert names(tmp_path, result.drawn) == {"analysis/r2_map.png"}
    assert result.failed == {}


def test_the_pictures_have_300_dots_an_inch(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_only(monkeypatch, "{model}/series/magnitudes.png")
    (path,) = draw_figures(measured, models=["wide"], out=tmp_path).drawn
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert image.width == 6.6 * 300


def test_one_failure_does_not_stop_the_others(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("a fault")

    keep_only(monkeypatch, "{model}/series/magnitudes.png", "analysis/final_ratio.png")
    monkeypatch.setitem(
        PICTURES, "analysis/final_ratio.png", replace(PICTURES["analysis/final_ratio.png"], draw=broken)
    )
    result = draw_figures(measured, models=["tiny"], out=tmp_path, jobs=1, dpi=DPI)
    assert result.failed == {"analysis/final_ratio.png": "ZeroDivisionError: a fault"}
    assert names(tmp_path, result.drawn) == {"tiny/series/magnitudes.png"}


def test_redraw_and_foreign_pictures(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_only(monkeypatch, "{model}/series/magnitudes.png")
    target = tmp_path / "tiny/series/magnitudes.png"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"not a picture")
    options = {"models": ["tiny"], "out": tmp_path, "jobs": 1}
    assert draw_figures(measured, **options, dpi=DPI).drawn == [target]
    assert draw_figures(measured, **options, dpi=DPI).drawn == []
    assert draw_figures(measured, **options, dpi=DPI + 1).drawn == [target]
    assert draw_figures(measured, **options, dpi=DPI + 1, redraw=True).drawn == [target]


def test_errors_say_what_to_do(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="jobs"):
        draw_figures(measured, jobs=0)
    with pytest.raises(UsageError, match="no model 'none'"):
        draw_figures(measured, models=["none"])
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StorageError, match=r"file/.*png"):
        draw_figures(measured, models=["tiny"], out=file, jobs=1, dpi=DPI)


def test_the_pictures_of_each_step_can_be_left_out(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(monkeypatch, "{model}/per_layer_evolution/step{step}.png", "{model}/series/magnitudes.png")
    options = {"models": ["tiny"], "jobs": 1, "dpi": DPI}
    without = draw_figures(measured, out=tmp_path / "without", steps=False, **options)
    assert names(tmp_path / "without", without.drawn) == {"tiny/series/magnitudes.png"}
    assert without.left_out == {}
    assert len(draw_figures(measured, out=tmp_path / "with", **options).drawn) == 1 + len(STEPS)


NEW_PICTURE = """
from matplotlib.figure import Figure

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.source import each_model


@picture("{model}/last.png", cases=each_model, data=lambda source, model: {"steps": source.dataset.steps(model)})
def last_step(steps):
    figure, axes = style.new_figure(4, 3)
    axes[0, 0].set_title(f"step {steps[-1]}")
    return figure
"""


def test_a_new_picture_is_one_new_file(measured: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "last.py").write_text(NEW_PICTURE)
    code = """
import sys
from madyn.figures import pictures
pictures.__path__.append(sys.argv[1])  # as if the file stood among the others
from madyn.figures.draw import draw_figures
drawing = draw_figures(sys.argv[2], out=sys.argv[3], only="last.png", jobs=1, dpi=50)
print(*drawing.drawn, sep="\\n")
"""
    arguments = [str(tmp_path / "new"), str(measured), str(tmp_path / "out")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(tmp_path / "out" / model / "last.png") for model in SHAPES]
    assert Image.open(tmp_path / "out" / "tiny" / "last.png").size == (200, 150)
    assert "{model}/last.png" not in PICTURES


def test_two_pictures_are_not_entered_under_one_name() -> None:
    with pytest.raises(ValueError, match=r"analysis/r2_map\.png"):
        picture("analysis/r2_map.png")(PICTURES["analysis/r2_map.png"].draw)


def keep_only(monkeypatch: pytest.MonkeyPatch, *patterns: str) -> None:
    for pattern in set(PICTURES) - set(patterns):
        monkeypatch.delitem(PICTURES, pattern)
