"""Which weights make a massive activation: single entries of the down projection of the block that writes it.

A massive activation is written by one MLP, and there mostly by one or a few inputs of its down projection, so that
zeroing that one weight takes the activation away (Yu et al. 2024, arXiv 2411.07191, "super weights").

The MLP's output at the coordinate is linear in the entries of the down projection's row for that feature, and depends
on no other of its entries. So the derivative by an entry is what that entry is multiplied with (a neuron's activation,
times its expert's weight in a mixture), and entry times derivative is its contribution, exactly. This also tells the
down projection from all other weights, whatever it is called and however it is stored: a linear module, GPT-2's
transposed one, one of many experts, or all experts in one tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from madyn.errors import ArchitectureError, UsageError, check_range, first_line
from madyn.intervention.addends import Addend, layer_runs
from madyn.intervention.passes import Passes, hooked
from madyn.measurement.forward import Layers, evaluating
from madyn.measurement.layers import first_tensor
from madyn.measurement.predicting import Predictions
from madyn.measurement.wrapping import unwrap

COLUMNS = ("module", "parameter", "expert", "row", "column", "weight", "activation", "contribution", "share")
_MOST = 1000


def super_weights(
    model: nn.Module,
    sequences: Any,
    layer: int,
    position: int,
    feature: int,
    top: int = 5,
    *,
    layers: Layers = None,
) -> pd.DataFrame:
    """The weights that make most of what a layer's MLP adds to one coordinate of the residual stream.

    Args:
        model: with or without its head; its weights not quantized.
        sequences: token ids (B, S); means over them are taken.
        layer: the one whose MLP writes the coordinate (`decomposition.writers` names it), 0-indexed.
        position: of the coordinate.
        feature: of the coordinate.
        top: how many weights.
        layers: as in `measure`; one stack.

    Returns:
        a row a weight, the largest |contribution| first: `module`, the path in the model of what holds it;
        `parameter`, its name there; `expert`, missing where the tensor is not one of several experts'; `row` and
        `column` in the stored matrix (of GPT-2's transposed ones the column is the feature); `weight`; `activation`,
        what it is multiplied with; `contribution`, what that adds to the residual stream (behind the norm, where there
        is one); `share` of what the MLP adds. `attrs` holds `mlp`, what the MLP adds, and `remarks`.

    Raises:
        ArchitectureError: no MLP is found in the layer, or no down projection in the MLP.
        UsageError: there is no such layer, position or feature, or the weights are quantized.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> found = madyn.intervention.super_weights(model, ids, layer=0, position=0, feature=3, top=2)
    >>> len(found)
    2
    """
    top = check_range("top", top, 1, _MOST)
    passes = Passes.of(model, sequences, layers)
    layer, position, feature = passes.layer(layer), passes.position(position), passes.feature(feature)
    if len(passes.stacks) > 1:
        raise ArchitectureError(f"{type(passes.part).__name__} has two stacks of layers; say with `layers` which one")
    module = passes.stacks[0].modules[layer]
    paths = {inner: name for name, inner in unwrap(model).named_modules()}
    refuse_quantized(module, paths[module])
    found: list[tuple[float, Slopes]] = []
    for number in range(len(passes.sequences)):
        added = _mlp(layer_runs(passes, number, position, feature)[layer].addends, paths[module])
        found.append((added.value, _slopes(passes, number, layer, added, position, feature)))
    whole = float(np.mean([value for value, _ in found]))
    inside = {name: paths[inner] for name, inner in module.named_modules()}
    rows = _rows([slopes for _, slopes in found], inside, feature, top)
    if not rows:
        raise ArchitectureError(f"no down projection is found in the MLP of {paths[module]}")
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS[:-1])).astype({"expert": "Int64"})
    table["share"] = table["contribution"] / whole
    table.attrs.update({"mlp": whole, "remarks": []})
    return table


def refuse_quantized(module: nn.Module, path: str) -> None:
    """
    Raises:
        UsageError: weights of a module are quantized, or are not in memory.
    """
    for name, inner in module.named_modules():
        where = f"{path}.{name}".strip(".")
        kinds = [type(values).__name__ for values in inner.parameters(recurse=False)]
        packed = any(not values.is_floating_point() for values in inner.parameters(recurse=False))
        if packed or hasattr(inner, "qweight") or any(kind not in ("Parameter", "Tensor") for kind in kinds):
            raise UsageError(
                f"the weights of {where} are quantized ({type(inner).__name__}); single weights are looked for in a "
                "model that is loaded in float32 or bfloat16"
            )
        if any(values.is_meta for values in inner.parameters(recurse=False)):
            raise UsageError(f"the weights of {where} are not in memory; load the model without offloading")


def _mlp(addends: list[Addend], path: str) -> Addend:
    """The MLP that adds most to the coordinate: a layer may have a dense one beside its experts."""
    found = [addend for addend in addends if addend.part == "mlp" and addend.value]
    if not found:
        parts = ", ".join(addend.part for addend in addends)
        raise ArchitectureError(f"no MLP is found that adds to the coordinate in {path}; what adds there: {parts}")
    return max(found, key=lambda addend: abs(addend.value))


Slopes = dict[str, tuple[torch.Tensor, torch.Tensor, int]]


def _slopes(passes: Passes, number: int, layer: int, added: Addend, position: int, feature: int) -> Slopes:
    """The down projections behind a coordinate of a layer's MLP: by name the weights, what each is multiplied with, and
    the axis of features.

    The layer is run once more, on what it was given, with a graph from its weights to the MLP's output.
    """
    module = passes.stacks[0].modules[layer]
    args, kwargs = passes.given_to(number, layer)
    outputs: list[torch.Tensor] = []

    def see(_: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(first_tensor(output))  # pyright: ignore[reportArgumentType]  it was one, with the same input

    names = {name: w for name, w in module.named_parameters() if w.ndim in (2, 3) and "bias" not in name}
    try:
        with _only_gradients_of(module, names), evaluating(module), hooked([module.get_submodule(added.source)], see):
            module(*args, **kwargs)
            width = outputs[0].shape[-1]
            output = outputs[0].reshape(-1, width)[position, feature]
            slopes = torch.autograd.grad(output, list(names.values()), allow_unused=True)
    except RuntimeError as e:
        if isinstance(e, torch.OutOfMemoryError):
            raise
        raise ArchitectureError(f"layer {layer} cannot be differentiated: {first_line(e)}") from e
    factor = added.value / float(output.detach())  # of a norm or a constant behind the MLP
    found: Slopes = {}
    for (name, values), slope in zip(names.items(), slopes, strict=True):
        axis = None if slope is None else _axis_of_feature(slope, feature, width)
        if slope is not None and axis is not None:
            found[name] = (values.detach(), slope * factor, axis)
    return found


@contextmanager
def _only_gradients_of(module: nn.Module, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Gradients of these weights of a module and of nothing else in it, for the time being."""
    former = [(values, values.requires_grad) for values in module.parameters()]
    try:
        for values, _ in former:
            values.requires_grad_(False)
        for values in weights.values():
            values.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for values, was in former:
            values.requires_grad_(was)


def _axis_of_feature(slope: torch.Tensor, feature: int, width: int) -> int | None:
    """The axis along which only the feature's entries have a slope; None for what is no down projection."""
    for axis in range(slope.ndim - 2, slope.ndim):
        if slope.shape[axis] == width:
            own = slope.select(axis, feature)
            if own.any() and int(slope.count_nonzero()) == int(own.count_nonzero()):
                return axis
    return None


def _rows(found: list[Slopes], paths: Mapping[str, str], feature: int, top: int) -> list[tuple[Any, ...]]:
    """The largest mean contributions, with all that is said of them; `paths` by the names of a layer's modules."""
    names = {name: (values, axis) for slopes in found for name, (values, _, axis) in slopes.items()}
    rows: list[tuple[Any, ...]] = []
    for name, (values, axis) in names.items():
        weights = values.select(axis, feature).double()
        seen = [slopes[name][1].select(axis, feature).double() for slopes in found if name in slopes]
        active = sum(seen, torch.zeros_like(weights)) / len(found)
        added = active * weights
        module, _, parameter = name.rpartition(".")
        for flat in added.abs().flatten().topk(min(top, added.numel())).indices.tolist():
            at = [int(i) for i in np.unravel_index(flat, tuple(added.shape))]
            at.insert(axis, feature)
            numbers = [float(one.flatten()[flat]) for one in (weights, active, added)]
            rows.append((paths[module], parameter, at[0] if len(at) == 3 else None, *at[-2:], *numbers))
    return sorted(rows, key=lambda row: -abs(row[-1]))[:top]


@contextmanager
def zeroed_weights(model: nn.Module, entries: pd.DataFrame) -> Iterator[None]:
    """Single weights of a model are 0 for the time being; they get their values back, bit for bit, whatever happens.

    Args:
        entries: rows of `super_weights`, of this model.

    Raises:
        UsageError: the model has no such weights.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> found = madyn.intervention.super_weights(model, ids, layer=0, position=0, feature=3, top=2)
    >>> with madyn.intervention.zeroed_weights(model, found):
    ...     without = madyn.measure(model, ids)
    >>> bool((without != madyn.measure(model, ids)).any())
    True
    """
    inner = unwrap(model)
    places: list[tuple[torch.Tensor, tuple[int, ...]]] = []
    for row in entries.to_dict("records"):
        at = tuple(int(row[name]) for name in ("expert", "row", "column") if not pd.isna(row[name]))
        path = f"{row['module']}.{row['parameter']}".strip(".")
        try:
            values = inner.get_parameter(path).detach()
            _ = values[at]
        except (AttributeError, IndexError) as e:
            raise UsageError(
                f"{type(inner).__name__} has no weight {path}{list(at)}; are these another model's?"
            ) from e
        refuse_quantized(inner.get_submodule(row["module"]), row["module"])
        places.append((values, at))
    former = [values[at].clone() for values, at in places]
    try:
        for values, at in places:
            values[at] = 0
        yield
    finally:
        for (values, at), value in zip(places, former, strict=True):
            values[at] = value


def compare_zeroing(
    model: nn.Module,
    sequences: Any,
    entries: pd.DataFrame,
    layer: int,
    position: int,
    feature: int,
    *,
    mask_token_id: int | None = None,
) -> pd.DataFrame:
    """Whether zeroing weights does what zeroing the activation does that they make.

    Args:
        model: with its head.
        sequences: token ids (B, S).
        entries: rows of `super_weights`, all of which are zeroed together.
        layer: of the activation, which is zeroed in what this layer hands on.
        position: of the activation.
        feature: of the activation.
        mask_token_id: of a model of masked tokens.

    Returns:
        the rows "untouched", "weights zeroed" and "activation zeroed": `value`, the mean over the sequences of the
        coordinate that the layer hands on; `loss`, the mean in nats; `perplexity`.

    Raises:
        UsageError: the model predicts no tokens, or as `super_weights` and `zeroed_weights` raise it.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> found = madyn.intervention.super_weights(model, ids, layer=0, position=0, feature=3, top=2)
    >>> len(madyn.intervention.compare_zeroing(model, ids, found, layer=0, position=0, feature=3)) > 0
    True
    """
    passes = Passes.of(model, sequences)
    layer, position, feature = passes.layer(layer), passes.position(position), passes.feature(feature)
    predictions = Predictions(model, sequences, mask_token_id)
    if predictions.kind == "embedding":
        raise UsageError(f"{type(unwrap(model)).__name__} has no head that predicts tokens, so it has no loss")
    stack, length = passes.stacks[0], passes.shortest
    if len(set(stack.modules)) < len(stack.modules):
        raise ArchitectureError(f"the layers of {type(passes.part).__name__} are one module that runs again and again")
    rows = {}
    for name in ("untouched", "weights zeroed", "activation zeroed"):
        values: list[float] = []

        def see(_: nn.Module, inputs: Any, output: Any, name: str = name, values: list[float] = values) -> None:
            hidden = stack.hidden_state(output, length)
            assert hidden is not None
            if name == "activation zeroed":
                hidden[:, position, feature] = 0  # a view of what the layer hands on
            values.append(float(hidden[0, position, feature]))

        with ExitStack() as changes:
            if name == "weights zeroed":
                changes.enter_context(zeroed_weights(model, entries))
            changes.enter_context(hooked([stack.modules[layer]], see, prepend=False))
            changes.enter_context(evaluating(predictions.model))
            losses = [predictions.read(number).losses.mean() for number in range(len(predictions))]
        loss = float(np.mean(losses))
        with np.errstate(over="ignore"):
            rows[name] = {"value": float(np.mean(values)), "loss": loss, "perplexity": float(np.exp(loss))}
    return pd.DataFrame.from_dict(rows, orient="index")
