"""The shape of a model: what is known of it before it is trained, and the one table of its features.

`Architecture` holds the numbers that the published table keeps for each model and that the predictor reads. It is
filled from a Hugging Face config in any of the spellings in use, because transformers has renamed most of these
settings at least once (`rotary_pct` became `partial_rotary_factor`, which moved into `rope_parameters`).

A feature of an architecture is one entry in the body of a class here, and what stands in the entry is all that the
other rooms are told of it: a field with `feature(...)`, or a ratio of fields with `@derived(...)`, its formula below.
From the entries are made the reading of configs, the columns of the parameter table, the predictor's inputs, the
factors of effects, the axes of the design search with the options of the command line, and what a suite file of the lab
may say and how it reaches transformers. An entry in `Shape` is of all of these; one in `Architecture` is of all but the
lab, which is told by others or has one value for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from madyn.errors import ArchitectureError, quoted
from madyn.features import SHARE, Feature, derived, derived_of, feature, features_of

# Beyond any model's.
_LARGEST_BASE = 1e18
_WIDEST = 1 << 31

CARD = (
    "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "rotary_pct", "rotary_emb_base",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip
"""The columns of the published table that describe a model. They are as they were published, so that a new feature is
none of them; files list them in this order, and whatever else there is behind them."""


def _rotary_base(config: ConfigReader) -> Any:
    return config.rope_parameters().get("rope_theta", config.first("rotary_emb_base", "rope_theta"))


def _rotary_share(config: ConfigReader) -> Any:
    names = ("rotary_pct", "partial_rotary_factor")
    share = config.rope_parameters().get("partial_rotary_factor", config.first(*names))
    return share if share is not None else 0.0 if _rotary_base(config) is None else 1.0


def _inner_size(ratio: Any, shape: Mapping[str, Any]) -> Any:
    """The MLP's width; a ratio of whole numbers may be rounded as far as floats round it."""
    width = shape["hidden_size"]
    try:
        size = float(ratio) * float(width)
    except OverflowError:
        size = math.inf
    except (TypeError, ValueError):
        raise ArchitectureError(f"mlp_ratio is {ratio!r:.40} and hidden_size {width!r:.40}; both are numbers") from None
    whole = round(size) if math.isfinite(size) else 0
    if not 0 < whole < _WIDEST or abs(size - whole) >= 1e-6 * max(1.0, size):
        given = f"mlp_ratio is {quoted(ratio)}, and hidden_size {quoted(width)}"
        raise ArchitectureError(f"{given}: the MLP's width is {quoted(size)}; it is a whole number below 2^31")
    return whole


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The part of a model's shape that the lab can build, too. See `Feature` for what an entry says."""

    hidden_size: int = feature(
        "n_embd", "d_model", "dim", "n_embed", words="hidden size", about="Features of the hidden state",
        most=1 << 28, factor="width", example="64..128", most_searched=1_000_000, aliases=("--width",),
        setting="hidden_size",
    )  # fmt: skip
    num_hidden_layers: int = feature(
        "n_layer", "n_layers", "num_layers", words="layers", about="How many", most=10_000, factor="depth",
        example="2..8", most_searched=1_000, setting="num_hidden_layers",
    )  # fmt: skip
    num_attention_heads: int = feature(
        "n_head", "n_heads", "num_heads", words="heads", about="Attention heads", most=1 << 24, factor="heads",
        example="1..8", setting="num_attention_heads",
    )  # fmt: skip
    intermediate_size: int = feature(
        "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "hidden_dim", default=0, words="MLP width", scale=None,
        setting="intermediate_size",
    )  # fmt: skip
    rotary_pct: float = feature(
        "partial_rotary_factor", default=0.25, words="rotary share", kind=SHARE, read=_rotary_share, scale="itself",
        setting="rope_parameters.partial_rotary_factor", tag="r",
    )  # fmt: skip

    @derived(words="head size", about="Features of a head", scale=None, example="16..64", after="num_attention_heads")
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @derived(
        words="MLP ratio", about="Inner over hidden size", factor="MLP ratio", example="2..4", most_searched=1_000,
        after="intermediate_size", gives="intermediate_size", solve=_inner_size, usual=4,
    )  # fmt: skip
    def mlp_ratio(self) -> float:
        return self.intermediate_size / self.hidden_size


