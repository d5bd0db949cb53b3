"""Checkpoints x probe -> dataset: the sweep over a model's training.

The unit is one model at one step. A unit is measured once: its statistics file is written last, and a unit that has
one is passed over when the sweep runs again. A checkpoint that cannot be read or measured is recorded in the manifest
and the sweep goes on; only what would spoil every unit (no space, another text, a step that does not exist) stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoints
from madyn.checkpoints.sources.function import checkpoints_of
from madyn.dataset import Dataset, manifest, open_dataset
from madyn.dataset.files import is_local, root_path, storage_error
from madyn.dataset.layout import check_step
from madyn.dataset.leftovers import sweep
from madyn.dataset.locking import tracing
from madyn.dataset.partial import make_folder
from madyn.errors import MadynError, ProbeMismatchError, UsageError, listed, needs_extra
from madyn.settings import GIVEN, Probe, Settings
from madyn.sweep.engines import Engine, choose_engine, revisit
from madyn.sweep.inputs import (
    Inputs,
    describe_inputs,
    given_inputs,
    inputs_for,
    named_tokenizer,
    probe_of_inputs,
    probe_record,
    refuse_typos,
)
from madyn.sweep.planning import ModelPlan, Steps, plan_models, take_share
from madyn.sweep.units import Outcome, Work, start_unit
from madyn.sweep.verifying import apart, compare_all, report_lines
from madyn.terminal import counted, data_size, few, progress_display
from madyn.text import Text, hash_tokens, read_text

if TYPE_CHECKING:
    import numpy as np


@dataclass
class TraceReport:
    """What a sweep did. Units are (model, step)."""

    path: Path
    measured: list[tuple[str, int]] = field(default_factory=list)
    already: list[tuple[str, int]] = field(default_factory=list)
    failures: list[manifest.Unit] = field(default_factory=list)

    def __repr__(self) -> str:
        models = few(dict.fromkeys(model for model, _ in (*self.measured, *self.already)))
        return (
            f"<madyn TraceReport: {self.path}\n {len(self.measured)} measured, {len(self.already)} already there, "
            f"{len(self.failures)} failed: {models or 'nothing'}\n measured, already, failures, open()>"
        )

    def open(self) -> Dataset:
        """The dataset that was written to."""
        return open_dataset(self.path)


@needs_extra
def trace(
    models: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    steps: Steps = None,
    probe: Probe | str = "stdlib",
    name: str | None = None,
    settings: Settings | None = None,
    revisions: str | None = None,
    engine: str = "local",
    jobs: int = 1,
    cpus: int = 1,
    gpus: float = 0,
    shard: str | None = None,
    load: Callable[[int], Any] | None = None,
    inputs: Any = None,
    tokenizer: Any = None,
) -> TraceReport:
    """Measure the training checkpoints of models into a dataset.

    Args:
        models: folders of checkpoints (`stepN`, `checkpoint-N`), or names of the Hub whose revisions are steps.
        out: the dataset's folder, made if needed, or a URL that fsspec knows, such as s3://bucket/name. What it holds
            already is not measured again. Several processes may trace into one dataset.
        steps: "paper" (those of the published grid that the model has), "all", one step, or several, as a list or
            as text ("0,1,2"). By default the published grid for Pythia and all steps for other models.
        probe: the text to measure on, as the name of a source or a `Probe`.
        name: the model's directory in the dataset, if one model is given; made from its name by default.
        settings: dtype, device, batch size and the like.
        revisions: a regular expression with a group named `step`, for revisions named in a way of their own.
        engine: "local", "ray" or "ray://HOST:PORT"; `jobs` is the number of local processes, `cpus` and `gpus` what a
            unit takes of a Ray cluster.
        shard: "i/N", to measure one share of N; every share leaves the others' units alone.
        load: gives the model at a step, for models that are not from transformers; `models` is then one name, and
            `steps` a list.
        inputs: what to measure on, in place of the probe's text: token ids (B, S), or pixel values (B, C, H, W). Of the
            probe only the positions that are left out or grouped count then.
        tokenizer: the tokenizer for the probe's text, or its name or folder; that of the checkpoints by default.

    Returns:
        what was measured, what was there already, and the units that failed with the reason of each.

    Raises:
        CheckpointError: a model or a step does not exist. Nothing has been measured then.
        ProbeMismatchError: the dataset, or the model in it, was measured on another text or other tokens.
        TextError: the text cannot be read or is too short.
        StorageError: the dataset cannot be written.
        UsageError: two models would share a directory, a lab trains in the dataset, or an argument cannot mean
            anything.

    >>> from tempfile import mkdtemp
    >>> import numpy as np
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> report = madyn.trace(folder, folder + "-measured", inputs=np.arange(16).reshape(2, 8))
    >>> report.measured
    [('run', 0), ('run', 1)]
    >>> report.open().steps("run")
    [0, 1]
    """
    import madyn.measurement  # noqa: F401  # a missing torch is said before anything is read

    settings = settings or Settings()
    probe = Probe(probe) if isinstance(probe, str) else probe
    values = None if inputs is None else given_inputs(inputs)
    if values is not None:
        probe = probe_of_inputs(probe, values)
    else:
        refuse_typos(probe, tokenizer)
    chosen = choose_engine(engine, jobs=jobs, cpus=cpus, gpus=gpus)
    root = root_path(out)
    given = [models] if isinstance(models, (str, Path)) else listed("models", models)
    sources = given if load is None else [_from_callable(given, steps, load)]
    plans = take_share(plan_models(root, sources, steps, name, settings, revisions), shard)
    for plan in plans:
        _refuse_other_windows(plan, probe)
    plans = _compared(plans, settings)
    text = None if values is not None else read_text(probe.text, probe.documents, probe.seed)
    record = probe_record(probe, text, values)
    manifest.refuse_other_probe(root, record)
    reader = named_tokenizer(tokenizer, trust_remote_code=settings.trust_remote_code) if text is not None else None
    probes = {plan.model: _inputs(plan, text, probe, values, reader) for plan in plans if plan.todo}
    reasons = [found for found in probes.values() if isinstance(found, MadynError)]
    if reasons and len(reasons) == len(probes):
        raise reasons[0]  # nothing can be measured; otherwise the others are, and this is recorded
    if is_local(root):
        try:
            make_folder(root)
        except OSError as e:
            raise storage_error(root, e) from e
    report = TraceReport(root, already=[(plan.model, step) for plan in plans for step in plan.done])
    works = _works(str(out) if not is_local(root) else str(root), plans, probes, probe, settings)
    told = [f"{model}: {remark}" for model, found in probes.items() for remark in getattr(found, "remarks", ())]
    with tracing(root):
        sweep(root)
        manifest.claim_probe(root, record)
        _record_refused(root, plans, report)
        _run(works, chosen, report, "\n".join([_describe(plans, describe_inputs(probe, values)), *told]))
    return report


def _compared(plans: Sequence[ModelPlan], settings: Settings) -> list[ModelPlan]:
    """The plans with the checkpoints that are not what they say told apart, and what was found printed."""
    compared = compare_all(plans)
    with progress_display() as progress:
        for model, found in compared.items():
            for line in report_lines(model, found, allow=settings.allow_duplicates):
                progress.console.print(line)
    return [apart(plan, compared.get(plan.model), settings) for plan in plans]


def _record_refused(root: Path, plans: Sequence[ModelPlan], report: TraceReport) -> None:
    """Record as failed what is not measured because it is not what it says."""
    for plan in plans:
        for checkpoint, reason in plan.refused:
            failure = f"checkpoint {checkpoint}: {reason}"
            unit = replace(start_unit(plan.model, plan.source, checkpoint), failure=failure)
            manifest.write_failure(root, unit)
            report.failures.append(unit)


def _works(
    root: str, plans: Sequence[ModelPlan], probes: dict[str, Inputs | MadynError], probe: Probe, settings: Settings
) -> list[Work]:
    works = []
    for plan in plans:
        # All checkpoints of a model are of one size, and a unit's time goes with it.
        cost = float(max(1, _weight_bytes(plan)))
        if not plan.todo:
            continue
        inputs = probes[plan.model]
        values, remarks = (inputs, ()) if isinstance(inputs, MadynError) else (inputs.values, inputs.remarks)
        works += [
            Work(
                root,
                plan.model,
                plan.source,
                checkpoint,
                values,
                probe,
                settings,
                cost,
                (*remarks, *plan.remarks_of(checkpoint)),
                frozenset(plan.found.steps),
            )
            for checkpoint in plan.todo
        ]
    return works


def _run(works: Sequence[Work], engine: Engine, report: TraceReport, description: str) -> None:
    """Every unit through the engine; those that others held, again at the end."""
    with progress_display(weighted=True) as progress:
        progress.console.print(description)
        total = sum(work.cost for work in works)
        bar = progress.add_task("measuring", total=total)
        by_unit = {(work.model, work.step): work for work in works}
        held = []
        told: set[str] = set()

        def take(outcomes: Iterator[Outcome]) -> None:
            for outcome in outcomes:
                unit = (outcome.model, outcome.step)
                if outcome.state == "busy":
                    held.append(by_unit[unit])
                    continue
                if outcome.failure:
                    report.failures.append(outcome.failure)
                    progress.console.print(f"{unit[0]} step {unit[1]} failed: {outcome.failure.failure}")
                elif outcome.state == "measured":
                    report.measured.append(unit)
                    if outcome.remarks and outcome.model not in told:
                        told.add(outcome.model)  # most go for all steps, and the manifest has them of each
                        progress.console.print(f"{unit[0]} step {unit[1]}: {'; '.join(outcome.remarks)}")
                else:
                    report.already.append(unit)
                done = len(report.measured) + len(report.failures)
                progress.update(bar, description=f"measured {done} of {len(works)}, last {unit[0]} step {unit[1]}")
                progress.advance(bar, by_unit[unit].cost)

        take(engine(works))
        if held:
            progress.console.print(f"waiting for {len(held)} checkpoint(s) that another process is measuring")
            take(revisit(held))


def _from_callable(names: Sequence[str | Path], steps: Steps, load: Callable[[int], Any]) -> Checkpoints:
    """The checkpoints that a function gives: those of the steps asked for."""
    if len(names) != 1:
        raise UsageError("load goes with one model: give the name that it shall have")
    if steps is None or isinstance(steps, str):
        raise UsageError("load needs steps as a list of whole numbers: a function does not say which it can give")
    name = str(names[0])
    numbers = [check_step(step) for step in ([steps] if isinstance(steps, int) else listed("steps", steps))]
    return checkpoints_of(name, numbers, load)


def _weight_bytes(plan: ModelPlan) -> int:
    """Of one checkpoint; 0 where it cannot be said, which its own measurement will explain."""
    with suppress(MadynError):
        return plan.todo[0].weight_bytes() if plan.todo else 0
    return 0


def _describe(plans: Sequence[ModelPlan], inputs: str) -> str:
    """What is going to happen, before it does."""
    todo = [checkpoint for plan in plans for checkpoint in plan.todo]
    done = sum(len(plan.done) for plan in plans)
    size = sum(_weight_bytes(plan) * len(plan.todo) for plan in plans)
    counts = (
        f"{counted(len(plans), 'model')}, {counted(len(todo) + done, 'checkpoint')}: {done:,} already measured, "
        f"{len(todo):,} to measure on {inputs}" + (f"; {data_size(size)} of weights to read" if size else "")
    )
    return "\n".join([counts, *(sentence for plan in plans for sentence in plan.left_out)])


def _refuse_other_windows(plan: ModelPlan, probe: Probe) -> None:
    """Refuse windows other than those of the units already measured, which their manifests tell with nothing loaded."""
    for unit in plan.known.values():
        if unit.tokens_sha256 is None:
            continue
        if tuple(unit.exclude_positions) != probe.excluded:
            raise ProbeMismatchError(
                f"{plan.model} step {unit.step} was measured without the positions {list(unit.exclude_positions)}, and "
                f"{list(probe.excluded)} are to be left out now: use the same, or another --out"
            )
        if probe.text == GIVEN or not unit.architecture:
            continue
        length = probe.length_for(Architecture.from_config(unit.architecture))
        if (unit.sequences, unit.length, unit.first_token) != (probe.sequences, length, probe.first_token):
            raise ProbeMismatchError(
                f"{plan.model} step {unit.step} was measured on other tokens ({unit.sequences} sequences of "
                f"{unit.length}, first token: {unit.first_token}) than these ({probe.sequences} of {length}, first "
                f"token: {probe.first_token}): use the same, or another --out"
            )


def _inputs(
    plan: ModelPlan, text: Text | None, probe: Probe, values: np.ndarray | None, tokenizer: Any
) -> Inputs | MadynError:
    """What a model is measured on; the reason, where no checkpoint of it says what shape it has.

    Raises:
        ProbeMismatchError: units of the model were measured on other tokens.
    """
    if text is None:
        assert values is not None
        found = Inputs(values)
    else:
        found = inputs_for(plan.wanted, text, probe, tokenizer)
        if isinstance(found, MadynError):
            return found
    tokens = hash_tokens(found.values)
    for unit in plan.known.values():
        if unit.tokens_sha256 not in (None, tokens):
            why = f"the tokenizer of {plan.wanted[0]} is another one" if text is not None else "these are not those"
            raise ProbeMismatchError(
                f"{plan.model} step {unit.step} was measured on other tokens: {why}; use another --out"
            )
    return found
