"""When a model begins to depend on a massive activation: the same experiment at every checkpoint of a run.

The places are those of the last checkpoint, so that one value is followed back through training. Each checkpoint's
outcome is a file of its own, written when it is done: a study that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import layout
from madyn.dataset.files import is_there, root_path, write_json
from madyn.dataset.schema import read_as
from madyn.errors import ArchitectureError, CheckpointError, MadynError, UsageError, one_line
from madyn.settings import Probe, Settings
from madyn.terminal import few

if TYPE_CHECKING:
    import pandas as pd

    from madyn.checkpoints import Checkpoint
    from madyn.sweep.planning import Steps

_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Site:
    """What a study follows: places behind a layer, chosen at its last step, and what it was asked.

    Attributes:
        positions, features: B x n.
        sequences_sha256: of the token ids.
    """

    layer: int
    positions: list[list[int]]
    features: list[list[int]]
    settings: list[str]
    chosen_at: int
    sequences_sha256: str


@dataclass(frozen=True)
class StepEffects:
    """What one checkpoint showed.

    Attributes:
        effects: records with the columns of `Effects.table`.
        value, ratio: the mean |h| at the places, and over the median of its sequence.
        largest_ratio: of any layer, a mean over the sequences.
        sink: the share of attention that goes to the places' positions, of the layer where it is largest, a mean over
            heads; None where the model gives no attention weights.
        writer: which block adds most to the coordinate ("layer 1 mlp") and its share of the value there; None where the
            places differ between sequences or the blocks cannot be followed.
        failure: why there is nothing else.
    """

    step: int
    effects: list[dict[str, Any]] = field(default_factory=list)
    value: float | None = None
    ratio: float | None = None
    largest_ratio: float | None = None
    sink: float | None = None
    writer: str | None = None
    writer_share: float | None = None
    failure: str | None = None


def follow_effects(
    model: str | Path,
    out: str | Path,
    *,
    steps: Steps = "all",
    settings: Sequence[str | float] = ("zero", "mean"),
    layer: int | str = "auto",
    top: int = 1,
    positions: str = "all",
    controls: bool = True,
    probe: Probe | None = None,
    how: Settings | None = None,
    tokenizer: Any = None,
    revisions: str | None = None,
    advance: Callable[[int, int, int], None] = lambda step, done, total: None,
) -> pd.DataFrame:
    """Run `measure_effects` at checkpoints of a run, on the places that are massive at the last of them.

    Args:
        model: a folder of checkpoints, or a model of the Hub with its revisions.
        out: a dataset's folder: a checkpoint's outcome goes to `intervention/MODEL/stepN.json` in it, and those that
            are there are not measured again.
        steps: as in `madyn.trace`: "all", "0,1,2", numbers.
        settings: as in `measure_effects`.
        layer: as there, at the last step.
        top: as there, at the last step.
        positions: as there, at the last step.
        controls: as there.
        probe: as in `madyn.sweep.scan_checkpoint`.
        how: as in `madyn.sweep.scan_checkpoint`.
        tokenizer: as in `madyn.sweep.scan_checkpoint`.
        revisions: a regular expression for names of checkpoints, as in `madyn.trace`.
        advance: called with a step that is done, how many are, and how many there are.

    Returns:
        what `read_study` gives.

    Raises:
        CheckpointError: there are no such checkpoints, or the last of them cannot be read.
        UsageError: nothing is massive at the last step and no layer was named; or the folder holds another study.
        StorageError: the outcome cannot be written.

    >>> from tempfile import mkdtemp
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> from madyn.lab.tokenizer import train_tokenizer
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> tokenizer = train_tokenizer(["to be or not to be, that is the question"] * 50, 300)
    >>> followed = madyn.intervention.follow_effects(
    ...     folder,
    ...     folder + "-studied",
    ...     layer=1,
    ...     settings=["zero"],
    ...     controls=False,
    ...     probe=madyn.sweep.Probe("stdlib", documents=2, sequences=2, length=8),
    ...     tokenizer=tokenizer,
    ... )
    >>> list(followed.columns[:3])
    ['set', 'kind', 'values']
    >>> len(madyn.intervention.read_study(folder + "-studied", "run")) == len(followed)
    True
    """
    from madyn.checkpoints import find_checkpoints
    from madyn.sweep.planning import choose_steps

    how = how or Settings()
    found = find_checkpoints(model, trust_remote_code=how.trust_remote_code, revisions=revisions, form=how.weights)
    wanted = sorted(set(choose_steps(steps, found)))
    missing = [step for step in wanted if step not in found.by_step]
    if missing:
        raise CheckpointError(f"{model}: no checkpoint of step {missing[0]}; it has {few(map(str, found.by_step))}")
    root, name = root_path(out), layout.directory_name(found.name)
    ids, reader = _sequences(found.by_step[wanted[-1]], probe or Probe(sequences=4, documents=50), tokenizer, how)
    asked = {"settings": settings, "top": top, "positions": positions, "layer": layer, "controls": controls}
    site = _site(root, name, found.by_step[wanted[-1]], wanted[-1], ids, reader, how, asked)
    for number, step in enumerate(wanted, 1):
        path = layout.study_path(root, name, step)
        if not is_there(path) or read_step(path).failure:
            write_json(path, asdict(_measured(found.by_step[step], step, site, ids, reader, how, controls)))
        advance(step, number, len(wanted))
    return read_study(root, name)


def _sequences(checkpoint: Checkpoint, probe: Probe, tokenizer: Any, how: Settings) -> tuple[np.ndarray, Any]:
    from madyn.sweep.inputs import named_tokenizer
    from madyn.sweep.subjects import Subject

    reader = named_tokenizer(tokenizer, trust_remote_code=how.trust_remote_code) or checkpoint.tokenizer()
    return Subject(checkpoint, probe, how, reader).prepare(probe)[0].values, reader


def _site(
    root: Path, name: str, last: Checkpoint, step: int, ids: np.ndarray, reader: Any, how: Settings, asked: Any
) -> Site:
    """The places to follow: those of the folder's study, or of the last step."""
    from madyn.intervention.editing import Setting
    from madyn.intervention.experiment import measure_effects

    path = layout.study_path(root, name, None)
    digest = hashlib.sha256(np.ascontiguousarray(ids, dtype=np.int64).tobytes()).hexdigest()
    settings = [str(Setting.read(one)) for one in asked["settings"]]
    if is_there(path):
        known = read_as(path, Site, _MOST_BYTES)
        if known.sequences_sha256 != digest or known.settings != settings:
            raise UsageError(f"{path.parent} holds a study of other sequences or settings; use another --out")
        return known
    effects = measure_effects(
        _load(last, how), ids, settings, layer=asked["layer"], top=asked["top"], positions=asked["positions"],
        controls=False, tokenizer=reader, layers=how.layers,
    )  # fmt: skip
    places = [effects.places[column].to_numpy().reshape(len(ids), -1).tolist() for column in ("position", "feature")]
    site = Site(effects.layer, places[0], places[1], settings, step, digest)
    write_json(path, asdict(site))
    return site


