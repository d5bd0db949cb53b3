"""Tiny models with one massive activation, planted where it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

VOCABULARY, WIDTH, LAYERS, LENGTH = 90, 32, 4, 24
LAYER, FEATURE, FIRST = 1, 5, 7  # behind which layer, in which feature, and the token that carries it
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=64)
    ),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, num_key_value_heads=1, head_dim=16)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SHAPE, num_key_value_heads=2, num_local_experts=2)),
}


def sequences(count: int = 3, length: int = LENGTH) -> np.ndarray:
    """Token ids (B, S), each beginning with the token that carries the massive value, which comes nowhere else."""
    ids = np.random.default_rng(1).integers(FIRST + 1, VOCABULARY, (count, length))
    ids[:, 0] = FIRST
    return ids


def build(family: str = "llama", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return FAMILIES[family]().eval()


def planted(seed: int = 0) -> Any:
    """A Llama whose first token gets about 3000 in one feature behind layer 1, written by one neuron of its MLP."""
    model = build("llama", seed)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_()
        model.model.embed_tokens.weight[:, 11] = 0
        model.model.embed_tokens.weight[FIRST, 11] = 4.0  # what the neuron reads, and no other token has
        mlp = model.model.layers[LAYER].mlp
        mlp.gate_proj.weight[3] = 0
        mlp.up_proj.weight[3] = 0
        mlp.gate_proj.weight[3, 11] = mlp.up_proj.weight[3, 11] = 8.0
        mlp.down_proj.weight[FEATURE, 3] = 2.0
    return model
