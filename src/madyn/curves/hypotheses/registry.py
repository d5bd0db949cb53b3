"""The curves that are built in, by name: each module of this room that has `CURVES` adds its own.

An entry is a `SeparableModel` in normalised units, so that its bounds are the box in normalised time that every search
of it stays in. All curves keep their form under that change of units, and their parameters scale back linearly, so that
covariances scale back exactly too. A new hypothesis is one file here with one entry, and nothing elsewhere.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module

from madyn.curves import hypotheses
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.errors import UsageError, listed, quoted

_ORDER = (
    "original", "reparam", "original_regularized", "reparam_regularized", "step1", "step2", "power_law",
    "double_exponential", "logistic_log", "stretched_exponential",
)  # fmt: skip


def _entries() -> Iterator[SeparableModel]:
    for module in pkgutil.iter_modules(hypotheses.__path__, f"{hypotheses.__name__}."):
        if module.name != __name__:
            yield from getattr(import_module(module.name), "CURVES", ())


def _place(hypothesis: SeparableModel) -> tuple[int, str]:
    return (_ORDER.index(hypothesis.name) if hypothesis.name in _ORDER else len(_ORDER), hypothesis.name)


def _by_name() -> dict[str, SeparableModel]:
    """Raises TypeError where an entry could not be fitted in the units of a run, or its name is taken."""
    found: dict[str, SeparableModel] = {}
    for one in sorted(_entries(), key=_place):
        if not one.normalised or len(one.powers) != len(one.nonlinear):
            raise TypeError(
                f"the hypothesis {one.name} needs normalised=True, and in `powers` a number for each of {one.nonlinear}"
            )
        if one.name in found:
            raise TypeError(f"two hypotheses are called {one.name}")
        found[one.name] = one
    return found


HYPOTHESES: dict[str, SeparableModel] = _by_name()
"""Every hypothesis by name, in the order in which tables show them: the published ones first, new ones last by name.

>>> import madyn
>>> madyn.curves.HYPOTHESES["step1"].param_names
('tau', 'K')
"""

PUBLISHED = tuple(name for name, hypothesis in HYPOTHESES.items() if hypothesis.published is not None)
"""The hypotheses of the published dataset, those that a dataset is fitted with unless others are asked for.

>>> import madyn
>>> madyn.curves.PUBLISHED[:2]
('original', 'reparam')
"""


def resolve(names: Iterable[str | SeparableModel]) -> list[SeparableModel]:
    """The hypotheses of these names, in the order given; a hypothesis stands for itself.

    Raises:
        UsageError: a name is not in `HYPOTHESES`.

    >>> [h.param_names for h in resolve(["step1"])]
    [('tau', 'K')]
    """
    names = [names] if isinstance(names, SeparableModel) else listed("hypothesis", names)
    unknown = [
        name if isinstance(name, str) else quoted(name)
        for name in names
        if not isinstance(name, SeparableModel) and not (isinstance(name, str) and name in HYPOTHESES)
    ]
    if unknown:
        raise UsageError(f"unknown hypothesis: {', '.join(unknown)}; known: {', '.join(HYPOTHESES)}")
    return [HYPOTHESES[name] if isinstance(name, str) else name for name in names]
