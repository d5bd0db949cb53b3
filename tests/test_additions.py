"""The additions of CONTRIBUTING.md: each diff there applies to the package as it is, and is then in every stage."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import madyn
from tiny import TEXT, save_checkpoints, write_dataset, write_family

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
DIFFS = dict(re.findall(r"^\*\*(.+?)\.\*\*.*?\n\n```diff\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
HYPOTHESIS, FEATURE = "A hypothesis", "A feature of an architecture"


def copy_with(diffs: list[str], folder: Path) -> dict[str, str]:
    """The environment of a process that imports a copy of the package to which diffs were applied."""
    package = Path(madyn.__file__).parent
    shutil.copytree(package, folder / "src" / "madyn", ignore=shutil.ignore_patterns("__pycache__", "*.tar.xz"))
    for archive in (package / "data").glob("*.tar.xz"):
        (folder / "src" / "madyn" / "data" / archive.name).symlink_to(archive)
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # the copy is no repository, nor in one
    for diff in diffs:
        run = subprocess.run(["git", "apply"], input=diff, text=True, capture_output=True, cwd=folder, env=outside)
        assert run.returncode == 0, run.stderr
    earlier = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one and one != str(package.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), *earlier])}


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> dict[str, str]:
    """With all of them."""
    return copy_with(list(DIFFS.values()), tmp_path_factory.mktemp("added"))


def ran(script: str, environment: dict[str, str], *arguments: object) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_there_are_five_and_each_is_short():
    assert set(DIFFS) == {HYPOTHESIS, FEATURE, "A kind of checkpoint", "A picture", "An approach to predict by"}
    for name, diff in DIFFS.items():
        changed = [line for line in diff.splitlines() if re.match(r"[+-](?![+-]{2} )", line)]
        assert 0 < len(changed) < 20, name


STAGES = """
import sys
import numpy as np
import madyn
from madyn.curves.hypotheses.registry import HYPOTHESES, PUBLISHED

assert "gompertz" in HYPOTHESES and "gompertz" not in PUBLISHED
t = np.array([0, 1, 2, 4, 8, 16, 32, 64, *range(100, 3001, 100)], float)
y = 5 * np.exp(-4 * np.exp(-2e-3 * t)) + 1
fits = madyn.fit_curves(t, y, "gompertz")
np.testing.assert_allclose(fits.popt, [4, 2e-3, 5, 1], rtol=1e-6)
assert madyn.fit_curves(t, y, "step1").r2 < fits.r2

found = madyn.posterior(t, y + 0.01 * np.sin(t), "gompertz").plateau()
assert found["lower"] < 6 < found["upper"]

data = sys.argv[1]
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


def test_a_hypothesis_is_one_file(added, tmp_path):
    write_dataset(tmp_path / "data", models=("pythia_14m",))
    assert ran(STAGES, added, tmp_path / "data").startswith("gompertz")


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


def test_a_feature_of_an_architecture_is_one_entry(added, tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    (tmp_path / "suite.toml").write_text(SUITE.replace("BOOK", str(tmp_path / "book.txt")))
    older = write_dataset(tmp_path / "older", models=("pythia_14m",))
    madyn.fit_dataset(older, hypotheses=["reparam"], quantities=["ratio"])
    said = ran(ROOMS, added, tmp_path / "suite.toml", tmp_path / "data", older)
    assert said.splitlines()[-1] == "initial_spread"


def test_a_class_that_lacks_a_setting_builds_its_default_alone(tmp_path):
    diff = DIFFS[FEATURE].replace('setting="initializer_range"', 'setting="layer_norm_eps"')
    said = ran(LACKING, copy_with([diff], tmp_path))
    assert said == "LlamaConfig of transformers has no setting layer_norm_eps: no llama has that\n"


POINTED = """
import sys
from madyn.settings import Probe
from madyn.sweep import scan_checkpoint

where, book = sys.argv[1:]
found = scan_checkpoint(where, probe=Probe(text=book, sequences=2, length=8))
there = scan_checkpoint(open(where).read(), probe=Probe(text=book, sequences=2, length=8))
assert (found["top1"] == there["top1"]).all() and len(found)
print("where", len(found))
"""


def test_a_kind_of_checkpoint_is_one_file(added, tmp_path):
    folder = save_checkpoints(tmp_path / "net", steps=(0,)) / "step0"
    (tmp_path / "net.where").write_text(str(folder))
    (tmp_path / "book.txt").write_text(TEXT)
    assert ran(POINTED, added, tmp_path / "net.where", tmp_path / "book.txt").startswith("where")


DRAWN = """
import sys
import madyn

drawing = madyn.draw_figures(sys.argv[1], only="*growth*", jobs=1)
assert not drawing.failed, drawing.failed
print(*drawing.drawn)
"""


def test_a_picture_is_one_file(added, tmp_path):
    write_dataset(tmp_path / "data", models=("pythia_14m",))
    ran(DRAWN, added, tmp_path / "data")
    assert (tmp_path / "data/analysis/pythia_14m/growth.png").stat().st_size > 1000


SCORED = """
import sys
import madyn

if __name__ == "__main__":
    found = madyn.evaluate(sys.argv[1], approaches=["neighbours", "mean_curve"], jobs=1)
    scores = found.scores.set_index(["protocol", "approach"])["r2"]
    print("neighbours", scores.xs("neighbours", level="approach").notna().any())
"""


def test_an_approach_is_one_entry(added, tmp_path):
    family = write_family(tmp_path / "family", count=8, repeated=4).path
    assert ran(SCORED, added, family) == "neighbours True\n"
