"""What rounding costs a model: what it predicts when what its layers hand on is rounded on the way.

A layer's output, the next layer's input, is replaced by what comes back from a scheme, of one layer at a time or of all
together, and nothing else is rounded: no weights, no attention, no head. One layer at a time, the forward is resumed
behind it, so that all layers cost about half a forward each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from madyn.measurement.forward import evaluating
from madyn.measurement.layers import Stack
from madyn.measurement.predicting import Predictions, Reading, divergence
from madyn.measurement.resuming import can_resume, copied, recording, resumed_behind
from madyn.quantization.schemes import Form, Scheme, apply

Variant = tuple[Scheme, Form]


class _Rounding:
    """A hook that rounds what the layers of a stack hand on, or only the one with a number."""

    def __init__(self, stack: Stack, length: int, variant: Variant, keep: int, only: int | None) -> None:
        self.stack, self.length, self.keep, self.only = stack, length, keep, only
        self.variant = variant
        self._at = 0

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        number, self._at = self._at, self._at + 1
        if self.only is not None and number != self.only:
            return None
        output = copied(output)
        hidden = self.stack.hidden_state(output, self.length)
        if hidden is None:
            return None
        for sequence in hidden:  # a view of the copy, which is written into
            rows = apply(self.variant[0], sequence.flatten(end_dim=-2), self.variant[1], self.keep).values
            sequence.copy_(rows.reshape(sequence.shape))
        return output


@contextmanager
def rounding(
    stacks: Sequence[Stack], length: int, variant: Variant, keep: int = 0, only: int | None = None
) -> Iterator[None]:
    """For one forward of one batch: what every layer of these stacks hands on is rounded, or what layer `only` does."""
    with ExitStack() as hooks:
        for stack in stacks:
            hook = _Rounding(stack, length, variant, keep, only)
            for module in dict.fromkeys(stack.modules):
                hooks.callback(module.register_forward_hook(hook).remove)
        yield


@dataclass(frozen=True)
class Judged:
    """What a model predicts when what its layers hand on is rounded.

    Attributes:
        whole: the mean loss without rounding, in nats a token; NaN for a model that is judged by its embedding.
        together: by scheme and form, the loss with all layers rounded, and how far what is predicted has moved, as
            `measurement.predicting.divergence` defines it, a mean over the sequences.
        layers: the same with one layer rounded at a time, shape (L, 2), the stacks one after another.
    """

    whole: float
    together: dict[Variant, tuple[float, float]]
    layers: np.ndarray


def judge(
    predictions: Predictions,
    stacks: Sequence[Stack],
    variants: Sequence[Variant],
    alone: Variant,
    keep: int,
    done: Callable[[], None] = lambda: None,
) -> Judged:
    """What rounding costs the predictions of a model.

    What the layers of one sequence hand on is kept in memory meanwhile, and what is predicted of it twice.

    Args:
        variants: what is done to all layers together, one after another.
        alone: what is done to one layer at a time.
        keep: how many values are kept apart, where that is done.
        done: called as often as `forwards` says.
    """
    places = [(stack, layer) for stack in stacks for layer in range(len(stack.modules))]
    whole = _Mean()
    together, layers = [_Mean() for _ in variants], [_Mean() for _ in places]
    length = predictions.inputs.shape[1]
    with evaluating(predictions.model):
        for sequence in range(len(predictions)):
            outputs, before = _recorded(predictions, stacks, sequence)
            whole.add(before, before)
            for mean, (stack, layer) in zip(layers, places, strict=True):
                with ExitStack() as held:
                    if can_resume(stack.modules):
                        output = outputs[stack.modules[layer]][0]
                        held.enter_context(resumed_behind(stack.modules, layer, output))
                    held.enter_context(rounding([stack], length, alone, keep, only=layer))
                    mean.add(before, predictions.read(sequence))
                done()
            outputs.clear()
            for mean, variant in zip(together, variants, strict=True):
                with rounding(stacks, length, variant, keep):
                    mean.add(before, predictions.read(sequence))
                done()
    found = {variant: mean.result() for variant, mean in zip(variants, together, strict=True)}
    return Judged(whole.result()[0], found, np.array([mean.result() for mean in layers]))


def forwards(predictions: Predictions, stacks: Sequence[Stack], variants: Sequence[Variant]) -> int:
    """How many forwards, whole ones and those of a rest, `judge` makes beside the model's own."""
    return len(predictions) * (sum(len(stack.modules) for stack in stacks) + len(variants))


class _Mean:
    """The mean loss over all tokens of all sequences, and the mean divergence over the sequences."""

    def __init__(self) -> None:
        self.losses: list[np.ndarray] = []
        self.moved: list[float] = []

    def add(self, before: Reading, after: Reading) -> None:
        self.losses.append(after.losses)
        self.moved.append(divergence(before, after))

    def result(self) -> tuple[float, float]:
        losses = np.concatenate(self.losses)
        return float(losses.mean()) if losses.size else float("nan"), float(np.mean(self.moved))


def _recorded(
    predictions: Predictions, stacks: Sequence[Stack], sequence: int
) -> tuple[dict[nn.Module, list[Any]], Reading]:
    with ExitStack() as held:
        modules = [module for stack in stacks if can_resume(stack.modules) for module in stack.modules]
        outputs = {module: held.enter_context(recording(module)) for module in modules}
        return outputs, predictions.read(sequence)
