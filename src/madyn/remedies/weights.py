"""What makes attention weights of scores: softmax, and what has been proposed so that a head can attend to nothing.

With a softmax the weights of a query sum to 1, and a head that has nothing to say needs a place to put them: that is
the reading under which sinks and the activations that make them grow. Each function here takes scores
(B, H, Q, K) and a mask of the keys that may be seen, broadcast against them, or None where all may be; and gives
weights of the same shape, 0 where a key may not be seen. A query that may see no key gets 0 everywhere, and gradients
are finite there too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

STRETCH = 4.0
"""How far below 0 a clipped softmax reaches, in units of one key's even share."""

_EPSILON = 1e-8

Weigh = Callable[[Tensor, "Tensor | None", Any], Tensor]


def _hidden(scores: Tensor, seen: Tensor | None) -> Tensor:
    """Scores in which keys that may not be seen have the least value there is: a row of them alone stays finite."""
    return scores if seen is None else scores.masked_fill(~seen, torch.finfo(scores.dtype).min)


def _shown(weights: Tensor, seen: Tensor | None) -> Tensor:
    return weights if seen is None else weights.masked_fill(~seen, 0.0)


def softmax(scores: Tensor, seen: Tensor | None, module: Any = None) -> Tensor:
    """e^s_i / sum_j e^s_j."""
    return _shown(_hidden(scores, seen).softmax(-1), seen)


def _beside(scores: Tensor, seen: Tensor | None, logit: Tensor) -> Tensor:
    """Softmax over the scores and one logit more, whose weight goes nowhere; `logit` is broadcast to (B, H, Q, 1)."""
    more = logit.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.cat([_hidden(scores, seen), more], -1).softmax(-1)[..., :-1]


def softmax1(scores: Tensor, seen: Tensor | None, module: Any = None) -> Tensor:
    """e^s_i / (1 + sum_j e^s_j): softmax with a logit of 0 beside the scores.

    Miller 2023, "Attention is off by one" (evanmiller.org); Kaul et al. 2024 (arXiv 2410.17174).
    """
    return _beside(scores, seen, scores.new_zeros(()))


def sink(scores: Tensor, seen: Tensor | None, module: Any) -> Tensor:
    """e^s_i / (e^z_h + sum_j e^s_j), with a learned logit z_h for each head.

    OpenAI 2025, gpt-oss (arXiv 2508.10925); `module.sinks` is (H,). It starts at 0, which is softmax1.
    """
    return _beside(scores, seen, module.sinks.view(1, -1, 1, 1))


def clipped_softmax(scores: Tensor, seen: Tensor | None, module: Any) -> Tensor:
    """clip((1 - g) softmax(s) + g, 0, 1) with g = -a / T: a weight under a / (T + a) is 0 exactly.

    Bondarenko, Nagel and Blankevoort 2023 (arXiv 2306.12929), section 4.1, with zeta = 1 and a = `STRETCH`, the largest
    that they recommend; T is the longest sequence that the model reads, so that the function is the same for all
    sequences.
    """
    low = -STRETCH / module.config.max_position_embeddings
    return ((1 - low) * softmax(scores, seen) + low).clamp(0.0, 1.0)  # low is below 0: what is hidden stays 0


def softpick(scores: Tensor, seen: Tensor | None, module: Any = None) -> Tensor:
    """relu(e^s_i - 1) / (sum_j |e^s_j - 1| + eps).

    Zuhri, Fuadi and Aji 2025 (arXiv 2504.20966), with eps = 1e-8. Numerator and denominator are both multiplied by
    e^-m, m the largest score or 0 if that is larger, so that neither overflows.
    """
    largest = _hidden(scores, seen).amax(-1, keepdim=True).clamp(min=0.0).detach()
    unit = (-largest).exp()
    above = _shown((scores - largest).exp() - unit, seen)
    return functional.relu(above) / (above.abs().sum(-1, keepdim=True) + _EPSILON * unit)


def sigmoid(scores: Tensor, seen: Tensor | None, module: Any = None) -> Tensor:
    """1 / (1 + e^-s_i), each key by itself: the weights sum to whatever they do.

    Gu et al. 2024 (arXiv 2410.10781), section 6: without normalisation and without a bias of the scores.
    """
    return _shown(scores.sigmoid(), seen)


WEIGHTS: Mapping[str, Weigh] = {
    "softmax": softmax,
    "softmax1": softmax1,
    "sink": sink,
    "key_bias": softmax,  # of the scores of one key more; see `attending`
    "clipped_softmax": clipped_softmax,
    "softpick": softpick,
    "sigmoid": sigmoid,
}
"""By the levels of `Wiring.attention`."""
