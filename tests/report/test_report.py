"""The report: what it says of known datasets, what is escaped, and the page in a real browser."""

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import madyn
from browser import needs_browser, opened_tab
from madyn.cli import app
from madyn.dataset import layout, manifest
from madyn.dataset.files import write_json
from madyn.dataset.statistics import write_statistics
from madyn.report import Part, charts, dataset_parts, model_parts, write_report
from madyn.report.contents import Table
from madyn.settings import Probe
from madyn.sweep import scan_checkpoint
from planted import FEATURE, LAYER, planted, sequences
from tiny import TEXT, save_checkpoints, write_dataset, write_family


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    root = tmp_path_factory.mktemp("report") / "family"
    write_family(root, count=12, repeated=3)
    return root


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    root = tmp_path_factory.mktemp("report") / "fitted"
    write_dataset(root)
    madyn.fit_dataset(root)
    return root


def by_key(parts: list[Part]) -> dict[str, Part]:
    return {part.key: part for part in parts}


@pytest.fixture(scope="module")
def parts(family) -> dict[str, Part]:
    return by_key(dataset_parts(madyn.open_dataset(family)))


def test_every_part_says_what_this_dataset_shows(parts, family):
    dataset = madyn.open_dataset(family)
    last = {model: float(dataset.trajectories(model, "ratio").isel(step=-1).max()) for model in dataset}
    most = max(last, key=lambda model: last[model])
    assert most in parts["overview"].says
    row = next(row for row in parts["overview"].tables[0].rows if row[0] == most)
    assert row[6] == pytest.approx(last[most])
    assert "No rival curves are fitted" in parts["hypotheses"].says
    assert "Not in this report" in parts["parameters"].says
    assert "position 0 in most sequences" in parts["locations"].says
    assert re.search(r"R² of its logarithm is 0\.\d\d", parts["prediction"].says)
    assert re.search(r"\d effective bits", parts["quantization"].says)
    assert all(part.says.endswith(".") for part in parts.values())


def test_trajectories_are_those_of_the_dataset_with_their_bands(parts, family):
    dataset = madyn.open_dataset(family)
    model = dataset.models[0]
    chart = parts["trajectories"].charts[f"{model}/ratio"]
    values = dataset.trajectories(model, "ratio")
    lines: list[Any] = [trace for trace in chart.data if trace.meta["part"] == "line"]
    assert [trace.meta["layer"] for trace in lines] == list(values["layer"])
    np.testing.assert_allclose(lines[-1].y, values.isel(layer=-1), rtol=1e-3)
    assert list(lines[0].customdata) == list(values["step"])
    curve: Any = next(trace for trace in chart.data if trace.meta == {"layer": 0, "part": "curve"})
    band: Any = next(trace for trace in chart.data if trace.meta == {"layer": 0, "part": "band"})
    half = len(curve.y)
    assert all(
        low <= middle <= high for high, middle, low in zip(band.y[:half], curve.y, band.y[half:][::-1], strict=True)
    )
    # The made-up curves have hardly any noise, so that the fitted one goes through what was measured.
    np.testing.assert_allclose(curve.y[-1], values.isel(layer=0, step=-1), rtol=0.03)


def test_fits_of_the_dataset_are_compared_and_shown(fitted):
    found = by_key(dataset_parts(madyn.open_dataset(fitted)))
    bars: Any = found["hypotheses"].charts["hypotheses"].data[0]
    best = dict(zip(bars.x, bars.y, strict=True))
    assert best["reparam"] == 100  # they were made up from it
    assert "reparam" in found["hypotheses"].says
    table = found["parameters"].tables[0]
    assert len(table.rows) == 6
    assert "param_A" in table.columns
    heat: Any = found["peaks"].charts["height"].data[0]
    ratio = madyn.open_dataset(fitted).trajectories("pythia_14m", "ratio")
    row = list(heat.y).index("pythia_14m")
    np.testing.assert_allclose(10 ** np.array(heat.z[row], float), ratio.max("step"), rtol=1e-3)


