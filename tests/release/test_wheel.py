"""The archives: they hold what they must and no more, and the wheel alone does what the core promises.

The wheel is built from the archive of the source, as `python -m build` does it, and put into an empty environment with
what the core needs, and what that needs, and nothing else: no index is asked for these, they are those of this one.
"""

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import madyn
from madyn.errors import EXTRAS

HOME = Path(__file__).parents[2]
MOST = 12e6  # bytes of the wheel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    """The source and the wheel made from it."""
    out = tmp_path_factory.mktemp("dist")
    run = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(HOME)], capture_output=True, text=True
    )
    if run.returncode and ("No matching distribution" in run.stdout + run.stderr):
        pytest.skip("hatchling is on no index that can be reached")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


def test_both_have_the_one_version(archives):
    source, wheel = archives
    assert source.name == f"madyn-{madyn.__version__}.tar.gz"
    assert wheel.name == f"madyn-{madyn.__version__}-py3-none-any.whl"


def test_the_source_is_all_that_is_tracked(archives):
    """What its own tests read is in it: docs, workflows, the lock."""
    listed = subprocess.run(["git", "ls-files"], cwd=HOME, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no repository to compare with: this is an archive of the source itself")
    with tarfile.open(archives[0]) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    assert held - {"PKG-INFO"} >= {name for name in listed.stdout.splitlines() if (HOME / name).exists()}
    assert not [name for name in held if name.startswith((".venv", "build/", "dist/", "demo/"))]


def test_the_wheel_is_the_package_alone_and_small(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = wheel.namelist()
    assert {name.partition("/")[0] for name in names} == {"madyn", f"madyn-{madyn.__version__}.dist-info"}
    assert {"madyn/data/tiny-suite.tar.xz", "madyn/py.typed", "madyn/__init__.pyi"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]
    assert archives[1].stat().st_size < MOST, "see CONTRIBUTING.md, what comes with the package"


def needed(name: str, extras: frozenset[str] = frozenset(), found: set[str] | None = None) -> set[str]:
    """A distribution and all that it needs here, by name."""
    found = set() if found is None else found
    if name in found and not extras:
        return found
    found.add(name)
    for line in distribution(name).requires or []:
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            needed(one.name.lower(), frozenset(one.extras), found)
    return found


def test_an_empty_environment_reads_fits_and_draws(archives, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")], check=True)
    (site,) = (tmp_path / "empty").glob("lib/python*/site-packages")
    with zipfile.ZipFile(archives[1]) as wheel:
        wheel.extractall(site)
        (metadata,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        lines = wheel.read(metadata).decode().partition("\n\n")[0].splitlines()
    core = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]
    names: set[str] = set()
    for one in core:
        if one.marker is None:
            needed(one.name.lower(), frozenset(one.extras), names)
    for name in sorted(names):
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top != ".." and not (site / top).exists() and not top.endswith(".pth"):
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    assert not [one for extra in EXTRAS.values() for one in extra if (site / one).exists()]
    python = tmp_path / "empty" / "bin" / "python"
    run = subprocess.run(
        [python, "-I", HOME / "tests/release/stranger.py", tmp_path / "stranger"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert run.stdout.startswith("False ")
