"""What a model of the lab is built from: its shape, and how its layers are wired.

Every wiring is a class of transformers' own, so that what is measured is what people use. Which class has which
wiring is one table, `_KINDS`; a wiring that no class has is refused, with those that there are. Remedies that no class
knows are fitted into it by `madyn.remedies`. The shape is that of the table in `architecture`, whose entries say which
setting of transformers builds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from madyn.architecture import Shape
from madyn.errors import ArchitectureError, UsageError
from madyn.features import SIZE, features_of
from madyn.wirings import USUAL, Wiring, remedies_of

_ALWAYS_SAID = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "rotary_pct", "residual", "norm",
    "norm_placement", "activation",
)  # fmt: skip
_LARGEST = 1 << 20  # of any size: what a lab trains is small


@dataclass(frozen=True, kw_only=True)
class Blueprint(Wiring, Shape):
    """A shape and a wiring.

    Attributes:
        intermediate_size: the width of the MLP; with swiglu that of each of its two branches.
        rotary_pct: the share of each head that is rotated by position.
        match_parameters: the MLP is made narrower (or wider) by whole features, so that the model has as many
            parameters as one of the same class with none of the remedies, as nearly as that can be.

    Raises:
        UsageError: no such model can be built.
    """

    match_parameters: bool = False

    def __post_init__(self) -> None:
        for name, one in _BUILT.items():
            value = getattr(self, name)
            if one.kind is SIZE and not 1 <= value <= _LARGEST:
                raise UsageError(f"{name} is {value!r:.40}; it is from 1 to {_LARGEST}")
            try:
                one.check(value)
            except ArchitectureError as e:
                raise UsageError(str(e)) from e
        if self.hidden_size % self.num_attention_heads:
            raise UsageError(
                f"num_attention_heads is {self.num_attention_heads}, which does not divide hidden_size "
                f"{self.hidden_size}; it may be {_listed(_divisors(self.hidden_size))}"
            )
        rotated = self.rotary_pct * self.head_size
        if not 0 < self.rotary_pct <= 1 or rotated % 2:
            raise UsageError(
                f"rotary_pct is {self.rotary_pct}: it would rotate {rotated:g} of the {self.head_size} features of a "
                "head, and it must be an even whole number of them, at least 2"
            )
        if self.wiring not in _KINDS:
            known = "; ".join(", ".join(wiring) for wiring in _KINDS)
            raise UsageError(
                f"no class of transformers has the wiring {', '.join(self.wiring)} (residual, norm, norm_placement, "
                f"activation); those that have one: {known}"
            )
        if self.qk_norm != USUAL["qk_norm"] and self.wiring not in _WITH_QK_NORM:
            known = "; ".join(", ".join(wiring) for wiring in _WITH_QK_NORM)
            raise UsageError(f"qk_norm is {self.qk_norm}, and only this wiring has a class with it: {known}")
        for name in remedies_of(self):
            if not self.kind.takes_remedies:
                able = "; ".join(", ".join(wiring) for wiring, kind in _KINDS.items() if kind.takes_remedies)
                raise UsageError(
                    f"{name} is {getattr(self, name)}, and {self.kind.name} has it as {USUAL[name]} alone; wirings "
                    f"that take it: {able}"
                )
        if self.mlp_width < 1:
            raise UsageError(
                f"match_parameters: an MLP of {self.intermediate_size} is not wide enough to give up what "
                f"{', '.join(remedies_of(self))} add"
            )
        if self.kind.rotates_whole_heads and self.rotary_pct != 1:
            raise UsageError(f"rotary_pct is {self.rotary_pct}; {self.kind.name} rotates whole heads: it must be 1.0")

    @property
    def wiring(self) -> tuple[str, str, str, str]:
        return self.residual, self.norm, self.norm_placement, self.activation

    @property
    def kind(self) -> Kind:
        return _KINDS[self.wiring] if self.qk_norm == USUAL["qk_norm"] else _WITH_QK_NORM[self.wiring]

    @property
    def mlp_width(self) -> int:
        """The MLP's width as it is built: `intermediate_size`, but for what is given up to match parameters."""
        if not self.match_parameters:
            return self.intermediate_size
        branches = 3 if self.activation == "swiglu" else 2
        a_feature = branches * self.hidden_size * self.num_hidden_layers
        return self.intermediate_size - round(self._added() / a_feature)

    def _added(self) -> int:
        """How many parameters the remedies and the norms that are not usual add."""
        d, heads, layers = self.hidden_size, self.num_attention_heads, self.num_hidden_layers
        norms = 2 + 2 * (self.norm_placement == "sandwich")
        in_layer = {"sink": heads, "key_bias": d}.get(self.attention, 0)
        in_layer += {"headwise": heads * (d + 1), "elementwise": d * d}.get(self.output_gate, 0)
        if self.norm_placement == "sandwich":
            in_layer += 2 * d + 3 * d  # two norms; and GLM-4 has biases of queries, keys and values
        beside = 0
        gains = norms * layers + 1  # of norms of a hidden state
        if self.qk_norm != USUAL["qk_norm"]:
            in_layer += 2 * self.head_size
        if self.value_norm != USUAL["value_norm"]:
            in_layer += self.head_size
        if self.embedding_norm != USUAL["embedding_norm"]:
            beside, gains = beside + d, gains + 1
        if self.norm_gain == "scalar":
            small = (self.value_norm != USUAL["value_norm"]) + 2 * (self.qk_norm != USUAL["qk_norm"])
            beside -= gains * (d - 1) + small * layers * (self.head_size - 1)
        return in_layer * layers + beside

    @property
    def name(self) -> str:
        """A short name that no other blueprint has: `neox_4x64_h8_m256` is 4 layers of 64, 8 heads and an MLP of 256.

        >>> Blueprint(hidden_size=64, num_hidden_layers=4, num_attention_heads=8, intermediate_size=256).name
        'neox_4x64_h8_m256'
        """
        shape = f"{self.num_hidden_layers}x{self.hidden_size}_h{self.num_attention_heads}_m{self.intermediate_size}"
        sequential = "_sequential" if self.kind.residual_is_free and self.residual == "sequential" else ""
        return f"{self.kind.name}_{shape}{sequential}{''.join(self._unusual())}{''.join(self._wired())}"

    def _wired(self) -> Iterator[str]:
        """What of the wiring its class does not tell."""
        if self.activation == "relu2":
            yield "_relu2"
        for name, level in remedies_of(self).items():
            yield f"_{level}" if name == "attention" else f"_{name}_{level}"
        if self.match_parameters:
            yield "_matched"

    def _unusual(self) -> Iterator[str]:
        """What of the rest of the shape is not as most blueprints have it."""
        for name, one in _BUILT.items():
            usual = Blueprint.__dataclass_fields__[name].default
            if name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"):
                continue  # said of each
            if name == "rotary_pct" and self.kind.rotates_whole_heads:
                usual = 1.0
            if one.of(self) != usual:
                yield f"_{one.tag or name}{one.of(self):g}"

    def to_dict(self) -> dict[str, Any]:
        """What records say: of a later entry nothing where it is usual, as those written before it."""
        usual = {f.name: f.default for f in fields(self)}
        return {name: value for name, value in asdict(self).items() if name in _ALWAYS_SAID or value != usual[name]}


