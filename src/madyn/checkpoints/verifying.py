"""Whether checkpoints are what their names say, before anything of them is downloaded or measured.

Repositories hold steps whose files are those of another step, are there in part, or are not there. Nothing fails then:
a sweep draws a flat line. On the Hub the listing of a commit gives the SHA-256 of every weight file, so that one
request a commit is enough and no content is asked for; `main`, the last step, and for a few steps the first and the
middle one are listed too, to have something to compare with. On disk every step of the folder is compared, by samples
of its tensors. What is shared is judged in `madyn.sharing` and said in `verdicts`.

Checkpoints that a function makes can only be compared by what they give: `madyn check` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from madyn.checkpoints import verdicts
from madyn.checkpoints.forms import Form, stored_forms
from madyn.checkpoints.sources.protocol import Checkpoints
from madyn.checkpoints.stores import Advance, Key, Store
from madyn.checkpoints.verdicts import Alternative, Finding
from madyn.errors import CheckpointError
from madyn.sharing import find_sharings


@dataclass(frozen=True)
class Verification:
    """What was found of a model's checkpoints.

    Attributes:
        source: the model, as the user named it.
        steps: those asked about, ascending.
        compared: how many checkpoints were compared, with those that were only listed for comparison.
        requests: to the Hub, besides the one for its branches.
        total: how many steps the model has; `unseen` those of them that were not looked at, since few were asked for.
        findings: what was found; faults first.
    """

    source: str
    steps: tuple[int, ...]
    compared: int = 0
    requests: int = 0
    findings: tuple[Finding, ...] = ()
    total: int = 0
    unseen: int = 0

    @property
    def faults(self) -> dict[int, str]:
        """The steps asked about that are not what they say, ascending, with the reason of each."""
        return self.reasons()

    def reasons(self, *, allow: bool = False, measurable: bool | None = None) -> dict[int, str]:
        """As `faults`.

        Args:
            allow: leave out those that can be measured all the same; `measurable` leaves only these.
        """
        found: dict[int, list[str]] = {}
        for finding in self.findings:
            if not finding.fault or (finding.measurable and allow) or (measurable and not finding.measurable):
                continue
            for step in set(finding.steps) & set(self.steps):
                found.setdefault(step, []).append(finding.reason(step))
        return {step: "; ".join(found[step]) for step in sorted(found)}

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "steps": list(self.steps),
            "compared": self.compared,
            "requests": self.requests,
            "total": self.total,
            "unseen": self.unseen,
            "findings": [finding.to_dict() for finding in self.findings],
            "faults": {str(step): reason for step, reason in self.faults.items()},
        }


def verify(
    found: Checkpoints,
    steps: Iterable[int] | None = None,
    *,
    pull_requests: bool = False,
    advance: Advance = lambda done, total: None,
) -> Verification:
    """Compare a model's checkpoints, in the form in which they would be read.

    Args:
        steps: those asked about, all if None.
        pull_requests: look into the repository's pull requests too where a step is at fault, one request each.
        advance: called with the number of checkpoints looked at so far, and of all.

    Raises:
        CheckpointError: a step does not exist.
    """
    wanted = found.at(found.steps if steps is None else steps)
    asked = tuple(c.step for c in wanted if c.step is not None)
    store = wanted[0].store(found, asked, advance)
    if store is None:
        return Verification(found.source, asked)
    more = "" if pull_requests else store.looks_further
    held, absent = _held(store, wanted[0].form)
    inside = {step: said for step, (said, _) in store.inside.items()}
    sharings = find_sharings(held, steps=found.steps, inside=inside, weak=store.weak, files=store.whole)
    if any(sharing.suspects or sharing.whole for sharing in sharings):
        held = store.confirmed(held, sharings)
        sharings = find_sharings(held, steps=found.steps, inside=inside, weak=store.weak, files=store.whole)
    suspects = sorted({step for sharing in sharings for step in sharing.suspects})
    others = _alternatives(store, suspects, wanted[0].form, found.steps, pull_requests)
    of_shared = [
        verdicts.shared(s, _files(store, s.steps, wanted[0].form), others, store.would_tell, more) for s in sharings
    ]
    told = [
        *(verdicts.absent(steps, reason) for reason, steps in absent.items()),
        *(f for f in of_shared if f.kind != "frozen"),
        *verdicts.together([f for f in of_shared if f.kind == "frozen"]),
        *_of_records(store, found.steps),
        *(verdicts.not_compared(steps, reason) for reason, steps in _by_reason(store.failed).items()),
    ]
    told = [finding for finding in told if set(finding.steps) & set(asked)]
    return Verification(
        found.source,
        asked,
        len(held),
        store.requests,
        tuple(sorted(told, key=lambda finding: not finding.fault)),
        len(found.by_step),
        len(set(found.by_step) - store.keys),
    )


def _held(store: Store, form: str) -> tuple[dict[Key, dict[str, str]], dict[str, list[int]]]:
    """The pieces of each checkpoint that has weights, and the steps that have none or not all, by the reason."""
    held: dict[Key, dict[str, str]] = {}
    lacking: dict[Key, str] = {}
    for key in store.files:
        try:
            held[key] = store.pieces(key, store.weight_files(key, form))
        except CheckpointError as e:
            lacking[key] = str(e)
    return held, _by_reason(lacking)


def _by_reason(reasons: Mapping[Key, str]) -> dict[str, list[int]]:
    steps: dict[str, list[int]] = {}
    for key, reason in reasons.items():
        if key is not None:
            steps.setdefault(reason, []).append(key)
    return steps


def _files(store: Store, steps: Iterable[int], form: str) -> tuple[str, ...]:
    return store.weight_files(next(iter(steps)), form)


def _alternatives(
    store: Store, suspects: list[int], form: str, steps: Iterable[int], pull_requests: bool
) -> dict[int, list[Alternative]]:
    """What else the steps at fault hold that no other checkpoint does."""
    found: dict[int, list[Alternative]] = {step: [] for step in suspects}
    read = {step: set(store.weight_files(step, form)) for step in suspects}
    labels = dict.fromkeys(f.label for step in suspects for f in stored_forms(store.files[step]))
    for label in labels:
        here = {key: f for key, names in store.files.items() for f in stored_forms(names) if f.label == label}
        held = _readable(store, {key: f.files for key, f in here.items() if not f.missing})
        sharings = find_sharings(held, steps=steps, weak=store.weak, files=store.whole)
        shared = {step for sharing in sharings for step in sharing.suspects}
        for step in suspects:
            if step in held and step not in shared and read[step].isdisjoint(here[step].files):
                option = f"--weights {here[step].ending}" if _is_read(store, step, here[step]) else ""
                found[step].append(Alternative(label, option))
    for name, files in (store.pull_requests() if pull_requests and suspects else {}).items():
        for step in suspects:
            if _mends(files, store.pieces(step, store.files[step]), read[step]):
                found[step].append(Alternative(name))
    return found


def _readable(store: Store, files: Mapping[Key, tuple[str, ...]]) -> dict[Key, dict[str, str]]:
    """The pieces of files by checkpoint, less those that cannot be read: nobody asked for them."""
    held: dict[Key, dict[str, str]] = {}
    for key, names in files.items():
        with suppress(CheckpointError):
            held[key] = store.pieces(key, names)
    return held


def _is_read(store: Store, step: int, form: Form) -> bool:
    """Whether a form is the one that is read where its ending is asked for."""
    try:
        return set(store.weight_files(step, form.ending)) == set(form.files)
    except CheckpointError:
        return False


def _mends(offered: Mapping[str, str], own: Mapping[str, str], read: set[str]) -> bool:
    """Whether a pull request was made from a step, whose other weights it has, and brings other files to be read."""
    weights = {name for form in stored_forms(own) for name in form.files} - read
    same = bool(weights) and all(offered.get(name) == own[name] for name in weights)
    return same and any(name in offered and offered[name] != own[name] for name in read)


def _of_records(store: Store, steps: Iterable[int]) -> list[Finding]:
    """The findings of the steps that checkpoints say themselves, one for each file that says it."""
    inside: dict[str, dict[int, int]] = {}
    for step in at_another_step({step: said for step, (said, _) in store.inside.items()}, steps):
        said, by = store.inside[step]
        inside.setdefault(by, {})[step] = said
    findings = [verdicts.at_other_steps(wrong, by) for by, wrong in inside.items()]
    if store.inherited is not None:
        having = {key for key in store.files if key is not None} - set(store.inside)
        findings.append(verdicts.inherited(having, *store.inherited))
    return findings


def at_another_step(inside: Mapping[int, int], steps: Iterable[int]) -> list[int]:
    """The steps whose files say another one, of `steps` that the model has.

    Names may count in another unit than the Trainer does (epochs, thousands). They do not where one agrees with its
    record; 0 is 0 in every unit and does not tell. Where none agrees, several records in the order of the names are
    taken for another unit, and otherwise a record speaks against a name only if it says another step of the model. A
    single checkpoint has no other, so that its record alone tells nothing.
    """
    agreeing = any(step == said for step, said in inside.items() if step)
    said = [inside[step] for step in sorted(inside)]
    if not agreeing and len(said) > 1 and all(a < b for a, b in pairwise(said)):
        return []
    steps = set(steps)
    return [step for step in sorted(inside) if inside[step] != step and (agreeing or inside[step] in steps)]
