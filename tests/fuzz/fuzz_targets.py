"""What is fuzzed: for each reader, files that it takes, and the calls that read them. A reader more is an entry more.

A call on a spoilt file must give a value or raise a MadynError of one short line. `make` writes the files into an empty
folder; `calls` gives the calls by name for one of them that has been spoilt. `rare` calls take long and are made for
one file in fifty.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import madyn
from fuzz_others import OTHERS
from madyn import terminal
from madyn.dataset import fit_files, layout, manifest
from madyn.dataset.files import write_bytes, write_json
from madyn.dataset.lab_files import CorpusRecord, read_state, write_state
from madyn.dataset.locations import locked_in, read_locations
from madyn.dataset.monitoring import Alert, MonitorRecord, read_monitor, write_monitor
from madyn.dataset.statistics import read_statistics
from madyn.dataset.training import TrainingRecord, read_record, write_record
from tiny import grow, tiny_shape

Calls = Mapping[str, Callable[[], Any]]


def _none(root: Path, file: Path) -> Calls:
    return {}


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        make: writes whole files into an empty folder; the same bytes every time.
        files: pattern below the folder of the files that are spoilt, one at a time.
        calls: (folder, the spoilt file) -> the calls by name.
        rare: likewise, made seldom.
    """

    name: str
    make: Callable[[Path], Any]
    files: str
    calls: Callable[[Path, Path], Calls]
    rare: Callable[[Path, Path], Calls] = _none


MODELS = ("pythia_14m", "m_1")
_CORPUS = {"source": "stdlib", "documents": 10, "sha256": "ab" * 32}
_STEPS = (0, 1, 2, 4, 8, 16, 64, 256, 1000, 2000, 3000)


def make_dataset(root: Path) -> Path:
    """A small dataset with a file of every kind, written as `trace`, `lab` and `fit` write them; no torch is needed."""
    if not _KEPT:
        _KEPT.append(Path(tempfile.mkdtemp(prefix="madyn-fuzz-")))
        _write_dataset(_KEPT[0])
    shutil.copytree(_KEPT[0], root, dirs_exist_ok=True)
    return root


_KEPT: list[Path] = []


def remove_kept() -> None:
    while _KEPT:
        shutil.rmtree(_KEPT.pop(), ignore_errors=True)


def _write_dataset(root: Path) -> None:
    from madyn.sweep.units import write_measured

    rng = np.random.default_rng(0)
    manifest.claim_probe(root, manifest.ProbeRecord(text="stdlib", sha256="ab" * 32, documents=10, seed=7))
    shape = tiny_shape()
    tokens = np.arange(2 * 8).reshape(2, 8)
    for model in MODELS:
        for step in _STEPS:
            ratio = np.array([grow(np.array(step), 1e-3, 50.0, 4.0 + layer, 2.0, 20.0) for layer in range(2)])
            ratio = ratio * (1 + 0.02 * rng.standard_normal((2, 2)))  # sequence, layer
            statistics = np.stack([ratio, 0.7 * ratio, 0.6 * ratio, 1 + 0.001 * ratio], axis=1)
            result: Any = SimpleNamespace(
                statistics=statistics,
                groups={"first": statistics * 2, "rest": statistics / 2},
                positions=np.zeros((2, 3, 2), int) + 1,
                features=np.arange(12).reshape(2, 3, 2),
            )
            unit = manifest.Unit(
                model=model, step=step, source="a folder", revision=f"step{step}", weights_xxh3=f"{step:016x}",
                sequences=2, length=8, first_token="text", tokens_sha256="cd" * 32, dtype="float32", device="cpu",
                threads=1, batch_size=1, stacks={"layers": 2}, parameters=1000, architecture=shape.to_dict(),
                versions={"python": "3.12"},
            )  # fmt: skip
            write_measured(root, unit, result, tokens)
        recipe = {"steps": 3000, "learning_rate": 1e-2, "batch_size": 16, "length": 8}
        losses = {step: {"train": None if step == 0 else 3.0, "held_out": 4 - step / 3000} for step in _STEPS}
        record = TrainingRecord(
            plan={"suite": "s", "recipe": recipe, "seed": 0, "text": {"source": "stdlib"}},
            parameters=1000,
            losses=losses,
            complete=True,
        )
        write_record(root, model, record)
        write_monitor(root, _monitored(model))
        write_state(layout.state_path(root, model), record.run_sha256, 3000, b"the weights and the like" * 20)
    tokens = io.BytesIO()
    np.save(tokens, np.arange(200, dtype=np.int32))
    write_bytes(layout.tokens_path(root), tokens.getvalue())
    corpus = CorpusRecord(_CORPUS, hashlib.sha256(tokens.getvalue()).hexdigest())
    write_json(layout.lab_folder(root) / "corpus.json", asdict(corpus))
    madyn.fit_dataset(root)


