"""What a report of a dataset as large as the published one costs: seconds to make, size, and seconds until it is read.

    python benchmarks/report.py [--out report.html] [--chromium /usr/bin/chromium]

The dataset is made up, in Pythia's nine shapes (188 layers) at 154 steps, 10 sequences: trajectories of the published
curve with noise. It is fitted first, which is not counted. With --chromium the page is opened there (Playwright), from
a file: until its tables can be read and its first pictures are drawn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from madyn.analysis.fitting import fit_dataset
from madyn.dataset import layout, manifest, open_dataset
from madyn.dataset.files import write_json
from madyn.dataset.statistics import write_statistics
from madyn.report import dataset_parts, write_report
from madyn.suites import PYTHIA

STEPS = [0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)]
SEQUENCES = 10


def write_pythia(root: Path) -> Path:
    """Nine models whose layers follow the published curve: a third peaks early, the rest rises."""
    rng = np.random.default_rng(0)
    t = np.array(STEPS, float)
    for name, shape in PYTHIA.architectures.items():
        model = layout.directory_name(name)
        layers = shape.num_hidden_layers
        peak = np.exp(rng.normal(4 + 0.02 * layers, 0.8, layers))
        beta = np.where(np.arange(layers) % 3 == 0, 1e-4, 1e-6)
        tau = np.exp(rng.normal(7, 0.7, layers))
        rise = np.log((t[:, None] + tau) / tau)
        ratio = 8 + peak * rise * np.exp(-beta * t[:, None])
        ratio = ratio[:, :, None] * np.exp(0.05 * rng.standard_normal((len(t), layers, SEQUENCES)))
        median = 0.3 * (1 + np.log1p(t) / 12)[:, None, None] * np.exp(0.02 * rng.standard_normal(ratio.shape))
        for step, r, m in zip(STEPS, ratio, median, strict=True):
            one = np.stack([r * m, 0.7 * r * m, 0.5 * r * m, m]).transpose(2, 0, 1)
            write_statistics(layout.statistics_path(root, model, step), one)
            unit = manifest.Unit(model=model, step=step, source=name, architecture=shape.to_dict(), sequences=SEQUENCES)
            write_json(layout.manifest_path(root, model, step), asdict(unit))
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--dataset", type=Path, default=None, help="keep the dataset here, or take what is there")
    parser.add_argument("--chromium", default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.dataset or Path(scratch) / "pythia"
        if not folder.exists():
            fit_dataset(write_pythia(folder))
        out = asked.out or Path(scratch) / "report.html"
        start, used = time.perf_counter(), time.process_time()
        size = write_report(dataset_parts(open_dataset(folder)), out, "pythia")
        print(f"made in {time.perf_counter() - start:.1f} s ({time.process_time() - used:.1f} processor seconds)")
        print(f"{size / 1e6:.2f} MB")
        if asked.chromium:
            times = sorted(opened(out, asked.chromium) for _ in range(5))
            print(f"opens in {times[2]:.2f} s (median of 5; {times[0]:.2f} to {times[-1]:.2f})")


def opened(page: Path, chromium: str) -> float:
    """Seconds from the request to the first pictures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        tab = browser.new_page()
        start = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector(".chart .main-svg")
        took = time.perf_counter() - start
        browser.close()
    return took


if __name__ == "__main__":
    main()
