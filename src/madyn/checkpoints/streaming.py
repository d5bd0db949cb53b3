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

from madyn.checkpoints.building import build_model
from madyn.checkpoints.loading import match_names
from madyn.checkpoints.placing import judge
from madyn.checkpoints.sources.protocol import Checkpoint
from madyn.checkpoints.weights import Weights
from madyn.errors import ArchitectureError, CheckpointError


def streamed_model(
    checkpoint: Checkpoint, folder: Path, dtype: Any, device: str, find_layers: Callable[[Any], tuple[str, Any]]
) -> tuple[Any, str, list[str]]:
    """A model whose layers have no weights of their own, and read them from the checkpoint's files as they run.

    Args:
        find_layers: gives the path and the list of the layers of a model that cannot run yet.

    Returns:
        the model, in evaluation mode; the path of its layers; and what is worth knowing of the checkpoint.

    Raises:
        ArchitectureError: its weights do not stand in the files as they stand in the model.
        CheckpointError: the files cannot be read, or are not this model's.
    """
    import torch
    from accelerate import init_empty_weights

    config = checkpoint.config(folder)
    _require_stored_as_weights(checkpoint, config)
    with init_empty_weights(include_buffers=False):
        trust = checkpoint.trust_remote_code
        model = build_model(config, checkpoint, trust_remote_code=trust, dtype=dtype).eval()
    path, layers = find_layers(model)
    weights = checkpoint.weights(folder)
    _, report = checkpoint.load_reported(folder, weights, dtype=dtype, device_map={"": "meta"})
    remarks = judge(str(checkpoint), model, report, weights)
    sources = _sources(checkpoint, model, weights)
    inside = {name: s for name, s in sources.items() if name.startswith(f"{path}.")}
    with weights.reading() as tensors, torch.no_grad():
        for name, source in sources.items():
            if name not in inside:
                tensor = tensors[source]
                _place(model, name, tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True))
    for name, buffer in model.named_buffers():
        _place(model, name, buffer.to(device))
    memory: dict[tuple[str, torch.Size], torch.Tensor] = {}
    for number, layer in enumerate(layers):
        prefix = f"{path}.{number}."
        own = {name.removeprefix(prefix): s for name, s in inside.items() if name.startswith(prefix)}
        _Pass(weights, own, memory, dtype, device).attach(layer)
    return model, path, remarks


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
                    kind = self.dtype if stored.is_floating_point() else stored.dtype
                    self.memory[key] = torch.empty(stored.shape, dtype=kind, device=self.device)
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


def _require_stored_as_weights(checkpoint: Checkpoint, config: Any) -> None:
    if getattr(config, "quantization_config", None) is not None:
        raise ArchitectureError(
            f"{checkpoint}: its config has a quantization_config: the numbers in its files are no weights until "
            "transformers has converted them, so they cannot be streamed layer by layer; measure it where the whole "
            "model fits in memory, or dequantize it"
        )


def _sources(checkpoint: Checkpoint, model: Any, weights: Weights) -> dict[str, str]:
    """The tensor in the files of every tensor of the model, where it can be read as it stands there."""
    if not weights.mapped:
        raise CheckpointError(
            f"{checkpoint}: {weights.files[0].name} is of a form that can only be read whole (torch before 1.6), so it "
            "cannot be streamed; save it as safetensors"
        )
    sources = match_names(model, weights)
    if sources is None:
        raise ArchitectureError(
            f"{checkpoint}: transformers converts the weights of a {type(model).__name__} as it loads them, so they "
            "cannot be streamed layer by layer; measure it where the whole model fits in memory"
        )
    return sources
