"""What stops for want of an extra says which to install: every extra, and the public names that need one."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from madyn.errors import EXTRAS, MissingDependencyError, missing_dependency, needs_extra

HOME = Path(__file__).parents[2]


def declared() -> dict[str, set[str]]:
    """The distributions of each extra, by its name; an extra of extras has none of its own."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    return {
        extra: {Requirement(line).name for line in lines if not line.startswith("madyn")}
        for extra, lines in project["optional-dependencies"].items()
    }


def test_every_package_of_an_extra_is_told_of():
    of = {}
    for module, names in packages_distributions().items():
        for name in names:
            of.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(module)
    for extra, modules in EXTRAS.items():
        for name in declared()[extra]:
            known = of.get(name.lower())
            assert known is None or known & set(modules), f"{name} of {extra} is not in errors.EXTRAS"
    assert set(declared()) - set(EXTRAS) == {"all", "docs", "dev"}


@pytest.mark.parametrize(("module", "says"), [
    ("torch", '"madyn[models]"'),
    ("gradio", '"madyn[app]"'), ("jinja2", '"madyn[report]"'), ("ray", '"madyn[cluster]"'),
    ("xgboost", '"madyn[predict]"'), ("zarr", '"madyn[export]"'), ("lightning", "lightning"),
])  # fmt: skip
def test_the_line_says_what_to_install(module, says):
    error = missing_dependency(ModuleNotFoundError("", name=f"{module}.inner"))
    assert str(error) == f"{module} is not installed: pip install {says}"


def test_a_module_of_ours_is_no_extra():
    ours = ModuleNotFoundError("", name="madyn.nothing")

    @needs_extra
    def call():
        raise ours

    with pytest.raises(ModuleNotFoundError) as caught:
        call()
    assert caught.value is ours


WITHOUT = """
import importlib.abc, sys
from madyn.errors import EXTRAS, MissingDependencyError

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {one for names in EXTRAS.values() for one in names}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import madyn

calls = {
    "measure": lambda: madyn.measure(object(), [[0, 1]]),
    "intervene": lambda: madyn.intervene(object(), []),
    "massive_dimensions": lambda: madyn.massive_dimensions(object(), [[0, 1]]),
    "trace": lambda: madyn.trace(["nobody/nothing"], "out"),
    "run_suite": lambda: madyn.run_suite("tiny-suite", "out"),
    "Monitor": lambda: madyn.Monitor("out").for_transformers(),
    "Predictor": lambda: madyn.Predictor().fit("tiny-suite"),
    "plan": lambda: madyn.sweep.plan_costs(["nobody/nothing"]),
    "scan": lambda: madyn.sweep.scan_checkpoint("nobody/nothing"),
    "quantization": lambda: madyn.quantization.quantization_costs("nobody/nothing"),
    "bucket": lambda: madyn.open_dataset("s3://bucket/data"),
    "publish": lambda: madyn.publish.publish_dataset("tiny-suite", "a/b"),
}
for name, call in calls.items():
    try:
        call()
    except MissingDependencyError as e:
        assert "pip install \\"madyn[" in str(e) and "\\n" not in str(e), e
        print(name)
"""


def test_public_names_without_their_extras(tmp_path):
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    names = re.findall(r'^    "(\w+)": lambda', WITHOUT, re.MULTILINE)
    assert run.stdout.split() == names


def test_missing_is_an_error_of_ours():
    assert issubclass(MissingDependencyError, ImportError)
