"""Which small recipe grows activations as massive as large models': many models at once, on one GPU.

    python benchmarks/strong_runs.py grid.json --out runs/    # JSON: a list of groups, as GROUPS below is

A group is one shape and schedule; its models differ in learning rate, weight decay, beta2 and seed, and are trained
side by side, each weight with a leading axis for the model, in one CUDA graph. The wiring is LLaMA's (RMSNorm, rotary
positions, SwiGLU, or GELU as in Arcee), the text `stdlib#train`, the optimiser AdamW on everything, as in the lab; the
batches are the same for all models of a group. What is measured at about 30 steps, on 16 held-out sequences that begin
with BOS: per layer top1 / median, top1, median, the share of sequences whose largest value stands at position 0, its
most frequent feature and that one's share, the share of attention to position 0 (queries after the first quarter), and
the held-out loss. A group is a CSV file.

`benchmarks/data/strong_runs.csv.xz` is what 103 models gave in 16 minutes of an H100 (float32, products in TF32); two
groups end early, where the time was up. Weight decay decides: at a rate of 0.008 and 16 x 128 tokens for 8,000 updates
4 layers x 128 end at a ratio of 27 with none, 61 with 0.1, and 106 to 163 over five seeds with 0.3, always at BOS, in
one feature and through all layers.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from madyn.lab.tokenizer import train_tokenizer
from madyn.text import BLANK_LINE, read_text, tokenize

GROUPS = [
    {
        "name": "llama_4x128", "layers": 4, "width": 128, "heads": 4, "mlp": 344, "vocab": 1024, "length": 128,
        "batch": 16, "steps": 8000, "lr": [4e-3, 8e-3], "wd": [0.1, 0.3], "seeds": [0, 1, 2, 3],
    }
]  # fmt: skip
COLUMNS = [
    "group", "k", "lr", "wd", "beta2", "clip", "seed", "step", "layer", "ratio", "top1", "median", "position0",
    "feature", "feature_share", "sink", "held_loss", "train_loss",
]  # fmt: skip

Watch = Callable[[torch.Tensor, torch.Tensor], None]


class Models:
    """K models of one shape side by side; `flat` and `grad` are (K, P), and every weight is a view of them."""

    def __init__(self, group: dict[str, Any], seeds: list[int], device: str) -> None:
        self.count, self.layers, self.width, self.heads = len(seeds), group["layers"], group["width"], group["heads"]
        self.vocab, self.gated, self.device = group["vocab"], group.get("kind", "swiglu") == "swiglu", device
        d, m = self.width, group["mlp"]
        shapes: dict[str, tuple[int, ...]] = {"embed": (self.vocab, d)}
        for layer in range(self.layers):
            shapes |= {f"{layer}.n1": (d,), f"{layer}.qkv": (d, 3 * d), f"{layer}.o": (d, d), f"{layer}.n2": (d,)}
            shapes |= {f"{layer}.up": (d, m * (1 + self.gated)), f"{layer}.down": (m, d)}
        shapes |= {"norm": (d,), "head": (d, self.vocab)}
        total = sum(math.prod(shape) for shape in shapes.values())
        self.flat = torch.empty(self.count, total, device=device)
        self.grad = torch.zeros_like(self.flat)
        self.weights: dict[str, torch.nn.Parameter] = {}
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        start = 0
        for name, shape in shapes.items():
            piece = slice(start, start + math.prod(shape))
            if len(shape) == 1:
                self.flat[:, piece] = 1
            else:
                drawn = [torch.randn(math.prod(shape), generator=one) * 0.02 for one in draws]
                self.flat[:, piece] = torch.stack(drawn).to(device)
            self.weights[name] = torch.nn.Parameter(self.flat[:, piece].view(self.count, *shape))
            self.weights[name].grad = self.grad[:, piece].view(self.count, *shape)
            start = piece.stop
        self._angles: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def losses(self, ids: torch.Tensor, watch: Watch | None = None) -> torch.Tensor:
        """The mean loss of each model over token ids (K, B, S); `watch` gets (K, B, S, d) and the sink."""
        k, b, s = ids.shape
        logits = self._forward(ids, watch).view(k, b, s, self.vocab)[:, :, :-1]
        each = functional.cross_entropy(logits.reshape(-1, self.vocab), ids[:, :, 1:].reshape(-1), reduction="none")
        return each.view(k, -1).mean(1)

    def _forward(self, ids: torch.Tensor, watch: Watch | None) -> torch.Tensor:
        (k, b, s), w, d = ids.shape, self.weights, self.width
        own = torch.arange(k, device=self.device).view(k, 1, 1) * self.vocab
        x = functional.embedding((ids + own).view(k, b * s), w["embed"].reshape(k * self.vocab, d))
        for layer in range(self.layers):
            qkv = torch.bmm(_norm(x, w[f"{layer}.n1"]), w[f"{layer}.qkv"])
            q, key, v = qkv.view(k * b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            q, key = self._rotated(q), self._rotated(key)
            mixed = functional.scaled_dot_product_attention(q, key, v, is_causal=True)
            x = x + torch.bmm(mixed.transpose(1, 2).reshape(k, b * s, d), w[f"{layer}.o"])
            up = torch.bmm(_norm(x, w[f"{layer}.n2"]), w[f"{layer}.up"])
            gate, up = up.chunk(2, -1) if self.gated else (up, None)
            inner = functional.gelu(gate) if up is None else functional.silu(gate) * up
            x = x + torch.bmm(inner, w[f"{layer}.down"])
            if watch is not None:
                watch(x.view(k, b, s, d), _sink(q, key).view(k, b).mean(1))
        return torch.bmm(_norm(x, w["norm"]), w["head"])

    def _rotated(self, t: torch.Tensor) -> torch.Tensor:
        length, half = t.shape[-2], t.shape[-1] // 2
        if length not in self._angles:
            rates = 1 / (10000 ** (torch.arange(half, device=self.device) / half))
            angles = torch.outer(torch.arange(length, device=self.device).float(), rates).repeat(1, 2)
            self._angles[length] = angles.cos(), angles.sin()
        cos, sin = self._angles[length]
        return t * cos + torch.cat([-t[..., half:], t[..., :half]], -1) * sin


def _norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * gain[:, None, :]


def _sink(q: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The share of attention to position 0, a mean over heads and the queries after the first quarter."""
    length = q.shape[-2]
    scores = (q @ key.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    later = torch.ones(length, length, device=q.device, dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -1e30).softmax(-1)[..., length // 4 :, 0].mean((-1, -2))


def rate(step: int, steps: int) -> float:
    """The lab's schedule: 1 % warm-up, then a cosine to a tenth."""
    warm = max(1, round(0.01 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(group: dict[str, Any], tokens: np.ndarray, held: np.ndarray, device: str, out: Path) -> None:
    grid = list(itertools.product(group["lr"], group["wd"], group.get("beta2", [0.95]), [1.0], group.get("seeds", [0])))
    models = Models(group, [int(one[-1]) for one in grid], device)
    lr0, decay, beta2 = (torch.tensor([one[i] for one in grid], device=device).view(-1, 1) for i in range(3))
    length, batch, steps = group["length"], group["batch"], group["steps"]
    data = torch.from_numpy(tokens.astype(np.int64)).to(device)
    draws = np.random.default_rng(0)
    ids = torch.zeros(len(grid), batch, length, dtype=torch.int64, device=device)
    lr, mean_scale, square_scale = torch.zeros_like(lr0), torch.ones(1, device=device), torch.ones_like(lr0)
    mean, square = torch.zeros_like(models.flat), torch.zeros_like(models.flat)
    seen = torch.zeros(len(grid), device=device)

    def update() -> None:
        models.grad.zero_()
        losses = models.losses(ids)
        seen.copy_(losses.detach())
        losses.sum().backward()
        with torch.no_grad():
            models.grad.mul_((1 / (models.grad.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0))
            models.flat.mul_(1 - lr * decay)
            mean.lerp_(models.grad, 0.1)
            square.mul_(beta2).add_(models.grad * models.grad * (1 - beta2))
            models.flat.sub_(lr * (mean / mean_scale) / ((square / square_scale).sqrt() + 1e-8))

    def prepare(step: int) -> None:
        starts = torch.from_numpy(draws.integers(0, len(tokens) - length + 2, (1, batch, 1)))
        ids[:, :, 1:] = data[(starts + torch.arange(length - 1)).to(device)]
        lr.copy_(lr0 * rate(step, steps))
        mean_scale.fill_(1 - 0.9 ** (step + 1))
        square_scale.copy_(1 - beta2 ** (step + 1))

    run = _captured(update, prepare, models, mean, square) if device == "cuda" else update
    windows = np.linspace(0, len(held) - length, 16).astype(int)
    probe = torch.from_numpy(np.stack([np.r_[0, held[a : a + length - 1]] for a in windows]).astype(np.int64)).to(
        device
    )
    points = {0, 1, *(int(2 ** (i / 2)) for i in range(2, 40)), *np.linspace(0, steps, 9).astype(int).tolist()}
    rows: list[list[Any]] = []
    began = time.time()
    for step in range(steps + 1):
        if step in points:
            rows += _measured(models, probe, seen, [[group["name"], k, *one, step] for k, one in enumerate(grid)])
        if step < steps:
            prepare(step)
            run()
    with (out / f"{group['name']}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    last = [max((row[9], row[8]) for row in rows if row[1] == k and row[7] == steps) for k in range(len(grid))]
    print(f"{group['name']}: {len(grid)} models, {time.time() - began:.0f} s; largest ratio and its layer at the end:")
    print(
        "   ",
        *(f"{one[0]:g}/{one[1]:g}/s{one[-1]}: {r:.0f} ({layer})" for one, (r, layer) in zip(grid, last, strict=True)),
    )


def _captured(update: Any, prepare: Any, models: Models, *state: torch.Tensor) -> Callable[[], None]:
    """An update as a CUDA graph: a small model's thousand kernels would else wait for Python."""
    before = models.flat.clone()
    prepare(0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update()
    with torch.no_grad():
        models.flat.copy_(before)
        for one in state:
            one.zero_()
    return graph.replay


def _measured(models: Models, probe: torch.Tensor, seen: torch.Tensor, heads: list[list[Any]]) -> list[list[Any]]:
    found: list[tuple[torch.Tensor, ...]] = []

    def watch(x: torch.Tensor, sink: torch.Tensor) -> None:
        size = x.abs().flatten(2)
        top, place = size.max(-1)
        found.append((top, size.median(-1).values, place // models.width, place % models.width, sink))

    with torch.no_grad():
        held = models.losses(probe.expand(models.count, -1, -1), watch)
    rows = []
    for layer, (top, median, position, feature, sink) in enumerate(found):
        for k, head in enumerate(heads):
            usual = feature[k].mode().values
            rows.append(
                [
                    *head, layer, round(float((top[k] / median[k]).mean()), 3), round(float(top[k].mean()), 4),
                    round(float(median[k].mean()), 5), round(float((position[k] == 0).float().mean()), 3), int(usual),
                    round(float((feature[k] == usual).float().mean()), 3), round(float(sink[k]), 4),
                    round(float(held[k]), 4), round(float(seen[k]), 4),
                ]
            )  # fmt: skip
    return rows


def texts(vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of the standard library's training and held-out parts."""
    read = [read_text(source, None, 0).documents for source in ("stdlib#train", "stdlib#held-out")]
    tokenizer = train_tokenizer(read[0], vocab)
    one, two = (np.array([i for d in part for i in tokenize(d + BLANK_LINE, tokenizer).ids]) for part in read)
    return one, two


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="?", type=Path, help="a JSON file; one group if not given")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    known: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for group in GROUPS if asked.groups is None else json.loads(asked.groups.read_text()):
        if group["vocab"] not in known:
            known[group["vocab"]] = texts(group["vocab"])
        train(group, *known[group["vocab"]], asked.device, asked.out)


if __name__ == "__main__":
    main()