def _load(checkpoint: Checkpoint, how: Settings) -> Any:
    from madyn.sweep.subjects import Subject

    return Subject(checkpoint, Probe(), how, None).load_with_head()[0]


def _measured(
    checkpoint: Checkpoint, step: int, site: Site, ids: np.ndarray, reader: Any, how: Settings, controls: bool
) -> StepEffects:
    from madyn.intervention.experiment import UNTOUCHED, measure_effects

    try:
        model = _load(checkpoint, how)
        effects = measure_effects(
            model, ids, site.settings, layer=site.layer, controls=controls, tokenizer=reader, layers=how.layers,
            at=(site.positions, site.features),
        )  # fmt: skip
        by_layer: Any = effects.by_layer
        places: Any = effects.places
        writer, share = _writer(model, ids, site, float(places["value"].mean()), how)
        return StepEffects(
            step,
            effects=[{str(k): _plain(v) for k, v in row.items()} for row in effects.table.to_dict("records")],
            value=float(places["value"].abs().mean()),
            ratio=float(places["ratio"].mean()),
            largest_ratio=float(by_layer.loc[by_layer["set"] == UNTOUCHED, "ratio"].max()),
            sink=_sink(model, ids, site, how),
            writer=writer,
            writer_share=share,
        )
    except MadynError as e:  # one checkpoint must not cost the others
        return StepEffects(step, failure=one_line(e))


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, float) and np.isfinite(value) else None if value != value else value


