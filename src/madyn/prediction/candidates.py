"""The shapes that a search looks at: all on a grid within limits that could be built.

The grid has the whole numbers of layers, the widths that are multiples of what the family's are, the heads that divide
them, the MLP ratios of the family and the whole numbers among them, and of every other size what the family has of it;
where that is too many, fewer are taken,
evenly, and a note says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from madyn.architecture import FIELDS, SEARCHED, Architecture
from madyn.errors import UsageError
from madyn.features import Feature
from madyn.prediction.inputs import divisors
from madyn.prediction.predictor import Predictor

Range = tuple[float | None, float | None]
"""From and to, both included; None where that end is open."""

_OPEN: Range = (None, None)

_LAYERS_AT_MOST = 50_000  # in all shapes together: five seconds on one core for the shipped suite
_LEVELS_AT_MOST = 40  # of one size

AXES: Mapping[str, Feature] = {one.words: one for one in SEARCHED.values()}
"""What is searched over, by its words. A range that is not given is that of the models that were learned from."""

_ON_THE_GRID = ("num_hidden_layers", "hidden_size", "num_attention_heads", "head_size", "mlp_ratio")
"""The axes whose values hang together; each other one is searched at the values that the models have."""

VARIED = (
    *(one.name for one in SEARCHED.values() if one.formula is None),
    *(one.gives for one in SEARCHED.values() if one.gives),
)
"""The fields of an architecture that a search varies."""


_Sizes: Any = make_dataclass(
    "_Sizes", [(one.keyword, Range, _OPEN) for one in AXES.values()], frozen=True, kw_only=True
)


@dataclass(frozen=True, kw_only=True)
class Limits(_Sizes):
    """What a design may be.

    Attributes:
        layers, hidden_size, heads, head_size, mlp_ratio: and every other size that is searched over, by its words with
            _ for a space; an open end is that of the models that were learned from.
        parameters: their number; open by default.
        width_multiple: hidden sizes are multiples of it; by default the greatest common divisor of the trained ones.
        max_loss: the predicted held-out loss, nats a token, is at most this.
        below: the 95 % quantile of the largest ratio of any layer at any step is below this.

    Raises:
        UsageError: a number is not positive, or a range ends before it begins.
    """

    parameters: Range = _OPEN
    width_multiple: int | None = None
    max_loss: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if self.width_multiple is not None and not isinstance(self.width_multiple, int):
            raise UsageError(f"width_multiple is {self.width_multiple!r}; it is a whole number")
        for f in fields(self):
            value = getattr(self, f.name)
            ends = value if isinstance(value, tuple) else (value,)
            for end in ends:
                if end is not None and not (math.isfinite(end) and end > 0):
                    raise UsageError(f"{f.name} is {end!r}; it must be a positive number")
            if isinstance(value, tuple) and None not in value and value[0] > value[1]:
                raise UsageError(f"{f.name} is {span(*value)}; a range begins with the smaller number")

    @property
    def axes(self) -> Mapping[str, Range]:
        """The ranges by the names of `AXES`; None where an end is open."""
        return {words: getattr(self, one.keyword) for words, one in AXES.items()}


TO_EXTRAPOLATE = "with --extrapolate (extrapolate=True) it is answered, and marked as such"


def bounds_of(limits: Limits, family: Sequence[Architecture], extrapolate: bool) -> Mapping[str, tuple[float, float]]:
    """The range of each axis; one that is not given is the family's."""
    ranges, refused = {}, []
    for name, (low, high) in limits.axes.items():
        own = [float(AXES[name].of(architecture)) for architecture in family]
        least, most = min(own), max(own)
        low = low if low is not None else least if high is None else min(least, high)
        high = high if high is not None else max(most, low)
        ranges[name] = (low, high)
        if low < least - 1e-9 or high > most + 1e-9:
            refused.append(f"{name} {span(low, high)}, where the data have {span(least, most)}")
    if refused and not extrapolate:
        raise UsageError(f"outside what was learned from: {'; '.join(refused)}; {TO_EXTRAPOLATE}")
    for name, one in AXES.items():
        if ranges[name][1] > one.most_searched:
            raise UsageError(f"{name} {span(*ranges[name])}: nothing above {one.most_searched:,} is searched")
    return ranges


