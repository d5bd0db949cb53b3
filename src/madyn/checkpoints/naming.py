r"""Which training step a name means: branches and tags of the Hub, folders of a run.

Every name that is seen is either a checkpoint at a step or told about, with the reason. Which of two names for one step
is meant cannot be guessed: where that step is asked for, it is refused.

A number that is said to count steps is one: `step1000`, `step-50k`, `checkpoint-1000`, `iter_0000100`,
`global_step100`, `ckpt-100`, `step1000-tokens4B`, in capitals or not. A number alone (`50K`) may count anything, and an
epoch is no step: such names are told about, and `--revisions` says how to read them. Of a run of several stages the
first is taken, since the steps of the others may begin again.

A new way of naming checkpoints is one pattern in `_PATTERNS`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from madyn.dataset.layout import MAX_STEP
from madyn.errors import CheckpointError, UsageError
from madyn.terminal import few

MOST_DIGITS = 18
"""Of a step: with more it is no number that a computer counts with, and Python does not read thousands of them."""

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
_SEVERAL = "that stand for a step which has another name too (--revisions says which are meant)"
NO_MATCH = "that --revisions does not match"


@dataclass(frozen=True)
class LeftOut:
    """A name that was seen and is not traced. The reason reads on from "not traced: 2 names"."""

    name: str
    reason: str


@dataclass(frozen=True)
class Collisions:
    """Steps that have several names each, by step. `advice` says how the names of the first are told apart."""

    by_step: dict[int, tuple[str, ...]] = field(default_factory=dict)
    advice: str = ""

    def refuse(self, source: str, steps: Collection[int]) -> None:
        """Raise CheckpointError where one of the steps has several names."""
        asked = {step: names for step, names in sorted(self.by_step.items()) if step in steps}
        if asked:
            shown = few([f"{' and '.join(names)} (step {step})" for step, names in asked.items()], 4)
            raise CheckpointError(f"{source} has several names for one step: {shown}; {self.advice}")


@dataclass(frozen=True)
class Named:
    """What names mean: the name at each step, ascending, the names left out, and the steps that have several names."""

    by_step: dict[int, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    collisions: Collisions = field(default_factory=Collisions)


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
        CheckpointError: there are several stages and none of them is the first.
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
    several = {step: tuple(names) for step, names in sorted(by_step.items()) if len(names) > 1}
    collisions = Collisions(several, _telling_apart(next(iter(several.values())), revisions) if several else "")
    left_out += [LeftOut(name, _SEVERAL) for names in several.values() for name in names]
    single = {step: names[0] for step, names in sorted(by_step.items()) if step not in several}
    return Named(single, left_out, collisions)


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


def describe_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """A sentence for each reason, with the names that it holds for."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in left_out:
        by_reason[one.reason].append(one.name)
    return [
        f"not traced: {len(names)} name{'s' if len(names) > 1 else ''} {reason}: {few(names)}"
        for reason, names in by_reason.items()
    ]


def _match(name: str, revisions: re.Pattern[str] | None) -> tuple[str, int] | None:
    """The stage ("" for the first or none) and the step of a name."""
    found = _found(name, revisions)
    if found is None:
        return None
    match, step = found
    stage = (match.groupdict().get("stage") or "") if revisions is None else ""
    return "" if _FIRST_STAGE.fullmatch(stage) else stage.lower(), step


def _found(name: str, revisions: re.Pattern[str] | None) -> tuple[re.Match[str], int] | None:
    """Where a name says a step, and the step."""
    for pattern in _PATTERNS if revisions is None else (revisions,):
        match = pattern.fullmatch(name)
        step = None if match is None else _number(match["step"])
        if match is not None and step is not None:
            return match, step
    return None


def _telling_apart(names: Sequence[str], revisions: re.Pattern[str] | None) -> str:
    """The regular expressions of which each takes one of the names for a step, and names that are like it."""
    each = [f"'{_one_like(name, [other for other in names if other != name], revisions)}'" for name in names]
    return f"say which are meant with --revisions, {' or '.join(each)}"


def _one_like(name: str, others: Sequence[str], revisions: re.Pattern[str] | None) -> str:
    found = _found(name, revisions)
    assert found is not None
    start, end = found[0].span("step")
    step = rf"(?P<step>\d+{name[end - 1] if name[end - 1] in 'kK' else ''})"
    before, after = (re.escape(part).replace(r"\-", "-") for part in (name[:start], name[end:]))
    any_before, any_after = (re.sub(r"\d+", r"\\d+", part) for part in (before, after))
    # As wide as may be: other steps have other numbers in their names, of tokens say.
    for pattern in (f"{any_before}{step}{any_after}", f"{before}{step}{any_after}", f"{before}{step}{after}"):
        if not any(re.fullmatch(pattern, other) for other in others):
            return pattern
    return f"{''.join(f'(?!{re.escape(other)}$)' for other in others)}{any_before}{step}{any_after}"


def _number(text: str | None) -> int | None:
    """Digits, or thousands as 50k."""
    digits = (text or "").removesuffix("k").removesuffix("K")
    if not digits.isdecimal() or len(digits) > MOST_DIGITS - 3 * (digits != text):
        return None
    step = int(digits) * (1000 if digits != text else 1)
    return step if step <= MAX_STEP else None


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
