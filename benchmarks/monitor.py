"""What a monitor costs a training run: time, memory, and false alarms.

    python benchmarks/monitor.py [time | memory | alarms] [--steps 2000] [--width 64] [--layers 4] [--length 64]

*time*: one model (GPT-NeoX, batches of 16 sequences of the standard library's sources, AdamW, one thread), trained in
several copies side by side: each step is made by every copy in turn, in an order that rotates, and its time counted.
The ratio is that of the sums over all steps, those that are measured among them: over a copy with no monitor. Beside
the monitor at its default schedule and at every 10th step stand two other ways to look at activations at every 10th
step: every module hooked for five statistics of what it gives (norm, mean, largest, kurtosis and skewness, the idea of
Composer's ActivationMonitor), and the probe forwarded with `output_hidden_states`, whose largest values and median are
then taken with topk and sort.

*memory*: resident memory over 10,000 steps of a tiny model with a measurement at every 100th, after the first thousand;
and the largest resident memory of a process that trains with a monitor over that of one that trains without.

*alarms*: the alerts that a monitor would have given in the 162 runs of tiny-suite, none of which goes wrong, from what
each measured, with the forecast's prior learned from runs of other shapes alone.
"""

# ruff: noqa: E402  the threads are set before numpy is loaded

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import madyn
from madyn import Monitor
from madyn.analysis.forecasting import forecast
from madyn.curves.population.learning import learn_population
from madyn.curves.population.populations import Population
from madyn.dataset import Dataset
from madyn.dataset.monitoring import Alert
from madyn.lab.tokenizer import train_tokenizer
from madyn.monitor.alerts import BAND, Bands, Judge, Seen, massive_layers
from madyn.monitor.outlook import FEWEST
from madyn.sweep.remarks import FLOAT16_LARGEST
from madyn.terminal import print_table
from madyn.text import read_text

BATCH = 16


def tokens() -> torch.Tensor:
    """The standard library's sources as token ids, with a vocabulary of 1024."""
    documents = read_text("stdlib", 60, 0).documents
    tokenizer = train_tokenizer(documents, 1024)
    return torch.tensor([i for text in documents for i in tokenizer(text)["input_ids"]])


def batch(data: torch.Tensor, step: int, length: int) -> torch.Tensor:
    starts = torch.randint(len(data) - length, (BATCH, 1), generator=torch.Generator().manual_seed(step))
    return data[starts + torch.arange(length)]


def build(width: int, layers: int, length: int) -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=1024, hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=4 * width, max_position_embeddings=length,
    ))  # fmt: skip


class Copy:
    """A copy of the run, with what is done besides at a step."""

    def __init__(self, model: nn.Module, beside: Callable[[nn.Module, int, torch.Tensor], object]) -> None:
        self.model, self.beside = model, beside
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        self.wall, self.cpu = [], []

    def step(self, step: int, ids: torch.Tensor) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.beside(self.model, step, ids)
        self.optimizer.zero_grad()
        self.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        self.optimizer.step()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def every_module(model: nn.Module, step: int, ids: torch.Tensor) -> None:
    """Five statistics of what every module gives, in the training forward of every 10th step."""
    if step % 10 == 1:
        for hook in model.__dict__.pop("_watching", []):
            hook.remove()
    if step % 10:
        return
    found: dict[str, list[float]] = {}

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor) and first.is_floating_point():
                x = first.detach()
                mean, deviation = x.mean(), x.std()
                z = (x - mean) / deviation
                found[name] = [float(v) for v in (x.norm(), mean, x.max(), (z**4).mean(), (z**3).mean())]

        return hook

    model.__dict__["_watching"] = [m.register_forward_hook(look(n)) for n, m in model.named_modules()]


