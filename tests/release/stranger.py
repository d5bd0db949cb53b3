"""What somebody does who has installed the core alone: reads, fits and draws a dataset, with what the wheel brings.

    python stranger.py FOLDER

Run with a Python in which the wheel is installed and no extra is. Everything is written below FOLDER, the cache too.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

here = Path(sys.argv[1]).absolute()
here.mkdir(parents=True, exist_ok=True)
os.environ["XDG_CACHE_HOME"] = str(here / "cache")

import madyn  # noqa: E402  after the place of its cache is said
from madyn.cli import main  # noqa: E402
from madyn.errors import EXTRAS, MissingDependencyError  # noqa: E402

assert not [name for names in EXTRAS.values() for name in names if find_spec(name)], "an extra is installed"
data = madyn.open_dataset("tiny-suite")
model = sorted(data.models)[0]
ratio = data.trajectories(model, "ratio")
assert ratio.dims == ("step", "layer")
assert (ratio > 1).all()

out = here / "fitted"
fitted = madyn.fit_dataset("tiny-suite", hypotheses=["reparam", "step1"], models=[model], quantities=["ratio"], out=out)
fits = fitted.fits(model, "ratio")
assert (fits["r2"].sel(hypothesis="reparam") > 0.5).all()
drawing = madyn.draw_figures(fitted, models=[model], only="*series*", jobs=1)
assert drawing.drawn
assert not drawing.failed


def raised(call) -> BaseException:
    try:
        call()
    except BaseException as e:
        return e
    raise AssertionError("it went through without what it needs")


error = raised(lambda: madyn.measure(object(), [[0, 1]]))  # pyright: ignore[reportArgumentType]
assert isinstance(error, MissingDependencyError), repr(error)
assert str(error) == 'torch is not installed: pip install "madyn[models]"', error
sys.argv = ["madyn", "scan", "a/b"]
assert raised(main).args == (1,)
print("torch" in sys.modules, len(drawing.drawn))
