"""What measuring costs beside the bare forward pass, against other ways to the same numbers.

    python benchmarks/measure.py                      # CPU, float32, 14M, 70M and 160M shapes, 2048 tokens
    python benchmarks/measure.py --device cuda --dtype bfloat16 --shapes 1.4b 6.9b

Random weights at Pythia's shapes. All ways run in one process in turn, round after round, so that whatever else the
machine does meets all of them alike; a figure is the median over the rounds of a way's time over the bare decoder's in
the same round. Memory is that of a process that does nothing else: its peak over the peak of one that runs the bare
forward. Expected before it was written: the statistics take 4 % of the 14M shape's forward and 1.5 % of the others'.
"""

from __future__ import annotations

import argparse
import copy
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from madyn import PYTHIA
from madyn.lab.tokenizer import load_tokenizer, train_tokenizer
from madyn.measurement import measure
from madyn.measurement.order_statistics import order_statistics
from madyn.terminal import print_table

LENGTH = 2048
Way = Callable[[Any, torch.Tensor], Any]


def build(shape: str, dtype: str, device: str) -> Any:
    a = PYTHIA.architectures[f"pythia-{shape}"]
    config = GPTNeoXConfig(
        hidden_size=a.hidden_size, num_hidden_layers=a.num_hidden_layers, vocab_size=a.vocab_size,
        num_attention_heads=a.num_attention_heads, intermediate_size=a.intermediate_size,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def bare(model: Any, ids: torch.Tensor) -> Any:
    return model.base_model(ids, use_cache=False).last_hidden_state


def madyn_measure(model: Any, ids: torch.Tensor) -> np.ndarray:
    return measure(model, ids)


def prior_recipe(model: Any, ids: torch.Tensor) -> np.ndarray:
    """The whole model with its head, every layer's output kept, each sorted in full."""
    kept: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, out: kept.append(out[0] if isinstance(out, tuple) else out))
        for layer in model.base_model.layers
    ]
    model(ids)
    for hook in hooks:
        hook.remove()
    return _sorted(kept)


def output_hidden_states(model: Any, ids: torch.Tensor) -> np.ndarray:
    """transformers' own way; its last entry has passed the final norm."""
    return _sorted(list(model.base_model(ids, use_cache=False, output_hidden_states=True).hidden_states[1:]))


def nnsight(model: Any, ids: torch.Tensor) -> np.ndarray:
    """The same by nnsight's tracing, over the bare decoder, with madyn's statistics."""
    wrapped = import_module("nnsight").NNsight(model.base_model)
    kept = []
    with wrapped.trace(ids, use_cache=False):
        for layer in wrapped.layers:
            kept.append(layer.output.save())
    values = [out[0] if isinstance(out, tuple) else out for out in kept]
    return np.stack([order_statistics(h[0], 3)[0].float().cpu().numpy() for h in values], axis=1)[None]


_BRIDGES: dict[int, Any] = {}  # by the model's id


def bridge(model: Any) -> Any:
    """TransformerLens around a model, which it changes. It asks for a tokenizer on disk, and uses none here."""
    boot = import_module("transformer_lens.model_bridge").TransformerBridge.boot_transformers
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(["no text"], 300).save_pretrained(folder)
        tokenizer = load_tokenizer(Path(folder))
        return boot("EleutherAI/pythia-14m", hf_model=model, tokenizer=tokenizer, dtype=model.dtype)


def transformer_lens(model: Any, ids: torch.Tensor) -> np.ndarray:
    """The same by TransformerLens's cache of what the blocks give, with madyn's statistics. It runs the head too."""
    if id(model) not in _BRIDGES:
        _BRIDGES[id(model)] = bridge(copy.deepcopy(model))
    _, cache = _BRIDGES[id(model)].run_with_cache(
        ids, names_filter=lambda name: name.endswith(".hook_out") and name.count(".") == 2
    )
    blocks = [cache[f"blocks.{i}.hook_out"] for i in range(model.config.num_hidden_layers)]
    return np.stack([order_statistics(h[0], 3)[0].float().cpu().numpy() for h in blocks], axis=1)[None]


