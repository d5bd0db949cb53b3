"""What the pictures of a dataset cost: CPU seconds, with the pictures of each step and without, and by kind.

    python benchmarks/figures.py [--models 9] [--only GLOB] [--against SRC]

The dataset is a part of tiny-suite (37 steps a model), fitted first. CPU seconds of one process are counted and not the
time that passes, so that a busy machine says much the same; on idle cores `--jobs` divides them. With --against, the
`src` folder of another version of madyn draws the same pictures after this one, and the last line is the ratio. Both
take minutes, so that what is known is printed as it is known; --only "*/series/*" compares some of them in seconds.

Measured on two shared cores, one process: 68 CPU seconds for 561 pictures, 21 of them for the 333 of steps (89 for all
by the version before, in the same run, where each axis' small ticks were drawn one by one).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from madyn.analysis.fitting import fit_dataset
from madyn.dataset import open_dataset
from madyn.terminal import console, print_table

DRAW = """
import collections, json, sys, tempfile, time
import madyn.figures.draw as module

spent = collections.defaultdict(lambda: [0, 0.0])
draw = module._draw

def timed(task, *rest):
    start = time.process_time()
    found = draw(task, *rest)
    kind = spent[task.pattern]
    kind[0], kind[1] = kind[0] + 1, kind[1] + time.process_time() - start
    return found

module._draw = timed
start = time.process_time()
with tempfile.TemporaryDirectory() as out:
    drawing = module.draw_figures(sys.argv[1], out=out, only=sys.argv[2], jobs=1, progress=lambda done, total: None)
print(json.dumps([time.process_time() - start, len(drawing.drawn), spent]))
"""
OF_STEPS = "per_layer_evolution"


def drawn(folder: Path, only: str, source: Path | None = None) -> tuple[float, int, dict[str, list[float]]]:
    """CPU seconds of all pictures, how many there are, and (pictures, seconds) by kind."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({} if source is None else {"PYTHONPATH": str(source)})
    run = subprocess.run(
        [sys.executable, "-c", DRAW, str(folder), only], env=environment, capture_output=True, text=True, check=True
    )
    return tuple(json.loads(run.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=9)
    parser.add_argument("--only", default="*", metavar="GLOB", help="pictures whose path matches")
    parser.add_argument("--against", type=Path, metavar="SRC", help="the src folder of another version")
    arguments = parser.parse_args()
    suite = open_dataset("tiny-suite")
    apart = [model for model in suite.models if model.endswith("_s0")]
    models = apart[:: max(1, len(apart) // arguments.models)][: arguments.models]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "dataset"
        for part in (Path(), Path("manifest"), Path("locations")):
            for model in models:
                shutil.copytree(suite.path / part / model, folder / part / model)
        fit_dataset(folder)
        seconds = print_cost(folder, arguments.only, len(models))
        if arguments.against is not None:
            before, _, _ = drawn(folder, arguments.only, arguments.against)
            console.print(f"the other version: {before:.1f} CPU seconds; this one takes {seconds / before:.2f} of it")


def print_cost(folder: Path, only: str, models: int) -> float:
    """Draw with this version, say what it took by kind, and give the CPU seconds."""
    seconds, pictures, kinds = drawn(folder, only)
    rows = [[kind, int(count), spent, spent / count] for kind, (count, spent) in kinds.items()]
    rows.sort(key=lambda row: -float(row[2]))
    print_table("by kind", ["picture", "pictures", "CPU seconds", "each"], rows, left=["picture"])
    of_steps = [row for row in rows if OF_STEPS in str(row[0])]
    without = seconds - sum(float(row[2]) for row in of_steps)
    console.print(f"{models} models: {pictures} pictures in {seconds:.1f} CPU seconds of one process")
    console.print(
        f"without those of each step {pictures - sum(int(row[1]) for row in of_steps)} in {without:.1f}: "
        f"{without / seconds:.2f} of that, {without / 2:.0f} s of two cores"
    )
    return seconds


if __name__ == "__main__":
    main()
