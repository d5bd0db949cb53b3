"""What the pictures of the predictor of curves are drawn for, and of which predictor.

The two ratios are drawn, and not the step of the peak, which only some layers have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from madyn.figures.source import Case, Source

if TYPE_CHECKING:
    from madyn.prediction import Predictor

QUANTITIES = ("final ratio", "largest ratio")
"""What is drawn."""


def each_quantity(_: Source) -> list[Case]:
    return [{"quantity": name.replace(" ", "_")} for name in QUANTITIES]


def depends_on(source: Source, **case: str) -> dict[str, Any]:
    """What every one of these pictures depends on (the predictor's seed is fixed).

    Raises:
        DatasetError: there are too few architectures to leave some out.
    """
    from madyn.prediction.importance import require_architectures

    require_architectures(len({source.dataset.architecture(model) for model in source.models}))
    dataset = source.dataset
    known = {m: (dataset.statistics_hash(m), dataset.architecture(m), dataset.training(m)) for m in source.models}
    return {"models": known, **case}


def fitted_predictor(source: Source) -> Predictor:
    """The dataset's, unless too few of its architectures were measured to their end."""
    from madyn.prediction.importance import require_architectures

    require_architectures(source.curve_predictor.state.table.architectures)
    return source.curve_predictor
