"""The training loop: the only one there is.

Every batch depends on the seed and the step alone, so that a run that was interrupted goes on from its saved state to
the same weights, bit for bit, on the same machine with the same number of threads.
"""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from madyn.dataset.lab_files import read_state, write_state
from madyn.errors import DatasetError, MadynError, UsageError
from madyn.lab.optimizers import SHARE, Optimizer, make_optimizer
from madyn.lab.recipe import Recipe
from madyn.measurement.layers import first_tensor, layers_by_structure
from madyn.terminal import note

_SECONDS_UNSAVED = 120.0  # at the most, of training; a run also saves its state wherever it is measured
_TIMES_WEIGHTS = 8  # a state is the weights and what AdamW keeps of each, three times as much
_BESIDE = 1 << 26  # bytes of a state besides
_NOTHING = -100  # a label that is not predicted


class DivergedError(MadynError, ArithmeticError):
    """The training loss is not finite."""


def train(
    model: Any,
    recipe: Recipe,
    tokens: np.ndarray,
    *,
    bos_token_id: int,
    seed: int,
    stop_at: Collection[int],
    on_stop: Callable[[int, float | None], None],
    state: Path,
    run_sha256: str = "",
    on_step: Callable[[int], None] = lambda step: None,
    first_register: int = 0,
) -> None:
    """Train a model, or go on training it.

    Args:
        model: a causal language model of transformers with fresh weights; trained in place, on the device it is on.
        tokens: the training text as token ids, shape (N,).
        bos_token_id: begins every sequence, as the recipe says.
        first_register: the token id of the first register, where the recipe has some; the others follow.
        seed: of the batches.
        stop_at: the steps, counted in updates made, at which `on_stop` is called: with the step, and the mean training
            loss of the updates since the stop before (None where there were none).
        state: a file for what is needed to go on; it is gone when the last step is made. At the stop that the state
            was saved at, `on_stop` is called again when the run goes on.
        run_sha256: which run this is. A state of another one, or one that is damaged, is not used: the training begins
            anew, and says so.
        on_step: called with the number of updates made, after each. What it raises ends the run; the state stays.

    Raises:
        UsageError: the text is shorter than a sequence.
        DivergedError: the loss is not finite.
        StorageError: the state cannot be written.
    """
    if len(tokens) < recipe.length:
        raise UsageError(f"the training text has {len(tokens)} tokens; a sequence needs {recipe.length}")
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, recipe)
    optimizer, step, losses = _resume(state, run_sha256, model, optimizer, recipe)
    data = torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(device)
    saved = time.monotonic()
    model.train()
    while True:
        if step in stop_at:
            on_stop(step, math.fsum(losses) / len(losses) if losses else None)
        if step == recipe.steps:
            break
        if step in stop_at or time.monotonic() - saved > _SECONDS_UNSAVED:
            _save(state, run_sha256, step, losses, model, optimizer)
            saved = time.monotonic()
        losses = [] if step in stop_at else losses
        batch = draw_batch(data, recipe, seed, step, bos_token_id, first_register)
        loss = update(model, optimizer, recipe, step, batch)
        step += 1
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss is {loss} at step {step}; a lower learning rate may help")
        losses.append(loss)
        on_step(step)
    state.unlink(missing_ok=True)


def update(model: Any, optimizer: Optimizer, recipe: Recipe, step: int, batch: torch.Tensor) -> float:
    """Make the update that follows `step` updates; gives the loss before it, in nats a token, without any penalty."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step) * group.get(SHARE, 1.0)
    optimizer.zero_grad(set_to_none=True)
    loss, penalty = losses_of(model, recipe, batch)
    (loss if penalty is None else loss + recipe.tweo * penalty).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())


def losses_of(model: Any, recipe: Recipe, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The mean loss of what is predicted in a batch, and TWEO's penalty where the recipe has it."""
    if not recipe.tweo:
        return model(input_ids=batch, labels=labels_of(batch, recipe), use_cache=False).loss, None
    terms: list[torch.Tensor] = []

    def add(layer: Any, inputs: Any, output: Any) -> None:
        hidden = first_tensor(output)
        assert hidden is not None, "a layer hands on its hidden state"
        terms.append((hidden.abs() / recipe.tweo_threshold).pow(recipe.tweo_power).mean())

    with ExitStack() as hooks:
        for layer in layers_by_structure(model)[1]:
            hooks.callback(layer.register_forward_hook(add).remove)
        loss = model(input_ids=batch, labels=labels_of(batch, recipe), use_cache=False).loss
    return loss, torch.stack(terms).mean()