_BUILT = features_of(Blueprint)


def build_model(blueprint: Blueprint, seed: int, vocab_size: int, length: int, bos_token_id: int) -> Any:
    """A causal language model with fresh weights. Sets torch's global seed.

    Args:
        length: the longest sequence it is to read.
    """
    import torch

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "max_position_embeddings": length,
        "bos_token_id": bos_token_id,
        "eos_token_id": bos_token_id,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    known = blueprint.kind.settings()
    for name, one in _BUILT.items():
        usual = one.of(blueprint) == Blueprint.__dataclass_fields__[name].default
        if usual and one.setting.split(".")[0] not in known:
            continue  # the class has no such setting, and nothing else than usual is asked of it
        *groups, name = one.setting.split(".")
        place = settings
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = one.of(blueprint)
    settings["intermediate_size"] = blueprint.mlp_width
    return blueprint.kind.build(settings | blueprint.kind.own(blueprint), remedies_of(blueprint))


@dataclass(frozen=True)
class Kind:
    """A class of transformers.

    Attributes:
        name: the beginning of its models' names.
        classes: the names of its config and its model in transformers.
        own: the settings that it has besides those of all classes.
        rotates_whole_heads: it knows no share of rotated features.
        residual_is_free: it has both kinds of residual.
        takes_remedies: `madyn.remedies` can be fitted into it.
    """

    name: str
    classes: tuple[str, str]
    own: Callable[[Blueprint], dict[str, Any]]
    rotates_whole_heads: bool = False
    residual_is_free: bool = False
    takes_remedies: bool = False

    def settings(self) -> set[str]:
        """The names of the settings that its config has."""
        import transformers

        return {f.name for f in fields(getattr(transformers, self.classes[0]))}

    def build(self, settings: Mapping[str, Any], remedies: Mapping[str, str]) -> Any:
        """A model with these settings and remedies; transformers' own where there are none.

        Raises:
            UsageError: the class has no such setting; transformers itself would pass it over.
        """
        import transformers

        config, model = (getattr(transformers, name) for name in self.classes)
        known = self.settings()
        strange = next((name for name in settings if name not in known), None)
        if strange is not None:
            raise UsageError(f"{self.classes[0]} of transformers has no setting {strange}: no {self.name} has that")
        if not remedies:
            return model(config(**settings))
        from madyn.remedies.models import classes

        own_config, _, own_model = classes(config.model_type)
        return own_model(own_config(**settings, remedies=dict(remedies)))


