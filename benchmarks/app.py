"""The explorer, measured in a browser.

    python benchmarks/app.py [DATASET] [--changes 40] [--chromium /usr/bin/chromium]
    python benchmarks/app.py [DATASET] --users 20 --seconds 60

The first: how long the Design tab takes from a slider's change to the new picture. A slider is set to another value;
the time runs until the picture's predicted curve is another one. Expected before it was run: 60 ms of prediction,
30 ms of the chart's JSON, and as much again for the browser: 150 ms at the median.

The second: that many visitors, each in a browser context of its own, click for that long, half of them in Explore and
half in Design; three times in a row, on a server in a process of its own. It gives clicks, errors (of the page, its
console and the server), and the server's memory after each. Expected: no error; memory that rests after the first.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil

from madyn.app import LAUNCH, build_app

CURVE = """() => {
  const chart = document.querySelector("#madyn-design .js-plotly-plot");
  return chart && chart.data ? JSON.stringify(chart.data[1].y) : "";
}"""
CHANGED = """before => {
  const chart = document.querySelector("#madyn-design .js-plotly-plot");
  return chart && chart.data && JSON.stringify(chart.data[1].y) !== before;
}"""


FLAGS = ["--headless", "--no-sandbox", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="tiny-suite")
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--users", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    if asked.users:
        many(asked.dataset, asked.users, asked.seconds, asked.chromium)
    else:
        one(asked.dataset, asked.changes, asked.chromium)


def one(dataset: str, changes: int, chromium: str) -> None:
    """A visitor who moves a slider."""
    from playwright.sync_api import sync_playwright

    page = build_app(dataset)
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", **LAUNCH)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        tab = browser.new_page()
        tab.goto(f"{url}?tab=design")
        tab.wait_for_selector("#madyn-design .js-plotly-plot .main-svg", timeout=120_000)
        tab.wait_for_timeout(2000)
        box = tab.get_by_label("number input for hidden size")
        took = []
        for change in range(changes):
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


def many(dataset: str, users: int, seconds: float, chromium: str) -> None:
    """Visitors at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "madyn", "app", dataset, "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        asyncio.run(_visits(f"http://127.0.0.1:{port}/", server.pid, users, seconds, chromium))
    finally:
        server.terminate()
        server.wait(30)


CLICKS = {
    "explore": """async n => {
      const chart = document.querySelector(".js-plotly-plot"), kind = chart._fullLayout.yaxis.type;
      const other = kind === "log" ? "linear" : "log";
      [...document.querySelectorAll("label")].find(label => label.innerText.trim() === other).click();
      while (document.querySelector(".js-plotly-plot")?._fullLayout?.yaxis.type === kind)
        await new Promise(r => setTimeout(r, 20));
    }""",
    "design": """async n => {
      const curve = () => JSON.stringify(document.querySelector("#madyn-design .js-plotly-plot")?.data?.[1]?.y);
      const before = curve(), box = document.querySelector("input[aria-label*='hidden size']");
      box.value = String(48 + 16 * (n % 4));
      box.dispatchEvent(new Event("input", {bubbles: true}));
      box.dispatchEvent(new Event("change", {bubbles: true}));
      box.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true}));
      while (curve() === before) await new Promise(r => setTimeout(r, 20));
    }""",
}


async def _visit(browser: Any, url: str, number: int, seconds: float, errors: list[str]) -> int:
    """Clicks until the time is over; gives how many were answered."""
    where = "design" if number % 2 else "explore"
    context = await browser.new_context(viewport={"width": 900, "height": 700})
    tab = await context.new_page()
    tab.on("pageerror", lambda error: errors.append(f"{where}: {error}"))
    tab.on("console", lambda said: said.type == "error" and errors.append(f"{where}: {said.text}"))
    clicks = 0
    try:
        await tab.goto(f"{url}?tab={where}", timeout=300_000)
        chart = "#madyn-design .js-plotly-plot .main-svg" if where == "design" else ".js-plotly-plot .main-svg"
        await tab.wait_for_selector(chart, timeout=300_000)
        await tab.wait_for_timeout(3000)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.wait_for(tab.evaluate(CLICKS[where], clicks), 60)
            clicks += 1
    except Exception as e:  # whatever it is, a visitor would have seen it
        errors.append(f"{where}, after {clicks} clicks: {e!r}")
    await context.close()
    return clicks


def _wait_for(port: int) -> None:
    """Until the server answers."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the explorer does not answer")


async def _visits(url: str, server: int, users: int, seconds: float, chromium: str) -> None:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for round_ in range(3):
            errors: list[str] = []
            visitors = (_visit(browser, url, i, seconds, errors) for i in range(users))
            clicks = await asyncio.gather(*visitors)
            memory = psutil.Process(server).memory_info().rss / 2**20
            print(
                f"round {round_ + 1}: {users} visitors, {sum(clicks)} clicks answered (fewest {min(clicks)}), "
                f"{len(errors)} errors, the server has {memory:.0f} MiB", flush=True,
            )  # fmt: skip
            for error in errors[:5]:
                print("   ", error[:200])
        await browser.close()


if __name__ == "__main__":
    main()
