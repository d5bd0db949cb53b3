"""What a model predicts with some of its values replaced, beside as many other values replaced in the same way.

The method is that of Sun et al. 2024 (arXiv 2402.17762, section 3.2): values that are massive are set to zero, or to
their mean, where they arise, and the loss is held against the untouched model's; what the same does to values that are
not massive tells how much of it is due to their size. Everything is done in one load of the model and, for each
sequence, one whole forward: what comes before the changed layer is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.errors import UsageError, listed
from madyn.intervention.places import (
    MASSIVE,
    Places,
    choose_layer,
    choose_places,
    control_places,
    place_table,
    places_at,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from madyn.intervention.editing import Setting
    from madyn.measurement.layers import Stack
    from madyn.measurement.predicting import Reading

UNTOUCHED = "untouched"
_RESAMPLES = 4000


@dataclass(frozen=True)
class Effects:
    """What came of an experiment.

    Attributes:
        table: a row for the untouched model, and one a setting and kind of values (`massive`, or a control): `values`,
            how many are changed in each sequence; `loss` in nats a token and `perplexity`, with 95 % intervals
            (`loss_low`, ...); `change` of the loss against the untouched model, a mean of paired differences, with its
            interval; `divergence`, KL(untouched || changed) in nats a token. Of an encoder without a head there is no
            loss, and `divergence` is one minus the cosine between its embeddings. What is not finite is given as it is.
        by_layer: top1, median and ratio (means over the sequences) behind every layer from the changed one on, for the
            untouched model and each setting and kind.
        by_position: the mean loss at every position, for the untouched model and for each setting of massive values.
        places: the massive values that are changed, a row each.
        layer: behind which values are changed.
        kind: how the model is judged: "causal", "masked" or "embedding".
        sequences, length: what it was judged on.
        remarks: what is worth knowing, a sentence each.
    """

    table: pd.DataFrame
    by_layer: pd.DataFrame
    by_position: pd.DataFrame
    places: pd.DataFrame
    layer: int
    kind: str
    sequences: int
    length: int
    remarks: list[str] = field(default_factory=list)


def measure_effects(
    model: nn.Module,
    sequences: Any,
    settings: Sequence[str | float] = ("zero", "mean"),
    *,
    layer: int | str = "auto",
    top: int = 1,
    positions: str = "all",
    controls: bool = True,
    tokenizer: Any = None,
    layers: str | None = None,
    seed: int = 0,
    at: tuple[Any, Any] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Effects:
    """Replace massive values where they arise and see what becomes of the model's predictions.

    Args:
        model: with its head, if it has one (`AutoModelForCausalLM`, `AutoModelForMaskedLM`); as `madyn.measure` takes
            it otherwise.
        sequences: token ids (B, S) to judge it on. "mean" needs at least two, and intervals do.
        settings: what values are replaced by, as `madyn.intervene` takes it: "zero", "mean", "scale:0.5", "clip:100",
            a number. The mean is that over the sequences of the values of the same rank.
        layer: behind which, counted from 0; "auto" where the largest |h| grows most.
        top: how many of the largest values of each sequence.
        positions: at which they may stand: "all", "first" (position 0) or "delimiters" (punctuation and white space,
            told by the tokenizer).
        controls: whether as many other values are changed too: random ones, ones of median size, the next largest at
            the same positions, the same features elsewhere.
        tokenizer: shows tokens as text, tells delimiters, and gives the mask token of a masked model.
        layers: the path of the list of layers in the model; found if not given.
        seed: of the random controls and of the bootstrap.
        at: with a layer by its number: the positions and features to change, each of shape (B, n), in place of the
            largest values; what stands there is then what the table calls massive, whatever it is.
        advance: called with the forwards done and how many there are in all.

    Raises:
        UsageError: nothing is massive and no layer was named; a layer, setting or kind of position means nothing; or
            the sequences are too short or too few.
        ArchitectureError, NonFiniteError: as `madyn.measure` raises them.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> effects = madyn.intervention.measure_effects(model, ids, settings=["zero"], layer=0, controls=False)
    >>> effects.layer, list(effects.table.columns[:3])
    (0, ['set', 'kind', 'values'])
    """
    return _Experiment(model, sequences, layers, tokenizer).run(
        settings, layer, top, positions, controls, seed, at, advance
    )


class _Experiment:
    """A model and the sequences that it is judged on."""

    def __init__(self, model: nn.Module, sequences: Any, layers: str | None, tokenizer: Any) -> None:
        from madyn.measurement.forward import measure_with_locations, stacks_of
        from madyn.measurement.predicting import Predictions

        self.model, self.tokenizer, self.layers = model, tokenizer, layers
        self.predictions = Predictions(model, sequences, getattr(tokenizer, "mask_token_id", None))
        self.ids = self.predictions.inputs.cpu().numpy()
        self.measured = measure_with_locations(model, self.ids, 1, layers=layers, tails=True)
        self.stacks = stacks_of(model, self.ids, layers)

    def run(
        self,
        given: Sequence[str | float],
        layer: int | str,
        top: int,
        positions: str,
        controls: bool,
        seed: int,
        at: tuple[Any, Any] | None,
        advance: Callable[[int, int], None],
    ) -> Effects:
        import pandas as pd

        from madyn.intervention.editing import Setting, find_layer, hidden_states_behind
        from madyn.measurement.forward import evaluating, part_to_run
        from madyn.measurement.wrapping import unwrap

        settings = list(dict.fromkeys(Setting.read(one) for one in listed("settings", given)))
        if len(self.ids) < 2 and any(setting.kind == "mean" for setting in settings):
            raise UsageError('one sequence has no mean to set its values to; give two or more, or leave out "mean"')
        number = choose_layer(self.measured, layer)
        stack, number_in_stack = find_layer(self.stacks, number)
        module, first = stack.modules[number_in_stack], number - number_in_stack
        hidden = hidden_states_behind(self.model, module, stack, self.ids)
        if at is None:
            massive = choose_places(hidden, top, positions, self._is_delimiter if positions == "delimiters" else None)
        else:
            massive = places_at(hidden, *at)
        top = massive.positions.shape[1]
        groups = {MASSIVE: massive, **(dict(control_places(hidden, massive, seed)) if controls else {})}
        arms = [(setting, kind, places) for setting in settings for kind, places in groups.items()]
        total, done = len(self.ids) * (1 + len(arms)), 0
        read: dict[tuple[str, str], list[_Run]] = {}
        with evaluating(part_to_run(unwrap(self.model))):
            for sequence in range(len(self.ids)):
                with _recorded(stack, module) as outputs:
                    before, own = self._read(sequence, stack, nullcontext())
                read.setdefault((UNTOUCHED, ""), []).append(_Run(own, before, before))
                done += 1
                advance(done, total)
                for setting, kind, places in arms:
                    edit = _edited(stack, module, setting, places, sequence)
                    with _resumed(stack, module, outputs):
                        after, own = self._read(sequence, stack, edit)
                    read.setdefault((str(setting), kind), []).append(_Run(own, before, after))
                    done += 1
                    advance(done, total)
        names = list(read)
        losses = {name: [run.losses for run in runs] for name, runs in read.items()}
        return Effects(
            table=pd.DataFrame([_row(name, read, top, seed) for name in names]),
            by_layer=pd.concat([_layers_of(name, read[name], number, first) for name in names], ignore_index=True),
            by_position=_by_position(read, losses),
            places=place_table(massive, number, self.measured.statistics[:, -1, number], self.ids, self.tokenizer),
            layer=number,
            kind=self.predictions.kind,
            sequences=len(self.ids),
            length=self.ids.shape[1],
            remarks=self._remarks(read),
        )

    def _read(self, sequence: int, stack: Stack, edit: Any) -> tuple[Reading, np.ndarray]:
        """What is predicted on a sequence, and top1 and median behind every layer of a stack, shape (L, 2)."""
        from madyn.intervention.editing import hidden_of
        from madyn.measurement.order_statistics import order_statistics

        found: list[Any] = []

        def reduce(module: Any, inputs: Any, output: Any) -> None:
            found.append(order_statistics(hidden_of(stack, output, module)[0].contiguous(), 1)[0].double())

        with edit, ExitStack() as hooks:  # the edit's hook comes first: what is measured is what is handed on
            for module in dict.fromkeys(stack.modules):
                hooks.callback(module.register_forward_hook(reduce).remove)
            reading = self.predictions.read(sequence)
        return reading, np.stack([one.cpu().numpy() for one in found])

    def _is_delimiter(self, sequence: int, position: int) -> bool:
        if self.tokenizer is None:
            raise UsageError("delimiters are told by their text, which needs a tokenizer")
        text = self.tokenizer.decode([int(self.ids[sequence, position])])
        return not any(character.isalnum() for character in text)

    def _remarks(self, read: dict[tuple[str, str], list[_Run]]) -> list[str]:
        found = []
        if len(self.ids) < 2:
            found.append("one sequence gives no interval")
        if self.predictions.kind == "masked":
            found.append("an encoder is judged by its loss at every seventh token, which is masked for it")
        if self.predictions.kind == "embedding":
            found.append(
                "this encoder has no head that predicts tokens: it is judged by how far its embedding moves, one minus "
                "the cosine between the mean of its last hidden states before and after"
            )
        broken = [f"{name[1] or name[0]} at {name[0]}" for name, runs in read.items() if not _finite(runs)]
        if broken:
            found.append(f"predictions that are no longer finite: {', '.join(broken)}")
        return found


class _Run:
    """One forward of one sequence: the losses, how far they are from the untouched model, and what the layers hold."""

    def __init__(self, layers: np.ndarray, before: Reading, after: Reading) -> None:
        from madyn.measurement.predicting import divergence

        self.layers, self.positions, self.losses = layers, after.positions, after.losses
        self.divergence = 0.0 if after is before else divergence(before, after)


def _finite(runs: list[_Run]) -> bool:
    return all(np.isfinite(run.losses).all() and np.isfinite(run.divergence) for run in runs)


@contextmanager
def _recorded(stack: Stack, module: Any) -> Any:
    """What the layer hands on in one forward; nothing where a forward cannot be resumed behind it."""
    from madyn.measurement.resuming import can_resume, recording

    with recording(module) if can_resume(stack.modules) else nullcontext([]) as outputs:
        yield outputs


@contextmanager
def _resumed(stack: Stack, module: Any, outputs: list[Any]) -> Any:
    from madyn.measurement.resuming import resumed_behind

    with resumed_behind(stack.modules, stack.modules.index(module), outputs[-1]) if outputs else nullcontext():
        yield


@contextmanager
def _edited(stack: Stack, module: Any, setting: Setting, places: Places, sequence: int) -> Any:
    """The values of one sequence replaced."""
    import torch

    from madyn.intervention.editing import hidden_of

    def replace(module: Any, inputs: Any, output: Any) -> None:
        hidden = hidden_of(stack, output, module)
        at = (
            torch.as_tensor(places.positions[sequence], device=hidden.device),
            torch.as_tensor(places.features[sequence], device=hidden.device),
        )
        means = torch.as_tensor(places.means, device=hidden.device)
        hidden[0][at] = setting.replace(hidden[0][at], means)

    handle = module.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _row(name: tuple[str, str], read: dict[tuple[str, str], list[_Run]], top: int, seed: int) -> dict[str, Any]:
    runs, base = read[name], read[UNTOUCHED, ""]
    loss = np.array([run.losses.mean() if run.losses.size else np.nan for run in runs])
    before = np.array([run.losses.mean() if run.losses.size else np.nan for run in base])
    row: dict[str, Any] = {"set": name[0], "kind": name[1], "values": 0 if name[0] == UNTOUCHED else top}
    mean, low, high = _interval(loss, seed)
    with np.errstate(over="ignore"):
        row |= {"loss": mean, "loss_low": low, "loss_high": high}
        row |= {"perplexity": np.exp(mean), "perplexity_low": np.exp(low), "perplexity_high": np.exp(high)}
    with np.errstate(invalid="ignore"):
        change = loss - before
    row |= dict(zip(("change", "change_low", "change_high"), _interval(change, seed), strict=True))
    moved = _interval(np.array([run.divergence for run in runs]), seed)
    return row | dict(zip(("divergence", "divergence_low", "divergence_high"), moved, strict=True))


def _interval(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Mean over the sequences, and the 95 % interval of a bootstrap over them; one sequence has none."""
    if len(values) < 2 or not np.isfinite(values).all():
        return float(np.mean(values)), np.nan, np.nan
    draws = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def _layers_of(name: tuple[str, str], runs: list[_Run], layer: int, first: int) -> Any:
    import pandas as pd

    stack = np.stack([run.layers for run in runs])  # (B, L, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = stack[:, :, 0] / stack[:, :, 1]
    frame = pd.DataFrame(
        {
            "set": name[0],
            "kind": name[1],
            "layer": first + np.arange(stack.shape[1]),
            "top1": stack[:, :, 0].mean(axis=0),
            "median": stack[:, :, 1].mean(axis=0),
            "ratio": ratio.mean(axis=0),
        }
    )
    return frame if name[0] == UNTOUCHED else frame.loc[frame["layer"] >= layer]


def _by_position(read: dict[tuple[str, str], list[_Run]], losses: dict[tuple[str, str], list[np.ndarray]]) -> Any:
    import pandas as pd

    shown = [name for name in read if name[1] in ("", MASSIVE) and losses[name][0].size]
    columns = {name[0]: np.mean(losses[name], axis=0) for name in shown}
    positions = read[UNTOUCHED, ""][0].positions
    return pd.DataFrame({"position": positions, **columns}) if columns else pd.DataFrame({"position": positions})
