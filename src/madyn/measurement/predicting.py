"""What a model predicts on a sequence, read in the way that its head allows.

A causal model is judged by its loss at every token, a model of masked tokens by its loss at tokens that are masked for
it, and an encoder without a head by the embedding that it gives: the mean of its last hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from madyn.errors import UsageError
from madyn.measurement.forward import arguments_for
from madyn.measurement.wrapping import device_of, unwrap

_MASK_EVERY = 7  # about the 15 % that such models are trained with

Kind = Literal["causal", "masked", "embedding"]


@dataclass(frozen=True)
class Reading:
    """What is read off one forward of one sequence.

    Attributes:
        positions: those that the losses are of, counted from 0, shape (n,); of a causal model the position of the token
            that is predicted.
        losses: in nats, shape (n,); empty for an embedding.
        log_probs: of every token of the vocabulary, shape (n, V), on the model's device; None for an embedding.
        embedding: shape (d,), on the model's device; None where there are losses.
    """

    positions: np.ndarray
    losses: np.ndarray
    log_probs: torch.Tensor | None = None
    embedding: torch.Tensor | None = None


class Predictions:
    """Reads what a model predicts.

    Attributes:
        kind: "causal", "masked" or "embedding".
        inputs: what the model is given, token ids (B, S) on its device; of a masked model with the tokens masked.
    """

    def __init__(self, model: nn.Module, sequences: Any, mask_token_id: int | None = None) -> None:
        """
        Args:
            model: with its head, if it has one; wrapped or not.
            sequences: token ids (B, S).
            mask_token_id: of a model of masked tokens: what stands in the place of a masked one.

        Raises:
            UsageError: a sequence has fewer than two tokens, or nothing says which token masks.
        """
        self.model: Any = unwrap(model)
        ids = torch.as_tensor(np.asarray(sequences), dtype=torch.int64)
        if ids.ndim != 2 or ids.shape[1] < 2:
            raise UsageError(f"sequences of shape {tuple(ids.shape)}; token ids (B, S) with S of at least 2 are needed")
        self._targets = ids.to(device_of(self.model))
        self.kind = kind_of(self.model)
        self.inputs = self._targets
        if self.kind == "masked":
            if mask_token_id is None:
                raise UsageError("the tokenizer has no mask token, which a model of masked tokens is judged by")
            self._masked = torch.arange(_MASK_EVERY // 2, ids.shape[1], _MASK_EVERY, device=self._targets.device)
            self.inputs = self._targets.clone()
            self.inputs[:, self._masked] = mask_token_id

    def __len__(self) -> int:
        return len(self.inputs)

    @torch.no_grad()
    def read(self, sequence: int) -> Reading:
        """One forward of one sequence, as the model is now: in evaluation mode, please, and with whatever hooks."""
        row = slice(sequence, sequence + 1)
        output = self.model(**arguments_for(self.model, self.inputs[row]))
        if self.kind == "embedding":
            hidden = output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]
            return Reading(np.empty(0, int), np.empty(0), embedding=hidden[0].double().mean(dim=0))
        logits, targets = _logits(output, self.model)[0], self._targets[sequence]
        if self.kind == "causal":
            logits, targets, positions = logits[:-1], targets[1:], torch.arange(1, len(targets))
        else:
            logits, targets, positions = logits[self._masked], targets[self._masked], self._masked
        if len(targets) and int(targets.max()) >= logits.shape[-1]:
            raise UsageError(f"token {int(targets.max())} is none of the {logits.shape[-1]} that the model predicts")
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        losses = -log_probs.gather(1, targets[:, None])[:, 0]
        return Reading(positions.cpu().numpy(), losses.double().cpu().numpy(), log_probs)


def _logits(output: Any, model: Any) -> torch.Tensor:
    """What a model gives for each position: its `logits`, or all that it gives where that is one tensor (B, S, V)."""
    found = getattr(output, "logits", output)
    if not isinstance(found, torch.Tensor) or found.ndim != 3:
        raise UsageError(f"{type(model).__name__} gives no logits (B, S, V) that a loss could be taken of")
    return found


def kind_of(model: nn.Module) -> Kind:
    """How a model is judged. A module that is not from transformers is taken for causal."""
    name = type(model).__name__
    if name.endswith("ForMaskedLM"):
        return "masked"
    bare = getattr(model, "base_model", None) is model and hasattr(model, "config")
    return "embedding" if bare else "causal"


def divergence(before: Reading, after: Reading) -> float:
    """How far what is predicted has moved; NaN where that is not finite.

    The Kullback-Leibler divergence KL(before || after) in nats, a mean over the positions; of embeddings one minus the
    cosine between them.
    """
    if before.embedding is not None and after.embedding is not None:
        return float(1 - torch.nn.functional.cosine_similarity(before.embedding, after.embedding, dim=0))
    assert before.log_probs is not None
    assert after.log_probs is not None
    # One position after another in blocks, since (n, V) in double precision may be gigabytes.
    total = torch.zeros((), dtype=torch.float64, device=before.log_probs.device)
    for p, q in zip(before.log_probs.split(64), after.log_probs.split(64), strict=True):
        total += (p.exp() * (p - q)).sum(dtype=torch.float64)
    return max(0.0, float(total) / len(before.log_probs)) if torch.isfinite(total) else float("nan")
