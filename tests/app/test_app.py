"""The explorer: what its tabs compute, and the page in a real browser."""

import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import madyn
from browser import needs_browser, opened_tab
from madyn.app import LAUNCH, build_app, write_space
from madyn.app.designing import Designer
from madyn.app.exploring import ALL, LARGEST, Explorer
from madyn.app.fitting import MOST_BYTES, fit_series, read_series
from madyn.app.watching import Watch
from madyn.errors import DatasetError, UsageError
from tiny import write_dataset, write_family


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("app") / "family"
    write_family(root, count=12, repeated=3)
    return root


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory) -> Path:
    t = np.array([0, *(2**k for k in range(10)), *range(1000, 20_001, 1000)], float)
    y = 7 * (1 - np.exp(-t / 5000)) + 1
    lines = ["step,mine,twice", *(f"{a:g},{b},{2 * b}" for a, b in zip(t, y, strict=True))]
    path = tmp_path_factory.mktemp("csv") / "numbers.csv"
    path.write_text("\n".join(lines[:1] + lines[:0:-1]))  # the steps the other way round
    return path


def test_models_are_shown_side_by_side(family):
    explorer = Explorer(madyn.open_dataset(family))
    models = explorer.dataset.models[:2]
    chart: Any = explorer.trajectories(models, LARGEST, "ratio", "log", "log")
    lines = [trace for trace in chart.data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lines] == models
    truth = explorer.dataset.trajectories(models[0], "ratio").max("layer")
    np.testing.assert_allclose(lines[0].y, truth, rtol=1e-3)
    one: Any = explorer.trajectories(models[:1], "1", "top1", "linear", "linear")
    assert one.layout.yaxis.type == "linear"
    assert {trace.name for trace in one.data} == {models[0], f"{models[0]}: fitted", f"{models[0]}: 90 % band"}
    for wrong in (([], LARGEST), (models, ALL), (explorer.dataset.models[:7], LARGEST), (models, "63")):
        with pytest.raises(UsageError):
            explorer.trajectories(*wrong, "ratio", "log", "log")


def test_a_file_of_ones_own_is_fitted_and_forecast(csv_file):
    series = read_series([csv_file])
    assert series.names == ["mine", "twice"]
    assert list(series.steps[:3]) == [0, 1, 2]
    found = fit_series(series, ["step1", "reparam"], "twice", last_step=60_000)
    table = found.table.set_index(["series", "hypothesis"])
    assert table.loc[("mine", "step1"), "R2"] < 1
    assert table.loc[("mine", "reparam"), "R2"] > 0.9999
    assert "points, method" in found.words
    assert "Determined" in found.words
    chart: Any = found.chart
    curve = next(trace for trace in chart.data if trace.name == "reparam")
    assert curve.y[-1] == pytest.approx(16, rel=0.05)  # the plateau that was made up
    with pytest.raises(UsageError, match="before the last one of the data"):
        fit_series(series, ["step1"], "mine", last_step=5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a column of steps and at least one of values"),
        ("step,a\n0,1\n1,x\n", "line 3, column 2: 'x' is no number"),
        ("step,a\n0,1\n1\n", "line 3 has 1 cells where the first has 2"),
        ("step,a\n0,nan\n", "no number"),
        ("a" * 10, "a column of steps"),
        ("0,1\n1,1e999\n", "no number"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=re.escape(said)):
        read_series([path])


def test_what_is_no_text_or_too_large_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="not a table of comma-separated values"):
        read_series([tmp_path / "x.csv"])
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UsageError, match="more than the 20 MB"):
        read_series([tmp_path / "large.csv"])
    with pytest.raises(UsageError, match="drop a CSV file"):
        read_series([])


def test_the_files_of_a_stats_folder_are_a_series(tmp_path):
    root = write_dataset(tmp_path / "data")
    files = sorted((root / "pythia_14m" / "stats").iterdir())
    series = read_series(files)
    truth = madyn.open_dataset(root).trajectories("pythia_14m", "ratio")
    np.testing.assert_allclose(series.values, truth.transpose("layer", "step"))
    np.testing.assert_allclose(series.steps, truth["step"])
    with pytest.raises(DatasetError, match="has not the name of a statistics file"):
        read_series([*files, tmp_path / "data"])


def test_a_design_is_predicted_as_the_predictor_does(family):
    designer = Designer(madyn.open_dataset(family))
    sliders = {one.field: one for one in designer.sliders()}
    assert set(sliders) == {"num_hidden_layers", "hidden_size", "num_attention_heads", "mlp_ratio"}
    assert (sliders["hidden_size"].low, sliders["hidden_size"].high) == (32, 128)
    sizes = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "mlp_ratio": 2.0}
    chart: Any
    chart, said = designer.predicted(sizes, "largest")
    shape = designer.predictor.architecture(**sizes)
    last = designer.predictor.predict(shape).isel(step=-1).sel(quantile=0.5)
    line: Any = next(trace for trace in chart.data if str(trace.name).startswith("predicted"))
    assert line.y[-1] == pytest.approx(float(last.max()), rel=1e-3)
    assert "Nearest trained model" in said
    assert "effective bits" in said
    with pytest.raises(madyn.MadynError):
        designer.predicted({**sizes, "num_attention_heads": 5}, "largest")