@torch.no_grad()
def all_states(model: nn.Module, step: int, ids: torch.Tensor) -> None:
    """The hidden states of a probe as the model reports them, at every 10th step."""
    if step % 10 == 0:
        model.eval()
        for states in model(input_ids=ids[:10], output_hidden_states=True, use_cache=False).hidden_states[1:]:
            for sequence in states:
                size = sequence.abs().flatten()
                _ = size.topk(3), size.sort().values[(size.numel() - 1) // 2]
        model.train()


def timing(args: argparse.Namespace) -> None:
    data = tokens()
    with tempfile.TemporaryDirectory() as folder:
        plans: dict[str, Callable[[nn.Module, int, torch.Tensor], object]] = {
            "no monitor": lambda *_: None,
            "Monitor, log2+1000 (the default)": Monitor(Path(folder) / "a", last_step=args.steps).step,
            "Monitor, every 10": Monitor(Path(folder) / "b", every=10, last_step=args.steps).step,
            "Monitor, every 10, no forecast": Monitor(Path(folder) / "c", every=10, forecast=False).step,
            "Monitor(sample=10), every 10, no forecast": Monitor(
                Path(folder) / "d", every=10, sample=10, forecast=False
            ).step,
            "every module hooked, every 10": every_module,
            "output_hidden_states, every 10": all_states,
            "no monitor, again": lambda *_: None,
        }
        if args.only:
            plans = {name: plan for name, plan in plans.items() if name in ("no monitor", *args.only.split(";"))}
        copies = {name: Copy(build(args.width, args.layers, args.length), plan) for name, plan in plans.items()}
        for copy in copies.values():
            copy.step(0, batch(data, 0, args.length))  # what is imported and allocated once
        first = {name: (copy.wall.pop(), copy.cpu.pop()) for name, copy in copies.items()}
        for step in range(1, args.steps):
            ids, names = batch(data, step, args.length), list(copies)
            for name in names[step % len(names) :] + names[: step % len(names)]:
                copies[name].step(step, ids)
        base = copies["no monitor"]
        rows = [
            [name, sum(copy.cpu) / sum(base.cpu), sum(copy.wall) / sum(base.wall),
             1 + (first[name][1] - first["no monitor"][1]) / sum(base.cpu)]
            for name, copy in copies.items()
        ]  # fmt: skip
    print_table(
        f"time over that of the same run without, {args.steps} steps of {args.layers} x {args.width}, {BATCH} x "
        f"{args.length} tokens; {1000 * np.median(base.cpu):.0f} ms a step",
        ["way", "processor time", "clock", "the first step alone, imports among it"],
        rows, left=["way"],
    )  # fmt: skip


MEMORY = """
import resource, sys, tempfile
import psutil, torch
sys.path.insert(0, sys.argv[2])
from monitor import batch, build, tokens, Copy
from madyn import Monitor

torch.set_num_threads(1)
how, steps, width = sys.argv[1], int(sys.argv[3]), int(sys.argv[4])
data = tokens()
with tempfile.TemporaryDirectory() as folder:
    monitor = Monitor(folder + "/d", every=100, last_step=steps)
    copy = Copy(build(width, 2, 64), monitor.step if how == "watched" else lambda *_: None)
    seen = []
    for step in range(steps):
        copy.step(step, batch(data, step, 64))
        copy.wall.clear(), copy.cpu.clear()
        if step % 500 == 499:
            seen.append(psutil.Process().memory_info().rss)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, *(v / 2**20 for v in seen))
"""


def memory(args: argparse.Namespace) -> None:
    rows = []
    for how in ("plain", "watched"):
        here = str(Path(__file__).parent)
        code = [sys.executable, "-c", MEMORY, how, here, str(args.memory_steps), "32"]
        done = subprocess.run(code, capture_output=True, text=True, check=True)
        peak, *seen = (float(v) for v in done.stdout.split()[-1 - args.memory_steps // 500 :])
        rows.append([how, peak, seen[1], seen[-1]])
    print_table(
        f"resident memory in MiB, {args.memory_steps} steps of 2 x 32, measured at every 100th",
        ["run", "largest", "after 1,000 steps", "at the end"], rows, left=["run"],
    )  # fmt: skip
    print(f"largest with a monitor over without: {rows[1][1] / rows[0][1]:.3f}")


def measurements(dataset: Dataset, name: str) -> Iterator[Seen]:
    """What a run of a dataset measured, a step at a time."""
    array, values = dataset.statistics(name), dataset.values_of_sequence(name)
    for step in array["step"].values:
        top1, median = (array.sel(step=step, quantity=q).values for q in ("top1", "median"))
        yield Seen(int(step), top1, median, top1, values)


def would_tell(dataset: Dataset, name: str, priors: Mapping[str, Population]) -> list[Alert]:
    """The alerts that a monitor of the run would have given, with these populations for its forecasts."""
    last = dataset.steps(name)[-1]
    judge, bands, found = Judge(set()), Bands(), []
    for seen in measurements(dataset, name):
        upper, overflows = bands.upper(seen.step), None
        earlier = [step for step in dataset.steps(name) if step <= seen.step]
        if len(earlier) >= FEWEST and seen.step < last:
            coming = [step for step in dataset.steps(name) if step > seen.step][:2]
            asked = {"last_step": last, "steps": coming}
            ahead = forecast(dataset, name, seen.step, level=BAND, prior=priors["ratio"], **asked)
            bands.take({step: ahead["upper"].sel(step=step).values for step in coming}, seen, upper)
            asked |= {"quantity": "top1", "thresholds": [FLOAT16_LARGEST], "prior": priors["top1"]}
            overflows = forecast(dataset, name, seen.step, **asked)["exceed"].isel(threshold=0).values
        found += judge.judge(seen, upper, overflows)
    return found


def passes_by(dataset: Dataset, name: str, alert: Alert) -> bool:
    """Whether a layer that was said to have turned massive was not so in most of the measurements after it."""
    every = list(measurements(dataset, name))
    later = [massive_layers(seen, every[0])[alert.layer] for seen in every if seen.step >= alert.step]
    return bool(2 * sum(later) < len(later))


def alarms(args: argparse.Namespace) -> None:
    """Tiny-suite's runs, each with populations that were learned without runs of its width."""
    from default_prior import architectures, recipes

    dataset = madyn.open_dataset("tiny-suite")
    kinds = {name: run.kinds[0] for name, run in zip(dataset, architectures(dataset, "ratio"), strict=True)}
    priors: dict[str, dict[str, Population]] = {}
    for kind in sorted(set(kinds.values())):
        priors[kind] = {}
        for quantity in ("ratio", "top1"):
            others = [run for run in architectures(dataset, quantity) if kind not in run.kinds]
            shares = others[0].steps / others[0].steps[-1]
            priors[kind][quantity] = learn_population(shares, [others, recipes(quantity)])
    told = {name: would_tell(dataset, name, priors[kinds[name]]) for name in list(dataset)[:: args.stride]}
    rows = []
    for kind in ("overflow", "overflow_ahead", "above_forecast", "massive"):
        given = {name: [one for one in alerts if one.kind == kind] for name, alerts in told.items()}
        wrong = [name for name, alerts in given.items()
                 if any(kind != "massive" or passes_by(dataset, name, one) for one in alerts)]  # fmt: skip
        rows.append([kind, sum(map(bool, given.values())), len(wrong), len(wrong) / len(told)])
    false = {name for name, alerts in told.items() for one in alerts
             if one.kind != "massive" or passes_by(dataset, name, one)}  # fmt: skip
    rows.append(["any", sum(map(bool, told.values())), len(false), len(false) / len(told)])
    print_table(
        f"alerts in {len(told)} runs of tiny-suite, in which nothing goes wrong; one that says that a layer is massive "
        "is false where it is not so in most of the steps after",
        ["kind", "runs with one", "runs with a false one", "share"], rows, left=["kind"],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["time", "memory", "alarms"], default="time")
    for name, default in (
        ("steps", 2000),
        ("width", 64),
        ("layers", 4),
        ("length", 64),
        ("memory-steps", 10_000),
        ("stride", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", default="", help="ways to time, apart by ;")
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"time": timing, "memory": memory, "alarms": alarms}[args.what](args)


if __name__ == "__main__":
    main()
