"""What moves the weights: one of torch's optimisers, or Muon for the matrices beside AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from madyn.lab.recipe import Recipe

SHARE = "share"
"""The key of a group of parameters whose rate is that of the recipe times this."""


class Together:
    """Several optimisers as one, each for its own parameters."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


Optimizer = torch.optim.Optimizer | Together


def make_optimizer(model: Any, recipe: Recipe) -> Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=recipe.learning_rate, momentum=recipe.beta1, weight_decay=recipe.weight_decay
        )
    if recipe.optimizer == "adamw":
        return _adamw(list(model.parameters()), recipe)
    matrices = _matrices(model)
    known = {id(one) for one in matrices}
    # Updates as large as AdamW's in the mean, so that its rate and decay mean the same (Liu et al. 2025, 2502.16982).
    muon = torch.optim.Muon(
        matrices, lr=recipe.muon_learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    for group in muon.param_groups:
        group[SHARE] = recipe.muon_learning_rate / recipe.learning_rate
    return Together([muon, _adamw([one for one in model.parameters() if id(one) not in known], recipe)])


def _adamw(parameters: list[torch.Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def _matrices(model: Any) -> list[torch.Tensor]:
    """The weights of the layers' linear maps, gates among them; the head is none of a layer's."""
    head = model.get_output_embeddings()
    return [m.weight for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
