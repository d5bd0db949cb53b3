"""What somebody does who has installed the core alone: reads, fits and draws a dataset, with what the wheel brings.

    python stranger.py FOLDER

Run with a Python in which the wheel is installed and no extra is. Everything is written below FOLDER, the cache too.
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path


def raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as e:
        return e
    raise AssertionError("it went through without what it needs")


def walk(here: Path) -> None:
    here.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(here / "cache")

    import madyn
    from madyn.cli import main
    from madyn.errors import EXTRAS, MissingDependencyError

    assert not [name for names in EXTRAS.values() for name in names if find_spec(name)], "an extra is installed"
    data = madyn.open_dataset("tiny-suite")
    model = sorted(data.models)[0]
    ratio = data.trajectories(model, "ratio")
    assert ratio.dims == ("step", "layer")
    assert (ratio > 1).all()

    out = here / "fitted"
    hypotheses = ["reparam", "step1"]
    fitted = madyn.fit_dataset("tiny-suite", hypotheses=hypotheses, models=[model], quantities=["ratio"], out=out)
    fits = fitted.fits(model, "ratio")
    assert (fits["r2"].sel(hypothesis="reparam") > 0.5).all()
    drawing = madyn.draw_figures(fitted, models=[model], only="*series*", jobs=1)
    assert drawing.drawn
    assert not drawing.failed

    error = raised(lambda: madyn.measure(object(), [[0, 1]]))  # pyright: ignore[reportArgumentType]
    assert isinstance(error, MissingDependencyError), repr(error)
    assert str(error) == 'torch is not installed: pip install "madyn[models]"', error
    sys.argv = ["madyn", "scan", "a/b"]
    assert raised(main).args == (1,)
    print("torch" in sys.modules, len(drawing.drawn))


if __name__ == "__main__":
    walk(Path(sys.argv[1]).absolute())
