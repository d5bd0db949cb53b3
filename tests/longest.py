"""Which tests `make check` leaves out: those that take longer than 0.3 seconds, in `tests/long.txt`.

    .venv/bin/python -m pytest --numprocesses 2 --junitxml times.xml
    .venv/bin/python tests/longest.py times.xml

A line of that file is a test's function, or a whole file whose fixtures take seconds. A test that is not in it is run,
a new one too; conftest.py gives the others the marker `long`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

LIST = Path(__file__).with_name("long.txt")
SECONDS = 0.3


def listed() -> frozenset[str]:
    return frozenset(LIST.read_text(encoding="utf-8").split())


def is_long(test: str, among: frozenset[str]) -> bool:
    """Whether a test, by its name in pytest, is in the list.

    >>> names = frozenset(["tests/a.py::test_one", "tests/b.py"])
    >>> [is_long(name, names) for name in ("tests/a.py::test_one[x]", "tests/a.py::test_1", "tests/b.py::test_2")]
    [True, False, True]
    """
    return test.partition("[")[0] in among or test.partition("::")[0] in among


def longest(report: Path, seconds: float = SECONDS) -> Iterable[str]:
    """The functions of a report of pytest's in JUnit's form of which one test took longer than that."""
    found = set()
    for case in ElementTree.parse(report).iter("testcase"):
        if float(case.get("time", 0)) > seconds:
            place = str(case.get("classname")).replace(".", "/")
            found.add(f"{place}.py::{str(case.get('name')).partition('[')[0]}")
    return sorted(found)


if __name__ == "__main__":
    files = [name for name in listed() if "::" not in name]
    LIST.write_text("\n".join([*sorted(files), *longest(Path(sys.argv[1]))]) + "\n", encoding="utf-8")
