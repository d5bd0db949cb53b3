"""A hypothesis is one entry in one file: written as a user of the source would, it is in every stage."""

import subprocess
import sys
import textwrap

import pytest

from tiny import write_dataset

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
