"""One model after another, in one piece of memory: a skeleton is built once, and the weights in it are exchanged.

Building a model and loading it through transformers costs more than a small model's forward pass, and the checkpoints
of one model differ in nothing but their weights. So the first is loaded by transformers, with all its checks, and each
of its tensors is then compared with the tensor of the same name in the file. Where all agree, later checkpoints with
the same config and the same tensors are copied straight from the file into the same memory. Where they do not agree
(transformers converts the weights of some mixtures of experts as it loads them), or the model has changed its own
weights while it ran, every checkpoint goes through transformers: right before fast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madyn.checkpoints.placing import places, renamings, require_plain
from madyn.checkpoints.records import read_json_as
from madyn.checkpoints.sources.protocol import Checkpoint
from madyn.checkpoints.weights import Weights

# What a config says of itself and not of the model.
_VOLATILE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype")


class Loader:
    """Loads checkpoints for measuring.

    The model that `load` returns is overwritten by the next call: use it, then load the next.

    Attributes:
        swapped: how many checkpoints were loaded by exchanging weights alone.
        remarks: what is worth knowing of the checkpoint loaded last, a sentence each.
    """

    def __init__(self, dtype: Any, device: str) -> None:
        self.dtype, self.device = dtype, device
        self.swapped = 0
        self.remarks: list[str] = []
        self._skeleton: _Skeleton | None = None

    def load(self, checkpoint: Checkpoint, folder: Path | None = None) -> Any:
        """The model with a checkpoint's weights, in evaluation mode.

        Args:
            folder: where the checkpoint's files lie; None for one that is not in a folder of safetensors or pickles.

        Raises:
            CheckpointError: the weights cannot be read, do not fit the config, or some are missing.
        """
        if folder is None:
            self._skeleton = None
            model, self.remarks = checkpoint.load_whole(self.dtype, self.device)
            return model
        config, weights = _identity(folder), checkpoint.weights(folder)
        if self._skeleton is not None and self._skeleton.takes(config, weights):
            require_plain(str(checkpoint), self._skeleton.model, weights)
            self._skeleton.fill(weights)
            self.swapped += 1
            return self._skeleton.model
        self._skeleton = None  # before the next is built: two models need twice the memory
        model, self.remarks = checkpoint.load_whole(self.dtype, self.device, folder)
        self._skeleton = _Skeleton.build(model, config, weights)
        return model


class _Skeleton:
    """A model whose every tensor is known by its name in a checkpoint's files."""

    def __init__(self, model: Any, config: str | None, weights: Weights, sources: Mapping[str, str]) -> None:
        self.model, self.config, self.sources = model, config, sources
        self.names, self.beside = weights.names, weights.beside
        self._seen = self._versions()

    @classmethod
    def build(cls, model: Any, config: str | None, weights: Weights) -> _Skeleton | None:
        """The skeleton of a model just loaded; None where its tensors are not those of the files."""
        sources = match_names(model, weights)
        if config is None or sources is None or not _agree(model, weights, sources):
            return None
        return cls(model, config, weights, sources)

    def takes(self, config: str | None, weights: Weights) -> bool:
        """Whether a checkpoint is of this model, saved in the same way, and the model still as it was filled."""
        if config != self.config or self._versions() != self._seen:
            return False
        if (weights.names, weights.beside) != (self.names, self.beside):
            return False
        shapes, state = weights.shapes(), self.model.state_dict()
        return all(shapes[source] == tuple(state[name].shape) for name, source in self.sources.items())

    def fill(self, weights: Weights) -> None:
        import torch

        state = self.model.state_dict()
        with weights.reading() as tensors, torch.no_grad():
            for name, source in self.sources.items():
                state[name].copy_(tensors[source])
        self._seen = self._versions()

    def _versions(self) -> dict[str, tuple[int, int]]:
        """Where each tensor lies, and how often it was written to: torch counts."""
        state = self.model.state_dict(keep_vars=True)
        return {name: (state[name].data_ptr(), state[name]._version) for name in self.sources}


def match_names(model: Any, weights: Weights) -> dict[str, str] | None:
    """The name in a checkpoint's files of every tensor of a model, shared ones once.

    None where transformers converts tensors as it loads them, or where one has none in the files.
    """
    placed, converted = places(model, weights.names, renamings(model.config, weights))
    if converted:
        return None
    of = {target: name for name, target in placed.items()}
    found: dict[str, str] = {}
    filled: set[Any] = set()
    missing: list[Any] = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = id(tensor) if tensor.is_meta else tensor.data_ptr()
        if place in filled:
            continue
        if name in of:
            found[name] = of[name]
            filled.add(place)
        elif "pooler" not in name:  # it comes after the layers; transformers fills it where a file has none
            missing.append(place)
    return found if all(place in filled for place in missing) else None


def _agree(model: Any, weights: Weights, sources: Mapping[str, str]) -> bool:
    import torch

    state = model.state_dict()
    with weights.reading() as tensors:
        for name, source in sources.items():
            stored = tensors[source]
            if stored.shape != state[name].shape or not stored.is_floating_point():
                return False
            if not torch.equal(stored.to(state[name].dtype), state[name].to("cpu")):
                return False
    return True


def _identity(folder: Path) -> str | None:
    """The config as a text that is equal for equal models."""
    config = read_json_as(folder / "config.json", dict[str, Any])
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True)
