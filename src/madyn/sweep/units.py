"""One unit: a model at one step, measured into the dataset. What every engine runs, wherever it runs.

Doing a unit twice gives the same files, and a unit that is measured is passed over, so that an engine may
retry as it likes; one whose files are damaged is measured again. A checkpoint that cannot be read or measured is
recorded in the manifest; only what would spoil every unit (no space, an argument that cannot mean anything) is raised.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoint
from madyn.checkpoints.sources.protocol import Files
from madyn.checkpoints.verifying import at_another_step
from madyn.dataset import layout, manifest
from madyn.dataset.files import create_bytes, encode_json, is_there, root_path, write_bytes
from madyn.dataset.statistics import encode_statistics
from madyn.errors import (
    ArchitectureError,
    CheckpointError,
    DatasetError,
    MadynError,
    StorageError,
    UsageError,
    reason_of,
)
from madyn.settings import Probe, Settings
from madyn.sweep.claims import claim
from madyn.sweep.inputs import measured_length
from madyn.sweep.machine import resolve_device, torch_dtype, versions
from madyn.sweep.remarks import overflow_remark
from madyn.text import hash_tokens

if TYPE_CHECKING:
    import numpy as np

    from madyn.checkpoints.loading import Loader
    from madyn.measurement import Measurement


@dataclass(frozen=True)
class Work:
    """A unit to be measured, with all that is needed to do it in another process.

    Attributes:
        root: the dataset, as a path or a URL.
        sequences: token ids (B, S) or pixel values (B, C, H, W); or why there are none.
        cost: how much work it is, in any unit that the works of a sweep share.
        remarks: what is worth recording of what it is measured on, a sentence each.
        steps: all the steps that the model has.
    """

    root: str
    model: str
    source: str
    checkpoint: Checkpoint
    sequences: np.ndarray | MadynError
    probe: Probe
    settings: Settings
    cost: float = 1.0
    remarks: tuple[str, ...] = ()
    steps: frozenset[int] = frozenset()

    @property
    def step(self) -> int:
        assert self.checkpoint.step is not None
        return self.checkpoint.step


@dataclass(frozen=True)
class Outcome:
    """What became of a unit. `busy` is one that another process holds; remarks are of what it measured."""

    model: str
    step: int
    state: Literal["measured", "already", "failed", "busy"]
    failure: manifest.Unit | None = None
    remarks: tuple[str, ...] = ()


def prepare(work: Work) -> Files | MadynError:
    """Bring a checkpoint's weights to this machine, and into the system's cache of files where they are here already.

    This is what goes on for the next unit while this one computes. What goes wrong is said when its turn comes.
    """
    checkpoint = work.checkpoint
    try:
        if not work.settings.allow_duplicates:
            _refuse_other_step(work)
        if work.settings.keep_cache is not None and not checkpoint.is_here():
            _FETCHED.append(checkpoint)
        return checkpoint.fetch(decoder_only=work.settings.decoder_only)
    except MadynError as e:
        return e
    except OSError as e:
        return CheckpointError(f"{checkpoint}: its files cannot be had: {e}")


def _refuse_other_step(work: Work) -> None:
    """Raise CheckpointError where a checkpoint says only now that it is another step of its model."""
    said = work.checkpoint.late_step()
    if said is not None and at_another_step({work.step: said[0]}, work.steps):
        raise CheckpointError(
            f"{work.checkpoint} is step {said[0]}, says {said[1]} in it: take other steps, or measure it all the "
            "same with --allow-duplicates"
        )


_FETCHED: deque[Checkpoint] = deque()  # what this process downloaded and has not yet removed, oldest first


def _bound_cache(keep: int | None) -> None:
    """Remove the oldest downloads past the number to keep. One more may be under way for the next unit."""
    while keep is not None and len(_FETCHED) > keep + 1:
        _FETCHED.popleft().forget()


def finish_cache(keep: int | None) -> None:
    """As `_bound_cache`, when nothing is under way any more."""
    while keep is not None and len(_FETCHED) > keep:
        _FETCHED.popleft().forget()


def measure_unit(work: Work, files: Files | MadynError | None = None, *, wait: bool = False) -> Outcome:
    """Measure one unit and write what it gave: locations, manifest, and the statistics last.

    Args:
        files: what `prepare` gave; done here if not given.
        wait: for another process that holds the unit, rather than to say that it is busy.

    Raises:
        StorageError: the dataset cannot be written.
        UsageError: the settings cannot mean anything for this model.
    """
    root = root_path(work.root)
    with claim(root, work.model, work.step, wait=wait) as mine:
        if manifest.is_measured(root, work.model, work.step):
            return Outcome(work.model, work.step, "already")
        if not mine:
            return Outcome(work.model, work.step, "busy")
        outcome = _measure(root, work, prepare(work) if files is None else files)
    _bound_cache(work.settings.keep_cache)
    return outcome


def start_unit(model: str, source: str, checkpoint: Checkpoint) -> manifest.Unit:
    """What is known of a unit before it is measured."""
    assert checkpoint.step is not None
    return manifest.Unit(
        model=model,
        step=checkpoint.step,
        source=source,
        revision=checkpoint.revision or Path(checkpoint.source).name,
        commit=checkpoint.commit,
        versions=versions(),
    )


def _measure(root: Path, work: Work, files: Files | MadynError) -> Outcome:
    unit = start_unit(work.model, work.source, work.checkpoint)
    unit = replace(unit, remarks=list(work.remarks))
    try:
        for refused in (work.sequences, files):
            if isinstance(refused, MadynError):
                raise refused
        assert isinstance(files, Files)
        unit, result = _measured(unit, work, files)
        damaged = is_there(layout.statistics_path(root, work.model, work.step))  # or it would not be measured
        created = write_measured(root, unit, result, work.sequences, replace_old=damaged)
    except (StorageError, UsageError):
        raise
    except Exception as e:  # whatever one checkpoint does, it must not cost the others: it is recorded
        reason = reason_of(e)
        if str(work.checkpoint) not in reason:  # a file in a cache does not say whose it is
            reason = f"checkpoint {work.checkpoint}: {reason}"
        unit = replace(unit, failure=reason)
        manifest.write_failure(root, unit)
        return Outcome(work.model, work.step, "failed", unit)
    said = tuple(remark for remark in unit.remarks if remark not in work.remarks)
    return Outcome(work.model, work.step, "measured" if created else "already", remarks=said)


def write_measured(
    root: Path, unit: manifest.Unit, result: Measurement, sequences: Any, *, replace_old: bool = False
) -> bool:
    """Write what a unit gave, its statistics last; False where somebody else has written them before.

    Args:
        replace_old: statistics that are there are not those of this unit, and give way.

    Raises:
        StorageError: the dataset cannot be written.
        DatasetError: the statistics are not what a file of them holds.
    """
    data = encode_statistics(result.statistics)
    locations = encode_json(locate_tokens(result, sequences))
    groups = {name: values.astype(float).tolist() for name, values in result.groups.items()}
    positions = encode_json(groups) if groups else None
    unit = replace(
        unit,
        statistics_sha256=hashlib.sha256(data).hexdigest(),
        locations_sha256=hashlib.sha256(locations).hexdigest(),
        positions_sha256=None if positions is None else hashlib.sha256(positions).hexdigest(),
        probe_sha256=_probe_hash(root),
    )
    paths = (path(root, unit.model, unit.step) for path in _PATHS)
    locations_path, positions_path, path = (layout.inside(root, path) for path in paths)
    write_bytes(locations_path, locations)
    if positions is not None:
        write_bytes(positions_path, positions)
    manifest.write_unit(root, unit)
    if replace_old:
        write_bytes(path, data)
        return True
    return create_bytes(path, data)


def _probe_hash(root: Path) -> str | None:
    try:
        probe = manifest.read_probe(root)
    except DatasetError:
        return None  # `madyn check` tells of it, and what was measured is kept
    return probe.sha256 if probe else None


_PATHS = (layout.locations_path, layout.positions_path, layout.statistics_path)

_LOADERS: dict[tuple[str, str], Loader] = {}  # one a dtype and device: a process measures one model after another


def _measured(unit: manifest.Unit, work: Work, files: Files) -> tuple[manifest.Unit, Measurement]:
    """The unit with what it was measured with, and the measurement."""
    assert not isinstance(work.sequences, MadynError)
    loaded = load_model(work.checkpoint, files.folder, work.settings)
    settings = replace(work.settings, layers=loaded.layers)
    if loaded.streamed:
        settings = replace(settings, batch_size=len(work.sequences))
    unit, result = measure_loaded(unit, loaded.model, work.sequences, work.probe, settings)
    return replace(
        unit,
        weights_xxh3=work.checkpoint.hash_weights(),
        weights_sha256=files.sha256,
        dtype=str(torch_dtype(settings.dtype)).removeprefix("torch."),
        device=resolve_device(settings.device),
        streamed=loaded.streamed,
        remarks=[*unit.remarks, *loaded.remarks],
        bytes_left_out=files.bytes_left_out,
    ), result


def measure_loaded(
    unit: manifest.Unit, model: Any, sequences: np.ndarray, probe: Probe, settings: Settings
) -> tuple[manifest.Unit, Measurement]:
    """Measure a model that is in memory: the unit with what it was measured with, and the measurement.

    Raises:
        ArchitectureError, NonFiniteError, UsageError: as `measure` raises them.
    """
    from madyn.measurement import measure_with_locations

    result = measure_with_locations(
        model,
        sequences,
        top_k=3,
        batch_size=settings.batch_size,
        layers=settings.layers,
        exclude=probe.excluded,
        groups=probe.groups,
    )
    return describe_measured(unit, model, sequences, result, probe, settings.batch_size), result


def describe_measured(
    unit: manifest.Unit, model: Any, sequences: np.ndarray, result: Measurement, probe: Probe, batch_size: int
) -> manifest.Unit:
    """The unit with what it was measured with."""
    import torch

    weights = next(model.parameters())
    overflow = overflow_remark(result.peaks)
    return replace(
        unit,
        remarks=[*unit.remarks, *([overflow] if overflow else [])],
        sequences=int(sequences.shape[0]),
        length=measured_length(sequences, result),
        first_token=probe.first_token,
        exclude_positions=list(probe.excluded),
        tokens_sha256=hash_tokens(sequences),
        dtype=str(weights.dtype).removeprefix("torch."),
        device=weights.device.type,
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        stacks=result.stacks,
        parameters=_count_parameters(model),
        architecture=_architecture(model),
    )


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's model, ready to be measured.

    Attributes:
        layers: the path of its layers, where that is known.
        streamed: its weights pass through layer by layer.
        remarks: what is worth knowing of the checkpoint, a sentence each.
    """

    model: Any
    layers: str | None
    streamed: bool
    remarks: list[str]


