"""Every text model class of the installed transformers: measured correctly, or refused with the reason.

    python benchmarks/architectures.py --write docs/architectures.md     # all; a few minutes
    python benchmarks/architectures.py llama t5 mamba                    # some

Each model type that has a causal, masked, sequence-to-sequence or text-encoding head is built from its own default
config, made small, with random weights. "Correct" holds the measurement against what the model itself reports: the
largest |h|, with its position and feature, and the median of every layer but the last equal those of its
`hidden_states`; the last layer's are those of the input of the final norm: there is a module that takes the state
measured (or nothing lies behind it) and from which the reported last hidden state comes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from madyn.errors import ArchitectureError
from madyn.measurement import measure_with_locations
from madyn.measurement.forward import arguments_for, part_to_run

TOKENS = 12
LARGEST = 60_000_000  # parameters: what a config cannot be made smaller than

# What a config calls its sizes, and small ones. Nothing here is about one model.
_SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
         "num_decoder_layers", "num_encoder_layers"), 3),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
        4),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_key_value_heads": 2, "num_experts_per_tok": 2, "head_dim": 8, "vocab_size": 97, "rotary_dim": 4,
}  # fmt: skip
# Some sizes only fit together in a way that their names do not tell: tried one after another.
_LATENT = {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "kv_lora_rank": 8, "q_lora_rank": 8}
_ALTERNATIVES: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 4},
    {**_LATENT, "head_dim": 4, "num_key_value_heads": 4},
    {**_LATENT, "head_dim": 4, "num_key_value_heads": 4, "n_group": 1, "topk_group": 1},
    {**_LATENT, "head_dim": 8},
    {"num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 1, "state_size": 8},
    {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "n_mamba_heads": 1},
    {"layer_types": None},
]


@dataclass(frozen=True)
class Result:
    """`outcome` is "correct", "refused", "wrong" or "not built"; `detail` the stacks, or the reason."""

    model_type: str
    outcome: str
    detail: str


def text_types() -> list[str]:
    from transformers.models.auto import modeling_auto as auto

    heads = ("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "TEXT_ENCODING")
    return sorted({name for head in heads for name in getattr(auto, f"MODEL_FOR_{head}_MAPPING_NAMES")})


def try_type(model_type: str) -> Result:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    reason = "no small config of it builds"
    for changes in _ALTERNATIVES:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                model = build(model_type, changes)
                ids = torch.arange(3, 3 + TOKENS)[None]
                with torch.no_grad():
                    _reported(model, ids)
        except Exception as e:  # anything may be wrong with a config that nobody made for this
            reason = f"{type(e).__name__}: {' '.join(str(e).split())[:110]}"
            continue
        return check(model_type, model, ids)
    return Result(model_type, "not built", reason)


def build(model_type: str, changes: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING[model_type]()
    for part in _parts(config):
        _shrink(part, {**_SMALL, **changes})
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModel.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters at its smallest")
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "model_type"):
            yield from _parts(value)


def _shrink(config: Any, small: dict[str, Any]) -> None:
    for name, value in small.items():
        with contextlib.suppress(Exception):  # a config may refuse to be asked, or to be told
            known = getattr(config, name, None)
            absent = known is None and name in ("head_dim", "num_key_value_heads") and hasattr(config, name)
            whole = isinstance(known, int) and not isinstance(known, bool)
            if absent or (whole and value is not None) or (isinstance(known, list) and value is None):
                setattr(config, name, value)
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and name.endswith(("layer_types", "layers_block_type", "block_types")):
            kinds = list(dict.fromkeys(map(str, value)))
            setattr(config, name, (kinds * 3)[:3])
        elif name.endswith("token_id") and isinstance(value, int) and value >= small["vocab_size"]:
            setattr(config, name, 1)


def _reported(model: Any, ids: torch.Tensor) -> list[list[torch.Tensor]]:
    """The hidden states that the model says it has, a list a stack."""
    part = part_to_run(model)
    outputs = part(**arguments_for(part, ids), output_hidden_states=True)
    keys = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
    found = [list(outputs[key]) for key in keys if outputs.get(key) is not None]
    if not found:
        raise ValueError("it reports no hidden states to compare with")
    return found


def check(model_type: str, model: Any, ids: torch.Tensor) -> Result:
    try:
        found = measure_with_locations(model, ids)
    except ArchitectureError as e:
        return Result(model_type, "refused", str(e).split("; its lists")[0])
    at = 0
    with torch.no_grad():
        reported = _reported(model, ids)
    for (stack, layers), states in zip(found.stacks.items(), reported, strict=True):
        # Mamba and its kin report no embedding: their first state is the first layer's.
        inner = states[1:-1] if _equal(found, at, states[1]) else states[:-1]
        for layer, state in enumerate(inner):
            if not _equal(found, at + layer, state):
                return Result(model_type, "wrong", f"{stack} layer {layer}")
        if len(inner) < layers and not _leads_to(model, ids, found, at + layers - 1, states[-1]):
            return Result(model_type, "wrong", f"{stack}: the last layer is not what the final norm takes")
        at += layers
    return Result(model_type, "correct", ", ".join(f"{name} ({count})" for name, count in found.stacks.items()))


def _equal(found: Any, layer: int, state: torch.Tensor) -> bool:
    """The same largest value at the same place, and the same median."""
    magnitude = state[0].float().abs()
    position, feature = (int(a[0, 0, layer]) for a in (found.positions, found.features))
    top, median = found.statistics[0, 0, layer], found.statistics[0, -1, layer]
    flat = magnitude.flatten()
    return bool(
        top == flat.max().item()
        and magnitude.reshape(-1, magnitude.shape[-1])[position, feature].item() == top
        and median == flat.median().item()
    )


def _leads_to(model: Any, ids: torch.Tensor, found: Any, layer: int, last: torch.Tensor) -> bool:
    """Whether the last state is the layer's own, or comes out of a module that took the layer's own."""
    if _equal(found, layer, last):
        return True
    took: list[bool] = []
    top, median = found.statistics[0, 0, layer], found.statistics[0, -1, layer]

    def look(module: Any, inputs: Any, output: Any) -> None:
        for value in inputs:
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim == 3 and value.numel():
                state = value[:, :TOKENS].float().abs()  # some models pad a sequence to a block's length
                took.append(state.max().item() == top and state.flatten().median().item() == median)

    part = part_to_run(model)
    hooks = [module.register_forward_hook(look) for module in part.modules()]
    with torch.no_grad():
        part(**arguments_for(part, ids))
    for hook in hooks:
        hook.remove()
    return any(took)


def table(results: Sequence[Result]) -> str:
    from importlib.metadata import version

    counts = {o: sum(r.outcome == o for r in results) for o in ("correct", "refused", "wrong", "not built")}
    lines = [
        "# Models that madyn measures",
        "",
        f"Every text model type of transformers {version('transformers')}, built small with random weights by",
        "`python benchmarks/architectures.py --write docs/architectures.md`, and held against the hidden states that",
        "the model itself reports (positions, features, values and medians of every layer; the last layer's against",
        f"the input of the final norm). {counts['correct']} are measured correctly, {counts['refused']} are refused",
        f"with the reason, {counts['wrong']} are measured wrongly. {counts['not built']} could not be built small by",
        "a script that knows no model by name; they are looked at in the same way when they are measured, and refused",
        "if no list of layers hands on what the model reports.",
        "",
        "Not measured on text: vision transformers take pixel values (`madyn.measure(model, pixels)`); any other",
        'module takes `layers="path.to.blocks"`.',
        "",
        "| model type | outcome | stacks (layers), or the reason |",
        "|---|---|---|",
    ]
    lines += [f"| {r.model_type} | {r.outcome} | {r.detail.replace('|', '/')} |" for r in results]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="model types; all text models by default")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(try_type, options.types or text_types()))
    if options.write:
        options.write.write_text(table(results))
    for outcome in ("correct", "refused", "wrong", "not built"):
        chosen = [r for r in results if r.outcome == outcome]
        print(f"{outcome}: {len(chosen)}")
        if outcome != "correct":
            for r in chosen:
                print(f"  {r.model_type}: {r.detail}")


if __name__ == "__main__":
    main()
