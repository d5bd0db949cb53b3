"""Values of a hidden state replaced as a model runs, and the model left as it was.

A hook behind a layer writes into what the layer hands on. Nothing else of the model is touched, so that a setting can
be put inside another, and is gone when its block ends, with an exception or without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from madyn.arrays import number
from madyn.errors import ArchitectureError, UsageError, check_range, quoted
from madyn.measurement.forward import evaluating, stacks_of
from madyn.measurement.layers import Stack

_KINDS = "zero, mean, scale:FACTOR, clip:LARGEST or a number"
_LAST = 1 << 40  # of any layer, position or feature


@dataclass(frozen=True)
class Setting:
    """What values are replaced by.

    Attributes:
        kind: "zero"; "mean", the mean over sequences that the user names; "scale", the value times `amount`; "clip",
            the value cut to at most `amount` on either side of 0; or "value", `amount` itself.
    """

    kind: str
    amount: float = 0.0

    @classmethod
    def read(cls, given: Any) -> Setting:
        """As a user says it: "zero", "mean", "scale:0.5", "clip:100", or a number.

        Raises:
            UsageError: it is none of these.

        >>> Setting.read("scale:0.5"), str(Setting.read("clip:100"))
        (Setting(kind='scale', amount=0.5), 'clip:100')
        """
        if isinstance(given, Setting):
            return given
        if not isinstance(given, str):
            return cls("value", number(given, "set"))
        kind, colon, amount = given.strip().partition(":")
        if not colon and kind in ("zero", "mean"):
            return cls(kind)
        try:
            found = float(amount if colon else kind)
        except ValueError:
            found = math.nan
        if not math.isfinite(found) or (colon and kind not in ("scale", "clip")) or (kind == "clip" and found < 0):
            raise UsageError(f"set is {quoted(given)}; it is {_KINDS}")
        return cls(kind if colon else "value", found)

    def __str__(self) -> str:
        if self.kind in ("zero", "mean"):
            return self.kind
        return f"{self.amount:g}" if self.kind == "value" else f"{self.kind}:{self.amount:g}"

    def replace(self, values: torch.Tensor, means: torch.Tensor | None = None) -> torch.Tensor:
        """What stands in the place of some values, of any shape; their means are needed by "mean" alone."""
        if self.kind == "scale":
            return values * self.amount
        if self.kind == "clip":
            return values.clamp(-self.amount, self.amount)
        if self.kind == "mean":
            assert means is not None
            return means.to(values).expand_as(values)
        return torch.full_like(values, self.amount)


@contextmanager
def intervene(
    model: nn.Module,
    *,
    layer: int,
    position: int | Sequence[int] | None,
    feature: int | Sequence[int] | None = None,
    set: Any = "zero",
    over: Any = None,
    layers: str | None = None,
) -> Iterator[nn.Module]:
    """Replace values of a layer's output for as long as the block lasts.

    Every forward in the block runs so, generation with a cache too: positions are those in the whole sequence. Blocks
    inside one another act together, at one place in the order in which they were opened. The model's weights, mode and
    other hooks are as before when the block ends.

    Args:
        model: a transformers model, with or without its head, or what wraps it (`madyn.measure` says what may).
        layer: behind which the values are replaced, counted from 0 (through both stacks of an encoder-decoder).
        position: of every sequence, counted from 0 in what the model is given; several; or None for all.
        feature: of the hidden state, counted from 0; several; or None for all.
        set: "zero", "mean" (see `over`), "scale:0.5", "clip:100" (at most 100 on either side of 0), or a number.
        over: for "mean" alone: token ids (B, S) of the sequences whose mean at the same place is taken.
        layers: the path of the list of layers in the model; found if not given.

    Raises:
        UsageError: there is no such layer or feature, no sequence of the block was long enough to have such a position
            (said when the block ends), or the setting means nothing.
        ArchitectureError: the layers cannot be recognised, or hand on no hidden state.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> model = LlamaModel(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
    ...                                num_attention_heads=2))
    >>> with intervene(model, layer=0, position=0, feature=3):
    ...     hidden = model(torch.arange(8)[None], output_hidden_states=True).hidden_states[1]
    >>> float(hidden[0, 0, 3].abs()), bool(hidden[0, 1, 3] == 0)
    (0.0, False)
    """
    setting = Setting.read(set)
    stack, number_in_stack = find_layer(stacks_of(model, _ANY_TOKENS if over is None else over, layers), layer)
    module = stack.modules[number_in_stack]
    edit = _Everywhere(stack, setting, _indices(position, "position"), _indices(feature, "feature"))
    if setting.kind == "mean":
        if over is None:
            raise UsageError('set is "mean"; say over which sequences it is taken: over=input_ids, shape (B, S)')
        edit.means = _means(model, module, stack, over)
        edit.require_inside(edit.means.shape)
    handle = module.register_forward_hook(edit, with_kwargs=True)
    try:
        yield model
    finally:
        handle.remove()
    edit.require_reached()


_ANY_TOKENS = [[0] * 8]  # enough to find a model's layers by


def find_layer(stacks: Sequence[Stack], layer: int) -> tuple[Stack, int]:
    """The stack that a layer is in, and its number there, by its number through all stacks.

    Raises:
        UsageError: there is none.
        ArchitectureError: one module is several layers, of which one alone cannot be changed.
    """
    count = sum(len(stack.modules) for stack in stacks)
    number_in_stack = check_range("layer", layer, 0, _LAST)
    for stack in stacks:
        if number_in_stack < len(stack.modules):
            module = stack.modules[number_in_stack]
            if stack.modules.count(module) > 1:
                raise ArchitectureError(
                    f"{type(module).__name__} is {stack.modules.count(module)} layers in one, which share their "
                    "weights; what one of them hands on cannot be changed alone"
                )
            return stack, number_in_stack
        number_in_stack -= len(stack.modules)
    raise UsageError(f"layer is {layer}; the model has {count}, 0 to {count - 1}")


def _indices(given: int | Sequence[int] | None, name: str) -> torch.Tensor | None:
    if given is None:
        return None
    several = [given] if isinstance(given, int) or not isinstance(given, Sequence) else given
    if isinstance(several, str) or not several:
        raise UsageError(f"{name} is {quoted(given)}; it is a whole number, several, or None for all")
    return torch.tensor([check_range(name, one, 0, _LAST) for one in several])


class _Everywhere:
    """The hook of `intervene`: the same places in every sequence."""

    means: torch.Tensor | None = None
    longest = 0

    def __init__(
        self, stack: Stack, setting: Setting, positions: torch.Tensor | None, features: torch.Tensor | None
    ) -> None:
        self.stack, self.setting, self.positions, self.features = stack, setting, positions, features

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        hidden = hidden_of(self.stack, output, module)
        start, length = _start(kwargs), hidden.shape[1]
        self.longest = max(self.longest, start + length)
        self.require_inside((None, hidden.shape[-1]))
        here = torch.arange(length) if self.positions is None else self.positions - start
        here = here[(here >= 0) & (here < length)].to(hidden.device)
        features = torch.arange(hidden.shape[-1]) if self.features is None else self.features
        place = here[:, None], features.to(hidden.device)[None, :]
        means = None
        if self.means is not None:
            known = here + start < len(self.means)  # behind the sequences of the mean nothing is known, or replaced
            place = here[known][:, None], place[1]
            means = self.means[(place[0] + start).to(self.means.device), place[1].to(self.means.device)]
        hidden[:, place[0], place[1]] = self.setting.replace(hidden[:, place[0], place[1]], means)

    def require_reached(self) -> None:
        """Raise UsageError where sequences were run and none had one of the positions."""
        if self.longest:
            self.require_inside((self.longest, None))

    def require_inside(self, shape: Sequence[int | None]) -> None:
        """Raise UsageError where a feature, or a position whose end is known, is none of a hidden state's."""
        for name, given, count in (("position", self.positions, shape[0]), ("feature", self.features, shape[1])):
            if given is not None and count is not None and int(given.max()) >= count:
                raise UsageError(f"{name} is {int(given.max())}; there are {count}, 0 to {count - 1}")


