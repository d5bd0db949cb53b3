"""Which features of which tokens are massive: from a model, or from what a dataset keeps of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import Dataset, open_dataset
from madyn.dataset.locations import read_locations
from madyn.errors import DatasetError, UsageError, needs_extra, quoted
from madyn.massive import FALSE_ALARMS, PUBLISHED_RATIO, PUBLISHED_VALUE, judge_tails

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

COLUMNS = ("layer", "position", "token", "feature", "value", "median", "ratio", "share", "sign", "spread")


@dataclass(frozen=True)
class Rule:
    """Above what a value is massive: the published rule, a ratio to the median, or beyond its layer's own tail."""

    kind: str
    ratio: float = float(PUBLISHED_RATIO)

    @classmethod
    def read(cls, given: Any) -> Rule:
        """ "1000x", "ratio>300" or "robust". Raises UsageError where it is none of them.

        >>> Rule.read("ratio>300")
        Rule(kind='ratio', ratio=300.0)
        """
        if isinstance(given, str) and given in ("1000x", "robust"):
            return cls("published" if given == "1000x" else "robust")
        found = re.fullmatch(r"ratio\s*>\s*(\d{1,12}(?:\.\d{1,6})?)", given) if isinstance(given, str) else None
        if found is None:
            raise UsageError(f'rule is {quoted(given)}; it is "1000x", "robust", or a ratio to the median: "ratio>300"')
        return cls("ratio", float(found[1]))

    def __str__(self) -> str:
        if self.kind == "published":
            return f"|h| above {PUBLISHED_VALUE} and at least {PUBLISHED_RATIO} times the median"
        if self.kind == "robust":
            return f"|h| beyond its layer's own tail, at most {FALSE_ALARMS:.0%} false alarms"
        return f"|h| more than {self.ratio:g} times the median"

    def threshold(self, measured: Any) -> np.ndarray:
        """The value above which |h| is massive, shape (B, L). `measured` is a Measurement with its tails."""
        median = measured.statistics[:, -1, :].astype(float)
        if self.kind == "robust":
            tails = measured.tails
            return judge_tails(measured.statistics[:, 0, :], tails.values, tails.count, tails.features).threshold
        return self.of_median(median)

    def of_median(self, median: np.ndarray) -> np.ndarray:
        if self.kind == "published":
            return np.maximum(PUBLISHED_VALUE, np.nextafter(PUBLISHED_RATIO * median, 0))
        return self.ratio * median


@needs_extra
def massive_dimensions(
    model: nn.Module | Dataset | str | Path,
    input_ids: Any = None,
    rule: str = "1000x",
    *,
    tokenizer: Any = None,
    layers: str | None = None,
    name: str | None = None,
    step: int | None = None,
) -> pd.DataFrame:
    """The residual features that carry massive values, and where.

    Whoever edits, prunes or ablates a model leaves these features alone, or knows what happens.

    Args:
        model: a transformers model, as `madyn.measure` takes it; or a traced dataset (opened, its path or name), of
            which the three largest values of each sequence and layer are known.
        input_ids: token ids (B, S) for a model; a dataset has its own.
        rule: "1000x", |h| above 100 and at least 1000 times the median of its sequence (Sun et al. 2024, arXiv
            2402.17762); "ratio>300", more than so many times the median; "robust", beyond the layer's own tail
            (`madyn.massive`), with at most one false alarm in a hundred calls.
        tokenizer: shows tokens as text; their ids are shown without one.
        layers: the path of the list of layers in the model; found if not given.
        name: of a dataset: which of its models; its only one if not given.
        step: of a dataset: at which step; its last if not given.

    Returns:
        a row for each layer, position and feature that is massive in at least one sequence, by layer, then from the
        largest value down: `token`, the most frequent there; `value`, the mean of h where it is massive, and of |h|
        from a dataset, which keeps no signs; `median`, of |h|, and `ratio`, both means over the same sequences;
        `share` of all sequences in which it is massive; `sign` (1, -1, or 0 where it differs; missing from a dataset);
        `spread`, the largest of |h| less the smallest over those sequences, as a share of their mean.
        `attrs` has `rule` in words, `sequences`, and `largest_ratio` of all, massive or not.

    Raises:
        UsageError: the rule or the input means nothing; "robust" is asked of a dataset, which keeps no tails.
        DatasetError: there is no such model or step in a dataset, or it has no locations.
        ArchitectureError, NonFiniteError: as `madyn.measure` raises them.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> madyn.massive_dimensions(model, ids, rule="ratio>3").attrs["sequences"]
    2
    """
    asked = Rule.read(rule)
    if isinstance(model, (Dataset, str, Path)):
        return _of_dataset(open_dataset(model), asked, name, step, tokenizer)
    if input_ids is None:
        raise UsageError("no input_ids; massive values of a model are looked for in sequences, token ids (B, S)")
    return _of_model(model, input_ids, asked, tokenizer, layers)