def _sorted(states: list[torch.Tensor]) -> np.ndarray:
    columns = []
    for hidden in states:
        flat = hidden.abs().flatten()
        top = flat.sort(descending=True).values[:3]
        columns.append(torch.cat([top, flat.median().reshape(1)]).float().cpu().numpy())
    return np.stack(columns, axis=1)[None]


def ways() -> dict[str, Way]:
    found: dict[str, Way] = {
        "bare decoder": bare, "madyn": madyn_measure, "output_hidden_states": output_hidden_states,
        "prior recipe": prior_recipe,
    }  # fmt: skip
    for name, way in (("nnsight", nnsight), ("transformer_lens", transformer_lens)):
        if find_spec(name):
            found[name] = way
    return found


def seconds(call: Callable[[], Any], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.no_grad():
        call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_shape(shape: str, dtype: str, device: str, rounds: int) -> dict[str, list[float]]:
    model = build(shape, dtype, device)
    ids = torch.randint(0, 50000, (1, LENGTH), generator=torch.Generator().manual_seed(0)).to(device)
    times: dict[str, list[float]] = {name: [] for name in ways()}
    with torch.no_grad():
        expected = prior_recipe(model, ids)
        assert np.array_equal(measure(model, ids)[..., :-1], expected[..., :-1]), "not the numbers of a full sort"
    for _ in range(rounds):
        for name, way in ways().items():
            times[name].append(seconds(lambda way=way: way(model, ids), device))
    return times


def peak_bytes(shape: str, dtype: str, device: str, way: str) -> int:
    """In a process of its own: weights and all that a pass takes besides, at its highest."""
    command = [sys.executable, __file__, "--peak", way, "--shapes", shape, "--dtype", dtype, "--device", device]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    return int(np.median([int(run.stdout.splitlines()[-1]) for run in runs]))


def print_peak(shape: str, dtype: str, device: str, way: str) -> None:
    model = build(shape, dtype, device)
    ids = torch.randint(0, 50000, (1, LENGTH)).to(device)
    if way in ("bare decoder", "madyn", "output_hidden_states", "nnsight"):
        model.lm_head = None  # only the prior recipe needs it
    if way == "transformer_lens":
        _BRIDGES[id(model)] = bridge(model)
    run = ways()[way]
    seconds(lambda: run(model, ids), device)
    gc.collect()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident
    seconds(lambda: run(model, ids), device)
    print(torch.cuda.max_memory_allocated() if device != "cpu" else _peak_resident())


def _peak_resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["14m", "70m", "160m"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.shapes[0], options.dtype, options.device, options.peak)
        return
    for name in ("nnsight", "transformer_lens"):
        if name not in ways():
            print(f"{name} is not installed: left out", file=sys.stderr)
    for shape in options.shapes:
        times = time_shape(shape, options.dtype, options.device, options.rounds)
        base = np.array(times["bare decoder"])
        bare_peak = peak_bytes(shape, options.dtype, options.device, "bare decoder")
        rows = []
        for name, values in times.items():
            ratios = np.array(values) / base
            low, high = np.quantile(ratios, [0.25, 0.75])
            peak = peak_bytes(shape, options.dtype, options.device, name) / bare_peak
            rows.append([name, float(np.median(values)) * 1e3, float(np.median(ratios)), f"{low:.3f}-{high:.3f}", peak])
        print_table(
            f"{shape}, {options.dtype}, {options.device}, {LENGTH} tokens, {torch.get_num_threads()} threads, "
            f"{options.rounds} rounds",
            ["way", "ms", "time / bare", "middle half", "peak memory / bare"],
            rows,
            left=["way", "middle half"],
        )


if __name__ == "__main__":
    main()
