"""How long the Design tab takes from a slider's change to the new picture, measured in a browser.

    python benchmarks/app.py [DATASET] [--changes 40] [--chromium /usr/bin/chromium]

A slider is set to another value; the time runs until the picture's predicted curve is another one. Expected before it
was run: 60 ms of prediction, 30 ms of the chart's JSON, and as much again for the browser: 150 ms at the median.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from madyn.app import LAUNCH, build_app

CURVE = """() => {
  const chart = document.querySelector("#madyn-design .js-plotly-plot");
  return chart && chart.data ? JSON.stringify(chart.data[1].y) : "";
}"""
CHANGED = """before => {
  const chart = document.querySelector("#madyn-design .js-plotly-plot");
  return chart && chart.data && JSON.stringify(chart.data[1].y) !== before;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="tiny-suite")
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    page = build_app(asked.dataset)
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", **LAUNCH)
    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=flags)
        tab = browser.new_page()
        tab.goto(f"{url}?tab=design")
        tab.wait_for_selector("#madyn-design .js-plotly-plot .main-svg", timeout=120_000)
        tab.wait_for_timeout(2000)
        box = tab.get_by_label("number input for hidden size")
        took = []
        for change in range(asked.changes):
            before = tab.evaluate(CURVE)
            box.fill(str(48 + 16 * (change % 4)))
            start = time.perf_counter()
            box.press("Enter")
            tab.wait_for_function(CHANGED, arg=before, polling=5)
            took.append(time.perf_counter() - start)
            tab.wait_for_timeout(150)
        browser.close()
    page.close()
    middle, most = (1000 * float(np.quantile(took[2:], q)) for q in (0.5, 0.95))
    print(f"{len(took) - 2} changes: {middle:.0f} ms at the median, {most:.0f} ms at the 95th percentile")


if __name__ == "__main__":
    main()