def candidates(
    predictor: Predictor,
    limits: Limits,
    bounds: Mapping[str, tuple[float, float]],
    family: Sequence[Architecture],
) -> tuple[list[Architecture], list[str]]:
    """The shapes to predict, and notes on them."""
    sizes, notes = _grid(limits, bounds, family)
    common, said = _common(family)
    base = predictor.architecture(**common, **sizes[0])
    shapes = [replace(base, **changed) for changed in sizes]
    verdicts = [_faults(shape, limits, bounds) for shape in shapes]
    allowed = [shape for shape, faults in zip(shapes, verdicts, strict=True) if not faults]
    if not allowed:
        counts = [shape.num_parameters for shape in shapes]
        raise none_left(
            len(shapes),
            Counter(fault for faults in verdicts for fault in faults),
            {"parameters": f"the shapes have {span(min(counts), max(counts))}"},
        )
    if base.model_type != "gpt_neox":
        said.append(
            f"Parameters are an estimate: they are counted as in GPT-NeoX, and these models are {base.model_type}."
        )
    kept = _thinned(allowed)
    if len(kept) < len(allowed):
        notes.append(f"{len(kept):,} of {len(allowed):,} shapes were searched, spread evenly over them.")
    return kept, notes + said


def _common(family: Sequence[Architecture]) -> tuple[dict[str, Any], list[str]]:
    """What the models differ in besides what is searched, as most of them have it, and a note on each."""
    usual: dict[str, Any] = {}
    for name in FIELDS:
        counts = Counter(getattr(architecture, name) for architecture in family)
        if name not in VARIED and len(counts) > 1:
            usual[name] = counts.most_common(1)[0][0]
    return usual, [f"{name} varies among the models; the designs have {value}." for name, value in usual.items()]