def _of_model(model: nn.Module, input_ids: Any, rule: Rule, tokenizer: Any, layers: str | None) -> pd.DataFrame:
    from madyn.measurement.forward import measure_with_locations, stacks_of
    from madyn.measurement.inputs import read_inputs

    measured = measure_with_locations(model, input_ids, 1, layers=layers, tails=True)
    threshold = rule.threshold(measured)
    given = read_inputs(input_ids)
    if given.values.ndim != 2:
        raise UsageError("massive dimensions are looked for in sequences of tokens, and these are images")
    if (given.stops - given.starts != given.values.shape[1]).any():
        raise UsageError("sequences with padding; give sequences of one length, or one at a time")
    ids = given.values.numpy()
    found: list[dict[str, Any]] = []
    first = 0
    for stack in stacks_of(model, ids, layers):
        found += _above(model, stack, ids, threshold, measured.statistics[:, -1, :], first)
        first += len(stack.modules)
    ratio = (measured.statistics[:, 0, :] / measured.statistics[:, -1, :]).max()
    return _table(found, len(ids), rule, tokenizer, float(ratio))


def _above(
    model: Any, stack: Any, ids: np.ndarray, threshold: np.ndarray, median: np.ndarray, first: int
) -> list[dict[str, Any]]:
    """Every value of a stack's layers that is above its threshold, an entry each."""
    from contextlib import ExitStack

    import torch

    from madyn.intervention.editing import hidden_of
    from madyn.measurement.forward import arguments_for, evaluating, part_to_run
    from madyn.measurement.wrapping import device_of, unwrap

    part = part_to_run(unwrap(model))
    found: list[dict[str, Any]] = []
    at = {"sequence": 0, "layer": first}

    def look(module: Any, inputs: Any, output: Any) -> None:
        hidden, sequence, layer = hidden_of(stack, output, module)[0], at["sequence"], at["layer"]
        places = (hidden.abs() > float(threshold[sequence, layer])).nonzero()
        for (position, feature), value in zip(
            places.tolist(), hidden[places[:, 0], places[:, 1]].tolist(), strict=True
        ):
            found.append(
                {"sequence": sequence, "layer": layer, "position": position, "feature": feature, "value": value,
                 "median": float(median[sequence, layer]), "token": int(ids[sequence, position])}
            )  # fmt: skip
        at["layer"] += 1

    with ExitStack() as hooks, evaluating(part), torch.no_grad():
        for module in dict.fromkeys(stack.modules):
            hooks.callback(module.register_forward_hook(look).remove)
        for sequence, row in enumerate(torch.as_tensor(ids).to(device_of(part))):
            at.update(sequence=sequence, layer=first)
            part(**arguments_for(part, row[None]))
    return found