def test_an_odd_dataset_has_a_whole_report(tmp_path):
    """One model, one step, not a number, a failed unit: each is said where it would stand."""
    root = tmp_path / "odd"
    statistics = np.ones((2, 4, 3)) * np.array([5.0, 3.0, 2.0, 1.0])[:, None]
    write_statistics(layout.statistics_path(root, "a", 7), statistics)
    failed = manifest.Unit(model="a", step=8, source="<script>alert(1)</script>", failure="it broke <img src=x>")
    write_json(layout.manifest_path(root, "a", 8), asdict(failed))
    unit = replace(failed, step=7, failure=None)
    write_json(layout.manifest_path(root, "a", 7), asdict(unit))
    found = by_key(dataset_parts(madyn.open_dataset(root)))
    assert "3 steps" in found["peaks"].says
    assert "could not be measured" in found["provenance"].says
    out = tmp_path / "report.html"
    write_report(list(found.values()), out, "<script>title</script>")
    text = out.read_text()
    assert "<script>alert" not in text
    assert "<script>title" not in text
    assert "&lt;img src=x&gt;" in text
    write_statistics(layout.statistics_path(root, "b", 1), statistics)
    others = layout.statistics_path(root, "b", 1).read_text()
    layout.statistics_path(root, "b", 0).write_text(others.replace("5.0", "inf", 1).replace("1.0", "nan", 1))
    write_report(dataset_parts(madyn.open_dataset(root)), out, "odd")  # JSON has no NaN: it would not be written
    assert out.read_text() != text


def test_a_folder_without_models_is_refused_in_words(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "r.html")])
    assert result.exit_code != 0
    assert not (tmp_path / "r.html").exists()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_names_no_other_file_and_every_picture_has_words(family, tmp_path):
    out = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(family), "--out", str(out)])
    assert result.exit_code == 0, result.output
    tags = Tags()
    tags.feed(out.read_text())
    assert not [attrs for _, attrs in tags.seen if attrs.get("src") or (attrs.get("href") or "#")[0] != "#"]
    ids = {attrs["id"] for _, attrs in tags.seen if "id" in attrs}
    pictures = [attrs for _, attrs in tags.seen if attrs.get("role") == "img"]
    assert len(pictures) >= 5
    assert all(attrs["aria-labelledby"] in ids for attrs in pictures)
    assert out.stat().st_size < 5e6


def test_the_same_dataset_gives_the_same_page(fitted, tmp_path):
    pages = []
    for name in ("a.html", "b.html"):
        write_report(dataset_parts(madyn.open_dataset(fitted)), tmp_path / name, "same")
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(("scale", "value", "at"), [(None, 3.0, 3.0), (charts.LogScale(), 100.0, 2.0)])
def test_a_cell_of_a_heat_map_knows_its_model_and_layer(scale, value, at):
    import pandas as pd

    table = pd.DataFrame({"model": ["a", "a", "b"], "layer": [0, 1, 0], "x": [1.0, value, 5.0]})
    heat: Any = charts.heat_map(table, "x", "x", scale=scale).data[0]
    assert heat.z[0][1] == at
    assert heat.customdata[0][1] == ["a", 1]
    assert heat.z[1][1] is None


def test_a_model_is_measured_and_judged(tmp_path):
    """One whose massive value was planted: what is said is what scan and intervene measure."""
    planted().save_pretrained(tmp_path / "model")
    np.save(tmp_path / "ids.npy", sequences())
    found = by_key(model_parts(tmp_path / "model", inputs=sequences()))
    table = scan_checkpoint(tmp_path / "model", inputs=sequences())
    assert [row[5] for row in found["overview"].tables[0].rows] == pytest.approx(list(table["ratio"]))
    assert f"stands at position 0 ('id 7'), feature {FEATURE}" in found["overview"].says
    lines: Any = found["overview"].charts["layers"].data
    np.testing.assert_allclose(lines[0].y, table["top1"], rtol=1e-3)
    rows = {(row[0], row[1]): row for row in found["without"].tables[0].rows}
    untouched, zero = rows[("untouched", None)], rows[("zero", "massive")]
    assert zero[3] - untouched[3] == pytest.approx(zero[5], abs=1e-6)
    assert f"replaced behind layer {LAYER}: set to zero" in found["without"].says
    command = ["report", str(tmp_path / "model"), "--tokens", str(tmp_path / "ids.npy")]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "r.html")])
    assert result.exit_code == 0, result.output
    assert f"feature {FEATURE}" in (tmp_path / "r.html").read_text()
    assert CliRunner().invoke(app, [*command, "--model", "x"]).exit_code != 0  # that option is of a dataset


