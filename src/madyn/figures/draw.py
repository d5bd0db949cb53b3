"""`draw_figures`: every picture of a dataset, in parallel, and only those whose data changed.

A picture of 300 dots an inch takes a good part of a second and a dataset has hundreds, so they are shared out to
processes. A task is small: where the dataset is, which picture and what for; the process reads what it needs. Each PNG
carries a hash of what it was drawn from, so that a second run draws what changed and leaves the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import madyn
from madyn.dataset import Dataset, open_dataset, open_to_write
from madyn.dataset.files import sha256, write_bytes
from madyn.dataset.layout import FITTED_QUANTITIES, inside
from madyn.errors import MOST_WORKERS, MadynError, StorageError, UsageError, check_range
from madyn.figures.entries import Picture, on_request
from madyn.figures.png import inputs_of, png
from madyn.figures.registry import PICTURES
from madyn.figures.source import Case, Source, each_step
from madyn.processes import DiedError, Workers
from madyn.terminal import progress_display

if TYPE_CHECKING:
    from collections.abc import Iterator

    from madyn.prediction.published import ParameterPredictor

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures to draw)."""

_MOST_DPI = 2400  # a printer's; a picture of that is 600 MB in memory


@dataclass
class Drawing:
    """What `draw_figures` did.

    Attributes:
        drawn: files written, sorted.
        unchanged: files that were there already, drawn from the same data, sorted.
        left_out: why a picture could not be drawn yet, by its path in the dataset.
        failed: what went wrong, by path: these are faults, not missing data.
    """

    drawn: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<madyn Drawing: {len(self.drawn)} drawn, {len(self.unchanged)} unchanged, {len(self.left_out)} left out, "
            f"{len(self.failed)} failed\n drawn, unchanged: paths; left_out, failed: reasons by path>"
        )


class _Task(NamedTuple):
    pattern: str
    case: Case
    name: str
    inputs: str


def draw_figures(
    dataset: Dataset | str | Path,
    *,
    out: str | Path | None = None,
    models: str | Iterable[str] | None = None,
    jobs: int | None = None,
    dpi: int = 300,
    redraw: bool = False,
    only: str = "*",
    steps: bool = True,
    predictor: ParameterPredictor | None = None,
    progress: Progress | None = None,
) -> Drawing:
    """Draw every picture of a dataset that its data allows.

    Pictures that need fits are left out of a dataset that has none, those of the predictor where there are too few
    models or its packages are not installed. One picture that fails does not stop the others.

    Args:
        dataset: an open dataset, or where it is.
        out: the folder to write to, laid out as a dataset; the dataset's own by default, which one of the Hub, or one
            that comes with madyn, does not have.
        models: draw these alone, also where a picture shows several; all by default.
        jobs: processes; as many as there are processors by default. 1 draws in this one.
        dpi: dots an inch.
        redraw: also what has not changed.
        only: pictures whose path in the dataset matches this pattern, as "analysis/effects_*" or "*/ratio*"; a bare
            word, with none of *, ?, [ and /, is looked for anywhere in the path.
        steps: also the pictures of each step, which are most of the pictures there are.
        predictor: a predictor fitted to this dataset; one is fitted where it is needed and None is given.
        progress: called as pictures are done; by default a bar is shown where the output is a terminal.

    Raises:
        DatasetError: there is no such dataset.
        UsageError: `jobs` or `dpi` is less than 1, a model is unknown, or `only` matches no picture.
        StorageError: a file cannot be written; those written before it stay.
        MadynError: a process ended early.

    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> drawing = madyn.draw_figures(
    ...     data, out=mkdtemp(), models=data.models[:1], only="*/series/ratio*", jobs=1, dpi=40
    ... )
    >>> [path.name for path in drawing.drawn]
    ['ratio.png']
    """
    check_range("dpi", dpi, 1, _MOST_DPI)
    if jobs is not None:
        check_range("jobs", jobs, 1, MOST_WORKERS)
    if not isinstance(dataset, Dataset):
        dataset = open_to_write(dataset) if out is None else open_dataset(dataset)
    if out is None:
        dataset.require_own_folder()
    dataset = dataset if models is None else dataset.select(models)
    folder = Path(out) if out is not None else dataset.path
    dataset = dataset.sound()
    for model in dataset:
        for quantity in FITTED_QUANTITIES:
            dataset.has_fits(model, quantity)  # which says what is damaged; pictures of it are left out
    source = Source(dataset, predictor)
    result = Drawing()
    single: list[list[_Task]] = []
    together: list[_Task] = []  # all that need the predictor, in one process, which fits it once
    for task in _tasks(source, dpi, only, steps, result):
        if not redraw and inputs_of(folder / task.name) == task.inputs:
            result.unchanged.append(folder / task.name)
        elif PICTURES[task.pattern].derive is not None:
            together.append(task)
        else:
            single.append([task])
    if not (result.unchanged or result.left_out or together or single):
        folders = {re.sub(r"\{\w+\}", "*", str(PurePosixPath(pattern).parent)) for pattern in _wanted(steps)}
        there = ", ".join(f"{folder}/*" for folder in sorted(folders))
        raise UsageError(f"no picture's path matches {only!r}; there are {there}")
    batches = ([together] if together else []) + single  # the longest first
    with _shown(progress) as report:
        _draw_all(batches, source, folder, dpi, jobs or os.cpu_count() or 1, result, report)
    result.drawn.sort()
    result.unchanged.sort()
    return result


