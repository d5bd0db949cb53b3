"""What `madyn scan` says: a table with a row a layer, what its columns are, and what is worth knowing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from madyn.massive import FALSE_ALARMS, PUBLISHED_RATIO, PUBLISHED_VALUE
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    import pandas as pd

# The rules by the column of the table that has their count, and what the printed table calls them.
_RULES = {"published": "massive", "tail": "stands out"}


def print_scan(table: pd.DataFrame, title: str) -> None:
    """The table of `scan_checkpoint`."""
    several = len(set(table["stack"])) > 1
    texts = str(table.attrs["kind"]) == "sequence"
    rows = [
        [
            layer,
            *([f"{row['stack']} {row['layer_in_stack']}"] if several else []),
            *(row[name] for name in ("top1", "median", "ratio", "largest", "own_ratio", "position")),
            *([repr(row["token"])] if texts else []),
            row["feature"],
            *(_share(row[rule], table) for rule in _RULES),
        ]
        for layer, row in _rows(table)
    ]
    means = ["mean top1", "mean median", "mean ratio"]
    place = ["position", *(["token"] if texts else []), "feature"]
    columns = ["layer", *(["stack"] if several else []), *means, "largest", "its ratio", *place, *_RULES.values()]
    print_table(title, columns, rows, left=["token", "stack"])
    sequences = _sequences(table)
    console.print(
        f"means over {sequences}; largest: of all of them, with its ratio to the median of its own sequence and its "
        "place, counted from 0"
    )
    _say_rules(table, sequences)
    for remark in table.attrs.get("remarks", ()):
        console.print(remark)


def print_scans_by_bos(without: pd.DataFrame, after: pd.DataFrame, title: str) -> None:
    """Two scans of one checkpoint side by side: sequences as the text comes, and each after a BOS token."""
    shown = ["largest", "own_ratio", "position"]
    pairs = zip(_rows(without), _rows(after), strict=True)
    rows = [
        [layer, *(cell for row in (one, two) for cell in _side(row, shown, without))]
        for (layer, one), (_, two) in pairs
    ]
    named = ["largest", "its ratio", "position", *_RULES.values()]
    columns = ["layer", *named, *(f"{name} +BOS" for name in named)]
    print_table(title, columns, rows)
    sequences = _sequences(without)
    console.print(
        f"largest: of {sequences}, with its ratio to the median of its own sequence and its position, counted from 0; "
        "+BOS: the same text, each sequence after the tokenizer's BOS token"
    )
    for name, table in (("without BOS", without), ("after BOS", after)):
        found = {said: _layers_with(table, rule) for rule, said in _RULES.items()}
        console.print(f"{name}: " + "; ".join(f"{said} {where}" for said, where in found.items()))
    console.print(_explained(sequences))
    remarks = [*without.attrs.get("remarks", ()), *(f"after BOS: {r}" for r in after.attrs.get("remarks", ()))]
    for remark in remarks:
        if "--bos both" not in remark:  # this is it
            console.print(remark)


def scan_records(tables: Sequence[tuple[bool, pd.DataFrame]], model: str, revision: str | None) -> dict[str, Any]:
    """Scans as JSON, each with whether its sequences begin with a BOS token; docs/json.md says what the keys are."""
    return {
        "model": model,
        "revision": revision,
        "false_alarms": FALSE_ALARMS,
        "scans": [
            {
                "bos": bos,
                **{key: table.attrs[key] for key in ("inputs", "sequences", "length", "remarks")},
                "layers": [{"layer": layer, **row} for layer, row in _rows(table)],
            }
            for bos, table in tables
        ],
    }


def _rows(table: pd.DataFrame) -> list[tuple[int, dict[str, Any]]]:
    return [(int(layer), row) for layer, row in zip(table.index, table.to_dict("records"), strict=True)]


def _side(row: dict[str, Any], shown: Sequence[str], table: pd.DataFrame) -> list[Any]:
    return [*(row[name] for name in shown), *(_share(row[rule], table) for rule in _RULES)]


def _share(count: int, table: pd.DataFrame) -> str:
    return f"{count} of {table.attrs['sequences']}" if count else ""


def _sequences(table: pd.DataFrame) -> str:
    count = table.attrs["sequences"]
    return f"{count} {table.attrs['kind']}{'s' if count != 1 else ''}"


def _say_rules(table: pd.DataFrame, sequences: str) -> None:
    for rule, explained in zip(_RULES, _explained(sequences).split("\n"), strict=True):
        console.print(f"{explained}: {_layers_with(table, rule)}")


def _explained(sequences: str) -> str:
    return (
        f"massive: in how many of {sequences} |h| is above {PUBLISHED_VALUE} and at least {PUBLISHED_RATIO} times the "
        "median (Sun et al. 2024)\n"
        "stands out: in how many the largest value lies beyond what the tail of its own layer explains, with at most "
        f"{round(FALSE_ALARMS * 100)} false alarm in 100 scans"
    )


def _layers_with(table: pd.DataFrame, rule: str) -> str:
    found = [int(layer) for layer, count in zip(table.index, table[rule], strict=True) if count]
    if not found:
        return "in no layer"
    return f"in layer{'s' if len(found) > 1 else ''} {_ranges(found)}"


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] as 1-3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(str(end) for end in run) for run in runs)


def print_features(table: pd.DataFrame, title: str) -> None:
    """The features that carry massive values, as `madyn.intervention.features_of` gives them."""
    about = table.attrs
    if table.empty:
        console.print(title, style="bold")
        console.print(
            f"no feature is massive ({about['rule']}); the largest value is {about['largest_ratio']:,.4g} times the "
            "median of its layer"
        )
        return
    rows: list[list[Any]] = [
        [
            row["feature"], f"{row['first']} to {row['last']} ({row['layers']})", row["position"], repr(row["token"]),
            row["positions"], row["largest"], row["ratio"], f"{row['share']:.0%}",
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    columns = ["feature", "layers", "position", "token", "positions", "largest |h|", "ratio", "sequences"]
    print_table(title, columns, rows, left=["layers", "token"], most=25)
    console.print(
        f"massive: {about['rule']}, in any of {about['sequences']} sequences. layers: the first and the last in which "
        "the feature is massive, and in how many; position and token: where it is most often, of so many positions; "
        "sequences: the share in which it is massive there. Whoever edits or prunes the model leaves these features "
        "alone, or tries `madyn intervene` first."
    )