def labels_of(batch: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """What is to be predicted in sequences (B, S): all tokens but the first, registers and what comes behind them."""
    if not recipe.registers:
        return batch  # transformers predicts no first token
    labels = batch.clone()
    labels[:, : recipe.registers + 1] = _NOTHING
    return labels


def draw_batch(
    data: torch.Tensor, recipe: Recipe, seed: int, step: int, bos_token_id: int, first_register: int = 0
) -> torch.Tensor:
    """The batch of a step: windows at random places of the text, each after what stands before it, shape (batch,
    positions). For a seed, the windows are the same whatever stands before them."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    window = recipe.length - 1
    starts = torch.randint(len(data) - window + 1, (recipe.batch_size, 1), generator=generator)
    body = data[(starts + torch.arange(window)).to(data.device)]
    first = body.new_full((recipe.batch_size, 1), bos_token_id) if recipe.bos else data[before(starts).to(data.device)]
    if not recipe.registers:
        return torch.cat([first, body], dim=1)
    registers = torch.arange(first_register, first_register + recipe.registers, device=data.device)
    return torch.cat([registers.expand(recipe.batch_size, -1), first, body], dim=1)


def before(starts: torch.Tensor) -> torch.Tensor:
    """The places before these; before the first of all there is none, and it stands for itself."""
    return (starts - 1).clamp(min=0)


@torch.no_grad()
def mean_loss(model: Any, sequences: np.ndarray, recipe: Recipe) -> float:
    """The mean loss over sequences of token ids (B, S), in nats a token. The model's mode is left as it is."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    batches = torch.from_numpy(sequences).to(device).split(16)
    sums = [float(model(input_ids=b, labels=labels_of(b, recipe), use_cache=False).loss) * len(b) for b in batches]
    model.train(training)
    return math.fsum(sums) / len(sequences)


def _save(state: Path, run_sha256: str, step: int, losses: list[float], model: Any, optimizer: Optimizer) -> None:
    content = io.BytesIO()
    torch.save(
        {"step": step, "losses": losses, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, content
    )
    write_state(state, run_sha256, step, content.getvalue())


def _resume(
    state: Path, run_sha256: str, model: Any, optimizer: Optimizer, recipe: Recipe
) -> tuple[Optimizer, int, list[float]]:
    """Bring model and optimizer to the saved step; gives the optimizer, the step, and the losses since the stop before.

    A state that cannot be used leaves both as they were at the first step.
    """
    if not state.exists():
        return optimizer, 0, []
    fresh = copy.deepcopy(model.state_dict())
    weights = sum(tensor.numel() * tensor.element_size() for tensor in fresh.values())
    try:
        header, content = read_state(state, run_sha256, limit=_TIMES_WEIGHTS * weights + _BESIDE)
        saved = torch.load(io.BytesIO(content), weights_only=True, map_location=next(model.parameters()).device)
        step, losses = saved["step"], [float(loss) for loss in saved["losses"]]
        if step != header.step or not 0 <= step <= recipe.steps:
            raise DatasetError(f"{state}: at step {step}, of a run of {recipe.steps} steps")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    except Exception as e:  # what a file holds can make the loaders raise anything at all
        reason = str(e) if isinstance(e, MadynError) else f"{state}: cannot be loaded ({type(e).__name__})"
        note(f"{reason}; the training begins anew at step 0, and what was measured stays")
        model.load_state_dict(fresh)
        return make_optimizer(model, recipe), 0, []
    return optimizer, step, losses
