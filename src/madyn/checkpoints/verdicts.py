"""What a comparison of checkpoints found, in words: what it is, of which steps, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from madyn.sharing import Sharing, list_steps

Kind = Literal["duplicate", "part", "absent", "other step", "plausible", "frozen", "inherited", "not compared"]


@dataclass(frozen=True)
class Finding:
    """What was found of some steps.

    Attributes:
        kind: "duplicate": they hold the weights of another step; "part": some files or tensors of another; "absent":
            no weights, or not all; "other step": they say another step inside; "plausible": shared for a good reason;
            "frozen": tensors that seem not to be trained for a while; "inherited": they say one and
            the same step inside, which is no fault; "not compared": nothing could be learnt of them.
        steps: that it is about, ascending; those at fault, where it is a fault.
        says: the finding, with all its steps; `each`: the same of any one of them alone; `own`: of those where it
            differs, by step.
        shares_with: whose it is that they hold, or all that hold it where that cannot be told: "step 143000", "main".
        pieces: the files or tensors that are shared.
        sound: by step, the other forms of it that nothing else holds, and pull requests that bring one.
        advice: what to do.
    """

    kind: Kind
    steps: tuple[int, ...]
    says: str
    each: str = ""
    shares_with: tuple[str, ...] = ()
    pieces: tuple[str, ...] = ()
    sound: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    advice: str = ""
    own: Mapping[int, str] = field(default_factory=dict)

    @property
    def fault(self) -> bool:
        return self.kind in ("duplicate", "part", "absent", "other step")

    @property
    def measurable(self) -> bool:
        """Whether there is something to measure all the same."""
        return self.kind != "absent"

    def __str__(self) -> str:
        return f"{self.says}{f': {self.advice}' if self.advice else ''}"

    def reason(self, step: int) -> str:
        """As `str`, of one step."""
        return f"{self.own.get(step) or self.each or self.says}{f': {self.advice}' if self.advice else ''}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "fault": self.fault,
            "steps": list(self.steps),
            "shares_with": list(self.shares_with),
            "pieces": list(self.pieces),
            "sound": {str(step): list(forms) for step, forms in self.sound.items()},
            "says": self.says,
            "advice": self.advice,
        }


@dataclass(frozen=True)
class Alternative:
    """Something else that a step at fault holds: another form, which `option` reads, or a pull request."""

    label: str
    option: str = ""


def shared(
    sharing: Sharing,
    files: tuple[str, ...],
    others: Mapping[int, list[Alternative]],
    would_tell: str = "",
    more: str = "",
) -> Finding:
    """The finding of checkpoints that share something.

    Args:
        files: the weight files of one of them.
        others: what else there is of the steps at fault.
        would_tell: what would say whose it is; `more`: what else to do.
    """
    names = files if sharing.whole else sharing.pieces
    what = "weights"
    if not sharing.whole:
        noun = "weight file" if set(names) <= set(files) else "tensor"
        what = f"{len(names)} {noun}{'s' if len(names) > 1 else ''}"
    of = f"({', '.join(names[:1])}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
    members = (*(f"step {step}" for step in sharing.steps), *(["main"] if sharing.main else []))
    everyone = f"{list_steps(sharing.steps)}{' and main' if sharing.main else ''}"
    if not sharing.suspects:
        kind = "plausible" if sharing.whole or len(sharing.steps) < 2 else "frozen"
        why = "a learning rate of zero leaves, and so does a copy" if len(sharing.steps) > 1 else "can be"
        says = f"{everyone} hold the same {what} {of}, which {why if kind == 'plausible' else 'may be frozen'}"
        return Finding(kind, sharing.steps, says, shares_with=members, pieces=sharing.pieces)
    steps = sharing.suspects
    if sharing.owner is not None:
        whose = f"the {what} of step {sharing.owner}{' and main' if sharing.main else ''} {of}"
        says, each = f"{list_steps(steps)} {'holds' if len(steps) == 1 else 'hold'} {whose}", f"it holds {whose}"
        members = (f"step {sharing.owner}", *(["main"] if sharing.main else []))
    else:
        nothing = f"and nothing tells whose they are{f' ({would_tell})' if would_tell else ''}"
        says = f"{everyone} hold the same {what} {of}, {nothing}"
        each = f"it is one of {everyone}, which hold the same {what} {of}, {nothing}"
    if sharing.ending and len(sharing.steps) > 2:
        says, each = (f"{said}, or the learning rate was zero" for said in (says, each))
    sound = {step: tuple(other.label for other in others[step]) for step in steps if others.get(step)}
    return Finding(
        "duplicate" if sharing.whole else "part",
        steps,
        says,
        each,
        members,
        sharing.pieces,
        sound,
        "; ".join([_advice(steps, others), *([more] if more else [])]),
    )


def _advice(steps: Iterable[int], others: Mapping[int, list[Alternative]]) -> str:
    """What else may be read of which steps, and what to do with the others."""
    holders: dict[Alternative, list[int]] = {}
    for step in steps:
        for other in others.get(step, ()):
            holders.setdefault(other, []).append(step)
    steps = list(steps)
    parts = []
    for other, having in holders.items():
        of = "" if having == steps else f" of {list_steps(having)}"
        parts.append(f"{other.label}{of} is not shared{f', {other.option} reads it' if other.option else ''}")
    rest = "take other steps, or measure them all the same with --allow-duplicates"
    return "; ".join([*parts, rest])


def absent(steps: Iterable[int], reason: str) -> Finding:
    """The finding of steps that have no weights, or not all."""
    steps = tuple(sorted(steps))
    return Finding("absent", steps, f"{list_steps(steps)}: {reason}", reason)


def at_other_steps(inside: Mapping[int, int], by: str) -> Finding:
    """The finding of steps of which something in them says that they are others; `inside` has what it says."""
    steps = tuple(sorted(inside))
    if len(steps) == 1:
        says = f"step {steps[0]} is step {inside[steps[0]]}, says {by}"
    else:
        pairs = [f"{step} is {inside[step]}" for step in steps]
        shown = pairs if len(pairs) <= 8 else [*pairs[:3], "...", pairs[-1]]
        says = f"{list_steps(steps)} are other steps ({', '.join(shown)}), says {by}"
    advice = "mend the name or the file, or measure all the same with --allow-duplicates"
    own = {step: f"it is step {inside[step]}, says {by}" for step in steps}
    return Finding("other step", steps, says, advice=advice, own=own)


def inherited(steps: Iterable[int], inside: int, by: str) -> Finding:
    """The finding of a step that all say alike."""
    steps = tuple(sorted(steps))
    return Finding("inherited", steps, f"{by} says step {inside} in all of {list_steps(steps)}: it is not their own")


def together(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of frozen tensors as one where they are many, such as of experts that no token came to."""
    if len(findings) <= 4:
        return list(findings)
    steps = tuple(sorted({step for finding in findings for step in finding.steps}))
    pieces = tuple(dict.fromkeys(name for finding in findings for name in finding.pieces))
    says = f"{len(pieces)} tensors ({pieces[0]}, ...) are the same in neighbours among {list_steps(steps)}"
    return [Finding("frozen", steps, f"{says}, and may be frozen there", pieces=pieces)]


def not_compared(steps: Iterable[int], reason: str) -> Finding:
    """The finding of steps of which nothing could be learnt. They are measured all the same."""
    steps = tuple(sorted(steps))
    return Finding("not compared", steps, f"{list_steps(steps)} could not be compared: {reason}")
