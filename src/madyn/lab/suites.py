"""Suite files: what a lab trains, on what, how, and when it measures, declared in TOML.

A suite is a dataclass whose fields are the file's keys; pydantic holds a file against it, so that a wrong key or type
is named with its place. Whatever a suite says is part of what makes its results; how many processes train it, and
where, is not in the file.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from madyn.architecture import DERIVED, FEATURES, stand_in
from madyn.dataset.layout import check_name, same_name
from madyn.dataset.shipped import shipped_suite, shipped_suites
from madyn.errors import UsageError, one_line, quoted
from madyn.lab.blueprints import Blueprint
from madyn.lab.designs import complete_shape, coordinates, draw_design, largest_correlation, spread_out
from madyn.lab.recipe import Recipe, checkpoint_steps
from madyn.paths import describe_missing, exists
from madyn.regular import read_regular

_STRICT: Any = {"extra": "forbid", "strict": True}

_LARGEST = 1 << 20  # bytes of a file

_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")

_MOST = 10_000
"""Models, seeds, or sequences: more would be a mistake."""

Level = int | float | str


def _refuse_seeds(seeds: Sequence[int]) -> None:
    strange = next((seed for seed in seeds if not 0 <= seed < 1 << 32), None)
    if strange is not None:
        raise UsageError(f"a seed is {quoted(strange)}; it is from 0 to {(1 << 32) - 1}")


@dataclass(frozen=True, kw_only=True)
class TrainingText:
    """What is learned from.

    Attributes:
        source: the name of a text source, as in `madyn.text`.
        documents, seed: how many documents are drawn from it, all by default, and with what seed.
        vocab_size: of the byte-level BPE tokenizer that is trained on the text.
        tokenizer: a tokenizer to use instead: a folder, or a name of the Hub.

    >>> import madyn
    >>> madyn.lab.TrainingText().vocab_size
    1024
    """

    __pydantic_config__: ClassVar = _STRICT

    source: str = "stdlib#train"
    documents: int | None = None
    seed: int = 0
    vocab_size: int = 1024
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if not 260 <= self.vocab_size <= 1 << 16:
            shown = quoted(self.vocab_size)
            raise UsageError(f"vocab_size is {shown}; it is from 260 (the bytes and a few more) to 65536")
        _refuse_seeds([self.seed])


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured, on what, and when.

    Attributes:
        steps: those to measure at; about `count` of them from 0 to the last by default, powers of two first.
        source, documents, seed: the text that hidden states and held-out loss are measured on.
        sequences: how many hidden states are measured on, each as long as those that are learned from.
        loss_sequences: how many the held-out loss is taken over, spread evenly over `loss_documents` documents of the
            source: over all of them, in the source's own order, by default.

    >>> import madyn
    >>> madyn.lab.Measuring(steps=[0, 100, 200]).sequences
    10
    """

    __pydantic_config__: ClassVar = _STRICT

    steps: list[int] | None = None
    count: int = 34
    source: str = "stdlib#held-out"
    documents: int = 10
    seed: int = 0
    sequences: int = 10
    loss_sequences: int = 100
    loss_documents: int | None = None

    def __post_init__(self) -> None:
        for name in ("count", "sequences", "loss_sequences"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise UsageError(f"{name} is {quoted(getattr(self, name))}; it is from 1 to {_MOST}")
        _refuse_seeds([self.seed])


def _said_of_a_model() -> list[tuple[str, Any, Any]]:
    """What a suite says of an architecture, each with its type and what it is by default: the fields of `Blueprint`,
    and behind each what stands in for it; of two that say one thing, neither is said by default."""
    types, said = get_type_hints(Blueprint), []
    for f in fields(Blueprint):
        other = stand_in(f.name)
        if other is None:
            said.append((f.name, types[f.name], field(default=f.default)))
        else:
            said += [(f.name, types[f.name] | None, None), (other.name, float | None, None)]
    return said


_Said: Any = make_dataclass("_Said", _said_of_a_model(), frozen=True, kw_only=True)

_Departure: Any = make_dataclass(
    "_Departure",
    [(f.name, get_type_hints(Recipe)[f.name] | None, None) for f in fields(Recipe) if f.name != "steps"],
    frozen=True,
    kw_only=True,
    namespace={"__pydantic_config__": _STRICT, "__module__": __name__},  # by which it is found in another process
)
"""What a model's recipe may say otherwise than the suite's: all but the number of steps, at which all are compared."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry(_Said):
    """One architecture, and the seeds that it is trained with. Fields that are not given are those of `Blueprint`.

    Attributes:
        mlp_ratio: the MLP's width over the hidden size, 4 by default, where `intermediate_size` is not given.
        name: of its directory in the dataset, `_s0` and so on behind it for the seed; made from the shape by default.
        recipe: in what its training departs from the suite's recipe.

    >>> import madyn
    >>> entry = madyn.lab.ModelEntry(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, seeds=[0, 1])
    >>> entry.blueprint().hidden_size, entry.trained_by(madyn.lab.Recipe()).steps
    (64, 2000)
    """

    __pydantic_config__: ClassVar = _STRICT

    recipe: _Departure = field(default_factory=_Departure)  # pyright: ignore[reportInvalidTypeForm]  made at run time
    name: str | None = None
    seeds: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
        if not 1 <= len(self.seeds) <= _MOST:
            raise UsageError(f"{len(self.seeds)} seeds; an architecture has from 1 to {_MOST}")
        _refuse_seeds(self.seeds)

    def blueprint(self) -> Blueprint:
        return complete_shape({f.name: getattr(self, f.name) for f in fields(_Said)})

    def trained_by(self, recipe: Recipe) -> Recipe:
        """A suite's recipe, with what this model departs in. Raises UsageError as `Recipe` does."""
        given = {name: value for name, value in asdict(self.recipe).items() if value is not None}
        return replace(recipe, **given) if given else recipe


@dataclass(frozen=True, kw_only=True)
class Design:
    """Architectures drawn from a space-filling design.

    Attributes:
        count: how many.
        seed: of the design itself.
        repeated: so many of them, far apart, are trained with `repeats` seeds (0, 1, ...); the others with seed 0.
        factors: the levels of each factor: of a field of `ModelEntry`.
        fixed: fields that all have in common.

    >>> import madyn
    >>> design = madyn.lab.Design(
    ...     count=3,
    ...     factors={"hidden_size": [32, 64], "num_hidden_layers": [2, 4]},
    ...     fixed={"num_attention_heads": 2},
    ... )
    >>> len(design.runs(madyn.lab.Recipe()))
    3
    """

    __pydantic_config__: ClassVar = _STRICT

    count: int
    factors: dict[str, list[Level]]
    fixed: dict[str, Level] = field(default_factory=dict)
    seed: int = 0
    repeated: int = 0
    repeats: int = 3

    def __post_init__(self) -> None:
        known = [f.name for f in fields(_Said)]
        for name in (*self.factors, *self.fixed):
            if name not in known:
                raise UsageError(f"{name} is no field of an architecture; they are {', '.join(known)}")
            if name in self.factors and name in self.fixed:
                raise UsageError(f"{name} is among the factors and among what is fixed; it can be one of them")
        fits = 1 <= self.count <= _MOST and 1 <= self.repeats <= _MOST and 0 <= self.repeated <= self.count
        if not fits or not self.factors or self.count + self.repeated * (self.repeats - 1) > _MOST:
            raise UsageError(
                "a design needs factors, a count and repeats of at least 1, and repeated from 0 to count; it gives at "
                f"most {_MOST} models"
            )
        _refuse_seeds([self.seed])
        for name, levels in [*self.factors.items(), *((name, [level]) for name, level in self.fixed.items())]:
            for level in levels:
                _check_level(name, level)

    def runs(self, recipe: Recipe) -> list[Run]:
        drawn = draw_design(self.factors, self.fixed, self.count, self.seed)
        again = set(spread_out(coordinates([_point(b) for b in drawn], self.factors), self.repeated))
        return [
            Run(f"{blueprint.name}_s{seed}", blueprint, seed, recipe)
            for i, blueprint in enumerate(drawn)
            for seed in range(self.repeats if i in again else 1)
        ]


@dataclass(frozen=True)
class Run:
    """One model to be trained: its directory in the dataset, what it is built from, the seed of its weights and
    batches, and how it is trained."""

    name: str
    blueprint: Blueprint
    seed: int
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class LabSuite:
    """A family of models to be trained alike and measured.

    Attributes:
        name: what the family is called.
        model: architectures that are given; `design`: those that are drawn.

    Raises:
        UsageError: there is nothing to train, or a step to measure at is not one of the run's.

    >>> import madyn
    >>> suite = madyn.lab.LabSuite(
    ...     name="two", model=[madyn.lab.ModelEntry(hidden_size=64, num_hidden_layers=2, num_attention_heads=2)]
    ... )
    >>> [run.name for run in suite.runs()], len(suite.measured_steps)
    (['neox_2x64_h2_m256_s0'], 35)
    """

    __pydantic_config__: ClassVar = _STRICT

    name: str
    recipe: Recipe = field(default_factory=Recipe)
    text: TrainingText = field(default_factory=TrainingText)
    measure: Measuring = field(default_factory=Measuring)
    model: list[ModelEntry] = field(default_factory=list)
    design: Design | None = None

    def __repr__(self) -> str:
        drawn = self.design
        count = sum(len(entry.seeds) for entry in self.model)
        count += drawn.count + drawn.repeated * (drawn.repeats - 1) if drawn else 0
        varied = f", drawn over {', '.join(drawn.factors)}" if drawn else ""
        return (
            f"<madyn LabSuite {self.name}: {count} models{varied}\n {self.recipe.steps} steps on {self.text.source}, "
            f"measured at {len(self.measured_steps)}\n recipe, text, measure, model, design, runs()>"
        )

    def __post_init__(self) -> None:
        if len(self.model) > _MOST:
            raise UsageError(f"{len(self.model)} architectures; a suite has at most {_MOST}")
        if not self.model and self.design is None:
            raise UsageError("the suite has no architectures: give [[model]] tables, or a [design]")
        outside = [step for step in self.measure.steps or [] if not 0 <= step <= self.recipe.steps]
        if outside:
            raise UsageError(
                f"a step to measure at is {quoted(outside[0])}, and the run goes from 0 to {self.recipe.steps}"
            )

    @property
    def measured_steps(self) -> list[int]:
        """The training steps that are measured, ascending; the last is always among them."""
        given = self.measure.steps
        if given is None:
            return checkpoint_steps(self.recipe.steps, self.measure.count)
        return sorted({*given, self.recipe.steps})

    def runs(self) -> list[Run]:
        """The models to be trained, in the file's order and then the design's.

        Raises:
            UsageError: one cannot be built, or two have one name.
        """
        runs = []
        for number, entry in enumerate(self.model):
            try:
                blueprint, recipe = entry.blueprint(), entry.trained_by(self.recipe)
            except UsageError as e:
                raise UsageError(f"model {number} of {self.name} (counted from 0): {e}") from e
            stem = entry.name or blueprint.name
            runs += [Run(f"{stem}_s{seed}", blueprint, seed, recipe) for seed in entry.seeds]
        if self.design is not None:
            runs += self.design.runs(self.recipe)
        names = [same_name(check_name(run.name)) for run in runs]
        counts = Counter(names)
        twice = next((run.name for run, name in zip(runs, names, strict=True) if counts[name] > 1), None)
        if twice:
            raise UsageError(f"two models of {self.name} are called {twice}: leave one out, or give it a name")
        return runs


def read_suite(path: str | Path) -> LabSuite:
    """Read a suite from a TOML file, or the one that made a shipped dataset, by its name.

    Raises:
        UsageError: the file cannot be read, or a key or value in it is not one of a suite's; it says which, and what
            may stand there.

    >>> import madyn
    >>> suite = madyn.lab.read_suite("tiny-suite")
    >>> suite.name, len(suite.runs()), suite.measured_steps[-1]
    ('tiny-suite', 162, 3000)
    """
    file = Path(path)
    shipped = None if exists(file) else shipped_suite(str(path))
    if shipped is None and not exists(file):
        raise UsageError(
            f"{path}: {describe_missing(path)}; suites that come with madyn are {', '.join(shipped_suites())}"
        )
    try:
        content = tomllib.loads(read_regular(file, _LARGEST).decode() if shipped is None else shipped)
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path}: not a TOML file: {one_line(e)}") from e
    return suite_from_dict(content, str(path))


