"""The checkpoints of a sweep, compared before anything of them is downloaded, with progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from madyn.checkpoints.verifying import Verification, verify
from madyn.errors import listed, needs_extra
from madyn.settings import Settings
from madyn.sharing import list_steps
from madyn.sweep.planning import ModelPlan, Steps, plan_models
from madyn.terminal import progress_display

if TYPE_CHECKING:
    from rich.progress import Progress

    from madyn.checkpoints.verdicts import Finding


@needs_extra
def verify_checkpoints(
    models: str | Path | Sequence[str | Path],
    steps: Steps = None,
    *,
    weights: str = "auto",
    revisions: str | None = None,
    pull_requests: bool = False,
) -> list[Verification]:
    """Compare models' checkpoints with each other: which hold the weights of another step, or none, or not all.

    On the Hub one request is made for a model's branches and one for each commit, and no content is asked for; on disk
    samples of every tensor are read. See `madyn.sharing` for how it is judged whose weights they are.

    Args:
        models: folders of checkpoints, or names of the Hub.
        steps: as for `trace`.
        weights: the form to compare, as in `Settings`.
        revisions: as for `trace`.
        pull_requests: look into a repository's pull requests too where a step is at fault.

    Returns:
        what was found of each model; `faults` has the steps that are not what they say, with the reasons.

    Raises:
        CheckpointError: a model or a step does not exist.

    >>> from tempfile import mkdtemp
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> [found.source == folder for found in madyn.sweep.verify_checkpoints(folder)]
    [True]
    """
    given = [models] if isinstance(models, (str, Path)) else listed("models", models)
    plans = plan_models(None, given, steps, None, Settings(weights=weights), revisions)
    with progress_display() as progress:
        return [compare(plan, progress, pull_requests=pull_requests) for plan in plans]


def compare(plan: ModelPlan, progress: Progress, *, pull_requests: bool = False) -> Verification:
    """Compare what is asked of one model, whatever of it has been measured and whoever's share it is."""
    bar = progress.add_task(f"comparing checkpoints of {plan.model}", total=None)
    try:
        return verify(
            plan.found,
            [c.step for c in plan.wanted if c.step is not None],
            pull_requests=pull_requests,
            advance=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    finally:
        progress.remove_task(bar)


def compare_all(plans: Iterable[ModelPlan]) -> dict[str, Verification]:
    """What was found of each model that something is left to measure of, by its directory."""
    with progress_display() as progress:
        return {plan.model: compare(plan, progress) for plan in plans if plan.todo}


def apart(plan: ModelPlan, found: Verification | None, settings: Settings) -> ModelPlan:
    """A plan with the checkpoints that are not what they say out of what is to be measured."""
    if found is None:
        return plan
    refused = found.reasons(allow=settings.allow_duplicates)
    return replace(
        plan,
        todo=[c for c in plan.todo if c.step not in refused],
        refused=[(c, refused[c.step]) for c in plan.todo if c.step in refused],
        remarks=found.reasons(measurable=True) if settings.allow_duplicates else {},
    )


def report_lines(model: str, found: Verification | None, *, allow: bool = False) -> list[str]:
    """What was found of a model, a line a finding, for somebody who is going to measure it."""
    if found is None:
        return []
    told = [f"{model}: {finding}" for finding in found.findings if not _expected(finding)]
    faults = found.reasons(allow=allow)
    if faults:
        told.append(f"{model}: {len(faults)} of {len(found.steps)} checkpoints are not measured: {list_steps(faults)}")
    return told


def _expected(finding: Finding) -> bool:
    """Whether there is nothing to say: `main` is one of the steps."""
    return finding.kind == "plausible" and len(finding.steps) < 2
