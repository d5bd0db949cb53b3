"""The model inside what compiles, parallelises, offloads or adapts it.

A run's own object is seldom the bare model. What is around it changes how the forward is called and not what the layers
hand on, so that the model inside is measured; what does change it, or cannot be run alone, is refused in one line.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from madyn.errors import ArchitectureError, UsageError


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DataParallel, DDP, DeepSpeed or PEFT, however they are nested.

    Of a PEFT model with adapters in its layers (LoRA and its kin) the layers are measured with those that are active.

    Raises:
        UsageError: it is no model, or one that adds virtual tokens (prompt and prefix tuning) or holds its weights in
            pieces (FSDP), which cannot be run alone.
    """
    while True:
        inner = _inside(model)
        if inner is None:
            return model
        model = inner


def _inside(model: Any) -> nn.Module | None:
    """What is directly inside a wrapper; None for what is no wrapper."""
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise UsageError(f"a {name} is no torch module; give the model itself")
    if name == "FullyShardedDataParallel":
        raise UsageError(
            "a FullyShardedDataParallel model holds its weights in pieces: measure inside "
            "`FSDP.summon_full_params(model)` with `model.module`, or a saved checkpoint"
        )
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        return _without_peft(model)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or name == "DeepSpeedEngine":
        return vars(model)["_modules"]["module"]
    return vars(model)["_modules"]["_orig_mod"] if name == "OptimizedModule" else None


def _without_peft(model: Any) -> nn.Module:
    virtual = [name for name, config in model.peft_config.items() if getattr(config, "is_prompt_learning", False)]
    if virtual:
        raise UsageError(
            f"the adapter {virtual[0]!r} puts virtual tokens before the text, so the model without it would be "
            "measured; call measure with `model.get_base_model()` if that is meant"
        )
    return model.get_base_model()


def is_sharded(model: nn.Module) -> bool:
    """Whether other processes hold parts of the model's weights, so that none of them can run it alone (FSDP, tensor
    parallelism)."""
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()) or any(
        type(parameter).__name__ == "DTensor" for parameter in model.parameters()
    )


def device_of(model: nn.Module) -> torch.device:
    """Where a model takes its input: where its first weights are, or where its hooks bring those that are offloaded.

    Raises:
        ArchitectureError: its weights are on the meta device and nothing brings them.
    """
    parameters = list(model.parameters())
    if not parameters:
        raise ArchitectureError(f"{type(model).__name__} has no parameters")
    here = next((p.device for p in parameters if p.device.type != "meta"), None)
    if here is not None:
        return here
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in (hook, *getattr(hook, "hooks", ())):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    raise ArchitectureError(f"the weights of this {type(model).__name__} are on the meta device: load them first")
