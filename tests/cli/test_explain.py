"""--explain: every table that a command prints is explained, column by column, in one place that the docs show too."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import madyn
from madyn import cli, terminal
from madyn.cli.explaining import explained, markdown, tables_of
from tiny import write_dataset, write_family

PACKAGE = Path(madyn.__file__).parent
COMMANDS = {(c.name or c.callback.__name__): c for c in cli.app.registered_commands if c.callback}
TABLES = list(dict.fromkeys(one.command for one in explained()))


@pytest.mark.parametrize("command", TABLES)
def test_a_command_explains_its_tables_without_its_arguments(run, command):
    code, out, err = run(command, "--explain")
    assert (code, err) == (0, "")
    for one in tables_of(command):
        assert f"{one.name}" in out
        assert f"=> {one.conclude}" in out
        assert all(said in out for said in one.columns.values())


def test_it_reads_nothing():
    started = time.perf_counter()
    script = (
        "import sys; sys.argv = ['madyn', 'show', 'nowhere', '--explain']\n"
        "from madyn.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: print(e.code, [m for m in ('numpy', 'pandas', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "0 []", run.stderr
    assert time.perf_counter() - started < 20  # under load; half a second on an idle core


def test_the_docs_show_it():
    page = (Path(__file__).parents[2] / "docs" / "reading.md").read_text(encoding="utf-8")
    assert page.partition("\n## ")[2] == markdown().removeprefix("## ")


# What the code prints, against what is explained


def stands_for() -> dict[str, set[str]]:
    """What words in capitals may stand for where they are all of a heading."""
    from madyn.architecture import SEARCHED
    from madyn.curves.hypotheses.registry import HYPOTHESES
    from madyn.effects import FACTORS
    from madyn.effects.layers import CLASSES, NO_CLASS
    from madyn.effects.sizes import SHARES

    return {
        "HYPOTHESIS": set(HYPOTHESES),
        "FACTOR": set(FACTORS),
        "SIZE": {one.words for one in SEARCHED.values()},
        "QUANTITY": {"ratio", "top1", "1 / median"},
        "CLASS": {*CLASSES, NO_CLASS},
        "PART": set(SHARES),
        "REGION": set(),
        "REGRESSOR": set(),
    }


WORDS = ("STEP", "OBJECTIVE", "COUNT", "SET", "LEVEL")
"""Those that are a part of a heading, for any text."""


def is_explained(heading: str, command: str | None = None) -> bool:
    names = [name for one in (explained() if command is None else tables_of(command)) for name in one.headings]
    whole = stands_for()
    if any(heading in whole[name] for name in names if name in whole):
        return True
    patterns = (re.sub(rf"\b({'|'.join(WORDS)})\b", ".+", re.escape(name)) for name in names if name not in whole)
    if heading.startswith("X ") and any(name.endswith(heading[1:]) for name in names):
        return True  # of a text in the code with a value first
    return any(re.fullmatch(each, heading) for each in patterns)


def test_what_is_not_explained_would_be_found():
    assert not is_explained("speed of light")
    assert not is_explained("int8 bits", "show")
    assert is_explained("step 3000", "forecast")


def literals(node: ast.AST, function: ast.AST, module: ast.Module) -> set[str]:
    """The headings that an expression lists, through the names in it; of a text with values in it, X for a value."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) and node.value else set()
    if isinstance(node, ast.JoinedStr):
        return {"".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values)}
    if isinstance(node, ast.Name):
        found = set()
        for one in [*ast.walk(function), *module.body]:
            targets = (
                one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AugAssign) else []
            )
            if any(isinstance(target, ast.Name) and target.id == node.id for target in targets):
                found |= literals(one.value, function, module)
        return found
    if isinstance(node, (ast.List, ast.Tuple)):
        return {text for one in node.elts for text in literals(one, function, module)}
    if isinstance(node, ast.Starred):
        return literals(node.value, function, module)
    if isinstance(node, ast.IfExp):
        return literals(node.body, function, module) | literals(node.orelse, function, module)
    if isinstance(node, ast.BinOp):
        return literals(node.left, function, module) | literals(node.right, function, module)
    if isinstance(node, ast.Dict):
        return {text for one in node.values for text in literals(one, function, module)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
        return literals(node.func.value, function, module)
    if isinstance(node, ast.GeneratorExp):
        return literals(node.elt, function, module) if isinstance(node.elt, ast.JoinedStr) else set()
    return set()


def printed() -> list[tuple[str, str]]:
    """(file, heading) of every table that the package's code prints: `print_table` and the columns of `watch`."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            for call in ast.walk(function):
                if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                    continue
                node = None
                if call.func.id == "print_table":
                    node = call.args[1]
                elif call.func.id == "Column":
                    node = next((k.value for k in call.keywords if k.arg == "title"), None)
                found += [(path.name, text) for text in literals(node, function, module)] if node is not None else []
    return found


@pytest.mark.parametrize(("file", "heading"), sorted(set(printed())))
def test_each_heading_in_the_code_is_explained(file, heading):
    assert is_explained(heading), f"{heading} of {file} is not in explained.toml"


def test_the_headings_are_found_in_the_code():
    assert len(printed()) > 100
    assert {"mean ratio", "R2", "pos:feature", "int8 bits", "X +BOS", "worst layer"} <= {
        heading for _, heading in printed()
    }


# And what commands print, against what is explained of them


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("explained") / "data", models=("pythia_14m", "pythia_70m"))
    return str(madyn.fit_dataset(root, hypotheses=["step1", "reparam"]).path)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return str(write_family(tmp_path_factory.mktemp("family"), count=8, repeated=4).path)


@pytest.fixture
def headings(monkeypatch):
    """The headings of the tables that are printed."""
    found = []

    class Recording(terminal.Table):
        def add_column(self, header="", *args, **options):
            found.append(header)
            super().add_column(header, *args, **options)

    monkeypatch.setattr(terminal, "Table", Recording)
    return found


SHAPE = ("--layers", "3", "--hidden-size", "64", "--heads", "2", "--mlp-ratio", "2")


@pytest.mark.parametrize("arguments", [
    ("show", "DATA"), ("show", "FAMILY", "--locations"), ("compare", "DATA", "--hypothesis", "step1", "-v"),
    ("fit", "DATA", "--hypothesis", "step1", "--quantity", "ratio"), ("quantization", "DATA"),
    ("forecast", "DATA", "--model", "pythia_14m", "--at", "10000", "--prior", "default"),
    ("predict", "FAMILY", *SHAPE, "--steps", "1,10", "-v"), ("design", "--suite", "FAMILY", "--minimize", "max ratio"),
    ("effects", "FAMILY"),
], ids=" ".join)  # fmt: skip
def test_what_is_printed_is_explained(run, data, family, headings, arguments):
    code, _, err = run(*({"DATA": data, "FAMILY": family}.get(one, one) for one in arguments))
    assert code == 0, err
    assert headings
    unknown = [one for one in headings if one and not is_explained(one, arguments[0])]
    assert not unknown


def test_a_terminal_is_told_of_it_and_a_pipe_is_not(run, data, monkeypatch):
    assert "--explain" not in run("show", data)[1]
    monkeypatch.setattr(type(terminal.console), "is_terminal", property(lambda self: True))
    assert "--explain tells how to read this" in run("show", data)[1].splitlines()[-1]
    assert "--explain" not in run("show", data, "-q")[1]
    assert "--explain" not in run("show", data, "--json")[1]
    assert "--explain" not in run("show", data, "--csv", "-")[1]


def test_every_command_that_prints_a_table_has_it():
    without = {"trace", "check", "figures", "report", "app", "info"}
    assert set(COMMANDS) - without == set(TABLES)
