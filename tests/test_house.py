"""The rules of the house: who may import whom, what stays light, and names that do not collide."""

import ast
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

import madyn
from longest import listed

PACKAGE = Path(madyn.__file__).parent

# From what knows nothing to what knows all; rooms on one line do not know each other.
ORDER = [
    {"errors", "regular", "telemetry", "typing"},
    {"arrays", "streams", "paths", "features", "labels"},
    {"architecture", "massive", "wirings"},
    {"suites", "sharing", "settings"},
    {"hub", "terminal", "processes"},
    {"notebook"},
    {"stopping"},
    {"text"},
    {"dataset"},
    {"remedies"},
    {"checkpoints"},
    {"measurement"},
    {"sweep"},
    {"curves"},
    {"analysis"},
    {"checking"},
    {"prediction"},
    {"effects"},
    {"lab", "monitor"},
    {"intervention", "quantization"},
    {"control"},
    {"figures"},
    {"publish"},
    {"summaries"},
    {"report"},
    {"app", "demo"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
WITHOUT_TORCH = ("dataset", "curves", "analysis", "checking", "prediction", "figures")
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module that a file imports, at its top or inside a function, relative names made absolute."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_those_above_it(path):
    room = room_of(path)
    if room == "__init__":
        return  # the public names are taken from every room, when they are used
    assert room in RANK, f"{room} has no place in the order"
    for name in imports(path):
        if name.startswith("madyn."):
            other = name.split(".")[1]
            assert other == room or RANK[other] < RANK[room], f"{room} must not import {name}"


def modules_imported(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere in it, for types too. A module of a package is meant by
    its own name: `from madyn.dataset import layout` is an import of the layout, and not of the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            found |= inner
            if len(inner) < len(node.names) and node.module in MODULES:
                found.add(node.module)
    return found


def name_of(path: Path) -> str:
    return ".".join(["madyn", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {name_of(path) for path in FILES}


def test_no_modules_import_each_other_in_a_circle():
    """Inside rooms too, whether the import stands at the top, in a function or is for types alone."""
    left = {name_of(path): modules_imported(path) - {name_of(path)} for path in FILES}
    del left["madyn"]  # the public names are taken from every room, when they are used
    while free := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in free}
    while unused := left.keys() - set().union(*left.values(), ()):
        left = {name: imported for name, imported in left.items() if name not in unused}
    assert not left, "each of these imports another, and one leads back to it"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_reading_a_dataset_needs_no_torch(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert not {n.split(".")[0] for n in imports(path)} & {"torch", "transformers", "tokenizers", "datasets"}, path


def test_no_module_has_the_name_of_a_public_function():
    modules = {path.stem for path in FILES} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not modules & set(madyn.__all__)


def test_the_public_names_are_there():
    assert len(madyn.__all__) <= 20
    for name in madyn.__all__:
        assert getattr(madyn, name).__doc__
    assert set(madyn.__all__) <= set(dir(madyn))
    with pytest.raises(AttributeError, match="attribute"):
        _ = getattr(madyn, "nothing")  # noqa: B009  a type checker knows that it is not there


@pytest.mark.parametrize(
    "room",
    ["analysis", "checking", "curves", "dataset", "effects", "lab", "prediction", "publish", "quantization", "sweep"],
)
def test_the_names_of_a_room_are_there(room):
    module = getattr(madyn, room)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize(("old", "new"), sorted(vars(madyn)["_MOVED"].items()))
def test_an_old_name_works_and_says_where_it_is_now(old, new):
    with pytest.warns(DeprecationWarning, match=f"madyn.{old} is madyn.{new} now"):
        found = getattr(madyn, old)
    module, _, name = f"madyn.{new}".rpartition(".")
    assert found is getattr(import_module(module), name)


def loaded_by(code: str) -> set[str]:
    show = "import sys; print(*{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_importing_loads_nothing_heavy():
    heavy = {"torch", "transformers", "numpy", "pandas", "xarray", "scipy", "matplotlib", "sklearn", "huggingface_hub"}
    assert not loaded_by("import madyn, madyn.cli") & heavy


def test_reading_and_fitting_loads_no_torch(tmp_path):
    from tiny import write_dataset

    write_dataset(tmp_path, models=("pythia_14m",))
    code = f"import madyn, madyn.figures.draw; madyn.fit_dataset({str(tmp_path)!r}, hypotheses=['step1'])"
    assert not loaded_by(code) & {"torch", "transformers", "sklearn", "xgboost", "shap"}


def test_a_missing_package_says_what_to_install():
    code = """
import sys
sys.modules["torch"] = None
import madyn
try:
    madyn.measure
except madyn.MadynError as e:
    print(e)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == 'torch is not installed: pip install "madyn[models]"\n'


@pytest.mark.parametrize("code", ["import madyn", "import madyn.cli"])
def test_start_up_is_not_slow(code):
    """Two seconds, not the half second that it is meant to take: a test is no clock."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 2


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "a file opens with a paragraph that says what it is for"


HOME = PACKAGE.parent.parent


def test_make_check_leaves_out_tests_that_are_there():
    assert len(listed()) > 100
    for name in listed():
        file, _, function = name.partition("::")
        text = (HOME / file).read_text(encoding="utf-8")
        assert re.search(rf"\b(def|class) {re.escape(function.rpartition('.')[2])}\b" if function else "", text), name


def test_contributing_names_files_that_are_there_and_every_room():
    text = (HOME / "CONTRIBUTING.md").read_text()
    table = text.split("## To add")[1].split("## Before")[0]
    files = re.findall(r"`([\w/]+\.(?:py|md))`", table)
    assert len(files) > 10
    for name in files:
        assert (HOME / name).exists() or (PACKAGE / name).exists(), name
    told = {name.strip("/") for name in re.findall(r"`(\w+)/?`", text.split("## The rooms")[1].split("## Words")[0])}
    rooms = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms - {"data"} <= told, rooms - told
