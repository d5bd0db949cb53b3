"""The page: controls and charts of every tab, put together with Gradio.

What a visitor chooses stands in the address, so that a view can be sent; an error is a line in words in the page. The
page is served to this machine alone unless asked otherwise, and asks nothing of any other host.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from madyn.app.designing import Designer, Slider
from madyn.app.exploring import ALL, LARGEST, QUANTITIES, Explorer
from madyn.app.fitting import Series, fit_series, read_series
from madyn.app.watching import Watch
from madyn.curves import HYPOTHESES
from madyn.dataset import Dataset, open_dataset
from madyn.errors import DatasetError, MadynError, missing_dependency, reason_of
from madyn.report.charts import PEAK_MAPS

_SECONDS = 5.0  # between two looks at a run
_MOST_UPLOADED = "20mb"

_HEAD = """
<script>
window.madynSearch = window.location.search;  // before any control writes itself into the address
// A cell of the map leads to its trajectory: what was clicked is written into a hidden box, which the page listens to.
setInterval(() => {
  document.querySelectorAll("#madyn-map .js-plotly-plot").forEach((chart) => {
    if (chart.dataset.bound || !chart.on) return;
    chart.dataset.bound = "yes";
    chart.on("plotly_click", (event) => {
      const box = document.querySelector("#madyn-cell textarea, #madyn-cell input");
      box.value = JSON.stringify([...event.points[0].customdata, Date.now()]);
      box.dispatchEvent(new Event("input", { bubbles: true }));
    });
  });
}, 300);
</script>
"""

_CSS = """
#madyn-cell { position: absolute; left: -9999px; height: 1px; overflow: hidden; }
/* Charts in the colours of the page's theme, light or dark. */
.js-plotly-plot text:not(.hovertext text) { fill: var(--body-text-color) !important; }
.js-plotly-plot .gridlayer path { stroke: var(--border-color-primary) !important; }
"""


LAUNCH: dict[str, Any] = {"head": _HEAD, "css": _CSS, "max_file_size": _MOST_UPLOADED, "quiet": True}
"""What the page is launched with: `page.launch(**LAUNCH)`."""


def _in_address(*names: str) -> str:
    """JavaScript that keeps the values of controls in the page's address, and hands them on as they are."""
    keys = ", ".join(f'"{name}"' for name in names)
    return f"""(...values) => {{
      const address = new URL(window.location);
      [{keys}].forEach((key, i) => {{
        const value = Array.isArray(values[i]) ? values[i].join(",") : String(values[i] ?? "");
        if (value) address.searchParams.set(key, value); else address.searchParams.delete(key);
      }});
      window.history.replaceState(null, "", address);
      return values;
    }}"""


