"""What rounding does to a model's hidden states, layer by layer, measured on the states themselves.

Each sequence is rounded by itself, as it is measured, so that "per tensor" is one scale a sequence and layer. Three
ratios of signal to noise are taken: over all values, as is usual; over all but the `keep` largest; and over the bulk,
the values of at most ten medians. The first is ruled by the power of a few massive values, which come back unharmed
while all else may be lost. So is the second where a feature is massive in every token. Effective bits are of the bulk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from madyn.errors import ArchitectureError, NonFiniteError
from madyn.measurement.forward import arguments_for, evaluating, part_to_run
from madyn.measurement.layers import Stack
from madyn.measurement.wrapping import device_of, unwrap
from madyn.quantization.estimate import BULK, bits_of
from madyn.quantization.schemes import FORMS, SCHEMES, Form, apply, largest

MEASURES = ("snr", "snr_rest", "snr_bulk", "effective_bits", "zeroed")
SPREADS = ("top1", "median", "ratio", "token_spread", "feature_spread")


@dataclass(frozen=True)
class Simulated:
    """What became of a model's hidden states.

    Attributes:
        measures: by scheme and form, shape (B, L, 5), as `MEASURES` names them: the ratio of signal to noise over all
            values, over all but the largest, and over the bulk, in decibels; effective bits, which are those of the
            bulk; the share that was rounded to zero.
        spreads: shape (B, L, 5), as `SPREADS` names them: of each layer the largest |h|, the median, their ratio, and
            the largest over the median of the tokens' maxima and of the features' maxima.
        width: how many features the states have.
    """

    measures: dict[tuple[str, Form], np.ndarray]
    spreads: np.ndarray
    width: int


def simulate(
    model: nn.Module,
    sequences: Any,
    stacks: Sequence[Stack],
    keep: int = 3,
    done: Callable[[], None] = lambda: None,
) -> Simulated:
    """Round what each layer hands on in every scheme and form, changing nothing in the forward.

    Args:
        model: with or without its head.
        sequences: token ids (B, S).
        stacks: as `stacks_of` finds them.
        keep: how many of the largest |h| of a sequence are kept apart, and left out of `snr_rest`.
        done: called as sequences are.

    Raises:
        NonFiniteError: a hidden state is not finite.
    """
    part = part_to_run(unwrap(model))
    ids = torch.as_tensor(np.asarray(sequences), dtype=torch.int64, device=device_of(part))
    measures: dict[tuple[str, Form], list[list[tuple[float, ...]]]] = {(s, f): [] for s in SCHEMES for f in FORMS}
    spreads: list[list[list[float]]] = []
    width = 0
    with evaluating(part), torch.no_grad():
        for row in range(len(ids)):
            states = _states(part, stacks, ids[row : row + 1])
            for number, rows in enumerate(states):
                if not rows.isfinite().all():
                    raise NonFiniteError(f"the hidden state after layer {number} is not finite on sequence {row}")
            spreads.append([_spreads(rows) for rows in states])
            for name, form in measures:
                measures[name, form].append([measure_rounding(rows, name, form, keep) for rows in states])
            width = states[0].shape[1]
            done()
    return Simulated({key: np.array(found) for key, found in measures.items()}, np.array(spreads), width)


def measure_rounding(rows: torch.Tensor, scheme: str, form: Form = "plain", keep: int = 3) -> tuple[float, ...]:
    """What a scheme does to the hidden states of one sequence, shape (S, d): a number each of `MEASURES`.

    A ratio is infinite where nothing is lost.
    """
    rounded = apply(SCHEMES[scheme], rows, form, keep)
    rows = rows.double()
    signal, noise = rows.square().reshape(-1), (rounded.values.double() - rows).square().reshape(-1)
    size = rows.abs().reshape(-1)
    rest = torch.ones(rows.numel(), dtype=torch.bool, device=rows.device)
    rest[largest(rows, keep)] = False
    ratios = [
        decibels(float(signal[part].sum()), float(noise[part].sum()))
        for part in (slice(None), rest, size <= BULK * size.median())
    ]
    return *ratios, float(bits_of(ratios[-1])), rounded.zeroed


def decibels(signal: float, noise: float) -> float:
    """Of powers; infinite without noise, and NaN without either."""
    if noise == 0:
        return float("inf") if signal else float("nan")
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(signal / noise))


def _spreads(rows: torch.Tensor) -> list[float]:
    size = rows.float().abs()
    top, median = float(size.max()), float(size.reshape(-1).median())  # the lower middle one, as everywhere
    of_tokens, of_features = size.amax(dim=1), size.amax(dim=0)
    nothing = float("nan")
    return [
        top,
        median,
        top / median if median else nothing,
        *(float(m.max() / m.median()) if m.median() else nothing for m in (of_tokens, of_features)),
    ]


def _states(part: Any, stacks: Sequence[Stack], row: torch.Tensor) -> list[torch.Tensor]:
    """What each layer hands on of one sequence, shape (S, d) each, the stacks one after another."""
    found: list[list[torch.Tensor]] = [[] for _ in stacks]
    with ExitStack() as hooks:
        for stack, kept in zip(stacks, found, strict=True):

            def keep(module: nn.Module, inputs: Any, output: Any, stack: Stack = stack, kept: Any = kept) -> None:
                hidden = stack.hidden_state(output, row.shape[1])
                if hidden is None:
                    raise ArchitectureError(
                        f"{type(module).__name__} does not return a hidden state of shape (B, S, d)"
                    )
                kept.append(hidden[0].flatten(end_dim=-2).clone())

            for module in dict.fromkeys(stack.modules):
                hooks.callback(module.register_forward_hook(keep).remove)
        part(**arguments_for(part, row))
    return [rows for kept in found for rows in kept]