def test_a_run_is_watched_as_it_is_written(tmp_path):
    root = tmp_path / "run"
    write_dataset(root, models=("mine",), steps=(0, 1, 2, 4))
    watch = Watch(str(root))
    chart, said = watch.look()
    assert "**mine**: step 4" in said
    assert chart is not None
    write_dataset(root, models=("mine",), steps=(0, 1, 2, 4, 8))
    assert "step 8" in watch.look()[1]


def test_what_cannot_be_read_shown_or_predicted_is_said(tmp_path):
    root = write_dataset(tmp_path / "one", models=("mine",), steps=(5,))  # one step, and no architecture
    assert build_app(root) is not None
    explorer = Explorer(madyn.open_dataset(root))
    assert explorer.trajectories(["mine"], ALL, "ratio", "log", "log").data
    with pytest.raises(UsageError, match="no map of peaks: no model is measured at 3 steps"):
        explorer.peaks("height")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        build_app(tmp_path / "empty")


def test_a_space_is_three_files_that_name_the_dataset(tmp_path):
    written = write_space(tmp_path, "owner/name")
    assert sorted(path.name for path in written) == ["README.md", "app.py", "requirements.txt"]
    compile((tmp_path / "app.py").read_text(), "app.py", "exec")
    assert 'build_app("owner/name", may_watch=False)' in (tmp_path / "app.py").read_text()
    for wrong in ('x"); import os; ("', "/etc", "../data", "a/b/c"):
        with pytest.raises(UsageError):
            write_space(tmp_path, wrong)


@pytest.fixture(scope="module")
def address(family):
    """The page of the family, served on a free port."""
    page = build_app(family)
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", server_port=None, **LAUNCH)
    yield url
    page.close()


def drawn(tab, where="body"):
    tab.page.wait_for_selector(f"{where} .js-plotly-plot .main-svg")


@needs_browser
def test_explore_keeps_the_view_in_the_address(address, family):
    models = madyn.open_dataset(family).models
    with opened_tab() as tab:
        page = tab.page
        page.goto(f"{address}?model={models[1]}&quantity=top1")
        drawn(tab)
        page.wait_for_function("document.body.textContent.includes('largest |h| (top 1)')")
        page.get_by_label("linear").first.click()
        page.wait_for_function("location.search.includes('values=linear')")
        assert f"model={models[1]}" in page.url
        # A cell of the map leads to its trajectory.
        drawn(tab, "#madyn-map")
        page.wait_for_selector("#madyn-map [data-bound]")
        cell = [models[2], 1]
        page.evaluate(
            "cell => document.querySelector('#madyn-map .js-plotly-plot').emit('plotly_click', "
            "{points: [{customdata: cell}]})", cell)  # fmt: skip
        page.wait_for_function(
            "([m]) => location.search.includes('model=' + m) && location.search.includes('layer=1')", arg=cell
        )
        assert tab.errors == []
        assert tab.outside() == []


@needs_browser
def test_a_dropped_file_is_fitted_and_a_bad_one_is_told_in_words(address, csv_file, tmp_path):
    with opened_tab() as tab:
        page = tab.page
        page.goto(f"{address}?tab=fit")
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", str(csv_file))
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(t => t.value.includes('method varpro'))"
        )
        assert tab.outside() == []
        bad = tmp_path / "bad.csv"
        bad.write_text("step,<b>a</b>\n0,1\n1,<script>alert(1)</script>\n")
        page.reload()
        page.get_by_role("tab", name="Fit").click()
        page.set_input_files("input[type=file]", str(bad))
        page.wait_for_selector("text=is no number")


