"""The API pages have every public name, and each of them an example that runs.

Public are `madyn.__all__` and what its rooms list. An example stands in the name's own docstring; that of a method may
stand in its class's, and that of a class without methods in the docstring of a function that gives it. The examples are
run with the tests (`--doctest-modules`), but for those of values, whose docstrings Python does not keep: here.
"""

from __future__ import annotations

import doctest
import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe
import pytest

import madyn

HOME = Path(__file__).parent.parent
PAGES = sorted((HOME / "docs" / "api").glob("*.md"))
OF_ROOMS_WITHOUT_LIST = {"figures.draw.Drawing"}
"""On the pages, and in no list: what a public function gives."""


_ENTRY = re.compile(r"^::: madyn\.(\S+)\n((?: .*\n|\n(?= ))*)", re.MULTILINE)


def named() -> dict[str, list[str] | None]:
    """Every name on the pages, after `madyn.`, with its members that are shown, if they are chosen."""
    found: dict[str, list[str] | None] = {}
    for page in PAGES:
        for name, options in _ENTRY.findall(page.read_text(encoding="utf-8") + "\n"):
            members = re.search(r"members: \[([^\]]*)\]", options)
            found[name] = members[1].replace(" ", "").split(",") if members else None
    return found


NAMED = named()


def public() -> set[str]:
    rooms = [name for name in dir(madyn) if name not in madyn.__all__ and isinstance(getattr(madyn, name), ModuleType)]
    found = set(madyn.__all__)
    known = {id(getattr(madyn, name)) for name in madyn.__all__}
    for room in rooms:
        module = getattr(madyn, room)
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", [name for name in own if not name.startswith("_")]):
            if id(getattr(module, name)) not in known:
                found.add(f"{room}.{name}")
    return found


def test_every_public_name_is_on_one_page():
    assert set(NAMED) - OF_ROOMS_WITHOUT_LIST == public()
    entries = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == ":::"]
    assert len(entries) == len(NAMED)


def test_every_name_is_in_the_overview():
    listed = re.findall(r"\[`(\S+)`\]", (HOME / "docs" / "api" / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(NAMED)


def value_of(name: str) -> Any:
    room, _, last = f"madyn.{name}".rpartition(".")
    return getattr(import_module(room), last)


def lines(text: str | None) -> str:
    """The lines of code of a docstring's examples."""
    return "\n".join(example.source for example in doctest.DocTestParser().get_examples(text or ""))


VALUES = sorted(name for name in NAMED if not callable(value_of(name)))
CALLED = sorted(set(NAMED) - set(VALUES))


@pytest.mark.parametrize("name", CALLED)
def test_a_name_has_an_example(name):
    value = value_of(name)
    own = lines(inspect.getdoc(value))
    if inspect.isclass(value):
        givers = [value_of(n) for n in CALLED if value.__name__ in str(_returned(value_of(n)))]
        own += "".join(lines(inspect.getdoc(giver)) for giver in givers)
        lacking = [m for m in methods(value, NAMED[name]) if not has_example(value, m, own)]
        assert lacking == []
    assert own


def _returned(value: Any) -> Any:
    return getattr(value, "__annotations__", {}).get("return", "")


def methods(kind: type, chosen: list[str] | None) -> list[str]:
    """Its own public methods and properties that have a docstring; not those that a decorator adds for old names."""
    source = inspect.getsource(kind)
    own = [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_")
        and f"def {name}(" in source
        and (inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod)))
        and inspect.getdoc(getattr(kind, name))
    ]
    return own if chosen is None else [name for name in own if name in chosen]


def has_example(kind: type, method: str, of_class: str) -> bool:
    return bool(lines(inspect.getdoc(getattr(kind, method)))) or bool(re.search(rf"\.{method}\b", of_class))


@cache
def package() -> griffe.Object | griffe.Alias:
    return griffe.load("madyn", search_paths=[str(HOME / "src")], resolve_aliases=True)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_has_an_example_that_runs(name):
    docstring = package()[name].docstring
    assert docstring is not None, "it has no docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    examples = doctest.DocTestParser().get_doctest(docstring.value, {}, name, None, None)
    assert examples.examples, "it has no example"
    assert runner.run(examples).failed == 0