def build_app(dataset: str | Path | Dataset, watch: str = "", *, may_watch: bool = True) -> Any:
    """The page of a dataset.

    Args:
        watch: what the tab "Watch" looks at first; the dataset itself by default.
        may_watch: a visitor may name another dataset to watch. On a page that strangers reach that would let them read
            what this machine can.

    Returns:
        a `gradio.Blocks`; `.launch(**LAUNCH)` serves it to this machine.

    Raises:
        MissingDependencyError: gradio or plotly is not installed.
        DatasetError: there is no such dataset.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing about a visitor leaves this machine
    try:
        import gradio as gr
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    opened = open_dataset(dataset).sound()
    name = str(dataset.path if isinstance(dataset, Dataset) else dataset)
    if not opened.models:
        raise DatasetError(f"{name}: no model in it can be read; to wait for a run's first numbers: madyn watch {name}")
    with gr.Blocks(title=f"madyn: {Path(name).name}", analytics_enabled=False) as page:
        gr.Markdown(
            f"# {Path(name).name}\n*Ratio* is top 1 / median: the largest |h| of a layer's hidden states over the "
            "median, a mean over sequences. Layers count from 0."
        )
        with gr.Tabs(elem_id="madyn-tabs") as tabs:
            with gr.Tab("Explore", id="explore"):
                _explore(gr, page, tabs, Explorer(opened))
            with gr.Tab("Fit", id="fit"):
                _fit(gr)
            with gr.Tab("Design", id="design"):
                _design(gr, page, Designer(opened))
            with gr.Tab("Watch", id="watch"):
                timer = _watch(gr, watch or name, may_watch)
        children: list[Any] = tabs.children  # tabs, which gradio types as blocks of any kind
        for tab in children:
            tab.select(None, None, None, js=_TAB_IN_ADDRESS.replace("NAME", str(tab.id)))
            # Nobody looks at a run from another tab.
            tab.select(partial(gr.Timer, active=tab.id == "watch"), None, timer, show_progress="hidden")
    return page


def in_words(gr: Any, make: Callable[..., Any], nothing: Any) -> Callable[..., Any]:
    """Show an error of ours as a line in the page, and leave what is shown as it was."""

    def made(*values: Any) -> Any:
        try:
            return make(*values)
        except MadynError as e:
            gr.Warning(str(e), duration=10)
            return nothing

    return made


def _on_arrival(gr: Any, page: Any, arrive: Callable[[dict[str, str]], Any], outputs: list[Any]) -> None:
    """Fill the page by what its address said when it was opened."""
    asked = gr.Textbox(visible=False)

    def told(search: str) -> Any:
        return arrive(dict(parse_qsl(search.removeprefix("?"))))

    loaded = page.load(told, asked, outputs, js="() => [window.madynSearch]", show_progress="hidden")
    loaded.then(None, None, None, js=_TAB_AS_ASKED)  # the first tab has said that it is shown, meanwhile


def _on_change(gr: Any, controls: list[Any], draw: Callable[..., Any], outputs: Any, names: tuple[str, ...]) -> None:
    """Draw anew, and note it in the address, when a visitor changes any of the controls.

    What the page sets itself is drawn where it is set: its events come one by one, with what the others had before.
    """
    gr.on(
        [one.input for one in controls], draw, controls, outputs, js=_in_address(*names), show_progress="hidden",
        trigger_mode="always_last",
    )  # fmt: skip


def _explore(gr: Any, page: Any, tabs: Any, explorer: Explorer) -> None:
    models = explorer.dataset.models
    first = [models[0]]
    with gr.Row():
        model = gr.Dropdown(models, value=first, multiselect=True, label="Models", max_choices=6, scale=3)
        layer = gr.Dropdown(explorer.layers(models), value=ALL, label="Layer", scale=1)
        quantity = gr.Dropdown(list(QUANTITIES), value="ratio", label="Quantity", scale=1)
        values = gr.Radio(["log", "linear"], value="log", label="Values", scale=1)
        steps = gr.Radio(["log", "linear"], value="log", label="Steps", scale=1)
    chart = gr.Plot(label="Trajectories", show_label=False)
    what = gr.Radio(
        [(words, key) for key, words in PEAK_MAPS.items()], value="height", label="Every layer: click a cell"
    )
    cells = gr.Plot(label="Map of all layers", show_label=False, elem_id="madyn-map")
    cell = gr.Textbox(elem_id="madyn-cell", label="cell", container=False)
    controls = [model, layer, quantity, values, steps]
    names = ("model", "layer", "quantity", "values", "steps")
    draw = in_words(gr, explorer.trajectories, gr.skip())
    _on_change(gr, controls, draw, chart, names)
    peaks = in_words(gr, explorer.peaks, gr.skip())
    what.change(peaks, what, cells, show_progress="hidden")
    clicked = cell.change(lambda text: _chosen(text, models), cell, [model, layer], show_progress="hidden")
    clicked.then(draw, controls, chart, js=_in_address(*names), show_progress="hidden")

    def arrive(told: dict[str, str]) -> tuple[Any, ...]:
        """What the address says; what it says wrongly is left as it is."""
        named = [m for m in told.get("model", "").split(",") if m in models] or first
        chosen = [
            named,
            _known(told.get("layer"), explorer.layers(models), ALL if len(named) == 1 else LARGEST),
            _known(told.get("quantity"), QUANTITIES, "ratio"),
            _known(told.get("values"), ("log", "linear"), "log"),
            _known(told.get("steps"), ("log", "linear"), "log"),
        ]
        tab = _known(told.get("tab"), ("explore", "fit", "design", "watch"), "explore")
        return (*chosen, draw(*chosen), peaks("height"), gr.Tabs(selected=tab))

    _on_arrival(gr, page, arrive, [*controls, chart, cells, tabs])


_TAB_AS_ASKED = """() => {
  const tab = new URLSearchParams(window.madynSearch).get("tab");
  if (!tab) return;
  const address = new URL(window.location);
  address.searchParams.set("tab", tab);
  window.history.replaceState(null, "", address);
}"""

_TAB_IN_ADDRESS = """() => {
  const address = new URL(window.location);
  address.searchParams.set("tab", "NAME");
  window.history.replaceState(null, "", address);
}"""


def _known(value: str | None, among: Any, otherwise: str) -> str:
    return value if value is not None and value in among else otherwise


def _chosen(text: str, models: list[str]) -> tuple[list[str], str]:
    """The model and layer of a cell that was clicked."""
    import json

    model, layer, *_ = json.loads(text)
    return [model if model in models else models[0]], str(int(layer))


def _fit(gr: Any) -> None:
    gr.Markdown(
        "Drop a CSV file (a column of steps, then one for each series), or the files of a model's `stats` folder. They "
        "are read here and kept nowhere."
    )
    with gr.Row():
        files = gr.File(label="Your numbers", file_count="multiple", scale=2, height=140)
        with gr.Column(scale=2):
            shown = gr.Dropdown([], label="Series in the picture")
            hypotheses = gr.Dropdown(list(HYPOTHESES), value=["reparam"], multiselect=True, label="Hypotheses")
            last = gr.Number(None, label="Last step of the run, to forecast (empty: no forecast)", precision=0)
    chart = gr.Plot(show_label=False)
    words = gr.Textbox(label="What the fit says", lines=8, interactive=False)
    table = gr.Dataframe(label="All series", interactive=False, wrap=False)
    save = gr.DownloadButton("Save the table as CSV", interactive=False)
    held = gr.State(None)

    def read(paths: list[str] | None) -> Any:
        series = read_series(paths or [])
        return series, gr.Dropdown(series.names, value=series.names[0])

    def fit(series: Series | None, name: str, wanted: list[str], end: float | None) -> Any:
        if series is None or not name:
            return [gr.skip()] * 4
        found = fit_series(series, wanted, name, end or None)
        folder = Path(tempfile.mkdtemp(prefix="madyn-fit-"))
        found.table.to_csv(folder / "fits.csv", index=False)
        return (
            found.chart,
            found.words,
            found.table.map(_shown),
            gr.DownloadButton(value=str(folder / "fits.csv"), interactive=True),
        )

    asked, given = [held, shown, hypotheses, last], [chart, words, table, save]
    fitted = in_words(gr, fit, [gr.skip()] * 4)
    files.change(in_words(gr, read, (gr.skip(), gr.skip())), files, [held, shown]).then(fitted, asked, given)
    gr.on(
        [one.input for one in (shown, hypotheses, last)], fitted, asked, given, show_progress="minimal",
        trigger_mode="always_last",
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """A cell with as many digits as a reader wants; the file that is saved has all."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _design(gr: Any, page: Any, designer: Designer) -> None:
    try:
        sliders = designer.sliders()
    except MadynError as e:
        gr.Markdown(f"Nothing can be predicted from this dataset: {reason_of(e)}.")
        return
    if not sliders:
        gr.Markdown("All models of this dataset have one shape: there is nothing to choose, and nothing to learn from.")
        return
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            controls = [_slider(gr, one) for one in sliders]
            layer = gr.Dropdown(["largest", *map(str, range(64))], value="largest", label="Layer")
        with gr.Column(scale=3):
            chart = gr.Plot(show_label=False, elem_id="madyn-design")
            words = gr.Markdown()

    def draw(*values: Any) -> Any:
        *sizes, which = values
        given = {one.field: int(v) if one.is_whole else float(v) for one, v in zip(sliders, sizes, strict=True)}
        return designer.predicted(given, which)

    drawn = in_words(gr, draw, (gr.skip(), gr.skip()))
    names = tuple(one.field for one in sliders)
    every = [*controls, layer]
    _on_change(gr, every, drawn, [chart, words], (*names, "of_layer"))

    def arrive(told: dict[str, str]) -> Any:
        values = [_number(told.get(one.field), one) for one in sliders]
        which = _known(told.get("of_layer"), ["largest", *map(str, range(64))], "largest")
        return (*values, which, *drawn(*values, which))

    _on_arrival(gr, page, arrive, [*every, chart, words])


