"""What a sweep over checkpoints costs: against a loop of `from_pretrained`, and with models larger than memory.

    python benchmarks/sweep.py                              # both tables below; 20 GB of disk, about 15 minutes
    python benchmarks/sweep.py --checkpoints 12 --shapes    # the first table alone

First table: checkpoints of the 70M shape in float16 files, measured in float32. All ways run in turn, round after
round; every file is taken out of the system's cache before a way reads it. "read" is the time to read the files and
"compute" that to measure with a model that is there already: no sweep can be faster than the longer of the two.

Second table: a model whose weights pass through layer by layer, in a process of its own: time, and the most memory
that was resident. Random weights; 10 sequences of 128 tokens.

Expected before it was written: 3 to 5 times the checkpoints of a `from_pretrained` loop; 2.5 GB resident at the 6.9B
shape (float32: embedding 0.8, a layer 0.8, activations 0.3, Python and libraries 0.4).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from madyn import PYTHIA
from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoint, find_checkpoints
from madyn.measurement import measure
from madyn.sweep import Probe, Settings
from madyn.sweep.engines import run_here
from madyn.sweep.units import Work, load_model
from madyn.terminal import print_table

SHARD = 2e9  # bytes


def config_of(a: Architecture) -> Any:
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig(
        hidden_size=a.hidden_size, num_hidden_layers=a.num_hidden_layers, vocab_size=a.vocab_size,
        num_attention_heads=a.num_attention_heads, intermediate_size=a.intermediate_size,
        architectures=["GPTNeoXForCausalLM"],
    )  # fmt: skip


def write_checkpoint(folder: Path, shape: str, seed: int) -> None:
    """Random float16 weights at a Pythia shape, with the head, in shards: never more than a few tensors in memory."""
    from safetensors.torch import save_file
    from transformers import GPTNeoXForCausalLM

    folder.mkdir(parents=True)
    config = config_of(PYTHIA.architectures[f"pythia-{shape}"])
    config.save_pretrained(folder)
    with torch.device("meta"):
        state = GPTNeoXForCausalLM(config).state_dict()
    generator = torch.Generator().manual_seed(seed)
    shards: list[dict[str, torch.Tensor]] = [{}]
    groups, size = [[]], 0
    for name, tensor in state.items():
        if size + 2 * tensor.numel() > SHARD:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += 2 * tensor.numel()
    index = {}
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors" if len(groups) > 1 else "model.safetensors"
        shards[0] = {name: _random(state[name].shape, "norm" in name, generator) for name in names}
        save_file(shards[0], folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    if len(groups) > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _random(shape: torch.Size, norm: bool, generator: torch.Generator) -> torch.Tensor:
    if norm:
        return torch.ones(shape, dtype=torch.float16)
    return (torch.randn(shape, generator=generator) * 0.02).half()


def forget(folder: Path) -> None:
    """Take the files out of the system's cache, as far as it lets us."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def from_pretrained_loop(checkpoints: list[Checkpoint], ids: np.ndarray) -> None:
    from transformers import AutoModel

    for checkpoint in checkpoints:
        measure(AutoModel.from_pretrained(checkpoint.source, dtype=torch.float32), ids)


def prior_loop(checkpoints: list[Checkpoint], ids: np.ndarray) -> None:
    """With the head, and the statistics that prior work computed."""
    from transformers import AutoModelForCausalLM

    from measure import prior_recipe

    for checkpoint in checkpoints:
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source, dtype=torch.float32).eval()
        with torch.no_grad():
            for sequence in torch.as_tensor(ids).split(1):
                prior_recipe(model, sequence)