@needs_browser
def test_a_design_answers_a_slider_and_fits_a_phone(address, family):
    with opened_tab(width=390) as tab:
        page = tab.page
        page.goto(f"{address}?tab=design&num_hidden_layers=4&hidden_size=128&num_attention_heads=4")
        drawn(tab, "#madyn-design")
        page.wait_for_function("document.body.innerText.includes('Nearest trained model')")
        # Several controls were set at once: what is shown is of all of them.
        designer = Designer(madyn.open_dataset(family))
        start = {one.field: one.start for one in designer.sliders()}
        sizes = {**start, "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4}
        parameters = designer.predictor.architecture(**sizes).num_parameters
        page.wait_for_timeout(3000)
        assert f"{parameters:,} parameters" in page.inner_text("body")
        before = page.inner_text("body")
        box = page.get_by_label("number input for layers")
        box.fill("2")
        box.press("Enter")
        page.wait_for_function("location.search.includes('num_hidden_layers=2')")
        page.wait_for_function("before => document.body.innerText !== before", arg=before)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert tab.errors == []
        assert tab.outside() == []


@needs_browser
def test_a_running_monitor_is_watched_and_shows_itself_what_comes(tmp_path):
    root = tmp_path / "run"
    write_dataset(root, models=("mine",), steps=(0, 1, 2, 4))
    page_served = build_app(root)
    _, url, _ = page_served.launch(prevent_thread_lock=True, server_name="127.0.0.1", server_port=None, **LAUNCH)
    try:
        with opened_tab(width=390) as tab:
            page = tab.page
            page.goto(url)
            drawn(tab)
            page.get_by_role("tab", name="Watch").click()
            page.wait_for_function("document.body.innerText.includes('mine: step 4')")
            page.wait_for_function("location.search.includes('tab=watch')")
            drawn(tab, "#madyn-watch")
            write_dataset(root, models=("mine",), steps=(0, 1, 2, 4, 8))
            page.wait_for_function("document.body.innerText.includes('mine: step 8')")  # by itself
            planned = page.get_by_label("Last step, where the run does not say it")
            planned.fill("400")
            planned.press("Enter")
            page.wait_for_function("document.body.innerText.includes('step 8 of 400')")
            source = page.get_by_label("Dataset that a monitor is writing")
            source.fill(str(tmp_path / "nowhere"))
            source.press("Enter")
            page.wait_for_function("document.body.innerText.includes('⚠')")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert tab.errors == []
            assert tab.outside() == []
    finally:
        page_served.close()


@needs_browser
def test_a_finger_on_a_cell_of_the_map_leads_to_its_trajectory(address, family):
    """A real touch at the place of a cell, on a screen of 390 pixels."""
    with opened_tab(width=390, touch=True) as tab:
        page = tab.page
        page.goto(address)
        page.wait_for_selector("#madyn-map [data-bound]")
        page.locator("#madyn-map").scroll_into_view_if_needed()
        place = page.evaluate(WHERE_OF_CELL, [2, 1])
        page.touchscreen.tap(*place)
        page.wait_for_function("location.search.includes('layer=1')")
        assert f"model={madyn.open_dataset(family).models[2]}" in page.url


WHERE_OF_CELL = """([row, layer]) => {
  const chart = document.querySelector("#madyn-map .js-plotly-plot"), box = chart.getBoundingClientRect();
  const {xaxis: x, yaxis: y} = chart._fullLayout;
  return [box.left + x._offset + x.d2p(layer), box.top + y._offset + y.d2p(chart.data[0].y[row])];
}"""


@needs_browser
def test_a_file_of_a_hundred_megabytes_is_refused_in_the_page(address, tmp_path):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    with opened_tab() as tab:
        page = tab.page
        page.goto(f"{address}?tab=fit")
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", str(large))
        page.wait_for_function("document.body.innerText.toLowerCase().includes('exceed the maximum allowed size')")
        page.goto(address)  # it still serves
        drawn(tab)


def served(family: Path, port: int) -> subprocess.Popen[bytes]:
    """The page in a process of its own, once it answers."""
    process = subprocess.Popen([sys.executable, "-m", "madyn", "app", str(family), "--port", str(port)])
    for _ in range(240):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return process
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise AssertionError("the page does not answer")


@pytest.mark.slow
def test_twenty_people_at_once(family):
    """Requests from twenty clients for half a minute: no error, and the server's memory comes to rest."""
    from gradio_client import Client

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = served(family, port)
    models = madyn.open_dataset(family).models
    errors: list[str] = []

    def visit(number: int, ends: float) -> None:
        try:
            client = Client(f"http://127.0.0.1:{port}/", verbose=False)
            while time.monotonic() < ends:
                number += 1
                client.predict([models[number % len(models)]], ALL, "ratio", "log", "log", fn_index=0)
        except Exception as e:  # whatever it is, it is an error that a visitor would see
            errors.append(repr(e))

    def rush() -> int:
        """The server's bytes of memory after it."""
        ends = time.monotonic() + 10
        visitors = [threading.Thread(target=visit, args=(number, ends)) for number in range(20)]
        for one in visitors:
            one.start()
        for one in visitors:
            one.join()
        return psutil.Process(process.pid).memory_info().rss

    try:
        first, second, third = rush(), rush(), rush()
    finally:
        process.terminate()
        process.wait(30)
    assert errors == []
    assert third - second < max(16e6, 0.5 * (second - first)), (first, second, third)