def _of_dataset(dataset: Dataset, rule: Rule, name: str | None, step: int | None, tokenizer: Any) -> pd.DataFrame:
    if rule.kind == "robust":
        raise UsageError('a dataset keeps no tails, which the rule "robust" is told by; take "1000x" or "ratio>300"')
    models = list(dataset)
    if name is None and len(models) != 1:
        raise UsageError(f"{dataset.path} has {len(models)} models; say which with `name`")
    model = models[0] if name is None else name
    located, statistics = read_locations(dataset, model), dataset.statistics(model)
    steps = located["step"].values.tolist()
    at = steps[-1] if step is None else step
    if at not in steps:
        raise DatasetError(
            f"{dataset.path}: no locations of {model} at step {at}; its steps: {steps[0]} to {steps[-1]}"
        )
    values = statistics.sel(step=at)
    places = located.sel(step=at).transpose("rank", "sequence", "layer")
    median = values.sel(quantity="median").transpose("sequence", "layer").values.astype(float)
    threshold = rule.of_median(median)
    found = []
    for rank in range(places.sizes["rank"]):
        top = values.sel(quantity=f"top{rank + 1}").transpose("sequence", "layer").values
        for sequence, layer in np.argwhere(top > threshold).tolist():
            place = {key: int(places[key].values[rank, sequence, layer]) for key in ("position", "feature")}
            token = int(places["token_id"].values[rank, sequence, layer]) if "token_id" in places else None
            found.append(
                {"sequence": sequence, "layer": layer, **place, "value": float(top[sequence, layer]),
                 "median": float(median[sequence, layer]), "token": token}
            )  # fmt: skip
    ratio = (values.sel(quantity="top1").transpose("sequence", "layer").values / median).max()
    table = _table(found, values.sizes["sequence"], rule, tokenizer, float(ratio))
    table["sign"] = np.nan  # a dataset keeps |h|
    table.attrs["model"], table.attrs["step"] = model, at
    return table


def _table(
    found: list[dict[str, Any]], sequences: int, rule: Rule, tokenizer: Any, largest_ratio: float
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    entries: Any = pd.DataFrame(found, columns=["sequence", "layer", "position", "feature", "value", "median", "token"])
    for (layer, position, feature), group in entries.groupby(["layer", "position", "feature"]):
        size = group["value"].abs()
        signs = set(np.sign(group["value"]))
        rows.append(
            {
                "layer": layer,
                "position": position,
                "token": _shown(group["token"].mode().iloc[0] if group["token"].notna().any() else None, tokenizer),
                "feature": feature,
                "value": group["value"].mean(),
                "median": group["median"].mean(),
                "ratio": (size / group["median"]).mean(),
                "share": group["sequence"].nunique() / sequences,
                "sign": signs.pop() if len(signs) == 1 else 0,
                "spread": (size.max() - size.min()) / size.mean(),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = table.assign(size=table["value"].abs()).sort_values(["layer", "size"], ascending=[True, False]).index
    table = table.loc[order].reset_index(drop=True)
    table.attrs.update(rule=str(rule), sequences=sequences, largest_ratio=largest_ratio)
    return table


def _shown(token: Any, tokenizer: Any) -> str:
    if token is None or tokenizer is None:
        return "" if token is None else f"id {int(token)}"
    return tokenizer.decode([int(token)])


def features_of(dimensions: pd.DataFrame) -> pd.DataFrame:
    """The features that carry massive values, a row each, from what `massive_dimensions` gave.

    Returns:
        by `feature`, from the largest value down: the `first` and `last` layer in which it is massive and in how many
        (`layers`); its most frequent `position` and `token` and at how many `positions` it stands; the `largest` |h|
        and `ratio` of any row; and the largest `share` of the sequences.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> found = madyn.massive_dimensions(model, ids, rule="ratio>3")
    >>> list(madyn.intervention.features_of(found).columns)[:2]
    ['feature', 'first']
    """
    import pandas as pd

    rows = []
    groups: Any = dimensions.groupby("feature")
    for feature, group in groups:
        places: Mapping[Any, int] = group.groupby("position")["share"].sum().to_dict()
        position = max(places, key=lambda place: (places[place], -place))
        rows.append(
            {
                "feature": feature,
                "first": group["layer"].min(),
                "last": group["layer"].max(),
                "layers": group["layer"].nunique(),
                "position": position,
                "token": _most(group.loc[group["position"] == position, "token"]),
                "positions": group["position"].nunique(),
                "largest": group["value"].abs().max(),
                "ratio": group["ratio"].max(),
                "share": group["share"].max(),
            }
        )
    names = ["feature", "first", "last", "layers", "position", "token", "positions", "largest", "ratio", "share"]
    table = pd.DataFrame(rows, columns=names)
    table = table.sort_values("largest", ascending=False).reset_index(drop=True)
    table.attrs.update(dimensions.attrs)
    return table


def _most(tokens: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    return max(counts, key=lambda token: counts[token])
