"""Tiny models of many families, and a massive activation planted into one."""

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from madyn.measurement.forward import stacks_of

SHAPE: dict[str, Any] = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = {**SHAPE, "num_key_value_heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": ("gpt_neox", SHAPE),
    "llama": ("llama", GROUPED),
    "gpt2": ("gpt2", {"vocab_size": 90, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}),
    "gemma3": ("gemma3_text", {**GROUPED, "head_dim": 8, "sliding_window": 64}),
    "glm4": ("glm4", {**GROUPED, "head_dim": 8, "pad_token_id": 0}),
    "mixtral": ("mixtral", {**GROUPED, "num_local_experts": 3}),
    "gpt_oss": ("gpt_oss", {**GROUPED, "head_dim": 8, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "phi3": ("phi3", {**GROUPED, "pad_token_id": 0}),
    "opt": ("opt", {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": ("bloom", {**SHAPE, "n_layer": 3, "n_head": 4}),
    "falcon": ("falcon", {**SHAPE, "new_decoder_architecture": False}),
    "granite": ("granite", {**GROUPED, "residual_multiplier": 0.3}),
    "mamba": ("mamba", {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}),
}
IDS = np.random.default_rng(0).integers(5, 90, (2, 20))

DOWN = {
    "gpt_neox": ("gpt_neox.layers.1.mlp.dense_4h_to_h.weight", (5, 7)),
    "llama": ("model.layers.1.mlp.down_proj.weight", (5, 7)),
    "gpt2": ("transformer.h.1.mlp.c_proj.weight", (7, 5)),
    "gemma3": ("model.layers.1.mlp.down_proj.weight", (5, 7)),
    "glm4": ("model.layers.1.mlp.down_proj.weight", (5, 7)),
    "phi3": ("model.layers.1.mlp.down_proj.weight", (5, 7)),
    "opt": ("model.decoder.layers.1.fc2.weight", (5, 7)),
    "bloom": ("transformer.h.1.mlp.dense_4h_to_h.weight", (5, 7)),
    "falcon": ("transformer.h.1.mlp.dense_4h_to_h.weight", (5, 7)),
    "granite": ("model.layers.1.mlp.down_proj.weight", (5, 7)),
}
"""An entry of the down projection of layer 1 that writes feature 5."""


def build(family: str, **changes: Any) -> Any:
    """A causal model with fresh weights, larger than usual: at a usual start attention is all but uniform."""
    torch.manual_seed(0)
    kind, shape = FAMILIES[family]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**shape, **changes})).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim > 1 and "bias" not in name:
                values.mul_(4)
    return model


def plant(model: Any, weight: str, index: tuple[int, ...], value: float) -> None:
    """Set one entry of a weight."""
    with torch.no_grad():
        dict(model.named_parameters())[weight][index] = value


def first(output: Any) -> Any:
    """The hidden state among what a module gives."""
    return output[0] if isinstance(output, tuple) else output


def states(model: Any, position: int, feature: int) -> tuple[Any, Any]:
    """A coordinate after every layer, (B, L), and the layers."""
    (stack,) = stacks_of(model, IDS)
    found = []
    hooks = [m.register_forward_hook(lambda m, i, o: found.append(first(o)))
             for m in stack.modules]  # fmt: skip
    with torch.no_grad():
        model(torch.as_tensor(IDS))
    for hook in hooks:
        hook.remove()
    return np.stack([one.double().numpy()[:, position, feature] for one in found], axis=1), stack.modules