@dataclass(frozen=True, kw_only=True)
class Architecture(Shape):
    """The shape of a transformer.

    Only the number of layers, the hidden size and the number of heads have no default; the others default to what the
    Pythia models have. `rotary_emb_base` is None, and `rotary_pct` 0, for a model without rotary position embeddings.

    Raises:
        ArchitectureError: a size is not a positive whole number, or the rotary share is outside 0..1.

    >>> Architecture(num_hidden_layers=6, hidden_size=128, num_attention_heads=4).intermediate_size
    512
    """

    rotary_emb_base: float | None = feature(
        "rope_theta", default=10000.0, words="rotary base", most=_LARGEST_BASE, read=_rotary_base
    )
    vocab_size: int = feature(default=50304, words="vocabulary")
    max_position_embeddings: int = feature(
        "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", default=2048, words="context"
    )
    model_type: str = feature(
        default="gpt_neox", words="model type", most=255, scale=None,
        read=lambda config: config.first("model_type") or "unknown",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.intermediate_size == 0:
            usual = DERIVED["mlp_ratio"].usual
            object.__setattr__(self, "intermediate_size", usual * FIELDS["hidden_size"].check(self.hidden_size))
        for name, one in FIELDS.items():
            object.__setattr__(self, name, one.check(getattr(self, name)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """An architecture from field names alone, as in `--architecture '{"num_hidden_layers": 8, ...}'`.

        Raises:
            ArchitectureError: a name is not a field, or a field without a default is absent.

        >>> import madyn
        >>> madyn.Architecture.from_dict(
        ...     {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4}
        ... ).mlp_ratio
        4.0
        """
        unknown = sorted(set(values) - set(FIELDS))
        if unknown:
            raise ArchitectureError(f"unknown in an architecture: {', '.join(unknown)}; known: {', '.join(FIELDS)}")
        missing = [name for name in REQUIRED if values.get(name) is None]
        if missing:
            raise ArchitectureError(f"an architecture needs {', '.join(missing)}")
        return cls(**values)

    @classmethod
    def from_config(cls, config: Any) -> Architecture:
        """Read the architecture from a Hugging Face config.

        Args:
            config: a `PretrainedConfig`, or the dict of a `config.json`. A composite config (a vision-language
                model's, say) is read at its text part.

        Raises:
            ArchitectureError: the config does not say how many layers, heads or features the model has.

        >>> Architecture.from_config({"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257}).rotary_pct
        0.0
        """
        reader = ConfigReader(config)
        values: dict[str, Any] = {}
        for name, one in FIELDS.items():
            found = one.read(reader) if one.read else reader.first(name, *one.spellings)
            if found is not None or one.read:
                values[name] = found
        missing = [name for name in REQUIRED if name not in values]
        if missing:
            kind = reader.first("model_type") or type(config).__name__
            raise ArchitectureError(f"the config of this model ({kind}) does not give {', '.join(missing)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as plain Python values.

        >>> import madyn
        >>> shape = madyn.Architecture(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
        >>> shape.to_dict()["intermediate_size"]
        256
        """
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def num_parameters(self) -> int:
        """Parameters of a GPT-NeoX model of this shape: biases everywhere, input and output embeddings not tied.

        Exact for Pythia. For another kind of model it is an estimate, used only where the true count was not recorded.

        >>> Architecture(num_hidden_layers=12, hidden_size=768, num_attention_heads=12).num_parameters
        162322944
        """
        d, f = self.hidden_size, self.intermediate_size
        attention, mlp, norms = 4 * d * (d + 1), 2 * d * f + d + f, 4 * d
        return self.num_hidden_layers * (attention + mlp + norms) + 2 * d + 2 * self.vocab_size * d


class ConfigReader:
    """Looks names up in a config object or in the dict of a config.json, at its text part if it has one."""

    def __init__(self, config: Any) -> None:
        if isinstance(config, Mapping):
            text = config.get("text_config")
            self._get = (text if isinstance(text, Mapping) else config).get
        else:
            text = config.get_text_config() if hasattr(config, "get_text_config") else config
            self._get = lambda name: getattr(text, name, None)

    def first(self, *names: str) -> Any:
        """The first of these names that the config gives, or None. Settings by layer (a list) give their largest."""
        for name in names:
            value = self._get(name)
            if isinstance(value, (list, tuple)) and value:
                if not all(isinstance(v, (int, float)) for v in value):
                    raise ArchitectureError(f"{name} is {quoted(value)}; a setting by layer is a list of numbers")
                value = max(value)
            if value is not None:
                return value
        return None

    def rope_parameters(self) -> Mapping[str, Any]:
        """transformers 5 keeps rotary settings here; where layers differ, one group a kind of layer, the first here."""
        rope = self._get("rope_parameters")
        if not isinstance(rope, Mapping):
            return {}
        groups = [v for v in rope.values() if isinstance(v, Mapping)]
        return groups[0] if groups and "rope_theta" not in rope else rope


# The table -----------------------------------------------------------------------------------------------------------


def _card_first(features: Mapping[str, Feature]) -> dict[str, Feature]:
    return {
        name: features[name] for name in sorted(features, key=(*CARD, *(n for n in features if n not in CARD)).index)
    }


FIELDS: Mapping[str, Feature] = _card_first(features_of(Architecture))
"""The fields of an architecture, those of the card first."""

DERIVED: Mapping[str, Feature] = derived_of(Shape)
"""The features that have a formula."""

FEATURES: Mapping[str, Feature] = {
    one.name: one
    for name, own in features_of(Architecture).items()
    for one in (own, *(d for d in DERIVED.values() if d.after == name))
}
"""All features, in the order in which the predictor and effects have them, which decides the last bits of results."""

REQUIRED = tuple(name for name in FIELDS if Architecture.__dataclass_fields__[name].default is MISSING)
"""The fields that have no default."""

SEARCHED: Mapping[str, Feature] = {name: one for name, one in _card_first(FEATURES).items() if one.example}
"""The features that designs are searched over, each with an option of the command line."""


def stand_in(name: str) -> Feature | None:
    """The derived feature that may be given for a field."""
    return next((one for one in DERIVED.values() if one.gives == name), None)


def solved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by field, where some may be given by what stands in for the field.

    Raises:
        ArchitectureError: a field is given and what stands in for it, too, or what is given makes no value of it.

    >>> solved({"hidden_size": 64, "mlp_ratio": 2.5})
    {'hidden_size': 64, 'intermediate_size': 160}
    """
    found = {name: value for name, value in values.items() if value is not None}
    for one in DERIVED.values():
        if one.solve is None or one.name not in found:
            continue
        if one.gives in found:
            raise ArchitectureError(f"give {one.name} or {one.gives}, not both")
        found[one.gives] = one.solve(found.pop(one.name), found)
    return found
