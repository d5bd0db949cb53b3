"""What a model of the lab is built from: its shape, and how its layers are wired.

Every wiring is a class of transformers' own, so that what is measured is what people use. Which class has which
wiring is one table, `_KINDS`; a wiring that no class has is refused, with those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from madyn.errors import UsageError

_LARGEST = 1 << 20  # of any size: what a lab trains is small


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A shape and a wiring.

    Attributes:
        intermediate_size: the width of the MLP; with swiglu that of each of its two branches.
        rotary_pct: the share of each head that is rotated by position.
        residual: attention and MLP read the same hidden state (parallel), or the MLP reads what attention has added to
            it (sequential).
        norm_placement: before attention and MLP (pre), or also on what they give (sandwich).

    Raises:
        UsageError: no such model can be built.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    rotary_pct: float = 0.25
    residual: Literal["parallel", "sequential"] = "parallel"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_placement: Literal["pre", "sandwich"] = "pre"
    activation: Literal["gelu", "swiglu"] = "gelu"

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            if not 1 <= getattr(self, name) <= _LARGEST:
                raise UsageError(f"{name} is {getattr(self, name)!r:.40}; it is from 1 to {_LARGEST}")
        if self.hidden_size % self.num_attention_heads:
            raise UsageError(
                f"num_attention_heads is {self.num_attention_heads}, which does not divide hidden_size "
                f"{self.hidden_size}; it may be {_listed(_divisors(self.hidden_size))}"
            )
        head = self.hidden_size // self.num_attention_heads
        rotated = self.rotary_pct * head
        if not 0 < self.rotary_pct <= 1 or rotated % 2:
            raise UsageError(
                f"rotary_pct is {self.rotary_pct}: it would rotate {rotated:g} of the {head} features of a head, and "
                "it must be an even whole number of them, at least 2"
            )
        if self.wiring not in _KINDS:
            known = "; ".join(", ".join(wiring) for wiring in _KINDS)
            raise UsageError(
                f"no class of transformers has the wiring {', '.join(self.wiring)} (residual, norm, norm_placement, "
                f"activation); those that have one: {known}"
            )
        if self.kind.rotates_whole_heads and self.rotary_pct != 1:
            raise UsageError(f"rotary_pct is {self.rotary_pct}; {self.kind.name} rotates whole heads: it must be 1.0")

    @property
    def wiring(self) -> tuple[str, str, str, str]:
        return self.residual, self.norm, self.norm_placement, self.activation

    @property
    def kind(self) -> Kind:
        return _KINDS[self.wiring]

    @property
    def name(self) -> str:
        """A short name that no other blueprint has: `neox_4x64_h8_m256` is 4 layers of 64, 8 heads and an MLP of 256.

        >>> Blueprint(hidden_size=64, num_hidden_layers=4, num_attention_heads=8, intermediate_size=256).name
        'neox_4x64_h8_m256'
        """
        shape = f"{self.num_hidden_layers}x{self.hidden_size}_h{self.num_attention_heads}_m{self.intermediate_size}"
        sequential = "_sequential" if self.kind.residual_is_free and self.residual == "sequential" else ""
        usual = 1.0 if self.kind.rotates_whole_heads else 0.25
        rotary = "" if self.rotary_pct == usual else f"_r{self.rotary_pct:g}"
        return f"{self.kind.name}_{shape}{sequential}{rotary}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def build_model(blueprint: Blueprint, seed: int, vocab_size: int, length: int, bos_token_id: int) -> Any:
    """A causal language model with fresh weights. Sets torch's global seed.

    Args:
        length: the longest sequence it is to read.
    """
    import torch

    torch.manual_seed(seed)
    return blueprint.kind.build(
        blueprint,
        {
            "hidden_size": blueprint.hidden_size,
            "num_hidden_layers": blueprint.num_hidden_layers,
            "num_attention_heads": blueprint.num_attention_heads,
            "intermediate_size": blueprint.intermediate_size,
            "vocab_size": vocab_size,
            "max_position_embeddings": length,
            "bos_token_id": bos_token_id,
            "eos_token_id": bos_token_id,
            "pad_token_id": None,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": blueprint.rotary_pct,
            },
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A class of transformers.

    Attributes:
        name: the beginning of its models' names.
        build: makes a model from a blueprint and the settings that all classes have.
        rotates_whole_heads: it knows no share of rotated features.
        residual_is_free: it has both kinds of residual.
    """

    name: str
    build: Callable[[Blueprint, Mapping[str, Any]], Any]
    rotates_whole_heads: bool = False
    residual_is_free: bool = False


def _neox(blueprint: Blueprint, settings: Mapping[str, Any]) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        GPTNeoXConfig(**settings, use_parallel_residual=blueprint.residual == "parallel", hidden_act="gelu")
    )


def _stablelm(blueprint: Blueprint, settings: Mapping[str, Any]) -> Any:
    from transformers import StableLmConfig, StableLmForCausalLM

    heads = blueprint.num_attention_heads
    parallel = blueprint.residual == "parallel"
    return StableLmForCausalLM(
        StableLmConfig(**settings, num_key_value_heads=heads, use_parallel_residual=parallel, hidden_act="silu")
    )


def _llama(blueprint: Blueprint, settings: Mapping[str, Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**settings, hidden_act="silu"))


def _arcee(blueprint: Blueprint, settings: Mapping[str, Any]) -> Any:
    from transformers import ArceeConfig, ArceeForCausalLM

    return ArceeForCausalLM(ArceeConfig(**settings, hidden_act="gelu"))


def _glm4(blueprint: Blueprint, settings: Mapping[str, Any]) -> Any:
    from transformers import Glm4Config, Glm4ForCausalLM

    heads = blueprint.num_attention_heads
    head = blueprint.hidden_size // heads
    return Glm4ForCausalLM(Glm4Config(**settings, num_key_value_heads=heads, head_dim=head, hidden_act="silu"))


_NEOX = Kind("neox", _neox, residual_is_free=True)
_STABLELM = Kind("stablelm", _stablelm, residual_is_free=True)

# By residual, norm, norm_placement and activation.
_KINDS: dict[tuple[str, str, str, str], Kind] = {
    ("parallel", "layernorm", "pre", "gelu"): _NEOX,
    ("sequential", "layernorm", "pre", "gelu"): _NEOX,
    ("parallel", "layernorm", "pre", "swiglu"): _STABLELM,
    ("sequential", "layernorm", "pre", "swiglu"): _STABLELM,
    ("sequential", "rmsnorm", "pre", "swiglu"): Kind("llama", _llama, rotates_whole_heads=True),
    ("sequential", "rmsnorm", "pre", "gelu"): Kind("arcee", _arcee, rotates_whole_heads=True),
    ("sequential", "rmsnorm", "sandwich", "swiglu"): Kind("glm4", _glm4),
}


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