def _monitored(model: str) -> MonitorRecord:
    since, until = "2026-11-26T18:00:00+00:00", "2026-11-26T18:40:00+00:00"
    massive = Alert(step=2000, kind="massive", layer=1, message="layer 1 turned massive", time=until)
    failed = Alert(step=3000, kind="not_measured", message="the disk is full", time=until)
    return MonitorRecord(
        model=model, every="log2+1000", inputs="2 sequences of 8 tokens", last_step=4000, step=3000, started=since,
        updated=until, measuring_seconds=12.5, alerts=[massive, failed],
    )  # fmt: skip


def _model_of(root: Path, file: Path) -> str:
    parts = {*file.relative_to(root).parts, file.stem}
    return next((model for model in MODELS if model in parts), MODELS[0])


def _opened(root: Path) -> madyn.dataset.Dataset:
    return madyn.open_dataset(root)


def _check(root: Path) -> Any:
    report = madyn.checking.check_dataset(root)
    for said in (*report.faults, *report.absences, *report.remarks):
        hold_line(said)
    return report


def hold_line(said: str) -> None:
    """What is said of a file is one short line."""
    if len(said) > 600 or "\n" in said or "\r" in said or "\x1b" in said:
        raise AssertionError(f"a line of {len(said)} characters: {said[:200]!r}")


def _contents(root: Path) -> None:
    from madyn.summaries import dataset_contents

    for one in dataset_contents(_opened(root))["models"]:
        for said in one["missing"]:
            hold_line(said)


def _statistics_calls(root: Path, file: Path) -> Calls:
    model = _model_of(root, file)
    return {
        "read": lambda: read_statistics(file),
        "trajectories": lambda: _opened(root).trajectories(model, "ratio"),
        "massive": lambda: _opened(root).massive(model),
        "spread": lambda: _opened(root).sequence_spread(model),
        "check": lambda: _check(root),
    }


def _manifest_calls(root: Path, file: Path) -> Calls:
    model = _model_of(root, file)
    return {
        "units": lambda: _opened(root).units(model),
        "architecture": lambda: _opened(root).architecture(model),
        "parameters": lambda: _opened(root).parameter_count(model),
        "massive": lambda: _opened(root).massive(model),
        "check": lambda: _check(root),
        "show": lambda: _contents(root),
    }


def _probe_calls(root: Path, file: Path) -> Calls:
    other = manifest.ProbeRecord(text="stdlib", sha256="ab" * 32, documents=10, seed=7)
    return {
        "read": lambda: manifest.read_probe(root),
        "refuse": lambda: manifest.refuse_other_probe(root, other),
        "check": lambda: _check(root),
    }


def _location_calls(root: Path, file: Path) -> Calls:
    model = _model_of(root, file)
    return {
        "read": lambda: locked_in(read_locations(_opened(root), model)),
        "check": lambda: _check(root),
    }


def _training_calls(root: Path, file: Path) -> Calls:
    from madyn.prediction.inputs import training_of
    from madyn.prediction.table import curve_table

    model = _model_of(root, file)
    return {
        "record": lambda: _opened(root).training(model),
        "training": lambda: training_of(_opened(root), model),
        "table": lambda: curve_table(_opened(root)),
        "check": lambda: _check(root),
        "show": lambda: _contents(root),
    }


