"""What the lab's loop costs beside a plain one, what each remedy costs beside the plain model, and what is faster.

    python benchmarks/lab.py                  # the loop, then every entry of control-suite
    python benchmarks/lab.py --ways           # float32 against bfloat16, compiled, eager attention, larger batches

The model is control-suite's plain one (LLaMA, 4 layers x 128, 16 x 128 tokens an update), on one thread. Two ways run
in turn, a few updates each, round after round, so that whatever else the machine does meets both alike; a figure is the
median over the rounds of one's time over the other's in the same round. Times are processor seconds of the thread.

The plain loop is what one would write: windows of the text at random places, forward, backward, clipping, fused AdamW,
a cosine schedule; it reads the loss of every update, as the lab must to see a run that diverges.

Expected before it was run: the loop 0.99. Remedies: softmax1, sink, key_bias 0.9; clipped_softmax and softpick 0.85;
sigmoid 0.9; gates 0.97 (the elementwise one has its MLP narrowed); norms 0.95 to 0.99; TWEO 0.95; Muon 0.85; SGD 1.01;
registers 0.97. bfloat16 under autocast 1.3 at these small products, compiled 1.2, eager attention 0.95, 32 sequences
1.03 a token.
"""

from __future__ import annotations

import argparse
import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from madyn.control.throughput import Way, time_in_turn, way_of_lab
from madyn.lab import Recipe, read_suite
from madyn.lab.blueprints import build_model
from madyn.lab.suites import Run
from madyn.terminal import print_table

VOCABULARY = 1024
TOKENS = torch.from_numpy(np.random.default_rng(0).integers(1, VOCABULARY, 200_000))


def built(run: Run, recipe: Recipe) -> torch.nn.Module:
    return build_model(run.blueprint, 0, VOCABULARY + recipe.registers, recipe.positions, 0).train()


def of_the_lab(run: Run) -> Way:
    return way_of_lab(run.blueprint, run.recipe, VOCABULARY)


def plain(run: Run, kind: str = "float32") -> Way:
    """A loop by hand. `kind`: float32, bfloat16 (autocast), compiled, eager or large (twice the batch)."""
    r = replace(run.recipe, batch_size=2 * run.recipe.batch_size) if kind == "large" else run.recipe
    model = built(run, r)
    if kind == "eager":
        model.set_attn_implementation("eager")  # pyright: ignore[reportCallIssue]  one of transformers'
    forward = torch.compile(model) if kind.startswith("compiled") else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=r.learning_rate, betas=(r.beta1, r.beta2), weight_decay=r.weight_decay, fused=True
    )
    warm = r.warmup * r.steps

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.55 + 0.45 * math.cos(math.pi * max(0.0, step - warm) / (r.steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    low = torch.autocast("cpu", torch.bfloat16) if kind.endswith("bfloat16") else nullcontext()
    window = torch.arange(r.length - 1)

    def go(step: int) -> None:
        starts = torch.randint(len(TOKENS) - r.length, (r.batch_size, 1))
        batch = torch.cat([torch.zeros(r.batch_size, 1, dtype=torch.int64), TOKENS[starts + window]], 1)
        optimizer.zero_grad()
        with low:
            loss = forward(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), r.clip)
        optimizer.step()
        schedule.step()
        loss.item()

    return go


def pair(one: Way, other: Way, rounds: int) -> tuple[float, float, float, float]:
    """How much faster `one` is than `other` (median, quartiles), and the processor seconds of an update of `other`."""
    ratios, seconds = time_in_turn(one, other, rounds)
    low, middle, high = (float(x) for x in np.quantile(ratios, [0.25, 0.5, 0.75]))
    return middle, low, high, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ways", action="store_true", help="what would be faster, and nothing else")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runs = [run for run in read_suite("control-suite").runs() if run.seed == 0]
    first = runs[0]
    tokens = first.recipe.batch_size * first.recipe.length
    rows = []
    if asked.ways:
        for kind, share in (("eager", 1), ("bfloat16", 1), ("large", 2), ("compiled", 1), ("compiled bfloat16", 1)):
            middle, low, high, _ = pair(plain(first, kind), plain(first), asked.rounds)
            rows.append([kind, *(round(share * x, 3) for x in (middle, low, high))])
        print_table("tokens a second, times those of float32", ["way", "median", "quartiles", ""], rows, left=["way"])
        return
    middle, low, high, seconds = pair(of_the_lab(first), plain(first), 3 * asked.rounds)
    rate = f"{tokens / seconds:.0f} tokens a processor second"
    print(f"the lab's loop: {middle:.3f} of the plain loop ({low:.3f} to {high:.3f}), which makes {rate}", flush=True)
    for run in runs[1:]:
        middle, low, high, _ = pair(of_the_lab(run), of_the_lab(first), asked.rounds)
        rows.append([run.name.removesuffix("_s0"), *(round(x, 3) for x in (middle, low, high))])
        print(*rows[-1], flush=True)
    print_table("tokens a second, times those of plain", ["entry", "median", "quartiles", ""], rows, left=["entry"])


if __name__ == "__main__":
    main()
