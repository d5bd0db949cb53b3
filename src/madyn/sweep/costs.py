"""What a sweep will cost, said before it starts: downloads, disk, time and memory.

Bytes are those that the Hub lists. Time comes from a short calibration on this machine: the model's config is built
with one layer and with two, at its full width and on one sequence of full length, and what the second layer adds is
what every further one will.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from madyn.architecture import Architecture
from madyn.checkpoints.building import build_model
from madyn.dataset.files import root_path
from madyn.errors import ArchitectureError, needs_extra, one_line
from madyn.settings import Probe, Settings
from madyn.sweep.inputs import given_inputs, named_tokenizer, probe_of_inputs, refuse_typos
from madyn.sweep.machine import resolve_device, torch_dtype
from madyn.sweep.planning import ModelPlan, Steps, plan_models
from madyn.sweep.startup import StartUp
from madyn.sweep.units import SHARE_OF_MEMORY, free_memory
from madyn.sweep.verifying import apart, compare_all, report_lines


@dataclass(frozen=True)
class ModelCost:
    """What the sweep over one model takes.

    Attributes:
        checkpoints: that were asked for; `left` are those still to measure.
        download: bytes still to download; `disk` the most that the downloads take at a time; None where the Hub does
            not say.
        seconds: of computing, by this machine, for all checkpoints that are left; None where it cannot be said.
        memory: bytes, at the most; None where it cannot be said.
        streamed: the weights would not fit, and pass through layer by layer.
        note: why something cannot be said.
        left_out: what was seen of the model and is not traced, a sentence a reason.
        refused: checkpoints that are not what they say and will not be measured; `findings` says why, a sentence each.

    >>> import madyn
    >>> cost = madyn.sweep.ModelCost("run", checkpoints=2, left=1, download=0, disk=0, seconds=1.0, memory=None)
    >>> cost.checkpoints - cost.left
    1
    """

    model: str
    checkpoints: int
    left: int
    download: int | None
    disk: int | None
    seconds: float | None
    memory: int | None
    streamed: bool = False
    note: str = ""
    left_out: tuple[str, ...] = ()
    refused: int = 0
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepCost:
    """What a sweep takes: by model, and once before it measures anything. Iterating gives the models' costs."""

    models: list[ModelCost]
    start_up: StartUp

    def __iter__(self) -> Iterator[ModelCost]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)


@needs_extra
def plan_costs(
    models: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    steps: Steps = None,
    probe: Probe | None = None,
    settings: Settings | None = None,
    revisions: str | None = None,
    tokenizer: Any = None,
    inputs: Any = None,
) -> SweepCost:
    """What `trace` would cost with the same arguments, and which checkpoints it would refuse.

    Nothing is downloaded but configs and tokenizers.

    Args:
        out: the dataset, a folder or a URL; what it holds already costs nothing.
        tokenizer: as for `trace`.
        inputs: as for `trace`.

    Raises:
        CheckpointError: a model or a step does not exist.
        TextError: there is no such text.

    >>> from tempfile import mkdtemp
    >>> import numpy as np
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> cost = madyn.sweep.plan_costs([folder], inputs=np.arange(16).reshape(2, 8))
    >>> [(one.model, one.checkpoints, one.left) for one in cost]
    [('run', 2, 2)]
    """
    settings, probe = settings or Settings(), probe or Probe()
    start = StartUp()
    start.add_imports()
    if inputs is not None:
        values = given_inputs(inputs)
        probe = replace(probe_of_inputs(probe, values), length=values.shape[1] if values.ndim == 2 else None)
    else:
        refuse_typos(probe, tokenizer)
    root = None if out is None else root_path(out)
    plans = plan_models(root, list(models), steps, None, settings, revisions)
    compared = compare_all(plans)
    plans = [apart(plan, compared.get(plan.model), settings) for plan in plans]
    costs = []
    for plan in plans:
        lines = report_lines(plan.model, compared.get(plan.model), allow=settings.allow_duplicates)
        cost = _cost(plan, probe, settings, start)
        costs.append(replace(cost, left_out=plan.left_out, refused=len(plan.refused), findings=tuple(lines)))
    if inputs is None:
        given = named_tokenizer(tokenizer, trust_remote_code=settings.trust_remote_code)
        start.add_text(probe, [(plan.todo[0], given) for plan in plans if plan.todo])
    return SweepCost(costs, start)


