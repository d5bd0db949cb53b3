"""Finding a model's decoder layers by its structure, not by a list of model names.

The layers of a transformer are a `ModuleList` whose length is the number of layers in the config. Where a module has no
config, or none of its lists has that length, the longest list of modules of one class is taken.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from madyn.errors import ArchitectureError


def find_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers, in the order in which the hidden state passes them.

    Raises:
        ArchitectureError: no list of layers can be recognised, or the model is an encoder-decoder.
    """
    config: Any = getattr(model, "config", None)
    kind = type(model).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise ArchitectureError(f"{kind} is an encoder-decoder; madyn measures models with one stack of layers")
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    expected = getattr(text_config, "num_hidden_layers", None)
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 0}
    if expected is not None:
        candidates = {name: m for name, m in lists.items() if len(m) == expected}
    else:
        alike = {name: m for name, m in lists.items() if len({type(layer) for layer in m}) == 1 and len(m) > 1}
        longest = max((len(m) for m in alike.values()), default=0)
        candidates = {name: m for name, m in alike.items() if len(m) == longest}
    if not candidates:
        wanted = f" of {expected}" if expected is not None else ""
        raise ArchitectureError(
            f"no list{wanted} of decoder layers found in {kind}; its lists of modules: "
            + (", ".join(f"{name} ({len(m)})" for name, m in lists.items()) or "none")
        )
    # A list inside a layer (experts, say) may have the same length by chance; the outermost one holds the layers.
    return candidates[min(candidates, key=lambda name: name.count("."))]