def suite_from_dict(content: dict[str, Any], where: str = "suite") -> LabSuite:
    """A suite from what its file holds. Raises UsageError as `read_suite` does."""
    from pydantic import TypeAdapter, ValidationError

    try:
        # As JSON, because strict validation takes a table for a dataclass there, and nowhere a "3" for a 3.
        return TypeAdapter(LabSuite).validate_json(json.dumps(content, default=str))
    except RecursionError as e:
        raise UsageError(f"{where}: its tables are nested too deep") from e
    except ValidationError as e:
        # An unknown key first: the one that is missing may be the same, misspelt.
        first = min(e.errors(), key=lambda error: error["type"] not in _UNKNOWN_KEY)
        place = ".".join(str(part) for part in first["loc"] if part not in ("int", "float", "str"))
        raise UsageError(f"{where}: {place + ': ' if place else ''}{_explain(dict(first))}") from e


def design_correlation(runs: Sequence[Run]) -> float:
    """The largest correlation between the logarithms of the factors over the architectures."""
    points = [_point(blueprint) for blueprint in dict.fromkeys(run.blueprint for run in runs)]
    names = [name for name, one in FEATURES.items() if one.factor]
    return largest_correlation(coordinates(points, {name: sorted({p[name] for p in points}) for name in names}))