def _parallel(blueprint: Blueprint) -> dict[str, Any]:
    return {"use_parallel_residual": blueprint.residual == "parallel"}


def _all_keys(blueprint: Blueprint) -> dict[str, Any]:
    return {"num_key_value_heads": blueprint.num_attention_heads}


_ACTS = {"gelu": "gelu", "swiglu": "silu", "relu2": "relu2"}  # in transformers' words


def _act(blueprint: Blueprint) -> dict[str, Any]:
    return {"hidden_act": _ACTS[blueprint.activation]}


def _head_size(blueprint: Blueprint) -> dict[str, Any]:
    return {**_all_keys(blueprint), "head_dim": blueprint.head_size}


_NEOX = Kind(
    "neox", ("GPTNeoXConfig", "GPTNeoXForCausalLM"), lambda b: {**_parallel(b), **_act(b)}, residual_is_free=True
)
_STABLELM = Kind(
    "stablelm", ("StableLmConfig", "StableLmForCausalLM"), lambda b: {**_all_keys(b), **_parallel(b), **_act(b)},
    residual_is_free=True,
)  # fmt: skip
_LLAMA = Kind("llama", ("LlamaConfig", "LlamaForCausalLM"), _act, rotates_whole_heads=True, takes_remedies=True)
_ARCEE = Kind("arcee", ("ArceeConfig", "ArceeForCausalLM"), _act, rotates_whole_heads=True, takes_remedies=True)
_GLM4 = Kind(
    "glm4", ("Glm4Config", "Glm4ForCausalLM"), lambda b: {**_head_size(b), **_act(b)}, takes_remedies=True
)  # fmt: skip
_QWEN3 = Kind(
    "qwen3", ("Qwen3Config", "Qwen3ForCausalLM"), lambda b: {**_head_size(b), **_act(b)}, rotates_whole_heads=True,
    takes_remedies=True,
)  # fmt: skip

# By residual, norm, norm_placement and activation.
_KINDS: dict[tuple[str, str, str, str], Kind] = {
    ("parallel", "layernorm", "pre", "gelu"): _NEOX,
    ("sequential", "layernorm", "pre", "gelu"): _NEOX,
    ("parallel", "layernorm", "pre", "relu2"): _NEOX,
    ("sequential", "layernorm", "pre", "relu2"): _NEOX,
    ("parallel", "layernorm", "pre", "swiglu"): _STABLELM,
    ("sequential", "layernorm", "pre", "swiglu"): _STABLELM,
    ("sequential", "rmsnorm", "pre", "swiglu"): _LLAMA,
    ("sequential", "rmsnorm", "pre", "gelu"): _ARCEE,
    ("sequential", "rmsnorm", "pre", "relu2"): _ARCEE,
    ("sequential", "rmsnorm", "sandwich", "swiglu"): _GLM4,
}
# The same, with an RMSNorm of each head's queries and keys (Henry et al. 2020, arXiv 2010.04245, as in Qwen3).
_WITH_QK_NORM = {("sequential", "rmsnorm", "pre", "swiglu"): _QWEN3}


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
