"""Whether every tensor of a checkpoint has its place in the model, and every place its tensor.

transformers loads what fits and reports the rest to a log that nobody reads: a bias that the config does not provide
for, an adapter that was never merged, the scales of quantized weights. The model then runs and gives the numbers of
another model. So what transformers reports is judged here, with one verdict for a model that is loaded whole and for
one whose weights stream from disk: inside the layers nothing may be left over, missing or of another shape; elsewhere
it is told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from madyn.checkpoints.weights import Weights
from madyn.errors import CheckpointError

_SHOWN = 4  # names in a message

# Buffers that older versions of transformers saved with every layer: computed, never learned.
_BUFFER = re.compile(
    r"(?:^|\.)(?:inv_freq|(?:cos|sin)_cached|masked_bias|causal_mask|position_ids|relative_position_index)$"
)

_REASONS = (
    (r"\.lora_|\.modules_to_save\.|\.adapter", "an adapter that is not merged: merge it (`merge_and_unload`) and save"),
    (
        r"_scale(?:_inv)?$|\.scales?$|zero_points?$|\.qweight$|\.qzeros$|\.g_idx$|\.absmax$|\.quant_state",
        "weights are quantized and the config has no quantization_config that says how: restore it, or dequantize",
    ),
    (r"\.bias$", "the config provides for no such bias: restore the config of the run (attention_bias, mlp_bias, ...)"),
)


def renamings(config: Any, weights: Weights | None) -> dict[str, str]:
    """Regular expressions and replacements that turn the names in a checkpoint's files into the model's.

    They take off what wrappers put before a name, and give a tied tensor that was saved under its other name alone (the
    head's, which is not loaded) the name of the embedding.
    """
    if weights is None:
        return {}
    tied: dict[str, str] = {}
    if _ties_embeddings(config):
        partners = getattr(_whole_class(config), "_tied_weights_keys", None)
        for other, own in (partners if isinstance(partners, Mapping) else {}).items():
            if other in weights.names and own not in weights.names:
                tied = {rf"^{re.escape(other)}$": own}
    return dict.fromkeys(weights.wrappers, "") | tied


def _ties_embeddings(config: Any) -> bool:
    text = config.get_text_config()
    return bool(getattr(text, "tie_word_embeddings", False) or getattr(config, "tie_word_embeddings", False))


def _whole_class(config: Any) -> Any:
    """The class of the model with its head; None for one that transformers does not have."""
    import transformers

    name = next(iter(getattr(config, "architectures", None) or []), "")
    return getattr(transformers, name, None) if name else None


def places(model: Any, names: Iterable[str], renamed: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """Where transformers puts the tensors of a checkpoint, by its own rules.

    Returns:
        by the names in the checkpoint, those that they get, which the model may have or not; and whether any tensor is
        converted on its way, joined with others or split.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    state = model.state_dict()
    mapping = get_model_conversion_mapping(model, dict(renamed) or None)
    renames = [m for m in mapping if isinstance(m, WeightRenaming)]
    converters = [m for m in mapping if isinstance(m, WeightConverter)]
    found: dict[str, str] = {}
    converted = False
    for name in names:
        target, by = rename_source_key(name, renames, converters, model.base_model_prefix, state)
        if target not in state and name in state:
            target, by = name, None
        found[name] = target
        converted = converted or (by is not None and target in state)
    return found, converted


def judge(what: str, model: Any, report: Mapping[str, Any], weights: Weights | None) -> list[str]:
    """Refuse a checkpoint that is not this model; tell what is worth knowing of one that is.

    Args:
        what: the checkpoint, for messages.
        model: built from its config; its tensors may be on the meta device.
        report: what transformers gives as loading info.
        weights: its files; None for one that does not lie in files of tensors.

    Returns:
        a sentence for each thing worth knowing.

    Raises:
        CheckpointError: a tensor is missing, or has another shape than the model's; one inside the layers has no place
            in the model; or stored numbers do not mean what they say.
    """
    for name, stored, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"{what}: {name} has the shape {list(stored)} where the config says {list(expected)} "
            f"({len(report['mismatched_keys'])} such tensors); config and weights are not of one model"
        )
    remarks = _missing(what, model, report["missing_keys"])
    left_over = _left_over(model, report["unexpected_keys"], weights)
    inside = {name: shape for name, shape in left_over.items() if _inside_layers(model, name)}
    if inside:
        raise CheckpointError(
            f"{what}: {len(inside)} tensors inside the layers have no place in the model: {_listed(inside)}"
            f"{_reason(inside)}"
        )
    head = _names_of_head(model.config, left_over, weights) if left_over else set()
    elsewhere = {name: shape for name, shape in left_over.items() if name not in head}
    if elsewhere:
        remarks.append(f"{len(elsewhere)} tensors outside the layers have no place in the model: {_listed(elsewhere)}")
    if weights is not None:
        remarks += _beside(weights)
        if getattr(model.config, "quantization_config", None) is None:
            require_plain(what, model, weights)
    return remarks


