"""transformers' classes with remedies in them: built, saved and loaded under model types of their own.

A model with a remedy is transformers' class, all of its modules included, to which a few parameters are added and one
attention function is given. The weights that it shares with the plain model are drawn first, and so are the same for a
seed. Its config says a model type that transformers does not know (`madyn_llama`), so that a checkpoint is never taken
for the plain model, and `classes` tells transformers what it is: code of this package, nothing of the checkpoint's.

Sources. The output gate: Bondarenko et al. 2023 (arXiv 2306.12929, eq. 5) and Qiu et al. 2025 (2505.06708), sigma(x W)
on what each head gives, x being the layer's normalised input. The headwise gate has a bias and starts at 0.25, as the
former's for OPT; the elementwise one has none, as the latter's, and starts near 0.5. The key bias: Sun et al. 2024
(2402.17762) and Gu et al. 2024 (2410.10781), a learned key k* for each head whose value is 0; it starts at 0, which is
softmax-1. The norm of the values' sum is RMSNorm of what each head gives, with one gain for all heads, derived from
its name alone. A single gain: Single-Scale RMSNorm of Park et al. 2025 (2506.19697); theirs is written g x / |x|,
here it is g x / rms(x), which differs in the unit of g and so in how fast Adam moves it. The norm of embeddings is that
of BLOOM (2211.05100), as an RMSNorm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from madyn.errors import quoted
from madyn.remedies import attending
from madyn.remedies.known import FITTED, PREFIX
from madyn.wirings import LEVELS, REMEDIES, USUAL

_FIRST_GATE = 0.25


@cache
def classes(model_type: str) -> tuple[type, type, type]:
    """The config, the model and the model with its head of a type of `FITTED`, with remedies; transformers knows them
    from then on."""
    import transformers
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    attending.register()
    config, model, head = (getattr(transformers, name) for name in FITTED[model_type])
    own_config = _config_class(config, model_type)
    own_model, own_head = (_model_class(kind, own_config) for kind in (model, head))
    AutoConfig.register(f"{PREFIX}{model_type}", own_config)
    AutoModel.register(own_config, own_model)
    AutoModelForCausalLM.register(own_config, own_head)
    return own_config, own_model, own_head


def _config_class(config: type, model_type: str) -> type:
    """The config with one setting more: `remedies`, a word for each field of `wirings.REMEDIES` that is not usual."""
    body = {
        "__module__": __name__,
        "__doc__": f"{config.__name__} with remedies.",
        "__annotations__": {"remedies": "dict | None"},
        "model_type": f"{PREFIX}{model_type}",
        "remedies": None,
    }
    return type(f"Madyn{config.__name__}", (config,), body)


def _model_class(kind: type, config: type) -> type:
    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  it is one
        kind.__init__(self, config, *args, **kwargs)
        fit(self)

    # Another attention function would be another model.
    body = {"__init__": __init__, "__module__": __name__, "config_class": config, "_can_set_attn_implementation":
            classmethod(lambda cls: False)}  # fmt: skip
    return type(f"Madyn{kind.__name__}", (kind,), body)


def checked(remedies: Any) -> dict[str, str]:
    """A level for each field of `REMEDIES`, the usual one where nothing is said.

    Raises:
        ValueError: a field or a level is unknown.
    """
    given = dict(remedies or {})
    for name, level in given.items():
        if name not in REMEDIES or level not in LEVELS[name]:
            known = "; ".join(f"{field}: {', '.join(LEVELS[field])}" for field in REMEDIES)
            raise ValueError(f"{quoted(name)} = {quoted(level)} is no remedy; those that there are: {known}")
    return {name: given.get(name, USUAL[name]) for name in REMEDIES}


def fit(model: Any) -> None:
    """Fit a plain model of transformers with the remedies that its config names, in place."""
    config = model.config
    remedies = checked(config.remedies)
    config._attn_implementation = attending.IMPLEMENTATION
    body = model.base_model
    norm = type(body.norm)
    for layer in body.layers:
        _fit_attention(layer.self_attn, config, remedies, norm)
    if remedies["embedding_norm"] != "none":
        body.set_input_embeddings(NormedEmbedding(body.get_input_embeddings(), norm, config))
    if remedies["norm_gain"] == "scalar":
        for module in model.modules():
            if isinstance(module, norm):
                module.weight = nn.Parameter(module.weight.new_ones(1))


def _fit_attention(attention: Any, config: Any, remedies: Mapping[str, str], norm: Any) -> None:
    heads, size = config.num_attention_heads, attention.head_dim
    attention.remedies = dict(remedies)
    if remedies["attention"] == "sink":
        attention.sinks = nn.Parameter(torch.zeros(heads))
    if remedies["attention"] == "key_bias":
        attention.key_bias = nn.Parameter(torch.zeros(heads, size))
    if remedies["value_norm"] != "none":
        attention.value_norm = norm(size, eps=config.rms_norm_eps)
    if remedies["output_gate"] != "none":
        by_head = remedies["output_gate"] == "headwise"
        attention.gate = nn.Linear(config.hidden_size, heads if by_head else heads * size, bias=by_head)
        nn.init.normal_(attention.gate.weight, std=config.initializer_range)
        if by_head:
            nn.init.constant_(attention.gate.bias, math.log(_FIRST_GATE / (1 - _FIRST_GATE)))
        attention.register_forward_pre_hook(_with_gate, with_kwargs=True)


def _with_gate(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Hand the gate on to the attention function, which is not shown what the layer read."""
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    return args, {**kwargs, "gate": attention.gate(hidden)}


class NormedEmbedding(nn.Embedding):
    """A model's embedding, and an RMSNorm of what it gives."""

    def __init__(self, plain: nn.Embedding, norm: Any, config: Any) -> None:
        weight = plain.weight
        super().__init__(plain.num_embeddings, plain.embedding_dim, plain.padding_idx, _weight=weight)
        self.weight = weight  # the very parameter
        self.norm = norm(plain.embedding_dim, eps=config.rms_norm_eps)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(input))
