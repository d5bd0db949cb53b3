"""One checkpoint, measured and said layer by layer: how large, where, and whether it is massive."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoint, find_checkpoint, find_checkpoints
from madyn.checkpoints.verifying import verify
from madyn.errors import CheckpointError, MadynError
from madyn.sweep.inputs import Inputs, describe_inputs, given_inputs, inputs_for, named_tokenizer
from madyn.sweep.settings import Probe, Settings
from madyn.sweep.units import load_model
from madyn.text import read_text

if TYPE_CHECKING:
    import pandas as pd

MASSIVE_VALUE = 100
MASSIVE_RATIO = 1000
SCAN_LENGTH = 512  # long enough to show what is massive, short enough to take seconds


def scan_checkpoint(
    model: str | Path,
    revision: str | None = None,
    *,
    probe: Probe | None = None,
    settings: Settings | None = None,
    tokenizer: Any = None,
    inputs: Any = None,
) -> pd.DataFrame:
    """Measure one checkpoint.

    Args:
        model: a folder, a GGUF file, or a name of the Hub, there at `revision` if given.
        probe: four sequences of the standard library by default; of at most 512 tokens if it gives no length.
        tokenizer: the tokenizer for the probe's text, or its name or folder; the checkpoint's own by default.
        inputs: token ids (B, S) to measure on, in place of the probe's text.

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
    probe = probe or Probe(sequences=4)
    reader = named_tokenizer(tokenizer, trust_remote_code=settings.trust_remote_code)
    if inputs is None:
        length = probe.length_for(Architecture.from_config(checkpoint.config()))
        reader = checkpoint.tokenizer() if reader is None else reader
        found, said = _windows(checkpoint, probe, length, reader)
    else:
        found = Inputs(given_inputs(inputs))
        said = describe_inputs(probe, found.values)
        with suppress(CheckpointError):
            reader = checkpoint.tokenizer() if reader is None else reader
    sequences = found.values
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
            "token": [_token(reader, t) for t in _tokens_at(sequences, largest, position)],
            "feature": result.features[largest, 0, layers],
            "massive": ((top > MASSIVE_VALUE) & (ratio >= MASSIVE_RATIO)).any(axis=0),
        },
        index=pd.Index(layers, name="layer"),
    )
    table.attrs["length"] = int(sequences.shape[1])
    table.attrs["inputs"] = said
    table.attrs["remarks"] = [*found.remarks, *loaded.remarks, *_doubts(checkpoint)]
    return table


def _doubts(checkpoint: Checkpoint) -> list[str]:
    """What speaks against a revision of the Hub being the step that it is named for; nothing where it names none."""
    with suppress(MadynError):
        if checkpoint.revision not in (None, "main"):
            found = find_checkpoints(checkpoint.source, form=checkpoint.form)
            steps = [step for step, one in found.by_step.items() if one.revision == checkpoint.revision]
            return [str(finding) for finding in verify(found, steps).findings if finding.fault] if steps else []
    return []


def _windows(checkpoint: Checkpoint, probe: Probe, length: int, tokenizer: Any) -> tuple[Inputs, str]:
    """The windows of the probe's text, and what they are for a reader."""
    probe = replace(probe, length=min(SCAN_LENGTH, length) if probe.length is None else length)
    found = inputs_for([checkpoint], read_text(probe.text, probe.documents, probe.seed), probe, tokenizer)
    if isinstance(found, MadynError):
        raise found
    return found, f"{probe.sequences} sequences of {probe.length} tokens of {probe.text}"


def _tokens_at(sequences: Any, sequence: Any, position: Any) -> list[int | None]:
    """The token ids at places; None for places of an image."""
    return sequences[sequence, position].tolist() if sequences.ndim == 2 else [None] * len(position)


def _token(tokenizer: Any, number: int | None) -> str:
    """A token as text; as its id where no tokenizer knows it."""
    if number is None:
        return ""
    return f"id {number}" if tokenizer is None else tokenizer.decode([number])
