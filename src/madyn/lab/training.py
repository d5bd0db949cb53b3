"""Training one small model, with real checkpoints on the way.

The recipe is the smallest one known to show both published classes of trajectory on a laptop: every sequence starts
with a BOS token and the learning rate is high; with lower rates and no BOS token the activations hardly grow. Every
batch depends on the seed and the step alone, so that a run that was interrupted goes on from its last checkpoint to the
same weights, bit for bit, on the same machine with the same number of threads.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from madyn.architecture import Architecture
from madyn.dataset.files import read_json, storage_error, write_bytes, write_json
from madyn.errors import UsageError

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM

_STATE = "training_state.pt"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: updates; `batch_size` sequences of `length` tokens each, the first a BOS token.
        learning_rate: its peak, reached after the share `warmup` of the steps; a cosine then takes it to the share
            `final_rate` of the peak.
        betas, weight_decay: of AdamW. Norms and biases are decayed too.
        clip: the largest norm of the gradient.
        seed: of the initial weights and of the batches.
    """

    steps: int = 2000
    batch_size: int = 16
    length: int = 128
    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup: float = 0.01
    final_rate: float = 0.1
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of the update that follows `step` updates."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        share = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * share)))


def checkpoint_steps(total: int, count: int) -> list[int]:
    """About `count` training steps from 0 to `total`: powers of two while those are closer together, then even ones.

    >>> checkpoint_steps(300, 16)
    [0, 1, 2, 4, 8, 16, 32, 59, 86, 112, 139, 166, 193, 220, 246, 273, 300]
    """
    powers = [0, 1]
    while True:
        gap = (total - powers[-1]) / max(1, count - len(powers))
        if powers[-1] >= gap or 2 * powers[-1] >= total:
            break
        powers.append(2 * powers[-1])
    rest = np.linspace(powers[-1], total, max(2, count - len(powers) + 2))[1:]
    return sorted({*powers, *(round(float(step)) for step in rest)})


def build_model(architecture: Architecture, tokenizer: Any, seed: int) -> GPTNeoXForCausalLM:
    """A GPT-NeoX model of this shape with fresh weights. Sets torch's global seed."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    shape = architecture.to_dict()
    rope = {
        "rope_type": "default",
        "rope_theta": shape.pop("rotary_emb_base"),
        "partial_rotary_factor": shape.pop("rotary_pct"),
    }
    shape.pop("model_type")
    config = GPTNeoXConfig(
        **shape, rope_parameters=rope, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    torch.manual_seed(seed)
    return GPTNeoXForCausalLM(config)


def train(
    architecture: Architecture,
    recipe: Recipe,
    tokens: np.ndarray,
    tokenizer: Any,
    folder: Path,
    save_at: Sequence[int],
    on_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train a model, or go on training it, and save it with `save_pretrained` as `folder/stepN`.

    Args:
        tokens: the training text as token ids, shape (N,).
        tokenizer: saved with every checkpoint; its BOS token begins every sequence.
        save_at: the steps to save at, counted in updates made.
        on_step: called with the number of updates made, after each.

    Raises:
        UsageError: the folder holds a run of another recipe or shape, or the text is shorter than a sequence.
        StorageError: a checkpoint cannot be written.
    """
    if len(tokens) < recipe.length:
        raise UsageError(f"the training text has {len(tokens)} tokens; a sequence needs {recipe.length}")
    claim_folder(folder, architecture, recipe)
    if is_complete(folder, recipe):
        return
    model = build_model(architecture, tokenizer, recipe.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    start = _resume(folder, model, optimizer)
    data = torch.from_numpy(np.asarray(tokens, dtype=np.int64))
    wanted = set(save_at)
    model.train()
    for step in range(start, recipe.steps + 1):
        if step in wanted:
            _save(folder, step, model, optimizer, tokenizer)
        on_step(step)
        if step == recipe.steps:
            break
        batch = _batch(data, recipe, step, tokenizer.bos_token_id)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
    (folder / _STATE).unlink(missing_ok=True)


def is_complete(folder: Path, recipe: Recipe) -> bool:
    """Whether a run has come to its end: its last checkpoint is there, and nothing to go on from."""
    return (folder / f"step{recipe.steps}").exists() and not (folder / _STATE).exists()


def _batch(data: torch.Tensor, recipe: Recipe, step: int, bos: int) -> torch.Tensor:
    """The batch of a step: windows at random places of the text, each after a BOS token."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    window = recipe.length - 1
    starts = torch.randint(len(data) - window + 1, (recipe.batch_size, 1), generator=generator)
    body = data[starts + torch.arange(window)]
    return torch.cat([torch.full((recipe.batch_size, 1), bos), body], dim=1)


def claim_folder(folder: Path, architecture: Architecture, recipe: Recipe) -> None:
    """Record what is trained in a folder. Raises UsageError where it holds a run of another shape or recipe."""
    path = folder / "recipe.json"
    ours = {"architecture": architecture.to_dict(), "recipe": {**asdict(recipe), "betas": list(recipe.betas)}}
    if not path.exists():
        write_json(path, ours)
    elif read_json(path) != ours:
        raise UsageError(f"{folder} holds a run of another shape or recipe (see {path.name}); choose another folder")


def _save(folder: Path, step: int, model: Any, optimizer: Any, tokenizer: Any) -> None:
    """Save a checkpoint whole, then what is needed to go on from it."""
    final, partial = folder / f"step{step}", folder / f".step{step}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except (OSError, SafetensorError) as e:
        raise storage_error(final, e) from e
    state = io.BytesIO()
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, state)
    write_bytes(folder / _STATE, state.getvalue())


def _resume(folder: Path, model: Any, optimizer: Any) -> int:
    """Bring model and optimizer to the last saved step, and give it."""
    if not (folder / _STATE).exists():
        return 0
    state = torch.load(folder / _STATE, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]
