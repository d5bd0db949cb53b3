"""What quantization costs one checkpoint: its hidden states rounded in every scheme, and what it then predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.architecture import Architecture
from madyn.errors import check_range, needs_extra
from madyn.quantization.estimate import effective_bits
from madyn.settings import Probe, Settings
from madyn.sweep.subjects import Subject
from madyn.terminal import progress_display

if TYPE_CHECKING:
    import pandas as pd

    from madyn.measurement.layers import Stack
    from madyn.quantization.judging import Judged
    from madyn.quantization.simulation import Simulated

KEEP = 3
"""How many values of a sequence are held apart in full precision, where nothing else is asked for.

>>> import madyn
>>> madyn.quantization.KEEP
3
"""

_MOST_KEPT = 10_000
_SHORT = 256  # tokens: the model is run some fifty times on each sequence
_SHARES = ("tensor", "token", "channel")


@dataclass(frozen=True)
class Costs:
    """What quantization costs one checkpoint.

    Attributes:
        layers: a row a layer, means over the sequences: `stack`, `layer_in_stack`; `top1`, `median`, `ratio`;
            `token_spread` and `feature_spread`, the largest over the median of the tokens' (features') maxima;
            `bits_X` and `zeroed_X`, effective bits and the share rounded to zero of int8 with a scale a tensor, token
            and channel; `bits_kept` and `bits_rotated`, of int8 per tensor with the largest kept apart, and after a
            rotation; `estimated_bits`, of int8 per tensor from the ratio alone; and, with this layer alone in int8 per
            tensor, `loss` (in nats a token), `perplexity` and `moved`.
        rounding: a row a layer, scheme and form: `snr`, `snr_rest` and `snr_bulk` in decibels, `effective_bits`,
            `zeroed`; means over the sequences.
        together: a row a scheme and form, all layers rounded: `loss`, `perplexity`, `moved`.
        kind: how the model is judged: "causal", "masked" or "embedding", which has no loss.
        loss: without rounding, in nats a token.
        keep: how many values of a sequence are kept apart.
        inputs: what it was measured on, for a reader.
        remarks: what is worth knowing, a sentence each.

    `moved` is how far what is predicted has moved: the Kullback-Leibler divergence in nats a token, or for a model that
    is judged by its embedding one minus the cosine.
    """

    layers: pd.DataFrame
    rounding: pd.DataFrame
    together: pd.DataFrame
    kind: str
    loss: float
    keep: int
    inputs: str
    remarks: tuple[str, ...] = ()


@needs_extra
def quantization_costs(
    model: str | Path,
    revision: str | None = None,
    *,
    probe: Probe | None = None,
    settings: Settings | None = None,
    tokenizer: Any = None,
    inputs: Any = None,
    keep: int = KEEP,
) -> Costs:
    """What quantized hidden states cost one checkpoint. Shows its progress where standard error is a terminal.

    Args:
        model: a folder, a GGUF file, or a name of the Hub.
        revision: of a model of the Hub.
        probe: the text; two sequences of at most 256 tokens by default.
        settings: dtype, device and the like.
        tokenizer: whose it is to be, by name, or itself; else the checkpoint's own.
        inputs: token ids (B, S) in place of text.
        keep: how many of the largest |h| of a sequence are kept apart, where that is done.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read.
        TextError, UsageError: the text or the ids mean nothing for it, or nothing says which token masks.
        NonFiniteError: a hidden state is not finite.

    >>> from tempfile import mkdtemp
    >>> import numpy as np
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> madyn.quantization.quantization_costs(f"{folder}/step1", inputs=np.arange(16).reshape(2, 8)).kind
    'causal'
    """
    check_range("keep", keep, 1, _MOST_KEPT)  # before anything is loaded
    subject = Subject.find(model, revision, probe or Probe(sequences=2), settings, tokenizer, inputs is not None)
    if inputs is None:
        context = subject.probe.length_for(Architecture.from_config(subject.checkpoint.config()))
        asked = subject.probe.length or min(_SHORT, context)
        found, said = subject.prepare(replace(subject.probe, length=asked))
    else:
        found, said = subject.given(inputs)
    loaded, remarks = subject.load_with_head()
    masks = getattr(subject.tokenizer, "mask_token_id", None)
    return costs_of_model(
        loaded, found.values, keep=keep, layers=subject.settings.layers, mask_token_id=masks, inputs=said,
        remarks=(*remarks, *found.remarks),
    )  # fmt: skip


def costs_of_model(
    model: Any,
    sequences: Any,
    *,
    keep: int = KEEP,
    layers: str | None = None,
    mask_token_id: int | None = None,
    inputs: str = "given token ids",
    remarks: tuple[str, ...] = (),
) -> Costs:
    """As `quantization_costs`, of a model that is in memory, with the head that predicts if it has one.

    Args:
        sequences: token ids (B, S).
        layers: the path of the list of layers in the model; found if not given.
        mask_token_id: of a model of masked tokens.

    >>> import numpy as np
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = np.arange(16).reshape(2, 8)
    >>> costs = madyn.quantization.costs_of_model(model, ids)
    >>> costs.kind, list(costs.layers.columns[:3])
    ('causal', ['stack', 'layer_in_stack', 'top1'])
    """
    import torch

    from madyn.measurement.forward import stacks_of
    from madyn.measurement.predicting import Predictions
    from madyn.quantization.judging import Variant, forwards, judge
    from madyn.quantization.schemes import FORMS, PER_TENSOR, SCHEMES, rotation_block
    from madyn.quantization.simulation import simulate

    check_range("keep", keep, 1, _MOST_KEPT)
    stacks = stacks_of(model, sequences, layers)
    predictions = Predictions(model, sequences, mask_token_id)
    variants: list[Variant] = [(scheme, form) for scheme in SCHEMES.values() for form in FORMS]
    with progress_display() as bar, torch.no_grad():
        task = bar.add_task("rounding hidden states", total=len(predictions))
        simulated = simulate(model, predictions.inputs.cpu(), stacks, keep, lambda: bar.advance(task))
        task = bar.add_task("predicting", total=forwards(predictions, stacks, variants))
        judged = judge(
            predictions, stacks, variants, (SCHEMES[PER_TENSOR], "plain"), keep, lambda: bar.advance(task)
        )  # fmt: skip
    block = rotation_block(simulated.width)
    if block != simulated.width:
        how = f"in blocks of {block}" if block > 1 else "not at all"
        said = f"rotated: the {simulated.width} features are turned {how}, as a Hadamard matrix is for powers of two"
        remarks = (*remarks, said)
    return Costs(
        _layer_table(simulated, judged, stacks),
        _rounding_table(simulated),
        _together_table(judged),
        predictions.kind,
        judged.whole,
        keep,
        inputs,
        remarks,
    )


def _layer_table(simulated: Simulated, judged: Judged, stacks: list[Stack]) -> pd.DataFrame:
    import pandas as pd

    from madyn.quantization.simulation import MEASURES, SPREADS

    bits, zeroed = MEASURES.index("effective_bits"), MEASURES.index("zeroed")
    measures = {key: values.mean(axis=0) for key, values in simulated.measures.items()}
    places = [(stack.name, number) for stack in stacks for number in range(len(stack.modules))]
    spreads = dict(zip(SPREADS, simulated.spreads.transpose(2, 0, 1), strict=True))
    return pd.DataFrame(
        {
            "stack": [name for name, _ in places],
            "layer_in_stack": [number for _, number in places],
            **{name: values.mean(axis=0) for name, values in spreads.items()},
            **{f"bits_{share}": measures[f"int8 per {share}", "plain"][:, bits] for share in _SHARES},
            **{f"zeroed_{share}": measures[f"int8 per {share}", "plain"][:, zeroed] for share in _SHARES},
            "bits_kept": measures["int8 per tensor", "kept apart"][:, bits],
            "bits_rotated": measures["int8 per tensor", "rotated"][:, bits],
            "estimated_bits": effective_bits(spreads["top1"], spreads["median"]).mean(axis=0),
            "loss": judged.layers[:, 0],
            "perplexity": perplexity(judged.layers[:, 0]),
            "moved": judged.layers[:, 1],
        },
        index=pd.RangeIndex(len(places), name="layer"),
    )


def _rounding_table(simulated: Simulated) -> pd.DataFrame:
    import pandas as pd

    from madyn.quantization.simulation import MEASURES

    parts = []
    for (scheme, form), values in simulated.measures.items():
        table = pd.DataFrame(values.mean(axis=0), columns=list(MEASURES))
        parts.append(table.assign(layer=np.arange(len(table)), scheme=scheme, form=form))
    together = pd.concat(parts).sort_values("layer", kind="stable").reset_index(drop=True)
    return together.reindex(columns=["layer", "scheme", "form", *MEASURES])


def _together_table(judged: Judged) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"scheme": scheme.name, "form": form, "loss": loss, "perplexity": float(perplexity(loss)), "moved": moved}
        for (scheme, form), (loss, moved) in judged.together.items()
    ]
    return pd.DataFrame(rows)


def perplexity(loss: Any) -> np.ndarray:
    """exp of a mean loss; infinite where that is beyond the largest number."""
    with np.errstate(over="ignore"):
        return np.exp(np.asarray(loss, float))
