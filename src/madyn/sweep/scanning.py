"""One checkpoint, measured and said layer by layer: how large, where, and whether it is massive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from madyn.architecture import Architecture
from madyn.checkpoints import find_checkpoint
from madyn.sweep.settings import Probe, Settings
from madyn.sweep.units import load_model
from madyn.text import read_text, token_sequences

if TYPE_CHECKING:
    import pandas as pd

MASSIVE_VALUE = 100
MASSIVE_RATIO = 1000
SCAN_LENGTH = 512  # long enough to show what is massive, short enough to take seconds


def scan_checkpoint(
    model: str | Path, revision: str | None = None, *, probe: Probe | None = None, settings: Settings | None = None
) -> pd.DataFrame:
    """Measure one checkpoint.

    Args:
        model: a folder, a GGUF file, or a name of the Hub, there at `revision` if given.
        probe: four sequences of the standard library by default; of at most 512 tokens if it gives no length.

    Returns:
        a row a layer: top1, top2, top3, median and ratio (means over the sequences); position, token and feature of
        the largest value of all sequences; `massive`, true where that value is above 100 and at least 1000 times the
        median of its sequence (Sun et al. 2024, arXiv 2402.17762).

    Raises:
        CheckpointError, ArchitectureError, TextError, NonFiniteError: as the names say.
    """
    import numpy as np
    import pandas as pd

    from madyn.measurement import measure_with_locations

    settings = settings or Settings()
    checkpoint = find_checkpoint(model, revision, trust_remote_code=settings.trust_remote_code, form=settings.weights)
    architecture = Architecture.from_config(checkpoint.config())
    probe = probe or Probe(sequences=4)
    length = (
        min(SCAN_LENGTH, probe.length_for(architecture)) if probe.length is None else probe.length_for(architecture)
    )
    tokenizer = checkpoint.tokenizer()
    text = read_text(probe.text, probe.documents, probe.seed)
    sequences = token_sequences(text, tokenizer, probe.sequences, length, bos=probe.bos)
    loaded = load_model(checkpoint, checkpoint.folder(), settings)
    result = measure_with_locations(
        loaded.model,
        sequences,
        batch_size=len(sequences) if loaded.streamed else settings.batch_size,
        layers=loaded.layers,
        exclude=probe.excluded,
    )

    top, median = result.statistics[:, 0, :], result.statistics[:, -1, :]  # (B, L)
    layers = np.arange(top.shape[1])
    largest = top.argmax(axis=0)
    position = result.positions[largest, 0, layers]
    ratio = top / median
    table = pd.DataFrame(
        {
            **{f"top{k + 1}": result.statistics[:, k, :].mean(axis=0) for k in range(3)},
            "median": median.mean(axis=0),
            "ratio": ratio.mean(axis=0),
            "position": position,
            "token": [tokenizer.decode([int(t)]) for t in sequences[largest, position]],
            "feature": result.features[largest, 0, layers],
            "massive": ((top > MASSIVE_VALUE) & (ratio >= MASSIVE_RATIO)).any(axis=0),
        },
        index=pd.Index(layers, name="layer"),
    )
    table.attrs["length"] = length
    table.attrs["remarks"] = loaded.remarks
    return table