def _grid(
    limits: Limits, bounds: Mapping[str, tuple[float, float]], family: Sequence[Architecture]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The fields that are varied at every point of the grid, and a note where a range is thinned.

    Heads divide the hidden size. MLP ratios are those of the family and the whole numbers among them.
    """
    multiple = limits.width_multiple or math.gcd(*(architecture.hidden_size for architecture in family))
    low, high = bounds["hidden size"]
    exactly = low == high and low == int(low) and limits.width_multiple is None
    widths = [int(low)] if exactly else _levels(low, high, multiple)
    layers = _levels(*bounds["layers"])
    low, high = bounds["MLP ratio"]
    usual = {architecture.mlp_ratio for architecture in family}
    ratios = sorted(
        {r for r in usual if low <= r <= high} | set(_levels(low, high)) | ({low} if low == high else set())
    )
    least, most = bounds["heads"]
    pairs = [(width, heads) for width in widths for heads in divisors(width) if least <= heads <= most]
    for some, why in (
        (layers, f"there is no whole number of layers in {span(*bounds['layers'])}"),
        (widths, f"no hidden size in {span(*bounds['hidden size'])} is a multiple of {multiple}"),
        (ratios, f"MLP ratio {span(low, high)} holds no whole number and none of the data's"),
        (pairs, f"no hidden size can be shared evenly among heads {span(*bounds['heads'])}"),
    ):
        if not some:
            raise UsageError(f"no design: {why}")
    others = [_values(one, bounds[words], family) for words, one in AXES.items() if one.name not in _ON_THE_GRID]
    points = [
        {
            "num_hidden_layers": depth,
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": round(ratio * width),
            **dict(more),
        }
        for (depth, (width, heads), ratio), more in product(product(layers, pairs, ratios), product(*others))
        if abs(ratio * width - round(ratio * width)) < 1e-6 and round(ratio * width) > 0
    ]
    if not points:
        raise UsageError(f"no design: MLP ratio {span(low, high)} gives no whole inner size at these hidden sizes")
    sizes = (("layers", layers, 1), ("hidden size", widths, multiple), ("MLP ratio", ratios, 1))
    return points, [
        f"Of {name} {span(values[0], values[-1])}, {len(values)} values were searched."
        for name, values, step in sizes
        if (values[-1] - values[0]) // step >= _LEVELS_AT_MOST
    ]


def _values(one: Feature, ends: tuple[float, float], family: Sequence[Architecture]) -> list[tuple[str, Any]]:
    """What a feature of its own is searched at, with its name: what the family has, or the one value that is wanted."""
    low, high = ends
    found = {one.of(a) for a in family if low <= one.of(a) <= high} | ({low} if low == high else set())
    if not found:
        raise UsageError(f"no design: {one.words} {span(low, high)} holds none of the data's")
    return [(one.name, value) for value in sorted(found)]


def _levels(low: float, high: float, multiple: int = 1) -> list[int]:
    """The multiples in a range; of too many, so many in about equal proportions, with both ends."""
    first, last = math.ceil(low / multiple - 1e-9), math.floor(high / multiple + 1e-9)
    first = max(first, 1)
    if last - first < _LEVELS_AT_MOST:
        return [multiple * n for n in range(first, last + 1)]
    return [multiple * int(n) for n in np.unique(np.rint(np.geomspace(first, last, _LEVELS_AT_MOST)))]


def _faults(shape: Architecture, limits: Limits, bounds: Mapping[str, tuple[float, float]]) -> list[str]:
    """Which constraints a shape of the grid breaks."""
    head = shape.head_size
    rotated = shape.rotary_pct * head
    least, most = limits.parameters
    faults = []
    if not (least or 0) <= shape.num_parameters <= (most or math.inf):
        faults.append(_constraint("parameters", limits.parameters))
    if not bounds["head size"][0] <= head <= bounds["head size"][1]:
        faults.append(_constraint("head size", bounds["head size"]))
    # Rotary embeddings turn pairs of features, so that a head must have an even number of them to be turned.
    if shape.rotary_emb_base is not None and shape.rotary_pct > 0 and (rotated < 2 or rotated % 2):
        faults.append(f"rotary share {shape.rotary_pct:g} of each head (an even number of features)")
    return faults


def _constraint(name: str, ends: Range) -> str:
    return f"{name} {span(*ends)}"


def none_left(count: int, reasons: Counter[str], hints: Mapping[str, str]) -> UsageError:
    """The error that says which constraint rules out most shapes."""
    said = [
        f"{ruled:,} are ruled out by {reason}"
        + "".join(f" ({hint})" for name, hint in hints.items() if reason.startswith(name))
        for reason, ruled in reasons.most_common()
    ]
    return UsageError(f"no design meets all constraints: of {count:,} shapes, {'; '.join(said)}")


def _thinned(shapes: list[Architecture]) -> list[Architecture]:
    """As many shapes as can be predicted in seconds: one from each of equal stretches of the list.

    Which one is drawn: a fixed place in the stretch would beat with the grid's own period, and always take the same
    number of heads, say.
    """
    mean = sum(shape.num_hidden_layers for shape in shapes) / len(shapes)
    most = max(1, int(_LAYERS_AT_MOST / mean))
    if len(shapes) <= most:
        return shapes
    edges = np.linspace(0, len(shapes), most + 1).astype(int)
    return [shapes[i] for i in np.random.default_rng(0).integers(edges[:-1], edges[1:])]


def span(low: float | None, high: float | None) -> str:
    if low == high and low is not None:
        return _plain(low)
    return f"{'' if low is None else _plain(low)}..{'' if high is None else _plain(high)}"


def _plain(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:.4g}"
