"""Tiny training runs: with and without a monitor, in a loop of one's own and in trainers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

LENGTH, VOCAB = 24, 64


def build(seed: int = 0, **changes: Any) -> Any:
    """A model of two layers, with dropout: a monitor that drew a random number would be seen."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": LENGTH, "hidden_dropout": 0.1, "attention_dropout": 0.1,
    }  # fmt: skip
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**shape, **changes}))


def batches(count: int, size: int = 4, seed: int = 0) -> list[torch.Tensor]:
    """Token ids that can be learned: each token follows from the one before, and sometimes does not."""
    return [_batch(size, 1000 * seed + number) for number in range(count)]


def _batch(size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(VOCAB, (size, 1), generator=generator)
    return (start + torch.randint(3, (size, LENGTH), generator=generator).cumsum(-1)) % VOCAB


class Rows(torch.utils.data.Dataset):
    """What a trainer reads."""

    def __init__(self, count: int = 200, seed: int = 0) -> None:
        self.rows = torch.cat(batches(math.ceil(count / 4), seed=seed))[:count]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def train(model: Any, steps: int, monitor: Any = None, begin: int = 0, optimizer: Any = None) -> dict[str, Any]:
    """A loop of one's own; gives all that a monitor must not have changed, and what was logged."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses, logged = [], {}
    model.train()
    for step, batch in list(enumerate(batches(steps)))[begin:]:
        if monitor is not None:
            logged[step] = monitor.step(model, step, batch)
        optimizer.zero_grad()
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if monitor is not None:
        logged[steps] = monitor.step(model, steps)
    state = {**model.state_dict(), "rng": torch.get_rng_state(), "losses": torch.tensor(losses, dtype=torch.float64)}
    for number, kept in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{name}": value for name, value in kept.items()}
    return {"state": state, "logged": {step: found for step, found in logged.items() if found}}


def require_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), f"{name} differs"


def trainer(out: Path, callbacks: list[Any], model: Any = None, **changes: Any) -> Any:
    """A Trainer of transformers that makes 12 updates of 4 sequences."""
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(0)
    arguments = {
        "output_dir": str(out), "max_steps": 12, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "logging_steps": 5, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    model = model if model is not None else build()
    return Trainer(model, TrainingArguments(**{**arguments, **changes}), train_dataset=Rows(), callbacks=callbacks)
