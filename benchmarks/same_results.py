"""Whether the commands still give what they gave: every file they write and every line they print, by its hash.

    python benchmarks/same_results.py --record FILE    write what this state of the code gives
    python benchmarks/same_results.py FILE             compare this state with that one

To be run before and after a change that is to change nothing, on one machine, each with `PYTHONPATH` at the `src` of
its state. It works on a copy of a dozen models of `tiny-suite`: fits of every hypothesis to three quantities by both
methods, comparison, forecasts, predictions by every approach, scores of models left out, designs, effects, what is
shown and checked, and a family of two models trained by the lab and drawn. `same_fits.py` holds the fits of the whole
dataset, and says by how much they differ.
"""

# ruff: noqa: E402  the threads are set before numpy is loaded

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from madyn.dataset import open_dataset

MODELS = 12
APPROACHES = ["gaussian_process", "ridge", "random_forest", "gradient_boosting", "mean_curve", "nearest", "table_3"]
HYPOTHESES = [
    "original",
    "reparam",
    "original_regularized",
    "reparam_regularized",
    "step1",
    "step2",
    "power_law",
    "double_exponential",
    "logistic_log",
    "stretched_exponential",
]
ARCHITECTURE = ["--layers", "4", "--hidden-size", "96", "--heads", "4", "--mlp-ratio", "4"]
SUITE = """
name = "two"
[text]
source = "stdlib"
documents = 40
[recipe]
steps = 24
[[model]]
num_hidden_layers = 2
hidden_size = 32
num_attention_heads = 2
[[model]]
num_hidden_layers = 3
hidden_size = 32
num_attention_heads = 2
"""


def commands(whole: Path, part: Path, model: str, out: Path) -> dict[str, list[str]]:
    """What is run, by name, in this order; what is written is looked at after each."""
    every = [word for name in HYPOTHESES for word in ("--hypothesis", name)]
    approaches = [word for name in APPROACHES for word in ("--approach", name)]
    return {
        "fit": ["fit", str(part), *every],
        "fit published": ["fit", str(part), "--method", "trf", "--hypothesis", "original", "--hypothesis", "step2"],
        "compare": ["compare", str(part), "--json"],
        "forecast": ["forecast", str(part), "--at", "400", "--model", model, "--out", str(out / "forecast.csv")],
        "show": ["show", str(part), "--json"],
        "check": ["check", str(part), "--json"],
        "effects": ["effects", str(part), "--out", str(out / "effects")],
        "design": ["design", "--suite", str(part), "--params", "20k..2M", "--minimize", "max ratio", "--json"],
        "evaluate": ["evaluate", str(part), *approaches, "--jobs", "2", "--out", str(out / "scores")],
        "predict": ["predict", str(whole), *ARCHITECTURE, "--json", "--save", str(out / "predictor.json")],
        "predict with it": ["predict", str(out / "predictor.json"), *ARCHITECTURE, "--parameters"],
        "lab": ["lab", str(out / "two.toml"), "--out", str(out / "two")],
        "fit two": ["fit", str(out / "two")],
        "figures two": ["figures", str(out / "two")],
    }


def run_all(quick: bool) -> dict[str, str]:
    """The hashes by name: of what is printed, and of each file that is written."""
    found: dict[str, str] = {}
    whole = open_dataset("tiny-suite")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "two.toml").write_text(SUITE)
        part = out / "part"
        models = whole.models[:: max(1, len(whole.models) // MODELS)][:MODELS]
        for model in models:
            for name in (model, f"manifest/{model}", f"locations/{model}"):
                shutil.copytree(whole.path / name, part / name)
            (part / "training").mkdir(exist_ok=True)
            shutil.copy(whole.path / "training" / f"{model}.json", part / "training")
        shutil.copy(whole.path / "manifest" / "probe.json", part / "manifest")
        for name, arguments in commands(whole.path, part, models[0], out).items():
            if quick and name in ("evaluate", "design", "effects", "lab", "fit two", "figures two"):
                continue
            print(name, flush=True)
            code = "import sys; from madyn.cli import main; main()"
            ran = subprocess.run([sys.executable, "-c", code, "-q", *arguments], capture_output=True, text=True)
            said = ran.stdout.replace(folder, "OUT")
            found[f"{name}: printed"] = f"{ran.returncode} {hashlib.sha256(said.encode()).hexdigest()}"
            if ran.returncode:
                print(ran.stdout[-500:], ran.stderr[-500:])
        for path in sorted(p for p in out.rglob("*") if p.is_file()):
            if not any(part.startswith(".") for part in path.relative_to(out).parts) and "manifest" not in path.parts:
                found[str(path.relative_to(out))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--record", action="store_true", help="write FILE")
    parser.add_argument("--quick", action="store_true", help="without the lab, evaluate, design and effects")
    args = parser.parse_args()
    found = run_all(args.quick)
    if args.record:
        args.file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{args.file}: {len(found)} results")
        return 0
    known = json.loads(args.file.read_text())
    if args.quick:
        known = {name: value for name, value in known.items() if name in found}
    other = sorted(name for name in known.keys() | found.keys() if known.get(name) != found.get(name))
    print(*(f"differs: {name}" for name in other), sep="\n")
    print(f"{len(known) - len(other)} of {len(known)} results are the same")
    return bool(other)


if __name__ == "__main__":
    sys.exit(main())