def load_model(checkpoint: Checkpoint, folder: Path | None, settings: Settings) -> Loaded:
    """A checkpoint's model, whole or streamed, as the settings and the memory here ask for."""
    from madyn.checkpoints.loading import Loader
    from madyn.checkpoints.streaming import streamed_model
    from madyn.measurement.layers import layers_by_structure

    device, dtype = resolve_device(settings.device), torch_dtype(settings.dtype)
    if folder is not None and _must_stream(checkpoint, folder, settings, device):
        model, path, remarks = streamed_model(
            checkpoint, folder, dtype, device, lambda empty: layers_by_structure(empty, settings.layers)
        )
        return Loaded(model, path, True, remarks)
    key = (settings.dtype, device)
    if key not in _LOADERS:
        _LOADERS.clear()
        _LOADERS[key] = Loader(dtype, device)
    model = _LOADERS[key].load(checkpoint, folder)
    return Loaded(model, settings.layers, False, _LOADERS[key].remarks)


def _must_stream(checkpoint: Checkpoint, folder: Path, settings: Settings, device: str) -> bool:
    """Whether the weights are to pass through layer by layer: where asked, and where they would not fit."""
    if settings.stream is not None:
        return settings.stream
    import torch

    shapes = checkpoint.weights(folder).shapes() if folder.exists() else {}
    needed = sum(torch.Size(shape).numel() for shape in shapes.values()) * torch_dtype(settings.dtype).itemsize
    return needed > SHARE_OF_MEMORY * free_memory(device)


