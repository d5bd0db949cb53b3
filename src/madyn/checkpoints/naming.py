r"""Which training step a name means: branches and tags of the Hub, folders of a run.

Every name that is seen is either a checkpoint at a step or told about, with the reason. Two names for one step are
refused, since which of them is meant cannot be guessed.

A number that is said to count steps is one: `step1000`, `step-50k`, `checkpoint-1000`, `iter_0000100`,
`global_step100`, `ckpt-100`, `step1000-tokens4B`, in capitals or not. A number alone (`50K`) may count anything, and an
epoch is no step: such names are told about, and `--revisions` says how to read them. Of a run of several stages the
first is taken, since the steps of the others may begin again.

A new way of naming checkpoints is one pattern in `_PATTERNS`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from madyn.errors import CheckpointError, UsageError

_STEP = r"(?P<step>\d+k?)"
_STAGE = r"(?:(?P<stage>stage[-_]?\d+(?:[-_]ingredient[-_]?\d+)?)[-_])?"

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"{_STAGE}step[-_=]?{_STEP}(?:[-_]tokens[-_]?\d+[BMT])?",  # Pythia, OLMo and their like
        rf"checkpoint[-_]?{_STEP}",  # transformers' Trainer
        rf"(?:global[-_]?step|iter|iteration|ckpt)[-_]?{_STEP}",  # Megatron and its kin
    )
)
_EPOCH = re.compile(r"epochs?[-_=]?\d+", re.IGNORECASE)
_FIRST_STAGE = re.compile(r"stage[-_]?0*1", re.IGNORECASE)

UNREADABLE = "whose step cannot be read (--revisions says how, such as '(?P<step>\\d+K)')"
_AN_EPOCH = "that count epochs, which are no steps (--revisions 'epoch-(?P<step>\\d+)' takes them for steps)"
_OTHER_STAGE = "of another stage, whose steps may begin again (--revisions takes one: 'stage2-step(?P<step>\\d+).*')"
NO_MATCH = "that --revisions does not match"


@dataclass(frozen=True)
class LeftOut:
    """A name that was seen and is not traced. The reason reads on from "not traced: 2 names"."""

    name: str
    reason: str


@dataclass(frozen=True)
class Named:
    """What names mean: the name at each step, ascending, and the names left out."""

    by_step: dict[int, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


def read_names(
    names: Iterable[str],
    source: str,
    revisions: re.Pattern[str] | None = None,
    same: Mapping[str, str] | None = None,
) -> Named:
    """The step of every name, and why some have none.

    Args:
        source: what the names were found in, for messages.
        revisions: a pattern with a group named `step`, in place of the known ones.
        same: by name, what it stands for: of two names for one thing the first is taken.

    Raises:
        CheckpointError: two names mean one step, or there are several stages and none of them is the first.
    """
    left_out = []
    stages: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _match(name, revisions)
        if match is None:
            left_out.append(LeftOut(name, _why_not(name, revisions)))
        else:
            stages[match[0]].append((match[1], name))
    stage = _chosen_stage(stages, source)
    left_out += [LeftOut(name, _OTHER_STAGE) for key, found in stages.items() if key != stage for _, name in found]
    by_step: dict[int, list[str]] = defaultdict(list)
    for step, name in stages.get(stage, []):
        twin = next((n for n in by_step[step] if same and same[n] == same[name]), None)
        if twin is None:
            by_step[step].append(name)
        else:
            left_out.append(LeftOut(name, f"for what is also called {twin}"))
    refuse_collisions(source, by_step)
    return Named({step: by_step[step][0] for step in sorted(by_step)}, left_out)


def step_of(name: str) -> int | None:
    """The step that one name means by the known patterns; None where it says none."""
    match = _match(name, None)
    return None if match is None else match[1]


def is_step_name(name: str, revisions: re.Pattern[str] | None) -> bool:
    return _match(name, revisions) is not None


def compile_revisions(revisions: str) -> re.Pattern[str]:
    """A user's pattern. Raises UsageError where it is none, or has no group named `step`."""
    try:
        pattern = re.compile(revisions)
    except re.error as e:
        raise UsageError(f"{revisions!r} is no regular expression: {e}") from e
    if "step" not in pattern.groupindex:
        raise UsageError(f"{revisions!r} has no group named step; write its digits as (?P<step>\\d+)")
    return pattern


def refuse_collisions(source: str, by_step: Mapping[int, Sequence[str]]) -> None:
    """Raise CheckpointError where a step has more than one name."""
    several = {step: names for step, names in by_step.items() if len(names) > 1}
    if several:
        shown = [f"{' and '.join(names)} (step {step})" for step, names in sorted(several.items())[:4]]
        more = f", and {len(several) - 4} steps more" if len(several) > 4 else ""
        raise CheckpointError(
            f"{source} has several names for one step: {', '.join(shown)}{more}; say which are meant with --revisions, "
            "a regular expression such as 'step(?P<step>\\d+)'"
        )


def describe_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """A sentence for each reason, with the names that it holds for."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in left_out:
        by_reason[one.reason].append(one.name)
    return [
        f"not traced: {len(names)} name{'s' if len(names) > 1 else ''} {reason}: {_shown(names)}"
        for reason, names in by_reason.items()
    ]


def _match(name: str, revisions: re.Pattern[str] | None) -> tuple[str, int] | None:
    """The stage ("" for the first or none) and the step of a name."""
    for pattern in _PATTERNS if revisions is None else (revisions,):
        match = pattern.fullmatch(name)
        step = None if match is None else _number(match["step"])
        if match is not None and step is not None:
            stage = (match.groupdict().get("stage") or "") if revisions is None else ""
            return "" if _FIRST_STAGE.fullmatch(stage) else stage.lower(), step
    return None


def _number(text: str | None) -> int | None:
    """Digits, or thousands as 50k."""
    digits = (text or "").removesuffix("k").removesuffix("K")
    if not digits.isdecimal():
        return None
    return int(digits) * (1000 if digits != text else 1)


def _why_not(name: str, revisions: re.Pattern[str] | None) -> str:
    if revisions is not None:
        return NO_MATCH
    return _AN_EPOCH if _EPOCH.fullmatch(name) else UNREADABLE


def _chosen_stage(stages: Mapping[str, list[tuple[int, str]]], source: str) -> str:
    if "" in stages or not stages:
        return ""
    if len(stages) > 1:
        raise CheckpointError(
            f"{source} has {len(stages)} stages whose steps may begin again, {', '.join(sorted(stages))}; say which is "
            f"meant with --revisions, such as '{min(stages)}-step(?P<step>\\d+).*'"
        )
    return next(iter(stages))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 8 else [*names[:6], "...", names[-1]])
