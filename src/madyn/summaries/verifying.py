"""What `madyn verify` says: a row a finding, then what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from madyn.sharing import list_steps
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.checkpoints.verdicts import Finding
    from madyn.checkpoints.verifying import Verification


def print_verifications(found: Sequence[Verification]) -> None:
    """A table a model, the advice for each fault below it, and how many checkpoints are at fault."""
    for one in found:
        title = f"{one.source}: {len(one.steps)} checkpoints, {one.compared} compared"
        title += f", {one.requests} requests" if one.requests else ""
        if one.findings:
            columns = ["finding", "steps", "what", "of", "other forms"]
            print_table(title, columns, [_row(finding) for finding in one.findings], left=columns)
        else:
            console.print(title, style="bold")
        for finding in one.findings:
            if finding.fault or finding.kind == "not compared":
                console.print(str(finding), style="red" if finding.fault else "yellow")
        if one.unseen:
            seen = f"{one.total - one.unseen} of {one.total} steps were compared"
            console.print(f"{one.source}: {seen}; --steps all compares the others too")
        faults = one.faults
        said = f"{len(faults)} of {len(one.steps)} are not what they say" if faults else "nothing is wrong"
        console.print(f"{one.source}: {said}")


def _row(finding: Finding) -> list[str]:
    pieces, sound = finding.pieces, sorted({form for forms in finding.sound.values() for form in forms})
    what = f"{pieces[0]}{f' and {len(pieces) - 1} more' if len(pieces) > 1 else ''}" if pieces else "-"
    whose = ", ".join(finding.shares_with[:3]) + (", ..." if len(finding.shares_with) > 3 else "")
    return [finding.kind, list_steps(finding.steps).split(" ", 1)[1], what, whose or "-", ", ".join(sound) or "-"]
