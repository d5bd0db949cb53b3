"""The dataset card: what the Hub shows of a published dataset, and what its loaders read (README.md).

A card says what can be looked up in the dataset, and nothing else; the same dataset gives the same card. Its last line
is a seal, by which a later publication knows a card that nobody has edited, and may write anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from madyn import __version__
from madyn.dataset.fit_files import PARAMETER_COLUMNS
from madyn.dataset.layout import PARAMETER_TABLE
from madyn.dataset.tidy import STATISTICS
from madyn.errors import UsageError, one_line, quoted
from madyn.publish.contents import TABLES
from madyn.publish.facts import Facts
from madyn.publish.markup import code, front_matter, plain, table

NAME = "README.md"

_CONFIGURATIONS = ("parameters", "statistics", "fits", "models", "losses")
_MOST = 20  # rows of a table in a card; all are in the configuration `models`
_SEAL = re.compile(r"<!-- a card of madyn's own: ([0-9a-f]{64}) -->\s*$")
_LICENSE = re.compile(r"[a-z0-9]+(?:[.+-][a-z0-9]+)*")
_SHOWN = ("analysis/final_ratio.png", "analysis/r2_by_layer.png", "series/ratio.png")

CITATION = """@article{gallegofeliciano2025hidden,
  title   = {Hidden Dynamics of Massive Activations in Transformer Training},
  author  = {Gallego-Feliciano and McClendon and Morinelli and Zervoudakis and Saravanos},
  journal = {arXiv preprint arXiv:2508.03616},
  year    = {2025}
}"""


def check_license(name: str) -> str:
    """A licence as the Hub names it (mit, cc-by-4.0, other). Raises UsageError where it has no such form."""
    if not isinstance(name, str) or not _LICENSE.fullmatch(name) or len(name) > 60:
        raise UsageError(
            f"license is {quoted(name)}; it is the Hub's short name of one, in small letters: mit, apache-2.0, "
            "cc-by-4.0, other"
        )
    return name


def is_own(text: str) -> bool:
    """Whether a card was written here and nobody has edited it."""
    text = text.replace("\r\n", "\n")
    match = _SEAL.search(text)
    return match is not None and match[1] == _sealed(text[: match.start()])


def _sealed(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def make_card(repo: str, facts: Facts, license: str, title: str | None = None) -> str:
    """The card of a dataset that is to be at OWNER/NAME."""
    name = one_line(title, 150) if title and title.strip() else f"{repo.partition('/')[2]}: massive activations"
    body = front_matter(_front(facts, license, name)) + "\n" + "\n\n".join(_sections(repo, facts, license, name))
    return f"{body}\n\n<!-- a card of madyn's own: {_sealed(body)} -->\n"


def _front(facts: Facts, license: str, title: str) -> dict[str, Any]:
    present = [name for name in _CONFIGURATIONS if facts.rows.get(name)]
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{TABLES}/{name}.parquet"}]}
        for name in present
    ]
    configs[0]["default"] = True
    return {
        "license": license,
        "pretty_name": title,
        "tags": ["massive-activations", "training-dynamics", "interpretability", "transformers", "tabular", "madyn"],
        "size_categories": [size_category(facts.rows["statistics"])],
        "configs": configs,
    }


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows.

    >>> size_category(0), size_category(1000), size_category(2_895_200)
    ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    steps = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    reached = sum(rows >= 1000 * 10**power for power in range(len(steps)))
    if reached == 0:
        return "n<1K"
    return f"{steps[reached - 1]}<n<{steps[reached]}" if reached < len(steps) else "n>1B"


def _sections(repo: str, facts: Facts, license: str, title: str) -> Iterator[str]:
    yield f"# {plain(title)}"
    yield _opening(facts)
    yield from _models(facts)
    yield from _figures(facts)
    yield "## Load it"
    yield _loading(repo, facts)
    yield "## Structure"
    yield _structure(facts)
    yield "### Columns of `statistics`"
    yield table(["column", "what it holds"], [[code(name), plain(one.about)] for name, one in STATISTICS.items()])
    yield from _curve(facts)
    yield "## Where it comes from"
    yield from _provenance(facts)
    yield "## Citation"
    yield "The study of Pythia whose published dataset this one is laid out as:"
    yield f"```bibtex\n{CITATION}\n```"
    yield "## Licence"
    yield f"{code(license)}{', whose text is in `LICENSE`' if 'LICENSE' in facts.beside else ''}."


def _opening(facts: Facts) -> str:
    return (
        "Massive activations are values in a transformer's hidden states that are hundreds or thousands of times the "
        "median. This dataset has, for every layer of "
        f"{_count(len(facts.models), 'model')} at up to {max(one['steps'] for one in facts.models):,} steps of "
        "training, the three largest \\|h\\| and the median \\|h\\| of the layer's own output in each sequence of a "
        f"text: {_count(facts.rows['statistics'], 'row')}. This card was written with madyn {plain(__version__)}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _models(facts: Facts) -> Iterator[str]:
    yield "## Models"
    sizes = ("parameters", "layers", "hidden_size", "sequences", "steps")
    rows = [
        [code(one["model"]), *(_number(one[name]) for name in sizes),
         f"{one['first_step']} to {one['last_step']}" if one["steps"] else "none", _number(one["largest_ratio"]),
         _number(one["in_layer"])]
        for one in facts.models[:_MOST]
    ]  # fmt: skip
    head = ["model", "parameters", "layers", "hidden size", "sequences", "steps", "from, to", "last ratio", "in layer"]
    yield table(head, rows)
    more = len(facts.models) - _MOST
    yield (
        (f"and {more:,} more, in the configuration `models`. " if more > 0 else "")
        + "Last ratio: top1 / median at the last step, a mean over sequences, of the layer where that is largest. "
        "Steps, layers and sequences count from 0."
    )


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"


def _figures(facts: Facts) -> Iterator[str]:
    """Up to three pictures of those that were drawn."""
    shown = [next((path for path in facts.pictures if path.endswith(wanted)), None) for wanted in _SHOWN]
    found = [path for path in shown if path is not None]
    if found:
        yield "## Figures"
        yield "\n\n".join(f"![{plain(path)}]({quote(path)})" for path in found)
        yield f"{_count(len(facts.pictures), 'picture')} in all, by the layout below."


def _loading(repo: str, facts: Facts) -> str:
    parameters = f'parameters = load_dataset("{repo}")["train"]  # a row a model and layer\n'
    first = parameters if facts.rows.get("parameters") else ""
    return f"""Without madyn:

```python
from datasets import load_dataset

{first}statistics = load_dataset("{repo}", "statistics")["train"]  # a row a model, step, sequence, layer
```

```python
import pandas as pd

statistics = pd.read_parquet("hf://datasets/{repo}/{TABLES}/statistics.parquet")
```

```r
url <- "https://huggingface.co/datasets/{repo}/resolve/main/{TABLES}/statistics.parquet"
download.file(url, "statistics.parquet", mode = "wb")
statistics <- arrow::read_parquet("statistics.parquet")
```

With madyn, as labelled arrays, with fits, figures and forecasts:

```python
import madyn

data = madyn.open_dataset("{repo}")
ratio = data.trajectories(data.models[0], "ratio")  # xarray, dims (step, layer)
```"""


def _structure(facts: Facts) -> str:
    rows = [
        [f"`{TABLES}/{name}.parquet`", f"{about}; {_count(facts.rows[name], 'row')}"]
        for name, about in (
            ("statistics", "a row a model, step, sequence and layer"),
            ("parameters", f"the parameter table, as in `{PARAMETER_TABLE}`: a row a model and layer"),
            ("fits", "a row a parameter of each fit: model, quantity, layer, curve, parameter, value, standard error"),
            ("models", "a row a model: architecture, what was measured, source"),
            ("losses", "a row a model and step: training and held-out loss, nats a token"),
        )
        if facts.rows.get(name)
    ]
    layout = {
        "{model}/stats/exp2_{model}_step{N}": "the statistics of a step: a nested list, sequences x (top1, top2, top3, "
        "median) x layers, JSON",
        "{model}/params/": "fits by layer and curve: parameters, covariances, R², AIC, residuals",
        "{model}/series/, per_layer_evolution/, example_fits/, metrics/": "pictures",
        "manifest/": "what each step was measured with, or why it could not be",
        "locations/, positions/": "where the largest values stand: position, token, feature",
        "training/": "how the lab's models were trained, and their losses",
        "intervention/": "what models do without their massive activations",
    }  # fmt: skip
    told = [[code(path), plain(about, 300)] for path, about in layout.items() if _there(path, facts)]
    return table(["file", "what it holds"], [*rows, *told])


def _there(path: str, facts: Facts) -> bool:
    folders = [part.strip().strip("/").split("/")[-1] if "stats" not in part else "stats" for part in path.split(",")]
    return any(folder in facts.folders for folder in folders)


def _curve(facts: Facts) -> Iterator[str]:
    if not facts.hypotheses and "parameters" not in facts.rows:
        return
    yield "### Curves"
    fitted = ", ".join(code(name) for name in facts.hypotheses or ["reparam"])
    names = ", ".join(f"{code(column)} = {plain(symbol)}" for column, symbol in PARAMETER_COLUMNS.items())
    yield (
        f"Fitted to every layer over the steps: {fitted}. `reparam` is "
        "`f(x) = exp(-beta x) (A1 log(x + tau0) + A2) + K`; in the parameter table, of the ratio, "
        f"{names}, with x the training step."
    )


def _provenance(facts: Facts) -> Iterator[str]:
    probe = facts.probe
    if probe is not None:
        drawn = f" ({probe.documents:,} documents, seed {probe.seed})" if probe.documents else ""
        yield f"Measured on the text {code(probe.text)}{drawn}, SHA-256 {code(probe.sha256[:64])}."
    else:
        yield "The dataset does not say which text it was measured on."
    told = {model: units for model, units in facts.units.items() if units}
    if told:
        alike: dict[tuple[str, ...], list[str]] = {}
        for model, units in told.items():
            alike.setdefault(_origin(list(units.values())), []).append(model)
        rows = [[_few(models), *origin] for origin, models in list(alike.items())[:_MOST]]
        yield table(["models", "source", "revisions", "dtype", "device"], rows)
        if len(alike) > _MOST:
            yield "All are in `manifest/`."
        versions: dict[str, dict[str, None]] = {}
        for units in told.values():
            for unit in units.values():
                for name, version in unit.versions.items():
                    versions.setdefault(name, {})[version] = None
        if versions:
            yield f"Versions: {', '.join(_version(name, list(found)) for name, found in versions.items())}."
    else:
        yield "There is no manifest: what each model was measured with is not recorded."
    seeds = sorted({one["seed"] for one in facts.models if one["seed"] is not None})
    if seeds:
        more = ", ..." if len(seeds) > _MOST else ""
        yield f"Seeds of the models that the lab trained: {', '.join(map(str, seeds[:_MOST]))}{more}."
    if facts.failures:
        yield f"What is missing ({_count(len(facts.failures), 'unit')}):"
        more = len(facts.failures) - _MOST
        lines = [f"- {plain(one, 300)}" for one in facts.failures[:_MOST]]
        yield "\n".join([*lines, *([f"- and {more:,} more, in `manifest/`"] if more > 0 else [])])


def _version(name: str, found: list[str]) -> str:
    return f"{plain(name)} {plain(' / '.join(found))}"


def _few(models: list[str]) -> str:
    more = f" and {len(models) - 3:,} more" if len(models) > 3 else ""
    return f"{', '.join(map(code, models[:3]))}{more}"


def _origin(units: list[Any]) -> tuple[str, ...]:
    """Where a model came from, in the cells of a table."""
    sound = [unit for unit in units if unit.failure is None] or units
    sources = dict.fromkeys(unit.source for unit in sound)
    revisions = [unit.revision for unit in sound if unit.revision]
    ends = f"{code(revisions[0])} to {code(revisions[-1])}" if len(revisions) > 1 else "".join(map(code, revisions))

    def all_of(name: str) -> str:
        return ", ".join(code(value) for value in dict.fromkeys(getattr(unit, name) for unit in sound) if value)

    named = ", ".join(code(source) for source in list(sources)[:3])
    return named, ends, all_of("dtype"), all_of("device")
