"""The shapes that a search looks at: all on a grid within limits that could be built.

The grid has the whole numbers of layers, the widths that are multiples of what the family's are, the heads that divide
them, the MLP ratios of the family and the whole numbers among them, and of every other size what the family has of it;
where that is too many, fewer are taken,
evenly, and a note says so. Where models differ in wiring, each wiring that was trained is taken as a whole, with such
shapes as lie within the sizes that it was trained at: the predictor knows nothing of what another would do.
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
from madyn.prediction.inputs import Subject, as_wiring, divisors
from madyn.prediction.predictor import Predictor
from madyn.prediction.wired import chosen_of, label, wired

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
        max_loss_more: the predicted held-out loss is at most so much more, as a share, than that of the usual wiring at
            the same shape: 0.01 for 1 %. Where the usual wiring was trained with wider or narrower MLPs alone, as where
            what a wiring adds is taken from the MLP, the shape is that with the nearest of them.
        below: the 95 % quantile of the largest ratio of any layer at any step is below this.
        wiring: levels that a design's wiring has, by field; of other fields it may have any that was trained.

    Raises:
        UsageError: a number is not positive, a range ends before it begins, or there is no such wiring.

    >>> import madyn
    >>> limits = madyn.prediction.Limits(layers=(2, 4), parameters=(None, 500_000))
    >>> limits.axes["layers"]
    (2, 4)
    """

    parameters: Range = _OPEN
    width_multiple: int | None = None
    max_loss: float | None = None
    max_loss_more: float | None = None
    below: float | None = None
    wiring: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.width_multiple is not None and not isinstance(self.width_multiple, int):
            raise UsageError(f"width_multiple is {self.width_multiple!r}; it is a whole number")
        if not isinstance(self.wiring, (Mapping, type(None))):
            raise UsageError(f'wiring is {self.wiring!r:.80}; it is levels by field, as {{"attention": "softmax1"}}')
        as_wiring(self.wiring or {})
        more = self.max_loss_more
        is_number = isinstance(more, (int, float)) and not isinstance(more, bool)
        if more is not None and not (is_number and math.isfinite(more) and more >= 0):
            raise UsageError(f"max_loss_more is {more!r:.80}; it is a share, 0.01 for 1 % more, and not below 0")
        for f in fields(self):
            if f.name in ("wiring", "max_loss_more"):
                continue
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
        least, most = ends_of(name, family)
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


def candidates(predictor: Predictor, limits: Limits, extrapolate: bool) -> tuple[list[Subject], list[str]]:
    """The models to predict, and notes on them.

    Raises:
        UsageError: limits that lie outside the data, or that nothing keeps.
    """
    families = wired(predictor)
    family = [architecture for own in families.values() for architecture in own]
    bounds = bounds_of(limits, family, extrapolate)
    chosen = chosen_of(families, limits.wiring or {})
    found, notes, refused = [], {}, {}
    for wiring, own in chosen.items():
        try:
            within = bounds if extrapolate or len(families) == 1 else _within(bounds, own)
            shapes, said = _shapes(predictor, limits, within, family if extrapolate else own, own, len(chosen))
        except UsageError as e:
            refused[wiring] = e
            continue
        found += [Subject(shape, predictor.training, wiring) for shape in shapes]
        notes |= dict.fromkeys(said)
    if not found:
        raise next(iter(refused.values()))
    if len(families) > 1:
        sizes = "" if extrapolate else ", each at sizes within those that it was trained at"
        notes[
            f"{len(chosen) - len(refused)} of {len(families)} trained wirings were searched{sizes}. Of other "
            "combinations of their levels nothing is known."
        ] = None
    if refused:
        names = "; ".join(label(wiring, predictor.wiring) for wiring in refused)
        notes[f"No model within the limits has the wiring {names}."] = None
    return found, list(notes)


def _within(bounds: Mapping[str, tuple[float, float]], own: Sequence[Architecture]) -> dict[str, tuple[float, float]]:
    """What of the ranges the models with a wiring have."""
    within = {}
    for name, (low, high) in bounds.items():
        least, most = ends_of(name, own)
        within[name] = max(low, least), min(high, most)
        if within[name][0] > within[name][1]:
            raise UsageError(
                f"no design: {name} {span(low, high)}, where the models with this wiring have {span(least, most)}"
            )
    return within


def ends_of(name: str, family: Sequence[Architecture]) -> tuple[float, float]:
    """The least and the most that some models have of an axis."""
    own = [float(AXES[name].of(architecture)) for architecture in family]
    return min(own), max(own)


def _shapes(
    predictor: Predictor,
    limits: Limits,
    bounds: Mapping[str, tuple[float, float]],
    family: Sequence[Architecture],
    own: Sequence[Architecture],
    wirings: int,
) -> tuple[list[Architecture], list[str]]:
    """The shapes of one of several wirings, whose models have the shapes `own`, and notes on them."""
    sizes, notes = _grid(limits, bounds, family)
    common, said = _common(own, [subject.architecture for subject in predictor.state.table.subjects.values()])
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
    kept = _thinned(allowed, wirings)
    if len(kept) < len(allowed):
        notes.append(f"{len(kept):,} of {len(allowed):,} shapes were searched, spread evenly over them.")
    return kept, notes + said


def plain_twins(predictor: Predictor, subjects: Sequence[Subject]) -> list[Subject]:
    """The model of the usual wiring that has the shape of each: its MLP as wide, or as nearly as that wiring was
    trained with."""
    own = wired(predictor)[predictor.wiring]
    common, _ = _common(own, [subject.architecture for subject in predictor.state.table.subjects.values()])
    least, most = ends_of("MLP ratio", own)
    twins = []
    for shape, *_ in subjects:
        width = round(min(max(shape.mlp_ratio, least), most) * shape.hidden_size)
        twins.append(Subject(replace(shape, **common, intermediate_size=width), predictor.training, predictor.wiring))
    return twins


def _common(own: Sequence[Architecture], family: Sequence[Architecture]) -> tuple[dict[str, Any], list[str]]:
    """What the models of a family differ in besides what is searched, as most of those with one wiring have it, and a
    note on each in which these differ."""
    usual: dict[str, Any] = {}
    said = []
    for name in FIELDS:
        if name in VARIED or len({getattr(architecture, name) for architecture in family}) < 2:
            continue
        counts = Counter(getattr(architecture, name) for architecture in own)
        usual[name] = counts.most_common(1)[0][0]
        if len(counts) > 1:
            said.append(f"{name} varies among the models; the designs have {usual[name]}.")
    return usual, said


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


def _thinned(shapes: list[Architecture], wirings: int = 1) -> list[Architecture]:
    """As many shapes as can be predicted in seconds, in so many wirings: one from each of equal stretches of the list.

    Which one is drawn: a fixed place in the stretch would beat with the grid's own period, and always take the same
    number of heads, say.
    """
    mean = sum(shape.num_hidden_layers for shape in shapes) / len(shapes)
    most = max(1, int(_LAYERS_AT_MOST / wirings / mean))
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
