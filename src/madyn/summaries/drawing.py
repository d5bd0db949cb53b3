"""What `madyn figures` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from madyn.summaries.grouping import grouped
from madyn.terminal import console, counted, few, is_verbose

if TYPE_CHECKING:
    from madyn.dataset import Dataset
    from madyn.figures.draw import Drawing


def print_drawing(drawing: Drawing, dataset: Dataset, folder: Path) -> None:
    """How many figures were drawn and below which folders, and why the others were not, each reason once."""
    console.print(f"{counted(len(drawing.drawn), 'figure')} drawn, {len(drawing.unchanged):,} unchanged")
    tops = sorted({path.relative_to(folder).parts[0] for path in (*drawing.drawn, *drawing.unchanged)})
    if tops:
        console.print(f"they are in {folder}/: {few([f'{top}/' for top in tops])}")
    print_not_drawn(drawing, dataset)


def print_not_drawn(drawing: Drawing, dataset: Dataset) -> None:
    """Why figures were not drawn, each reason once."""
    for what, reasons in (("not drawn", drawing.left_out), ("failed", drawing.failed)):
        _print_reasons(what, reasons, dataset)


def _print_reasons(what: str, reasons: Mapping[str, str], dataset: Dataset) -> None:
    if is_verbose():
        for name, reason in reasons.items():
            console.print(f"{what}: {name}: {reason}")
        return
    # In general terms, so that one reason that differs by a model's name is one.
    models = list(dataset)
    terms = {line: said for said, lines in grouped(reasons.values(), dataset.path, models) for line in lines}
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(terms[reason], []).append(name)
    for said, names in by_reason.items():
        reason = reasons[names[0]] if len({reasons[name] for name in names}) == 1 else said
        kinds = Counter(str(Path(said)) for said, lines in grouped(names, Path(), models) for _ in lines)
        shown = ", ".join(list(kinds)[:_KINDS]) + (f" and {len(kinds) - _KINDS} more" if len(kinds) > _KINDS else "")
        console.print(f"{what}: {len(names)} ({shown}): {reason}")


_KINDS = 3
