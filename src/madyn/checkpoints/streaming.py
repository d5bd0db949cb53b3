"""Models larger than memory: weights pass through, layer by layer.

The model is built with no weights. What lies outside the layers (embeddings, norms) is loaded for good; the weights of
a layer are read when the hidden state reaches it and given up when it has passed, each layer into the same memory. All
sequences go through together, so that every weight is read once a checkpoint.

accelerate's disk offload does this too, and is what is used to build the empty model. It reads a tensor at a time into
new memory in the file's own dtype; here the file's pages are given back after every layer, and float16 files can be
run in float32 without a converted copy of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from madyn.checkpoints.finding import Checkpoint
from madyn.checkpoints.loading import match_names
from madyn.checkpoints.weights import Weights
from madyn.errors import ArchitectureError, CheckpointError


def streamed_model(
    checkpoint: Checkpoint, folder: Path, dtype: Any, device: str, find_layers: Callable[[Any], tuple[str, Any]]
) -> tuple[Any, str]:
    """A model whose layers have no weights of their own, and read them from the checkpoint's files as they run.

    Args:
        find_layers: gives the path and the list of the layers of a model that cannot run yet.

    Returns:
        the model, in evaluation mode, and the path of its layers.

    Raises:
        ArchitectureError: its weights do not stand in the files under their own names and shapes.
        CheckpointError: the files cannot be read.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModel

    with init_empty_weights(include_buffers=False):
        model = AutoModel.from_config(
            checkpoint.config(), dtype=dtype, trust_remote_code=checkpoint.trust_remote_code
        ).eval()
    path, layers = find_layers(model)
    weights = checkpoint.weights(folder)
    sources = match_names(model, weights.names)
    _require_plain(checkpoint, model, weights, sources)
    assert sources is not None
    inside = {name: s for name, s in sources.items() if name.startswith(f"{path}.")}
    with weights.reading() as tensors, torch.no_grad():
        for name, source in sources.items():
            if name not in inside:
                _place(model, name, tensors[source].to(device=device, dtype=dtype, copy=True))
    for name, buffer in model.named_buffers():
        _place(model, name, buffer.to(device))
    memory: dict[tuple[str, torch.Size], torch.Tensor] = {}
    for number, layer in enumerate(layers):
        prefix = f"{path}.{number}."
        own = {name.removeprefix(prefix): s for name, s in inside.items() if name.startswith(prefix)}
        _Pass(weights, own, memory, dtype, device).attach(layer)
    return model, path


class _Pass:
    """Gives a layer its weights before it runs, and takes them back."""

    def __init__(self, weights: Weights, sources: dict[str, str], memory: Any, dtype: Any, device: str) -> None:
        self.weights, self.sources, self.memory = weights, sources, memory
        self.dtype, self.device = dtype, device

    def attach(self, layer: Any) -> None:
        layer.register_forward_pre_hook(self.fill)
        layer.register_forward_hook(self.empty)

    def fill(self, layer: Any, inputs: Any) -> None:
        import torch

        for name, source in self.sources.items():
            # Opened for one tensor: a mapped file keeps every page that was read until it is closed.
            with self.weights.reading() as tensors, torch.no_grad():
                stored = tensors[source]
                key = (name, stored.shape)
                if key not in self.memory:
                    self.memory[key] = torch.empty(stored.shape, dtype=self.dtype, device=self.device)
                self.memory[key].copy_(stored)
                del stored
            _place(layer, name, self.memory[key])

    def empty(self, layer: Any, inputs: Any, output: Any) -> None:
        import torch

        for name in self.sources:
            _place(layer, name, torch.empty_like(layer.get_parameter(name), device="meta"))


def _place(module: Any, name: str, tensor: Any) -> None:
    """Set a parameter or buffer by its path."""
    from torch import nn

    owner, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def _require_plain(checkpoint: Checkpoint, model: Any, weights: Weights, sources: dict[str, str] | None) -> None:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    converted = [c for c in get_model_conversion_mapping(model) if isinstance(c, WeightConverter)]
    if sources is None or converted:
        raise ArchitectureError(
            f"{checkpoint}: transformers converts the weights of a {type(model).__name__} as it loads them, so they "
            "cannot be streamed layer by layer; measure it where the whole model fits in memory"
        )
    shapes, state = weights.shapes(), model.state_dict()
    for name, source in sources.items():
        if shapes[source] != tuple(state[name].shape):
            raise CheckpointError(
                f"{checkpoint}: {source} has the shape {list(shapes[source])} where the config says "
                f"{list(state[name].shape)}"
            )
