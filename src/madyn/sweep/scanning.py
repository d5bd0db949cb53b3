"""One checkpoint, measured and said layer by layer: how large, where, and whether it is massive."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.checkpoints import Checkpoint
from madyn.checkpoints.verifying import verify
from madyn.errors import MadynError, needs_extra
from madyn.massive import FALSE_ALARMS, judge_tails, massive_published
from madyn.settings import Probe, Settings
from madyn.sweep.images import read_images
from madyn.sweep.inputs import (
    Inputs,
    measured_length,
)
from madyn.sweep.remarks import overflow_remark
from madyn.sweep.subjects import Subject
from madyn.sweep.units import Loaded

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from madyn.measurement import Measurement


@needs_extra
def scan_checkpoint(
    model: str | Path,
    revision: str | None = None,
    *,
    probe: Probe | None = None,
    settings: Settings | None = None,
    tokenizer: Any = None,
    inputs: Any = None,
    images: str | Path | None = None,
) -> pd.DataFrame:
    """Measure one checkpoint.

    Args:
        model: a folder, a GGUF file, or a name of the Hub, there at `revision` if given.
        probe: four sequences of the standard library by default; of at most 512 tokens if it gives no length.
        tokenizer: the tokenizer for the probe's text, or its name or folder; the checkpoint's own by default.
        inputs: token ids (B, S) or pixel values (B, C, H, W) to measure on, in place of the probe's text.
        images: a folder of images for a vision model, of which the probe says how many are taken.

    Returns:
        a row a layer: `stack` and `layer_in_stack` (the path of the list of layers that a layer is in, and which of
        them it is); top1, top2, top3, median and ratio, means over the sequences; `largest`, the largest value of all
        sequences, `own_ratio`, its ratio to the median of its own sequence, and its position, token and feature; and in
        how many sequences the largest value is massive: `published`, above 100 and at least 1000 times the median (Sun
        et al. 2024, arXiv 2402.17762), and `tail`, beyond what the layer's own tail explains, with at most one false
        alarm in a hundred scans (`madyn.massive.massive_by_tail`). `attrs` has inputs, what was measured on, in words;
        sequences; kind, sequence or image; length, of a sequence in tokens and of an image in the positions that
        the layers have, None where they differ; and remarks, a list of sentences.

    Raises:
        CheckpointError, ArchitectureError, TextError, NonFiniteError: as the names say.
        UsageError: the model does not take such inputs, or a setting cannot mean anything.

    >>> from tempfile import mkdtemp
    >>> import numpy as np
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> table = madyn.sweep.scan_checkpoint(f"{folder}/step1", inputs=np.arange(16).reshape(2, 8))
    >>> len(table), list(table.columns[:4])
    (2, ['stack', 'layer_in_stack', 'top1', 'top2'])
    """
    subject = Subject.find(model, revision, probe, settings, tokenizer, inputs is not None or images is not None)
    if images is not None:
        inputs = read_images(images, subject.checkpoint, subject.probe.sequences)
    prepared = subject.prepare(subject.probe) if inputs is None else subject.given(inputs)
    return _measure(subject, subject.load(), *prepared)


@needs_extra
def scan_with_and_without_bos(
    model: str | Path,
    revision: str | None = None,
    *,
    probe: Probe | None = None,
    settings: Settings | None = None,
    tokenizer: Any = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As `scan_checkpoint`, twice: as the probe's text comes, and each sequence after the tokenizer's BOS token.

    >>> from tempfile import mkdtemp
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> from madyn.lab.tokenizer import train_tokenizer
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/model"
    >>> LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape)).save_pretrained(folder)
    >>> tokenizer = train_tokenizer(["to be or not to be, that is the question"] * 50, 300)
    >>> probe = madyn.sweep.Probe("stdlib", documents=2, sequences=2, length=8)
    >>> without, after = madyn.sweep.scan_with_and_without_bos(folder, probe=probe, tokenizer=tokenizer)
    >>> len(without) == len(after)
    True
    """
    subject = Subject.find(model, revision, probe, settings, tokenizer, False)
    prepared = [subject.prepare(replace(subject.probe, bos=bos)) for bos in (False, True)]
    loaded = subject.load()
    without, after = (_measure(subject, loaded, *one) for one in prepared)
    return without, after


def _measure(subject: Subject, loaded: Loaded, inputs: Inputs, said: str) -> pd.DataFrame:
    from madyn.measurement import measure_with_locations

    values = inputs.values
    result = measure_with_locations(
        loaded.model,
        values,
        batch_size=len(values) if loaded.streamed else subject.settings.batch_size,
        layers=loaded.layers,
        exclude=subject.probe.excluded,
        tails=True,
    )
    table = _table(result, values, subject.tokenizer)
    overflow = overflow_remark(result.peaks)
    doubts = [*([overflow] if overflow else []), *_doubts(subject.checkpoint)]
    table.attrs["length"] = measured_length(values, result)
    table.attrs["sequences"] = len(values)
    table.attrs["kind"] = "sequence" if values.ndim == 2 else "image"
    table.attrs["inputs"] = said
    table.attrs["remarks"] = [*inputs.remarks, *loaded.remarks, *doubts]
    return table


def _table(result: Measurement, values: np.ndarray, tokenizer: Any) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    assert result.tails is not None
    top, median = result.statistics[:, 0, :], result.statistics[:, -1, :]  # (B, L)
    layers = np.arange(top.shape[1])
    largest = top.argmax(axis=0)
    position = result.positions[largest, 0, layers]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = top / median
    tails = judge_tails(top, result.tails.values, result.tails.count, result.tails.features, FALSE_ALARMS)
    stacks = [(path, number) for path, count in result.stacks.items() for number in range(count)]
    return pd.DataFrame(
        {
            "stack": [path for path, _ in stacks],
            "layer_in_stack": [number for _, number in stacks],
            **{f"top{k + 1}": result.statistics[:, k, :].mean(axis=0) for k in range(3)},
            "median": median.mean(axis=0),
            "ratio": ratio.mean(axis=0),
            "largest": top.max(axis=0),
            "own_ratio": ratio[largest, layers],
            "position": position,
            "token": [_token(tokenizer, t) for t in _tokens_at(values, largest, position)],
            "feature": result.features[largest, 0, layers],
            "published": massive_published(top, median).sum(axis=0),
            "tail": tails.massive.sum(axis=0),
        },
        index=pd.Index(layers, name="layer"),
    )


def _doubts(checkpoint: Checkpoint) -> list[str]:
    """What speaks against a revision of the Hub being the step that it is named for; nothing where it names none."""
    with suppress(MadynError):
        found = checkpoint.siblings()
        if found is not None:
            steps = [step for step, one in found.by_step.items() if one.revision == checkpoint.revision]
            return [str(finding) for finding in verify(found, steps).findings if finding.fault] if steps else []
    return []


def _tokens_at(sequences: Any, sequence: Any, position: Any) -> list[int | None]:
    """The token ids at places; None for places of an image."""
    return sequences[sequence, position].tolist() if sequences.ndim == 2 else [None] * len(position)


def _token(tokenizer: Any, number: int | None) -> str:
    """A token as text; as its id where no tokenizer knows it."""
    if number is None:
        return ""
    return f"id {number}" if tokenizer is None else tokenizer.decode([number])