def _monitor_calls(root: Path, file: Path) -> Calls:
    return {"read": lambda: read_monitor(root, file.stem), "check": lambda: _check(root)}


def _fit_calls(root: Path, file: Path) -> Calls:
    from madyn.summaries import fit_tables

    model = _model_of(root, file)
    return {
        **{q: functools.partial(lambda q: _opened(root).fits(model, q), q) for q in layout.FITTED_QUANTITIES},
        "tables": lambda: fit_tables(_opened(root)),
        "check": lambda: _check(root),
    }


def _table_calls(root: Path, file: Path) -> Calls:
    (root / "manifest" / MODELS[1]).rename(root / "manifest.away")  # so that the table alone knows its shape
    try:
        shape = {"architecture": _kept_result(lambda: _opened(root).architecture(MODELS[1]))}
    finally:
        (root / "manifest.away").rename(root / "manifest" / MODELS[1])
    return {
        "table": lambda: _opened(root).parameters,
        "rows": lambda: fit_files.read_table_rows(root),
        **shape,
        "check": lambda: _check(root),
    }


def _kept_result(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call made now, and what came of it when it is asked for."""
    try:
        value = call()
    except BaseException as e:
        error = e

        def fail() -> Any:
            raise error

        return fail
    return lambda: value


def _corpus_calls(root: Path, file: Path) -> Calls:
    from madyn.lab.corpora import _known_corpus, _refuse_other_text

    return {"corpus": lambda: _refuse_other_text(root, _known_corpus(file), dict(_CORPUS))}


def _state_calls(root: Path, file: Path) -> Calls:
    record = read_record(root, file.stem)
    assert record is not None
    return {"state": lambda: read_state(file, record.run_sha256, 10_000), "check": lambda: _check(root)}


def _whole(root: Path, file: Path) -> Calls:
    """What takes long: commands over the whole dataset."""
    from madyn.effects import model_responses

    def run_command(*arguments: str) -> None:
        import sys

        from madyn import cli

        said = io.StringIO()
        given, sys.argv = sys.argv, ["madyn", *arguments]
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                cli.main()
        except SystemExit as e:
            if e.code not in (0, 1, 2, None):
                raise AssertionError(f"exit code {e.code}: {said.getvalue()[-300:]}") from e
        finally:
            sys.argv = given
            terminal.set_voice(quiet=True)  # which the command has set anew
        if "Traceback" in said.getvalue():
            raise AssertionError(said.getvalue()[-300:])

    return {
        "show": lambda: run_command("show", str(root)),
        "show --json": lambda: run_command("show", str(root), "--json"),
        "check": lambda: run_command("check", str(root)),
        "responses": lambda: model_responses(_opened(root)),
        "compare": lambda: madyn.compare(_opened(root), hypotheses=["step1"]),
        "fit": lambda: madyn.fit_dataset(root, hypotheses=["step1"]),
    }


def _of_dataset(name: str, files: str, calls: Callable[[Path, Path], Calls]) -> Target:
    return Target(name, make_dataset, files, calls, _whole)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _of_dataset("statistics", "*/stats/*", _statistics_calls),
        _of_dataset("params", "*/params/*.json", _fit_calls),
        _of_dataset("table", "*.csv", _table_calls),
        _of_dataset("manifest", "manifest/*/*.json", _manifest_calls),
        _of_dataset("probe", "manifest/probe.json", _probe_calls),
        _of_dataset("locations", "locations/*/*.json", _location_calls),
        _of_dataset("positions", "positions/*/*.json", _location_calls),
        _of_dataset("training", "training/*.json", _training_calls),
        _of_dataset("monitor", "monitor/*.json", _monitor_calls),
        _of_dataset("corpus", ".lab/*.json", _corpus_calls),
        *(Target(name, make, files, calls, rare or _none) for name, make, files, calls, rare in OTHERS),
        _of_dataset("state", ".lab/*.pt", _state_calls),
    )
}
"""Every target by name."""
