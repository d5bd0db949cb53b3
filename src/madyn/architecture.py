"""The shape of a model: what is known of it before it is trained.

`Architecture` holds the numbers that the published table keeps for each model and that the predictor reads. It is
filled from a Hugging Face config in any of the spellings in use, because transformers has renamed most of these
settings at least once (`rotary_pct` became `partial_rotary_factor`, which moved into `rope_parameters`). A new
feature of an architecture is one more field here, with its spellings beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from madyn.errors import ArchitectureError, quoted

# Beyond any model's: so that a wrong number in a file costs neither memory nor time.
_LARGEST_SIZE = 1 << 40
_LARGEST = {"num_hidden_layers": 10_000, "num_attention_heads": 1 << 24, "hidden_size": 1 << 28}
_LARGEST_BASE = 1e18

OPTIONS: Mapping[str, str] = {
    "--layers": "num_hidden_layers",
    "--hidden-size": "hidden_size",
    "--heads": "num_attention_heads",
    "--head-size": "head_size",
    "--mlp-ratio": "mlp_ratio",
}
"""The field that an option of the command line stands for."""


def _feature(*spellings: str, **kwargs: Any) -> Any:
    """A dataclass field that also knows the other names that configs give it, in the order they are tried."""
    return field(metadata={"spellings": spellings}, **kwargs)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a transformer.

    Only the number of layers, the hidden size and the number of heads have no default; the others default to what the
    Pythia models have. `rotary_emb_base` is None, and `rotary_pct` 0, for a model without rotary position embeddings.

    Raises:
        ArchitectureError: a size is not a positive whole number, or the rotary share is outside 0..1.

    >>> Architecture(num_hidden_layers=6, hidden_size=128, num_attention_heads=4).intermediate_size
    512
    """

    num_hidden_layers: int = _feature("n_layer", "n_layers", "num_layers")
    hidden_size: int = _feature("n_embd", "d_model", "dim", "n_embed")
    intermediate_size: int = _feature("n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "hidden_dim", default=0)
    num_attention_heads: int = _feature("n_head", "n_heads", "num_heads")
    rotary_pct: float = _feature("partial_rotary_factor", default=0.25)
    rotary_emb_base: float | None = _feature("rope_theta", default=10000.0)
    vocab_size: int = _feature(default=50304)
    max_position_embeddings: int = _feature("n_positions", "n_ctx", "max_seq_len", "max_sequence_length", default=2048)
    model_type: str = _feature(default="gpt_neox")

    def __post_init__(self) -> None:
        if self.intermediate_size == 0:
            object.__setattr__(self, "intermediate_size", 4 * _whole("hidden_size", self.hidden_size))
        for f in fields(self):
            if f.type == "int":
                object.__setattr__(self, f.name, _whole(f.name, getattr(self, f.name)))
        for name in ("rotary_pct", "rotary_emb_base"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ArchitectureError(f"{name} is {quoted(value)}; it must be a number")
        if not isinstance(self.model_type, str) or len(self.model_type) > 255:
            raise ArchitectureError(f"model_type is {quoted(self.model_type)}; it must be a name")
        if not 0 <= self.rotary_pct <= 1:
            raise ArchitectureError(f"rotary_pct is {quoted(self.rotary_pct)}; it is a share of each head, from 0 to 1")
        if self.rotary_emb_base is not None and not 0 < self.rotary_emb_base <= _LARGEST_BASE:
            raise ArchitectureError(
                f"rotary_emb_base is {quoted(self.rotary_emb_base)}; it must be positive and at most "
                f"{_LARGEST_BASE:g}, or None"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """An architecture from field names alone, as in `--architecture '{"num_hidden_layers": 8, ...}'`.

        Raises:
            ArchitectureError: a name is not a field, or a field without a default is absent.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ArchitectureError(f"unknown in an architecture: {', '.join(unknown)}; known: {', '.join(known)}")
        required = ("num_hidden_layers", "hidden_size", "num_attention_heads")
        missing = [name for name in required if values.get(name) is None]
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
        read = _Reader(config)
        values: dict[str, Any] = {}
        for f in fields(cls):
            found = read.first(f.name, *f.metadata["spellings"])
            if found is not None:
                values[f.name] = found
        missing = [n for n in ("num_hidden_layers", "hidden_size", "num_attention_heads") if n not in values]
        if missing:
            kind = read.first("model_type") or type(config).__name__
            raise ArchitectureError(f"the config of this model ({kind}) does not give {', '.join(missing)}")
        rope = read.rope_parameters()
        values["rotary_emb_base"] = rope.get("rope_theta", read.first("rotary_emb_base", "rope_theta"))
        share = rope.get("partial_rotary_factor", read.first("rotary_pct", "partial_rotary_factor"))
        has_rotary = values["rotary_emb_base"] is not None
        values["rotary_pct"] = share if share is not None else (1.0 if has_rotary else 0.0)
        values.setdefault("model_type", "unknown")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as plain Python values."""
        return asdict(self)

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


class _Reader:
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


def _whole(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = 0
    largest = _LARGEST.get(name, _LARGEST_SIZE)
    if number < 1 or number != value or number > largest:
        raise ArchitectureError(f"{name} is {quoted(value)}; it must be a positive whole number, {largest:,} at most")
    return number