def _one_place(site: Site) -> tuple[int, int] | None:
    """Position and feature, where they are one and the same in all sequences."""
    places = {(p, f) for row in zip(site.positions, site.features, strict=True) for p, f in zip(*row, strict=True)}
    return places.pop() if len(places) == 1 else None


def _sink(model: Any, ids: np.ndarray, site: Site, how: Settings) -> float | None:
    from madyn.intervention.attention import attention_shares

    positions = sorted({p for row in site.positions for p in row if p < ids.shape[1] - 1})
    try:
        shares: Any = attention_shares(model, ids, positions, layers=how.layers)
    except (ArchitectureError, UsageError):
        return None
    return float(shares.groupby(["layer", "head"])["share"].sum().groupby("layer").mean().max())


def _writer(model: Any, ids: np.ndarray, site: Site, total: float, how: Settings) -> tuple[str | None, float | None]:
    """The block that adds most to the coordinate up to the layer of the places, and its share of the value there."""
    from madyn.intervention.decomposition import decompose

    place = _one_place(site)
    if place is None:
        return None, None
    try:
        parts: Any = decompose(model, ids, *place, layers=how.layers)
    except ArchitectureError:
        return None, None
    parts = parts[parts["layer"] <= site.layer]
    means = parts.groupby(["layer", "part"], sort=False)["value"].mean()
    if total == 0:
        return None, None
    layer, part = (means / total).idxmax()
    return (part if layer < 0 else f"layer {layer} {part}"), float(means[layer, part] / total)


def read_step(path: Path) -> StepEffects:
    """One checkpoint's outcome. Raises DatasetError where the file is none."""
    return read_as(path, StepEffects, _MOST_BYTES)


def read_study(root: str | Path, model: str) -> pd.DataFrame:
    """A study as a table.

    Returns:
        a row a step, setting and kind of values, ascending: `step`, the columns of `Effects.table`, and of the step
        `value`, `ratio`, `largest_ratio`, `sink`, `writer`, `writer_share` and `failure`. `attrs` has `layer`,
        `positions` and `features` (those of the first sequence) and `chosen_at`, the step that they were chosen at.

    Raises:
        DatasetError: there is no such study, or a file of it is malformed.

    >>> from tempfile import mkdtemp
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> from madyn.lab.tokenizer import train_tokenizer
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> folder = mkdtemp() + "/run"
    >>> for step in (0, 1):
    ...     LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape)).save_pretrained(f"{folder}/step{step}")
    >>> tokenizer = train_tokenizer(["to be or not to be, that is the question"] * 50, 300)
    >>> followed = madyn.intervention.follow_effects(
    ...     folder,
    ...     folder + "-studied",
    ...     layer=1,
    ...     settings=["zero"],
    ...     controls=False,
    ...     probe=madyn.sweep.Probe("stdlib", documents=2, sequences=2, length=8),
    ...     tokenizer=tokenizer,
    ... )
    >>> len(madyn.intervention.read_study(folder + "-studied", "run")) == len(followed)
    True
    """
    import pandas as pd

    folder = root_path(root)
    site = read_as(layout.study_path(folder, model, None), Site, _MOST_BYTES)
    rows: list[dict[str, Any]] = []
    for path in layout.study_files(folder, model).values():
        found = asdict(read_step(path))
        effects = found.pop("effects")
        rows += [{**one, **found} for one in effects] or [found]
    table = pd.DataFrame(rows)
    table.attrs.update(
        layer=site.layer, positions=site.positions[0], features=site.features[0], chosen_at=site.chosen_at
    )
    return table