def free_memory(device: str) -> int:
    """Bytes that are free on a device now."""
    import psutil
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else psutil.virtual_memory().available


SHARE_OF_MEMORY = 0.7  # the rest is for activations, and for the file's pages while it is copied


def _architecture(model: Any) -> dict[str, Any]:
    """The shape of a model; nothing of one whose config does not say it, or that has none."""
    try:
        return Architecture.from_config(model.config).to_dict()
    except (ArchitectureError, AttributeError):
        return {}


def _count_parameters(model: Any) -> int:
    """The parameters of the whole model. A checkpoint is loaded without its language-model head, if it has one."""
    here = sum(parameter.numel() for parameter in model.parameters())
    config = getattr(model, "config", None)
    if config is None or getattr(model, "base_model", model) is not model:
        return here
    text = config.get_text_config()
    with_head = any("CausalLM" in name or "LMHead" in name for name in config.architectures or [])
    tied = getattr(text, "tie_word_embeddings", False)
    return here + (text.vocab_size * text.hidden_size if with_head and not tied else 0)


def locate_tokens(result: Measurement, sequences: Any) -> dict[str, Any]:
    """Where the largest values stand: nested lists B x k x L of position, token id (of text) and feature."""
    import numpy as np

    found: dict[str, Any] = {"position": result.positions.tolist()}
    if sequences.ndim == 2:
        token = np.take_along_axis(sequences[:, :, None], result.positions.reshape(len(sequences), -1, 1), axis=1)
        found["token_id"] = token.reshape(result.positions.shape).tolist()
    return {**found, "feature": result.features.tolist()}