def _point(blueprint: Blueprint) -> dict[str, Any]:
    return {**asdict(blueprint), **{name: one.of(blueprint) for name, one in DERIVED.items()}}


def _check_level(name: str, level: Level) -> None:
    """Hold a level against the type of its field, which for words is the list of those that there are."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(get_type_hints(ModelEntry)[name]).validate_python(level, strict=True)
    except ValidationError as e:
        raise UsageError(f"a level of {name} is {quoted(level)}: {_explain(dict(e.errors()[0]))}") from e


def _explain(error: dict[str, Any]) -> str:
    """pydantic's message, in the words of a file."""
    place = error["loc"]
    if error["type"] in _UNKNOWN_KEY:
        return f"unknown key; known here: {', '.join(_known_keys(place[:-1]))}"
    if error["type"] in ("missing", "missing_argument"):
        return "is missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, found {quoted(error['input'])}"


def _known_keys(place: Sequence[Any]) -> list[str]:
    tables: dict[Any, type] = {
        "recipe": Recipe, "text": TrainingText, "measure": Measuring, "model": ModelEntry, "design": Design
    }  # fmt: skip
    if "recipe" in place[1:]:  # of a model
        return [f.name for f in fields(_Departure)]
    return [f.name for f in fields(tables[place[0]] if place else LabSuite)]