def require_plain(what: str, model: Any, weights: Weights) -> None:
    """Raise CheckpointError where a floating-point tensor of the model is stored as whole numbers or in eight bits.

    Without a scale such numbers do not say what they stand for, and nothing here says where the scale is.
    """
    import torch

    plain = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    dtypes, state = weights.dtypes(), model.state_dict()
    odd = {name: dtype for name, dtype in dtypes.items() if dtype not in plain}
    if not odd:
        return
    placed, _ = places(model, odd, renamings(model.config, weights))
    places_of = {name: state.get(placed[name]) for name in odd}
    odd = {n: dtype for n, dtype in odd.items() if (to := places_of[n]) is not None and to.is_floating_point()}
    for name, dtype in sorted(odd.items()):
        raise CheckpointError(
            f"{what}: {name} is stored as {str(dtype).removeprefix('torch.')} ({len(odd)} such tensors), and the "
            "config has no quantization_config that says what these numbers stand for; save it in 16- or 32-bit floats"
        )


def _left_over(model: Any, unexpected: Collection[str], weights: Weights | None) -> dict[str, tuple[int, ...] | None]:
    """The tensors that have no place, by their names in the files, with their shapes; buffers are none."""
    if weights is None or not unexpected:
        return {name: None for name in unexpected if not _is_buffer(name, None)}
    placed, _ = places(model, weights.names, renamings(model.config, weights))
    shapes = weights.shapes()
    found = {name: shapes[name] for name, target in placed.items() if target in unexpected or name in unexpected}
    return {name: shape for name, shape in found.items() if not _is_buffer(name, shape)}


def _missing(what: str, model: Any, names: Collection[str]) -> list[str]:
    """transformers fills what is missing with random numbers. A pooler comes after the layers and is not measured."""
    poolers = sorted(name for name in names if "pooler" in name)
    missing = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name in names}
    missing = {name: shape for name, shape in missing.items() if name not in poolers}
    if missing:
        raise CheckpointError(
            f"{what}: {len(missing)} weights are missing: {_listed(missing)}; the checkpoint is incomplete"
        )
    return (
        [f"the pooler is not in the files ({poolers[0]}); it comes after the layers and is not measured"]
        if poolers
        else []
    )


def _is_buffer(name: str, shape: tuple[int, ...] | None) -> bool:
    """Whether a tensor is one that the model's code computes: a mask of (1, 1, n, n) or one of the known names."""
    mask = shape is not None and len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    return mask or _BUFFER.search(name) is not None


def _inside_layers(model: Any, name: str) -> bool:
    """Whether a name is one of a layer's tensors. A stack that the model does not have (a draft head's) is none."""
    from torch import nn

    own = name.removeprefix(f"{model.base_model_prefix}.")
    lists = [path for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    return any(re.match(rf"{re.escape(path)}\.\d+\.", own) for path in lists)


def _names_of_head(config: Any, names: Iterable[str], weights: Weights | None) -> set[str]:
    """Those names that have a place in the model with its head, and are no surprise in a file.

    The names in files are not always the model's: GPT-NeoX saves its `lm_head` as `embed_out`.
    """
    import torch

    kind = _whole_class(config)
    if kind is None:
        return set()
    with torch.device("meta"):
        whole = kind(config)
    state = whole.state_dict()
    placed, _ = places(whole, names, renamings(config, weights))
    return {name for name, target in placed.items() if name in state or target in state}


def _beside(weights: Weights) -> list[str]:
    if not weights.beside:
        return []
    return [
        f"weight files of another save lie beside those read ({', '.join(p.name for p in weights.files[:2])}) and were "
        f"passed over: {', '.join(weights.beside[:_SHOWN])}"
    ]


def _reason(inside: Iterable[str]) -> str:
    for pattern, reason in _REASONS:
        if any(re.search(pattern, name) for name in inside):
            return f"; {reason}"
    return "; the config is of another model"


def _listed(tensors: Mapping[str, tuple[int, ...] | None]) -> str:
    """The first few names with their shapes."""
    said = [f"{name} {list(shape)}" if shape is not None else name for name, shape in sorted(tensors.items())]
    return ", ".join(said[:_SHOWN]) + (f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else "")