def test_a_model_in_which_nothing_is_massive_has_the_rest(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    folder = save_checkpoints(tmp_path / "run", steps=(1,)) / "step1"
    found = by_key(model_parts(folder, probe=Probe(text=str(text), sequences=2, length=16)))
    assert "massive values in no layer" in found["overview"].says
    assert found["without"].says.startswith("Not in this report:")


def shown(tab) -> None:
    tab.page.wait_for_selector("html[data-ready]")
    tab.page.locator(".chart").first.scroll_into_view_if_needed()  # a picture is drawn when it comes into view
    tab.page.wait_for_selector(".chart .main-svg")


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_works_in_a_browser_and_asks_for_nothing(family, parts, tmp_path, theme):
    out = tmp_path / "report.html"
    write_report(list(parts.values()), out, "family")
    with opened_tab(theme=theme) as tab:
        page = tab.page
        page.goto(out.as_uri())
        shown(tab)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        # A layer: its points, curve and band beside the pale others.
        page.select_option("[data-layer]", "1")
        trajectories = page.locator('[data-part="trajectories"]')
        visible = "node => node.data.filter(t => t.visible !== false && t.meta.part !== 'line').map(t => t.meta.part)"
        assert sorted(trajectories.evaluate(visible)) == ["band", "curve", "points"]
        # Another model, by its name in the list.
        other = list(parts["trajectories"].charts)[-3]
        page.select_option('[data-choose="trajectories"]', f"trajectories:{other}")
        assert trajectories.get_attribute("data-chart") == f"trajectories:{other}"
        # A cell of the heat map leads to its trajectory.
        page.locator("#peaks").scroll_into_view_if_needed()
        page.wait_for_selector('[data-part="peaks"] .main-svg')
        heat = page.locator('[data-part="peaks"]')
        heat.evaluate("node => node.emit('plotly_click', {points: [{customdata: node.data[0].customdata[0][1]}]})")
        first = heat.evaluate("node => node.data[0].customdata[0][1]")
        assert trajectories.get_attribute("data-chart") == f"trajectories:{first[0]}/ratio"
        assert page.locator("[data-layer]").input_value() == str(first[1])
        # A table: sorted by keyboard, and saved.
        head = page.locator("#overview th button").nth(6)
        head.focus()
        page.keyboard.press("Enter")
        column = [float(x) for x in page.locator("#overview tbody td:nth-child(7)").evaluate_all(
            "cells => cells.map(c => c.dataset.value)")]  # fmt: skip
        assert column == sorted(column)
        with page.expect_download() as download:
            page.locator("#overview [data-download]").click()
        saved = download.value.path().read_text().splitlines()
        assert saved[0].startswith("model,parameters,layers")
        assert len(saved) == 1 + len(column)
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") != theme
        assert tab.errors == []
        assert tab.outside() == []


@needs_browser
def test_a_phone_shows_it_without_scrolling_sideways(parts, tmp_path):
    out = tmp_path / "report.html"
    write_report(list(parts.values()), out, "a_name_that_is_as_long_as_people_make_them_when_they_are_in_a_hurry_" * 2)
    with opened_tab(width=390) as tab:
        tab.page.goto(out.as_uri())
        shown(tab)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert tab.page.locator('[data-part="trajectories"]').bounding_box()["width"] <= 390


@needs_browser
def test_markup_in_a_table_stays_text(tmp_path):
    nasty = "<img src=x onerror=\"document.title='owned'\">"
    part = Part("overview", nasty, nasty, tables=[Table([nasty], [[nasty], ['"; alert(1); "']])], notes=[nasty])
    with opened_tab() as tab:
        write_report([part], tmp_path / "r.html", nasty)
        tab.page.goto((tmp_path / "r.html").as_uri())
        tab.page.wait_for_selector("html[data-ready]")
        assert tab.page.title() == nasty
        assert tab.page.locator("main img").count() == 0
        assert tab.page.locator("td").first.text_content() == nasty
        assert tab.errors == []