def _wanted(steps: bool) -> dict[str, Picture]:
    """The pictures that datasets have, with those of each step or without."""
    apart = (on_request,) if steps else (on_request, each_step)
    return {pattern: picture for pattern, picture in PICTURES.items() if picture.cases not in apart}


def _tasks(source: Source, dpi: int, only: str, steps: bool, result: Drawing) -> Iterator[_Task]:
    """Every picture whose data is there; the others go to `left_out`."""
    made_by = madyn.__version__.encode()
    only = only if set(only) & set("*?[/") else f"*{only}*"
    for pattern, picture in _wanted(steps).items():
        for case in picture.cases(source):
            name = pattern.format(**case)
            if not fnmatch(name, only):
                continue
            try:
                data = picture.data(source, **case)
            except MadynError as e:
                result.left_out[name] = str(e)
                continue
            yield _Task(pattern, case, name, sha256(made_by, str(dpi).encode(), *_parts(data)))


def _draw_all(
    batches: list[list[_Task]], source: Source, folder: Path, dpi: int, jobs: int, result: Drawing, report: Progress
) -> None:
    total, done = sum(map(len, batches)), 0

    def collect(outcomes: list[tuple[str, str, str]]) -> None:
        nonlocal done
        for kind, name, why in outcomes:
            if kind == "drawn":
                result.drawn.append(folder / name)
            else:
                (result.left_out if kind == "left out" else result.failed)[name] = why
        done += len(outcomes)
        report(done, total)

    if min(jobs, len(batches)) <= 1:
        for batch in batches:
            collect([_draw(task, source, folder, dpi) for task in batch])
        return
    path, models = str(source.dataset.path), tuple(source.dataset.models)
    given = source.given_predictor
    try:
        with Workers(min(jobs, len(batches))) as workers:
            futures = [
                workers.submit(
                    _draw_batch, batch, path, models, given if PICTURES[batch[0].pattern].derive else None, folder, dpi
                )
                for batch in batches
            ]
            for future in as_completed(futures):
                collect(future.result())
    except DiedError as e:
        raise MadynError(
            "a process that draws figures ended early: if memory ran out, use jobs=1 (--jobs 1). What is drawn stays"
        ) from e


def _draw_batch(
    batch: list[_Task], path: str, models: tuple[str, ...], predictor: ParameterPredictor | None, folder: Path, dpi: int
) -> list[tuple[str, str, str]]:
    """In a worker: draw these, and say of each (what became of it, its name, why)."""
    source = _source(path, models) if predictor is None else Source(Dataset(Path(path), models), predictor)
    return [_draw(task, source, folder, dpi) for task in batch]


@lru_cache(maxsize=1)
def _source(path: str, models: tuple[str, ...]) -> Source:
    """A worker's own view of the dataset; it keeps what it has read for its next task."""
    return Source(Dataset(Path(path), models))


def _draw(task: _Task, source: Source, folder: Path, dpi: int) -> tuple[str, str, str]:
    picture = PICTURES[task.pattern]
    try:
        figure = picture.draw(**(picture.derive or picture.data)(source, **task.case))
        write_bytes(inside(folder, folder / task.name), png(figure, dpi, task.inputs))
    except StorageError:
        raise
    except MadynError as e:
        return "left out", task.name, str(e)
    except Exception as e:  # whatever went wrong with one picture, the others are still worth having
        return "failed", task.name, f"{type(e).__name__}: {e}"
    return "drawn", task.name, ""


def _parts(value: Any) -> Iterator[bytes]:
    """The bytes that identify a picture's data, whatever it is made of."""
    import pandas as pd
    import xarray as xr

    if isinstance(value, dict):
        for key, item in value.items():
            yield repr(key).encode()
            yield from _parts(item)
    elif isinstance(value, xr.Dataset):
        yield from _parts({**value.data_vars})
    elif isinstance(value, xr.DataArray):
        yield from _parts(value.to_numpy())
        yield from _parts({str(name): coordinate.to_numpy() for name, coordinate in value.coords.items()})
    elif isinstance(value, pd.DataFrame):
        yield value.to_csv().encode()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    else:
        yield repr(value.tolist() if isinstance(value, np.ndarray) else value).encode()


@contextmanager
def _shown(progress: Progress | None) -> Iterator[Progress]:
    """The caller's own progress, else a bar where the output is a terminal, else nothing."""
    if progress is not None:
        yield progress
        return
    with progress_display() as bar:
        task = bar.add_task("drawing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
