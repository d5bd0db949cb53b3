"""Checkpoints x probe -> dataset: the sweep over a model's training.

The unit is one model at one step. A unit is measured once: its statistics file is written last, and a unit that has
one is passed over when the sweep runs again. A checkpoint that cannot be read or measured is recorded in the manifest
and the sweep goes on; only what would spoil every unit (no space, another text, a step that does not exist) stops it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoint, Checkpoints, find_checkpoints
from madyn.dataset import Dataset, layout, manifest, open_dataset
from madyn.dataset.files import storage_error, write_bytes, write_json
from madyn.dataset.statistics import encode_statistics
from madyn.errors import ArchitectureError, CheckpointError, MadynError, ProbeMismatchError, StorageError, UsageError
from madyn.suites import PYTHIA
from madyn.sweep.settings import Probe, Settings, resolve_device, torch_dtype, versions
from madyn.terminal import progress_display
from madyn.text import Text, hash_tokens, read_text, token_sequences

if TYPE_CHECKING:
    import numpy as np

    from madyn.measurement import Measurement

Steps = str | int | Iterable[int] | None


@dataclass
class TraceReport:
    """What a sweep did. Units are (model, step)."""

    path: Path
    measured: list[tuple[str, int]] = field(default_factory=list)
    already: list[tuple[str, int]] = field(default_factory=list)
    failures: list[manifest.Unit] = field(default_factory=list)

    def open(self) -> Dataset:
        """The dataset that was written to."""
        return open_dataset(self.path)


def trace(
    models: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    steps: Steps = None,
    probe: Probe | str = "stdlib",
    name: str | None = None,
    settings: Settings | None = None,
) -> TraceReport:
    """Measure the training checkpoints of models into a dataset.

    Args:
        models: folders of checkpoints (`stepN`, `checkpoint-N`), or names of the Hub whose revisions are steps.
        out: the dataset's folder, made if needed. What it holds already is not measured again.
        steps: "paper" (those of the published grid that the model has), "all", one step, or several, as a list or
            as text ("0,1,2"). By default the published grid for Pythia and all steps for other models.
        probe: the text to measure on, as the name of a source or a `Probe`.
        name: the model's directory in the dataset, if one model is given; made from its name by default.
        settings: dtype, device, batch size and the like.

    Returns:
        what was measured, what was there already, and the units that failed with the reason of each.

    Raises:
        CheckpointError: a model or a step does not exist. Nothing has been measured then.
        ProbeMismatchError: the dataset, or the model in it, was measured on another text or other tokens.
        TextError: the text cannot be read or is too short.
        StorageError: the dataset cannot be written.
        UsageError: two models would share a directory, or an argument cannot mean anything.
    """
    import madyn.measurement  # noqa: F401  # a missing torch is said before anything is read

    settings = settings or Settings()
    probe = Probe(probe) if isinstance(probe, str) else probe
    root = Path(out)
    plans = _plan(root, [models] if isinstance(models, (str, Path)) else list(models), steps, name, settings)
    text = read_text(probe.text, probe.documents, probe.seed)
    record = manifest.ProbeRecord(text=probe.text, sha256=text.sha256, documents=len(text.documents), seed=probe.seed)
    manifest.refuse_other_probe(root, record)
    for plan in plans:
        _refuse_other_windows(plan, probe)
    probes = {plan.model: _sequences(plan, text, probe) for plan in plans if plan.todo}
    reasons = [found for found in probes.values() if isinstance(found, MadynError)]
    if reasons and len(reasons) == len(probes):
        raise reasons[0]  # nothing can be measured; otherwise the others are, and this is recorded
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise storage_error(root, e) from e
    manifest.claim_probe(root, record)
    report = TraceReport(root)
    with progress_display() as progress:
        progress.console.print(_describe(plans, probe))
        bar = progress.add_task("measuring", total=sum(len(plan.todo) for plan in plans))
        for plan in plans:
            report.already += [(plan.model, step) for step in plan.done]
            for checkpoint in plan.todo:
                progress.update(bar, description=f"measuring {plan.model} step {checkpoint.step}")
                unit = _measure_unit(root, plan, checkpoint, probes[plan.model], probe, settings)
                if unit.failure:
                    report.failures.append(unit)
                    progress.console.print(f"{plan.model} step {unit.step} failed: {unit.failure}")
                else:
                    report.measured.append((plan.model, unit.step))
                progress.advance(bar)
    return report


@dataclass(frozen=True)
class _Plan:
    """What is to be done for one model: all checkpoints asked for, those still to measure, the steps that are there."""

    model: str
    source: str
    wanted: list[Checkpoint]
    todo: list[Checkpoint]
    done: list[int]
    known: dict[int, manifest.Unit]


def _plan(root: Path, models: list[str | Path], steps: Steps, name: str | None, settings: Settings) -> list[_Plan]:
    if not models:
        raise UsageError("no model to trace")
    if name is not None and len(models) > 1:
        raise UsageError("--name goes with one model")
    plans: dict[str, _Plan] = {}
    for model in models:
        found = find_checkpoints(model, trust_remote_code=settings.trust_remote_code)
        directory = layout.directory_name(name or found.name)
        if directory in plans:
            raise UsageError(f"{plans[directory].source} and {model} would both be {directory}; trace one with --name")
        wanted = found.at(choose_steps(steps, found))
        present = layout.statistics_files(root, directory)
        plans[directory] = _Plan(
            directory,
            str(model),
            wanted,
            [c for c in wanted if c.step not in present],
            [c.step for c in wanted if c.step in present and c.step is not None],
            manifest.read_units(root, directory),
        )
    return list(plans.values())


def choose_steps(steps: Steps, found: Checkpoints) -> list[int]:
    """The training steps that a request means for a model.

    Raises:
        UsageError: the request is not understood, or the published grid has no step in common with the model.
    """
    if steps is None:
        steps = "paper" if found.name in PYTHIA.models else "all"
    if steps == "all":
        return list(found.by_step)
    if steps == "paper":
        chosen = [step for step in PYTHIA.grids["paper"] if step in found.by_step]
        if not chosen:
            raise UsageError(f"{found.source} has none of the paper's steps; say --steps all, or which")
        return chosen
    try:
        numbers = [int(s) for s in (steps.split(",") if isinstance(steps, str) else _listed(steps))]
    except (TypeError, ValueError) as e:
        raise UsageError(f"steps {steps!r}: expected paper, all, or whole numbers such as 0,1,2") from e
    if not numbers or min(numbers) < 0:
        raise UsageError(f"steps {steps!r}: at least one step is needed, and none below 0")
    return numbers


def _listed(steps: int | Iterable[int]) -> Iterable[int]:
    return [steps] if isinstance(steps, int) else steps


def _describe(plans: list[_Plan], probe: Probe) -> str:
    """What is going to happen, before it does."""
    todo = [checkpoint for plan in plans for checkpoint in plan.todo]
    done = sum(len(plan.done) for plan in plans)
    # All checkpoints of a model are of one size.
    size = sum(plan.todo[0].weight_bytes() * len(plan.todo) for plan in plans if plan.todo)
    return (
        f"{len(plans)} model(s), {len(todo) + done} checkpoints: {done} already measured, {len(todo)} to measure on "
        f"{probe.sequences} sequences of {probe.text}" + (f"; {size / 1e9:.2f} GB of weights to read" if size else "")
    )


def _refuse_other_windows(plan: _Plan, probe: Probe) -> None:
    """Refuse windows other than those of the units already measured, which their manifests tell with nothing loaded."""
    for unit in plan.known.values():
        if unit.failure is not None or unit.tokens_sha256 is None:
            continue
        length = probe.length_for(Architecture.from_config(unit.architecture))
        if (unit.sequences, unit.length, unit.first_token) != (probe.sequences, length, probe.first_token):
            raise ProbeMismatchError(
                f"{plan.model} step {unit.step} was measured on other tokens ({unit.sequences} sequences of "
                f"{unit.length}, first token: {unit.first_token}) than these ({probe.sequences} of {length}, first "
                f"token: {probe.first_token}): use the same, or another --out"
            )


def _sequences(plan: _Plan, text: Text, probe: Probe) -> np.ndarray | MadynError:
    """The tokens that a model is measured on; the reason, where no checkpoint of it says what shape it has.

    Raises:
        ProbeMismatchError: units of the model were measured on other tokens.
    """
    shape = _first_readable(plan.wanted)
    if isinstance(shape, MadynError):
        return shape
    architecture, tokenizer = shape
    length = probe.length_for(architecture)
    sequences = token_sequences(text, tokenizer, probe.sequences, length, bos=probe.bos)
    tokens = hash_tokens(sequences)
    for unit in plan.known.values():
        if unit.failure is None and unit.tokens_sha256 not in (None, tokens):
            raise ProbeMismatchError(
                f"{plan.model} step {unit.step} was measured on other tokens: the tokenizer of {plan.wanted[0]} is "
                "another one; use another --out"
            )
    return sequences


def _first_readable(checkpoints: Sequence[Checkpoint]) -> tuple[Architecture, Any] | MadynError:
    """Shape and tokenizer, which all checkpoints of a model share, from the first whose files can be read."""
    reason: MadynError = CheckpointError("no checkpoint")
    for checkpoint in checkpoints:
        try:
            return Architecture.from_config(checkpoint.config()), checkpoint.tokenizer()
        except (CheckpointError, ArchitectureError) as e:
            reason = e  # its own measurement will fail too, and be recorded
    return reason


def _measure_unit(
    root: Path,
    plan: _Plan,
    checkpoint: Checkpoint,
    sequences: np.ndarray | MadynError,
    probe: Probe,
    settings: Settings,
) -> manifest.Unit:
    """Measure one checkpoint and write what it gave: locations, manifest, and the statistics last."""
    assert checkpoint.step is not None
    unit = manifest.Unit(
        model=plan.model,
        step=checkpoint.step,
        source=plan.source,
        revision=checkpoint.revision or Path(checkpoint.source).name,
        commit=checkpoint.commit,
        versions=versions(),
    )
    try:
        if isinstance(sequences, MadynError):
            raise sequences
        unit, result = _measured(unit, checkpoint, sequences, probe, settings)
        data = encode_statistics(result.statistics)
    except (StorageError, UsageError):
        raise
    except Exception as e:  # whatever one checkpoint does, it must not cost the others: it is recorded
        reason = str(e) if isinstance(e, MadynError) else f"{checkpoint}: {type(e).__name__}: {e}"
        unit = replace(unit, failure=reason)
        manifest.write_unit(root, unit)
        return unit
    unit = replace(unit, statistics_sha256=hashlib.sha256(data).hexdigest())
    write_json(layout.locations_path(root, plan.model, unit.step), locate_tokens(result, sequences))
    manifest.write_unit(root, unit)
    write_bytes(layout.statistics_path(root, plan.model, unit.step), data)
    return unit


def _measured(
    unit: manifest.Unit, checkpoint: Checkpoint, sequences: np.ndarray, probe: Probe, settings: Settings
) -> tuple[manifest.Unit, Measurement]:
    """The unit with what it was measured with, and the measurement."""
    import torch

    from madyn.measurement import measure_with_locations

    device = resolve_device(settings.device)
    model = checkpoint.model(torch_dtype(settings.dtype), device)
    result = measure_with_locations(model, sequences, top_k=3, batch_size=settings.batch_size)
    described = replace(
        unit,
        weights_sha256=checkpoint.hash_weights(),
        sequences=int(sequences.shape[0]),
        length=int(sequences.shape[1]),
        first_token=probe.first_token,
        tokens_sha256=hash_tokens(sequences),
        dtype=settings.dtype,
        device=device,
        threads=torch.get_num_threads(),
        batch_size=settings.batch_size,
        parameters=_count_parameters(model),
        architecture=Architecture.from_config(model.config).to_dict(),
    )
    return described, result


def _count_parameters(decoder: Any) -> int:
    """The parameters of the whole model. The decoder was loaded without its language-model head, if it has one."""
    config = decoder.config.get_text_config()
    with_head = any("CausalLM" in name or "LMHead" in name for name in decoder.config.architectures or [])
    head = config.vocab_size * config.hidden_size if with_head and not config.tie_word_embeddings else 0
    return decoder.num_parameters() + head


def locate_tokens(result: Measurement, sequences: np.ndarray) -> dict[str, Any]:
    """Where the largest values stand: nested lists B x k x L of position, token id and feature."""
    import numpy as np

    token = np.take_along_axis(sequences[:, :, None], result.positions.reshape(len(sequences), -1, 1), axis=1)
    return {
        "position": result.positions.tolist(),
        "token_id": token.reshape(result.positions.shape).tolist(),
        "feature": result.features.tolist(),
    }
