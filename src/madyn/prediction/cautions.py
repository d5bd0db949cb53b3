"""What to know before believing a predictor: that it learned from few, from which models it did not, and which features
of them it could not use."""

from __future__ import annotations

from collections.abc import Mapping

from madyn.prediction.inputs import OF_MODEL
from madyn.prediction.table import CurveTable
from madyn.terminal import few

ENOUGH_ARCHITECTURES = 5
"""With fewer, nothing honest can be said of an architecture that is left out."""

_REASONS = 20  # for which models are left out, that are told


def too_few(count: int, what: str, is_proven: bool) -> str:
    """That so many are too few to learn intervals from; empty where they are enough."""
    if count < ENOUGH_ARCHITECTURES:
        return (
            f"The data hold {count} {what if count > 1 else what.removesuffix('s')}: no honest score of a model left "
            "out exists, and the intervals rest on an assumption (Student's t)."
        )
    if is_proven:
        return ""
    return (
        f"The data hold {count} {what}, too few for the quantiles of a 90 % interval: its ends are the farthest "
        "residuals, or those of Student's t."
    )


def unlearned(table: CurveTable) -> str:
    names = [name for name in OF_MODEL if name not in table.features and len(set(table.rows[name].dropna())) > 1]
    return f"Not learned from, since it is not known of all models: {', '.join(names)}." if names else ""


def left_out(reasons: Mapping[str, str]) -> str:
    """Which models are not learned from, those together that have one reason."""
    if not reasons:
        return ""
    by_reason: dict[str, list[str]] = {}
    for model, reason in reasons.items():
        by_reason.setdefault(reason, []).append(model)
    told = [f"{few(models)} ({reason})" for reason, models in list(by_reason.items())[:_REASONS]]
    others = sum(map(len, list(by_reason.values())[_REASONS:]))
    told += [f"{others} more"] if others else []
    return f"Left out {'is 1 model' if len(reasons) == 1 else f'are {len(reasons)} models'}: {'; '.join(told)}."
