"""A hypothesis is one entry in one file, and so is a feature of an architecture: written as a user of the source would,
it is in every stage."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import madyn
from tiny import TEXT, write_dataset

CURVE = '''
"""Gompertz's growth, A exp(-b exp(-c t)) + K."""

import numpy as np

from madyn.curves.hypotheses.columns import along, columns
from madyn.curves.hypotheses.separable import SeparableModel


def basis(s, b, c):
    b, c = along(b, c)
    return columns(np.exp(-b * np.exp(-c * s)), np.ones(s.shape))


CURVES = (
    SeparableModel(
        name="gompertz",
        formula="A exp(-b exp(-c t)) + K",
        basis=basis,
        nonlinear={"b": (1e-2, 1e2), "c": (1e-1, 1e3)},
        linear=("A", "K"),
        points=(25, 41),
        normalised=True,
        powers=(0, -1),
        limit=lambda b, c, A, K: A + K,
    ),
)
'''

STAGES = """
import sys
from madyn.curves import hypotheses
hypotheses.__path__.append(sys.argv[1])  # as if the file lay beside the others
import numpy as np
import madyn
from madyn.curves.hypotheses.registry import HYPOTHESES, PUBLISHED

assert list(HYPOTHESES)[-1] == "gompertz" and "gompertz" not in PUBLISHED
t = np.array([0, 1, 2, 4, 8, 16, 32, 64, *range(100, 3001, 100)], float)
y = 5 * np.exp(-4 * np.exp(-2e-3 * t)) + 1
fits = madyn.fit_curves(t, y, "gompertz")
np.testing.assert_allclose(fits.popt, [4, 2e-3, 5, 1], rtol=1e-6)
assert madyn.fit_curves(t, y, "step1").r2 < fits.r2

found = madyn.posterior(t, y + 0.01 * np.sin(t), "gompertz").plateau()
assert found["lower"] < 6 < found["upper"]

data = sys.argv[2]
madyn.fit_dataset(data, hypotheses=["reparam", "gompertz"])
assert "gompertz" in madyn.open_dataset(data).fit_records("pythia_14m", "ratio")[0]
compared = madyn.compare(data, hypotheses=["step1", "gompertz"])
assert "gompertz" in compared.hypotheses
forecast = madyn.forecast(data, "pythia_14m", 5000, hypothesis="gompertz", prior="default")
assert np.isfinite(forecast["median"]).all() and "plateau" in forecast
drawing = madyn.draw_figures(data, only="*example_fits/ratio*", jobs=1)
assert drawing.drawn and not drawing.failed, drawing.failed
print("gompertz", len(drawing.drawn))
"""


@pytest.mark.parametrize("name", ["gompertz"])
def test_a_hypothesis_is_one_file(tmp_path, name):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / f"{name}.py").write_text(textwrap.dedent(CURVE))
    write_dataset(tmp_path / "data", models=("pythia_14m",))
    arguments = [sys.executable, "-c", STAGES, str(tmp_path / "more"), str(tmp_path / "data")]
    run = subprocess.run(arguments, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(name)


FEATURE = """
    initial_spread: float = feature(
        "initializer_range", "init_std", default=0.02, words="initial spread", about="Spread of the first weights",
        most=10, factor="initial spread", example="0.01..0.04", setting="initializer_range", tag="i",
    )
"""

SUITE = """
name = "spreads"
recipe = { steps = 6, batch_size = 2, length = 16 }
text = { source = "BOOK", vocab_size = 300 }
measure = { source = "BOOK", steps = [0, 1, 2, 3, 4, 5, 6], sequences = 2, loss_sequences = 2 }

[design]
count = 8
[design.factors]
hidden_size = [16, 32]
initial_spread = [0.01, 0.02, 0.04, 0.08]
[design.fixed]
num_hidden_layers = 2
num_attention_heads = 2
mlp_ratio = 1
"""

ROOMS = """
import shutil
import sys
import numpy as np
from transformers import GPTNeoXConfig
from typer.testing import CliRunner
import madyn
from madyn import cli
from madyn.effects import FACTORS, effect_sizes, model_responses
from madyn.lab import read_suite, run_suite
from madyn.lab.blueprints import Blueprint, build_model
from madyn.prediction import Limits, Predictor

suite, out, older = sys.argv[1:]

# What was written before there was such a feature is not called wrong, and a family of then goes on.
assert madyn.checking.check_dataset(older).faults == []
usual = Blueprint(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
assert "initial_spread" not in usual.to_dict()

# From a config, in any spelling; a config without it has the default.
shape = madyn.Architecture.from_config(GPTNeoXConfig(initializer_range=0.5))
assert shape.initial_spread == 0.5 and list(shape.to_dict()).index("initial_spread") >= 8
plain = {"n_layer": 1, "n_embd": 8, "n_head": 1}
assert madyn.Architecture.from_config({**plain, "init_std": 3}).initial_spread == 3
assert madyn.Architecture.from_config(plain).initial_spread == 0.02
try:
    madyn.Architecture.from_dict({**shape.to_dict(), "initial_spread": 0})
except madyn.errors.ArchitectureError as e:
    assert "initial_spread is 0; it must be positive and at most 10" in str(e)
else:
    raise AssertionError("an impossible value was taken")

# A suite file says it, and transformers builds with it.
runs = read_suite(suite).runs()
assert {run.blueprint.initial_spread for run in runs} == {0.01, 0.02, 0.04, 0.08}
assert "neox_2x16_h2_m16_s0" in {run.name for run in runs} and "neox_2x16_h2_m16_i0.08_s0" in {run.name for run in runs}
for run in runs:
    weights = build_model(run.blueprint, 0, 300, 16, 0).gpt_neox.embed_in.weight
    assert abs(float(weights.detach().std()) / run.blueprint.initial_spread - 1) < 0.05
report = run_suite(read_suite(suite), out, jobs=1)
assert len(report.trained) == 8 and not report.failures
data = madyn.open_dataset(out)
assert data.architecture("neox_2x16_h2_m16_i0.08_s0").initial_spread == 0.08

# The table has a column of it behind the card's, and is read back where there is no manifest.
madyn.fit_dataset(out, hypotheses=["reparam"], quantities=["ratio"])
table = data.parameters
assert list(table).index("initial_spread") > list(table).index("param_K")
assert set(table["initial_spread"]) == {0.01, 0.02, 0.04, 0.08}
shutil.rmtree(out + "/manifest")
again = madyn.open_dataset(out)
assert again.architecture("neox_2x16_h2_m16_i0.08_s0").initial_spread == 0.08

# The predictor learns from it, and keeps it when it is saved.
predictor = Predictor().fit(out)
assert "initial spread" in predictor.state.table.features
np.testing.assert_allclose(
    sorted(set(predictor.state.table.rows["initial spread"])), np.log2([0.01, 0.02, 0.04, 0.08])
)
predictor.save(out + "/predictor.json")
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
loaded = Predictor.load(out + "/predictor.json")
asked = [predictor.predict(loaded.architecture(**sizes, initial_spread=value), [6]).values for value in (0.01, 0.08)]
assert not np.allclose(*asked)

# Designs are searched over it, and effects study it.
found = madyn.design(predictor, Limits(initial_spread=(0.02, 0.04)), minimize="max ratio")
assert found.searched == 2 * 2  # widths, and the spreads that the family has within the limits
assert set(found.table["initial_spread"]) <= {0.02, 0.04}
assert "initial spread" in FACTORS and "initial spread" in effect_sizes(model_responses(out), "final ratio").index

# So does the command line.
asked = ["--initial-spread", "0.04..0.08", "--maximize", "max ratio"]
run = CliRunner().invoke(cli.app, ["design", "--suite", out, *asked])
assert run.exit_code == 0 and "initial spread" in run.output, (run.output, run.exception)
help = CliRunner().invoke(cli.app, ["predict", "--help"]).output
assert "--initial-spread" in help and "Spread of the first weights." in " ".join(help.split())
print("initial_spread")
"""


LACKING = """
from madyn.errors import UsageError
from madyn.lab.blueprints import Blueprint, build_model

llama = {"residual": "sequential", "norm": "rmsnorm", "activation": "swiglu", "rotary_pct": 1.0}
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
build_model(Blueprint(**sizes, **llama), 0, 300, 16, 0)
try:
    build_model(Blueprint(**sizes, **llama, initial_spread=0.5), 0, 300, 16, 0)
except UsageError as e:
    print(e)
"""


def package_with(feature: str, folder: Path) -> dict[str, str]:
    """The environment of a process that imports a copy of the package with one entry more in its architecture."""
    package, copy = Path(madyn.__file__).parent, folder / "src" / "madyn"
    copy.mkdir(parents=True)
    for each in package.iterdir():
        if each.name != "__pycache__":
            (copy / each.name).symlink_to(each)
    (copy / "architecture.py").unlink()
    text = (package / "architecture.py").read_text()
    before = '\n    @derived(words="head size"'
    assert text.count(before) == 1
    (copy / "architecture.py").write_text(text.replace(before, feature + before))
    return {**os.environ, "PYTHONPATH": str(folder / "src")}


def test_a_feature_of_an_architecture_is_one_entry(tmp_path):
    environment = package_with(FEATURE, tmp_path)
    (tmp_path / "book.txt").write_text(TEXT)
    (tmp_path / "suite.toml").write_text(SUITE.replace("BOOK", str(tmp_path / "book.txt")))
    older = write_dataset(tmp_path / "older", models=("pythia_14m",))
    madyn.fit_dataset(older, hypotheses=["reparam"], quantities=["ratio"])
    arguments = [sys.executable, "-c", ROOMS, str(tmp_path / "suite.toml"), str(tmp_path / "data"), str(older)]
    run = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "initial_spread"


def test_a_class_that_lacks_a_setting_builds_its_default_alone(tmp_path):
    environment = package_with(FEATURE.replace('setting="initializer_range"', 'setting="layer_norm_eps"'), tmp_path)
    run = subprocess.run([sys.executable, "-c", LACKING], capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stdout) == (
        0, "LlamaConfig of transformers has no setting layer_norm_eps: no llama has that\n"
    ), run.stderr  # fmt: skip