def hidden_of(stack: Stack, output: Any, module: nn.Module) -> torch.Tensor:
    """The hidden state (B, S, d) in what a layer hands on; what is written into it is handed on.

    Raises:
        ArchitectureError: it holds none.
    """
    found = stack.hidden_state(output, _LAST)
    if found is None or found.ndim != 3:
        raise ArchitectureError(f"{type(module).__name__} does not return a hidden state of shape (B, S, d)")
    return found


def _start(kwargs: dict[str, Any]) -> int:
    """The position of a chunk's first token in its sequence: not 0 where a cache holds the tokens before it."""
    ids = kwargs.get("position_ids")
    if kwargs.get("past_key_values") is None or not isinstance(ids, torch.Tensor):
        return 0
    return int(ids.min())


def _means(model: Any, module: nn.Module, stack: Stack, over: Any) -> torch.Tensor:
    """The mean of a layer's output over sequences, shape (S, d), in double precision."""
    states = hidden_states_behind(model, module, stack, over)
    return torch.stack([state.double() for state in states]).mean(dim=0)


def hidden_states_behind(model: Any, module: nn.Module, stack: Stack, sequences: Any) -> list[torch.Tensor]:
    """What a layer hands on for every sequence of (B, S) token ids, each of shape (S, d), run one at a time."""
    from madyn.measurement.forward import arguments_for, part_to_run
    from madyn.measurement.inputs import read_inputs
    from madyn.measurement.wrapping import device_of, unwrap

    part = part_to_run(unwrap(model))
    values = read_inputs(sequences).values.to(device_of(part))
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        kept.append(hidden_of(stack, output, module)[0].detach().clone())

    handle = module.register_forward_hook(keep)
    try:
        with evaluating(part), torch.no_grad():
            for row in values:
                part(**arguments_for(part, row[None]))
    finally:
        handle.remove()
    return kept