def _cost(plan: ModelPlan, probe: Probe, settings: Settings, start: StartUp) -> ModelCost:
    found, left = len(plan.wanted), len(plan.todo)
    if not left:
        return ModelCost(plan.model, found, 0, 0, 0, 0.0, 0)
    first = plan.todo[0]
    download = disk = None
    try:
        size = first.weight_bytes()  # all checkpoints of a model are of one size
        download, disk = _downloads(plan, size, settings)
        config = first.config()
        length = probe.length_for(Architecture.from_config(config))
        with start.timing("first model"):
            parameters = _decoder_parameters(config, settings.trust_remote_code)
        in_memory = parameters * torch_dtype(settings.dtype).itemsize
        streamed = settings.stream or (
            settings.stream is None and in_memory > SHARE_OF_MEMORY * free_memory(resolve_device(settings.device))
        )
        seconds, layer = calibrate(config, length, settings)
    except Exception as e:  # a config may have the model raise anything; the others' costs are told
        why = one_line(e, 1000) or type(e).__name__
        return ModelCost(plan.model, found, left, download, disk, None, None, note=f"not calibrated: {why}")
    batch = probe.sequences if streamed else settings.batch_size
    held = (in_memory - layer * (_layers(config) - 1)) if streamed else in_memory
    memory = held + _activations(config, length * batch, settings) + (0 if streamed else min(size, in_memory))
    return ModelCost(
        plan.model, found, left, download, disk, seconds * probe.sequences * left, int(memory), bool(streamed)
    )


def _downloads(plan: ModelPlan, size: int, settings: Settings) -> tuple[int, int]:
    """Bytes to download, and the most that they take at a time, of checkpoints of a size."""
    download = size * plan.todo[0].count_away(plan.todo)
    return download, download if settings.keep_cache is None else min(download, size * (settings.keep_cache + 2))


def calibrate(config: Any, length: int, settings: Settings) -> tuple[float, int]:
    """Seconds to measure one sequence with a model of this config, and the bytes of one of its layers.

    Raises:
        ArchitectureError: the config cannot be built with fewer layers.
    """
    timed = [_time(_with_layers(config, layers), length, settings) for layers in (1, 2)]
    (one, small), (two, large) = timed
    return one + max(two - one, 0.0) * (_layers(config) - 1), large - small


def _time(config: Any, length: int, settings: Settings) -> tuple[float, int]:
    import torch

    from madyn.measurement import measure

    device = resolve_device(settings.device)
    trust = settings.trust_remote_code
    dtype = torch_dtype(settings.dtype)
    model = build_model(config, config.model_type, trust_remote_code=trust, dtype=dtype).eval().to(device)
    vocabulary = config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
    measure(model, ids[:, : min(length, 16)])
    times = []
    for _ in range(2):
        start = time.perf_counter()
        measure(model, ids)
        times.append(time.perf_counter() - start)
    return min(times), sum(p.numel() * p.element_size() for p in model.parameters())


def _with_layers(config: Any, count: int) -> Any:
    small = copy.deepcopy(config)
    text = small.get_text_config()
    total = _layers(config)
    for name, value in list(vars(text).items()):
        if isinstance(value, (list, tuple)) and len(value) == total:
            setattr(text, name, value[:count])  # settings by layer
    text.num_hidden_layers = count
    return small


def _layers(config: Any) -> int:
    found = getattr(config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(found, int):
        raise ArchitectureError("the config does not give the number of layers")
    return found


def _decoder_parameters(config: Any, trust: bool) -> int:
    import torch

    with torch.device("meta"):
        model = build_model(config, config.model_type, trust_remote_code=trust)
    return sum(p.numel() for p in model.parameters())


def _activations(config: Any, tokens: int, settings: Settings) -> int:
    """A layer's at their highest: the residual stream a few times, and the two sides of its MLP's activation."""
    a = Architecture.from_config(config)
    return tokens * (4 * a.hidden_size + 2 * a.intermediate_size) * torch_dtype(settings.dtype).itemsize
