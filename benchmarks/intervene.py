"""What an intervention costs beside the bare forward, and what several settings cost beside the first.

    python benchmarks/intervene.py                    # a SmolLM2-sized model with random weights, 512 tokens, CPU
    python benchmarks/intervene.py --device cuda --rounds 30

Ways are run in turn in one process, round after round; a figure is the median over the rounds of a way's time over
the bare forward's of the same round. nnsight and pyvene do the same edit where they are installed. The second table is
the time of `measure_effects` with one setting and with two, in forwards of one sequence. Expected before it was
written: the hook costs less than 1 % (one value is written), and each further arm of an experiment 0.6 of a forward,
since the layers up to the changed one are not run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import madyn
from madyn.intervention import measure_effects
from madyn.terminal import print_table

LAYER, POSITION, FEATURE = 11, 0, 507


def build(device: str, layers: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=layers, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    return model.eval().to(device)


def bare(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(ids, use_cache=False).logits


def edited(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with madyn.intervene(model, layer=LAYER, position=POSITION, feature=FEATURE):
        return bare(model, ids)


def by_nnsight(model: Any, ids: torch.Tensor) -> torch.Tensor:
    import nnsight  # pyright: ignore[reportMissingImports]

    wrapped = nnsight.NNsight(model)
    with wrapped.trace(ids, use_cache=False):
        output = wrapped.model.layers[LAYER].output
        hidden = output[0] if isinstance(output, tuple) else output
        hidden[:, POSITION, FEATURE] = 0
        logits = wrapped.output.logits.save()
    return logits  # noqa: RET504  what is saved is known behind the block


def by_pyvene(model: Any, ids: torch.Tensor) -> torch.Tensor:
    import pyvene  # pyright: ignore[reportMissingImports]

    def edit(base: torch.Tensor, source: Any) -> torch.Tensor:
        base = base.clone()
        base[:, POSITION, FEATURE] = 0
        return base

    place = {"layer": LAYER, "component": "block_output", "intervention": edit}
    return pyvene.IntervenableModel(place, model=model)({"input_ids": ids}, output_original_output=False)[1].logits


def ways() -> dict[str, Callable[[Any, torch.Tensor], torch.Tensor]]:
    found: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {"bare": bare, "madyn.intervene": edited}
    for name, way in (("nnsight", by_nnsight), ("pyvene", by_pyvene)):
        if find_spec(name) is None:
            print(f"{name} is not installed: left out")
        else:
            found[name] = way
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    model = build(asked.device, asked.layers)
    ids = torch.randint(0, 49152, (1, asked.length), device=asked.device)

    def timed(call: Callable[[], Any]) -> float:
        if asked.device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if asked.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    every = ways()
    seconds: dict[str, list[float]] = {name: [] for name in every}
    with torch.no_grad():
        reference = edited(model, ids)
        for name, way in every.items():
            assert name == "bare" or torch.allclose(way(model, ids), reference, atol=1e-4), name
        for _ in range(asked.rounds):
            for name, way in every.items():
                seconds[name].append(timed(lambda way=way: way(model, ids)))
    base = np.array(seconds["bare"])
    rows = [[name, 1000 * np.median(s), np.median(np.array(s) / base)] for name, s in seconds.items()]
    print_table(f"{asked.layers} layers x 576, {asked.length} tokens, {asked.device}", ["way", "ms", "over bare"], rows)
    sequences = ids.repeat(2, 1).cpu().numpy()
    forwards = {
        "1 setting, 4 controls": timed(lambda: measure_effects(model, sequences, ["zero"], layer=LAYER)),
        "2 settings, 4 controls": timed(lambda: measure_effects(model, sequences, ["zero", "clip:1"], layer=LAYER)),
    }
    one = float(np.median(base))
    print_table(
        "measure_effects on 2 sequences",
        ["experiment", "s", "in forwards of a sequence"],
        [[name, took, took / one] for name, took in forwards.items()],
        left=["experiment"],
    )


if __name__ == "__main__":
    main()
