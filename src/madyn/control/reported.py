"""What the authors of a remedy report of it, at their sizes: shown beside what a family shows, so that a reader sees
what carries over.

Figures marked "noted" are from others' notes on a paper and not from its own text. A new remedy is one entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reported:
    """What is reported of models with these levels of wiring or recipe."""

    levels: Mapping[str, Any]
    words: str


_AT_7B = "norms at a 7B shape, noted"
_SGD = "GPT-2 130M: kurtosis 140 to 5 (noted)"

REPORTED = (
    Reported(
        {"output_gate": "elementwise"},
        "Qwen: largest value 1053 to 94, attention to the first token .467 to .048 (2505.06708, noted)",
    ),
    Reported({"output_gate": "headwise"}, "OPT-125M: largest value 340 to 8.7, kurtosis 1778 to 19 (2306.12929)"),
    Reported(
        {"attention": "softmax1"},
        "GPT-2: attention to the first token .333 to .022, kurtosis stays at 245 (2410.17174, noted)",
    ),
    Reported({"attention": "sink"}, "nothing published of it alone (gpt-oss, 2508.10925)"),
    Reported(
        {"attention": "key_bias"},
        "sinks 18 to 0 % (2410.10781); another form of it fails in LLaMA-1B (noted)",
    ),
    Reported({"attention": "clipped_softmax"}, "BERT: largest value 735 to 21.5; OPT's kurtosis rises (2306.12929)"),
    Reported({"attention": "softpick"}, "340M: kurtosis 33510 to 340 (2504.20966); at 1.8B the loss is worse (noted)"),
    Reported(
        {"attention": "sigmoid"},
        "1B: sinks 45 to 2.5 %, loss 3.07 to 3.10, no massive activations (2410.10781)",
    ),
    Reported({"norm_placement": "sandwich"}, f"largest value 3818 to 520 ({_AT_7B})"),
    Reported({"qk_norm": "rmsnorm"}, f"largest value 3818 to 92 ({_AT_7B})"),
    Reported(
        {"value_norm": "rmsnorm"},
        "massive activations and sinks both go, loss 2.781 to 2.742, 4 seeds (noted)",
    ),
    Reported(
        {"norm_gain": "scalar", "optimizer": "muon"},
        "excess kurtosis 1818 with Adam, 1575 with Muon alone, 67 with both (2506.19697)",
    ),
    Reported({"norm_gain": "scalar"}, "nothing of it alone; with Muon excess kurtosis 1575 to 67 (2506.19697)"),
    Reported({"optimizer": "muon"}, "excess kurtosis 1818 to 1575 (2506.19697)"),
    Reported({"optimizer": "sgd"}, _SGD),
    Reported({"optimizer": "sgd", "weight_decay": 0.0}, _SGD),
    Reported({"tweo": 0.01}, "peaks of 10,000 to under 20 (2511.23225)"),
    Reported({"weight_decay": 0.0}, f"larger: 3818 to over 12,275, perplexity unchanged ({_AT_7B})"),
    Reported({"length": 64}, "BERT small: kurtosis 46 at 64 tokens, 126 at 128 (noted)"),
    Reported({"length": 256}, "BERT small: kurtosis 1576 at 256 tokens, 126 at 128 (noted)"),
    Reported(
        {"registers": 4}, "vision transformers: tokens of high norm leave the image for the registers (2309.16588)"
    ),
)
"""Of several that go with a model, the one with most levels is meant."""


def reported_effect(levels: Mapping[str, Any]) -> str:
    """What is reported of a departure with these levels; "" where nothing is known here.

    >>> reported_effect({"attention": "sigmoid"})
    '1B: sinks 45 to 2.5 %, loss 3.07 to 3.10, no massive activations (2410.10781)'
    >>> reported_effect({"attention": "sigmoid", "output_gate": "headwise"})
    ''
    """
    fitting = [one for one in REPORTED if all(levels.get(name) == level for name, level in one.levels.items())]
    most = max((len(one.levels) for one in fitting), default=0)
    best = [one for one in fitting if len(one.levels) == most]
    return best[0].words if len(best) == 1 else ""  # of two that go with it equally, neither tells of both
