"""Steps of a dataset that were measured on the same weights, found in what was written of them.

Training changes every weight at every step, so that two steps with the same statistics, bit for bit, are of one
checkpoint under two names. Statistics tell it alone, in a dataset with no manifest too: of equal weights all layers
agree, and of checkpoints that share their first weights the first layers, since each layer's hidden state depends on
all before it. A manifest's hashes tell it as well. What is plausible is judged in `madyn.sharing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from madyn.dataset import manifest
from madyn.dataset.view import Dataset
from madyn.errors import MadynError
from madyn.sharing import Sharing, find_sharings, list_steps

_ENOUGH = 200  # values of a few digits that do not agree by chance


def repeated_statistics(dataset: Dataset, model: str) -> list[Sharing]:
    """Steps whose statistics are the same in all layers, or in the first of them.

    A piece is the statistics up to a layer. Statistics of a model that ran in 16 bits have few digits: there only a
    whole that is not small is evidence. None where the statistics cannot be read, which is another fault.
    """
    try:
        values = dataset.statistics(model).transpose("step", "sequence", "quantity", "layer")
    except MadynError:
        return []
    steps = [int(step) for step in values["step"].values]
    coarse = _few_digits(values.values)
    if coarse and values[0].size < _ENOUGH:
        return []
    held: dict[int | None, dict[str, str]] = {
        step: _prefixes(one) for step, one in zip(steps, values.values, strict=True)
    }
    weak = {name for pieces in held.values() for name in pieces} if coarse else set()
    return find_sharings(held, weak=weak)


def _prefixes(values: np.ndarray) -> dict[str, str]:
    """The hash of the statistics up to each layer, of values (sequence, quantity, layer)."""
    digest, found = hashlib.blake2b(digest_size=16), {}
    for layer in range(values.shape[-1]):
        digest.update(np.ascontiguousarray(values[..., layer]).tobytes())
        found[f"layer {layer}"] = digest.hexdigest()
    return found


def _few_digits(values: np.ndarray) -> bool:
    """Whether all values are numbers of 16 bits, float16 or bfloat16."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
        halves = np.array_equal(single.astype(np.float16).astype(np.float64), values, equal_nan=True)
    brains = not (single.view(np.uint32) & 0xFFFF).any() and np.array_equal(single, values, equal_nan=True)
    return halves or brains


def repeated_weights(dataset: Dataset, model: str, units: Mapping[int, manifest.Unit]) -> list[Sharing]:
    """Measured steps whose weight files are the same, by their manifests; none where those do not say."""
    measured = set(dataset.steps(model))
    held: dict[int | None, dict[str, str]] = {step: _weights(unit) for step, unit in units.items() if step in measured}
    return find_sharings(held, files={name for pieces in held.values() for name in pieces})


def _weights(unit: manifest.Unit) -> dict[str, str]:
    if unit.weights_sha256:
        return dict(unit.weights_sha256)
    known = {"weights": unit.weights_xxh3, "commit": unit.commit}
    return dict([next((name, found) for name, found in known.items() if found)]) if any(known.values()) else {}


def describe_repeats(dataset: Dataset, model: str, units: Mapping[int, manifest.Unit]) -> Iterator[tuple[bool, str]]:
    """What repeats in a model, a sentence each, and whether it is a fault. What weights tell is not said again.

    Args:
        units: the manifests of the model that can be read, by step.
    """
    told: set[tuple[int, ...]] = set()
    for sharing in repeated_weights(dataset, model, units):
        if sharing.suspects or sharing.whole:
            told.add(sharing.steps)
            files = "weights" if sharing.whole else f"file {sharing.pieces[0]}"
            said = f"{list_steps(sharing.steps)} were measured on the same {files}, says the manifest"
            yield (True, f"{said}; {_ADVICE}") if sharing.suspects else (False, f"{said}: {_NO_UPDATE}")
    for sharing in repeated_statistics(dataset, model):
        if sharing.steps in told:
            continue
        layers = f"up to {sharing.pieces[-1]}" if not sharing.whole else "in all layers"
        said = f"{list_steps(sharing.steps)} have the same statistics {layers}, bit for bit"
        if sharing.suspects:
            yield True, f"{said}: {'they are' if sharing.whole else 'in part they are'} of one checkpoint; {_ADVICE}"
        else:
            yield False, f"{said}: {_NO_UPDATE if sharing.whole else 'what comes before may be frozen there'}"


_ADVICE = "compare the checkpoints with `madyn verify`"
_NO_UPDATE = "a learning rate of zero leaves that, and so does a copy"