def _slider(gr: Any, one: Slider) -> Any:
    step = 1 if one.is_whole else 0.25
    return gr.Slider(one.low, one.high, value=one.start, step=step, label=one.words)


def _number(text: str | None, one: Slider) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return one.start
    return min(max(value, one.low), one.high) if value == value else one.start


def _watch(gr: Any, dataset: str, may_watch: bool) -> Any:
    """The tab "Watch"; gives the timer that looks again and again, and that stands still until it is started."""
    with gr.Row():
        source = gr.Textbox(
            dataset, label="Dataset that a monitor is writing: a folder, or an address", interactive=may_watch, scale=3
        )
        planned = gr.Number(None, label="Last step, where the run does not say it", precision=0, scale=1)
    chart = gr.Plot(show_label=False, elem_id="madyn-watch")
    words = gr.Markdown()
    held = gr.State(None)
    timer = gr.Timer(_SECONDS, active=False)

    def look(name: str, last_step: int | None, watch: tuple[Any, Watch] | None) -> Any:
        wanted = (name.strip() if may_watch else dataset, last_step or None)
        try:
            if watch is None or watch[0] != wanted:
                watch = (wanted, Watch(*wanted))
            figure, said = watch[1].look()
            return watch, figure, said
        except MadynError as e:
            return None, None, f"⚠ {e}"

    for event in (timer.tick, source.submit, planned.submit):
        event(look, [source, planned, held], [held, chart, words], show_progress="hidden")
    return timer
