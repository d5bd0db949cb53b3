"""`madyn design`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from madyn.architecture import SEARCHED
from madyn.cli.command import Command
from madyn.cli.options import JsonOption, OutTableOption
from madyn.cli.output import give
from madyn.cli.shapes import DESIGNED, RANGES, shape_fields
from madyn.errors import UsageError

_SIZES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}


_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,2})?)([kmb]?)", re.IGNORECASE)


def design(
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite", metavar="DATASET", help="The models to learn from: a folder, or a name; tiny-suite by default."
        ),
    ] = None,
    predictor: Annotated[
        Path | None, typer.Option("--predictor", help="JSON file of a fitted predictor, instead of a suite.")
    ] = None,
    params: Annotated[str | None, typer.Option("--params", help="Parameters: 200k..2M, ..2M, 64k.., or 1M.")] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            help='Sizes and ranges as JSON: {"num_hidden_layers": "2..8", "hidden_size": 96}; or use the options '
            "below. What is not given is what the suite has.",
        ),
    ] = None,
    *,
    sizes: Annotated[dict[str, str], RANGES],
    width_multiple: Annotated[
        int | None, typer.Option("--width-multiple", help="Hidden sizes are multiples of this.")
    ] = None,
    minimize: Annotated[
        str | None, typer.Option("--minimize", help="'max ratio', 'final ratio' or 'peak step', over all layers.")
    ] = None,
    maximize: Annotated[str | None, typer.Option("--maximize", help="One of the same, instead.")] = None,
    at: Annotated[int | None, typer.Option("--at", help="The step at which the max ratio counts.")] = None,
    max_loss: Annotated[
        str | None,
        typer.Option(
            "--max-loss",
            help="The predicted held-out loss is at most this; or with % at most so much above that of the usual "
            "wiring at the same shape, as 1%.",
        ),
    ] = None,
    wiring: Annotated[
        list[str] | None,
        typer.Option(
            "--wiring",
            metavar="FIELD=LEVEL",
            help="Only wirings with this, as attention=softmax1; may be given again. By default all that were trained.",
        ),
    ] = None,
    below: Annotated[
        float | None,
        typer.Option("--below", help="The max ratio is below this: the upper end of its 90 % interval, that is."),
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Answer for shapes and steps that lie outside the suite.")
    ] = False,
    out: OutTableOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Designs shown, spread over those found.")] = 12,
    as_json: JsonOption = False,
) -> None:
    """Search architectures for wanted dynamics. [dim]madyn design --params 200k..2M --minimize "max ratio"[/dim]

    --json prints {"objective", "against", "searched", "designs", "notes"}: all designs, records of the columns that
    `Designs.table` has; see docs/json.md.
    """
    from madyn.prediction import Predictor
    from madyn.prediction.candidates import Limits
    from madyn.prediction.design_search import design
    from madyn.summaries import print_designs

    said = shape_fields(architecture, sizes, DESIGNED)
    ranges = {
        SEARCHED[name].keyword: parse_range(_as_text(name, value), SEARCHED[name].option)
        for name, value in said.items()
    }
    loss, more = parse_loss(max_loss)
    limits = Limits(
        parameters=parse_range(params, "--params"),
        width_multiple=width_multiple,
        max_loss=loss,
        max_loss_more=more,
        below=below,
        wiring=parse_levels(wiring or []),
        **ranges,
    )
    if suite is not None and predictor is not None:
        raise UsageError("give --suite or --predictor, not both")
    fitted = Predictor.load(predictor) if predictor is not None else Predictor().fit(suite or "tiny-suite")
    designs = design(fitted, limits, minimize=minimize, maximize=maximize, at=at, extrapolate=extrapolate)

    def value() -> dict[str, Any]:
        found = {"searched": designs.searched, "designs": designs.table.to_dict("records"), "notes": designs.notes}
        return {"objective": designs.objective, "against": designs.against, **found}

    give(out, designs.to_dataframe, lambda: print_designs(designs, limit), as_json, value)


COMMAND = Command(design, panel="Predict")


def _as_text(field: str, value: Any) -> str:
    """A size or a range in JSON, as the option of that name takes it: 96, "64..128" or [64, 128]."""
    if isinstance(value, list) and len(value) == 2:
        return "..".join("" if end is None else str(end) for end in value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(f'--architecture: {field} is {value!r:.60}; it is a number, or a range such as "2..8"')
    return str(value)


def parse_loss(text: str | None) -> tuple[float | None, float | None]:
    """A loss, or the share by which it may be above the usual wiring's; None for the other, and twice for no text.

    Raises:
        UsageError: it is neither.

    >>> parse_loss("3.2"), parse_loss("1.5%")
    ((3.2, None), (None, 0.015))
    """
    if text is None:
        return None, None
    share = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (value == 0 and not share):
        raise UsageError(
            f"--max-loss {text!r}: expected a loss in nats a token, as 3.2, or how much more than the usual wiring's "
            "it may be, as 1%"
        )
    return (None, value / 100) if share else (value, None)


def parse_levels(texts: Iterable[str]) -> dict[str, str]:
    """Levels of a wiring by field.

    Raises:
        UsageError: a text is no field=level, or a field is given two levels.

    >>> parse_levels(["attention=softmax1", "output_gate=none"])
    {'attention': 'softmax1', 'output_gate': 'none'}
    """
    levels: dict[str, str] = {}
    for text in texts:
        name, equals, level = (part.strip() for part in text.partition("="))
        if not (name and equals and level):
            raise UsageError(f"--wiring {text!r}: expected a field and its level, as attention=softmax1")
        if levels.setdefault(name, level) != level:
            raise UsageError(f"--wiring: {name} cannot be both {levels[name]} and {level}")
    return levels


def parse_range(text: str | None, option: str) -> tuple[float | None, float | None]:
    """From and to, both included; None for an open end, and twice for no text.

    Numbers may end in k, M or B, in either case.

    Raises:
        UsageError: it is no range, or ends before it begins.

    >>> parse_range("200k..2M", "--params")
    (200000.0, 2000000.0)
    >>> parse_range("..8", "--layers"), parse_range("64", "--width")
    ((None, 8.0), (64.0, 64.0))
    """
    if text is None:
        return None, None
    first, dots, last = text.strip().partition("..")
    low, high = _number(first), _number(last if dots else first)
    malformed = any(part.strip() and _number(part) is None for part in (first, last))
    if malformed or (low is None and high is None):
        raise UsageError(f"{option} {text!r}: expected a range such as 200k..2M, 2..8, ..64, 64.., or one number")
    if low is not None and high is not None and low > high:
        raise UsageError(f"{option} {text!r}: a range begins with the smaller number")
    return low, high


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text.strip())
    # More digits than any size has would only overflow further on.
    return float(match[1]) * _SIZES[match[2].lower()] if match and len(match[1]) < 16 else None