def sweep(checkpoints: list[Checkpoint], ids: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as root:
        works = [Work(root, "net", "net", c, ids, Probe(), Settings(stream=False)) for c in checkpoints]
        assert all(outcome.state == "measured" for outcome in run_here(works))


def read(checkpoints: list[Checkpoint], ids: np.ndarray) -> None:
    buffer = bytearray(1 << 24)
    for checkpoint in checkpoints:
        for path in Path(checkpoint.source).glob("*.safetensors"):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def compare_loops(folder: Path, count: int, sequences: int, length: int, rounds: int) -> None:
    for step in range(count):
        write_checkpoint(folder / "net" / f"step{step}", "70m", step)
    checkpoints = list(find_checkpoints(folder / "net").by_step.values())
    ids = np.random.default_rng(0).integers(0, 50000, (sequences, length))
    there = checkpoints[0].model(torch.float32)

    def compute(checkpoints: list[Checkpoint], ids: np.ndarray) -> None:
        for _ in checkpoints:
            measure(there, ids)

    ways: dict[str, Callable[..., None]] = {
        "read": read, "compute": compute, "madyn": sweep, "from_pretrained, measure": from_pretrained_loop,
        "from_pretrained, prior recipe": prior_loop,
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in ways}
    compute(checkpoints[:1], ids)
    for _ in range(rounds):
        for name, way in ways.items():
            forget(folder)
            start = time.perf_counter()
            way(checkpoints, ids)
            times[name].append(time.perf_counter() - start)
    limit = np.maximum(times["read"], times["compute"])
    rows = [
        [name, float(np.median(t)) / count, 60 * count / float(np.median(t)), float(np.median(np.array(t) / limit)),
         float(np.median(np.array(t) / np.array(times["madyn"])))]
        for name, t in times.items()
    ]  # fmt: skip
    print_table(
        f"70M shape, {count} checkpoints in float16 files, {sequences} x {length} tokens, {rounds} rounds",
        ["way", "s a checkpoint", "a minute", "time / longer of read and compute", "time / madyn"],
        rows,
        left=["way"],
    )


def peak(shape_folder: Path, out: Path, stream: bool) -> None:
    """In a process of its own: measure one checkpoint, and say how long it took and how much was resident."""
    (checkpoint,) = find_checkpoints(shape_folder).by_step.values()
    ids = np.random.default_rng(0).integers(0, 50000, (10, 128))
    start = time.perf_counter()
    loaded = load_model(checkpoint, checkpoint.folder(), Settings(stream=stream))
    statistics = measure(loaded.model, ids, batch_size=10, layers=loaded.layers)
    seconds = time.perf_counter() - start
    np.save(out, statistics)
    status = Path("/proc/self/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    print(json.dumps({"seconds": seconds, "resident": resident}))


def compare_streamed(folder: Path, shapes: list[str], in_memory: list[str]) -> None:
    rows = []
    for shape in shapes:
        source = folder / shape
        write_checkpoint(source / "step0", shape, 0)
        size = sum(p.stat().st_size for p in source.rglob("*.safetensors"))
        for way in ("streamed", *(["in memory"] if shape in in_memory else [])):
            forget(source)
            command = [sys.executable, __file__, "--peak", str(source), str(folder / f"{shape}-{way}.npy"), way]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            said = json.loads(done.stdout.splitlines()[-1])
            rows.append([shape, way, size / 1e9, said["seconds"], said["resident"] / 2**30, None])
        if shape in in_memory:
            a, b = (np.load(folder / f"{shape}-{way}.npy") for way in ("streamed", "in memory"))
            rows[-2][-1] = float(np.abs(a / b - 1).max())
        for path in source.rglob("*.safetensors"):
            path.unlink()
    print_table(
        "weights that pass through: 10 x 128 tokens, float16 files, float32",
        ["shape", "way", "files GB", "s", "peak resident GiB", "largest relative difference"],
        rows,
        left=["shape", "way"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=12)
    parser.add_argument("--sequences", type=int, default=10)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=["1.4b", "6.9b"])
    parser.add_argument("--in-memory", nargs="*", default=["1.4b"], help="shapes to hold against a model in memory")
    parser.add_argument("--folder", type=Path, help="where to put the checkpoints; a temporary folder by default")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        source, out, way = options.peak
        peak(Path(source), Path(out), way == "streamed")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.checkpoints:
            compare_loops(Path(folder) / "loop", options.checkpoints, options.sequences, options.length, options.rounds)
        if options.shapes:
            compare_streamed(Path(folder) / "streamed", options.shapes, options.in_memory)


if __name__ == "__main__":
    main()
