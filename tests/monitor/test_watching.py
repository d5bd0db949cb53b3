"""`madyn watch`: what is seen of a dataset while it is written, on terminals of every size, in a pipe and as JSON."""

import fcntl
import http.server
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

import madyn
from fuzz_targets import MODELS, make_dataset, remove_kept
from madyn.dataset import layout, manifest
from madyn.dataset.locations import locked_in, read_locations
from madyn.dataset.monitoring import Alert, MonitorRecord, read_monitor, write_monitor
from madyn.dataset.statistics import write_statistics
from madyn.errors import DatasetError, UsageError
from madyn.monitor.watching import Watcher
from madyn.summaries.pages import Page
from madyn.summaries.sparklines import sparkline
from madyn.summaries.watch_records import changes, watch_record
from madyn.summaries.watching import watch_lines
from tiny import write_dataset

A, B = MODELS
NOW = datetime(2026, 11, 26, 18, 0, tzinfo=UTC)
NOW_SECONDS = NOW.timestamp()


@pytest.fixture(scope="module", autouse=True)
def kept_samples():
    yield
    remove_kept()


@pytest.fixture
def root(tmp_path):
    """Two models with manifests, locations and a monitor's record each."""
    return make_dataset(tmp_path / "data")


@pytest.fixture(scope="module")
def tiny_suite_model(tmp_path_factory):
    """A model of tiny-suite up to step 1200, as if it were on its way, with a monitor that says so."""
    source, root = madyn.open_dataset("tiny-suite"), tmp_path_factory.mktemp("suite") / "run"
    model = "neox_4x96_h3_m288_s0" if "neox_4x96_h3_m288_s0" in source.models else source.models[0]
    for step in (step for step in source.steps(model) if step <= 1200):
        for path in (layout.statistics_path, layout.manifest_path, layout.locations_path):
            there, here = path(source.path, model, step), path(root, model, step)
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there, here)
    write_monitor(root, record(model, step=1200, last_step=3000))
    return root, model


def written(root: Any, model: str) -> MonitorRecord:
    found = read_monitor(root, model)
    assert found is not None
    return found


def record(model: str = "m", **changes: Any) -> MonitorRecord:
    values: dict[str, Any] = {
        "every": "log2+1000",
        "inputs": "4 sequences of 8 tokens",
        "started": stamp(-600),
        "updated": stamp(0),
    }
    return MonitorRecord(model=model, **{**values, "measuring_seconds": 3.0, **changes})


def stamp(seconds):
    return (NOW + timedelta(seconds=seconds)).isoformat()


def write_step(root, step, model="m", layers=3, ratio=10.0):
    top1 = ratio * (1 + np.arange(layers)) * np.ones((2, layers))
    values = np.stack([top1, 0.5 * top1, 0.4 * top1, np.ones_like(top1)], axis=1)
    write_statistics(layout.statistics_path(root, model, step), values)


def watcher(root: Any, *models: str, now: float = NOW_SECONDS, **options: Any) -> Any:
    return Watcher(str(root), models, clock=lambda: now, **options)


def text(view, width=100, height=None, in_ascii=False):
    lines = [line.plain for line in watch_lines(view, Page(width=width, height=height, in_ascii=in_ascii))]
    assert all(cell_len(line) <= width for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    return "\n".join(lines)


# What is seen


def test_a_view_has_what_the_dataset_has(root):
    watching = watcher(root, A, now=datetime(2026, 11, 26, 18, 41, tzinfo=UTC).timestamp())
    watching.look()
    (run,) = watching.forecast().runs
    dataset = madyn.open_dataset(root)
    assert run.steps.tolist() == dataset.steps(A)
    np.testing.assert_allclose(run.ratio, dataset.trajectories(A, "ratio").values)
    massive = dataset.massive(A).isel(step=-1)
    assert {rule: counts.tolist() for rule, counts in run.massive.items()} == {
        rule: massive[rule].values.tolist() for rule in ("published", "start")
    }
    places = locked_in(read_locations(dataset, A))
    assert (run.positions.tolist(), run.features.tolist()) == (places["position"].tolist(), places["feature"].tolist())
    assert (run.step, run.last_step, run.state, run.sequences) == (3000, 4000, "running", 2)
    assert run.measuring_share == pytest.approx(12.5 / 2400)
    expected = madyn.forecast(root, A, at=3000, last_step=4000, steps=[4000])
    np.testing.assert_allclose(run.outlook.end[:, 0], expected["median"].values[:, 0])
    np.testing.assert_allclose(run.outlook.plateau, expected["plateau"].values)


def test_a_run_of_tiny_suite(tiny_suite_model, run):
    root, model = tiny_suite_model
    code, out, err = run("watch", root, "--once")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{model} · running · step 1,200 of 3,000 (40 %)")
    rows = [line for line in lines if re.match(r" *\d+  [▁▂▃▄▅▆▇█]+", line)]
    dataset = madyn.open_dataset(root)
    last = dataset.trajectories(model, "ratio").isel(step=-1).values
    assert len(rows) == last.size
    for row, ratio in zip(rows, last, strict=True):
        found = re.fullmatch(r" *\d+  [▁-█]+ +([\d.]+) +[+-]\d+ % .*", row)
        assert found, row
        assert float(found[1]) == pytest.approx(ratio, rel=0.01)
        assert re.search(r"[\d.]+ \([\d.]+-[\d.]+\)", row), row
    assert "massive" in out


def test_only_what_is_new_is_read_again(root, monkeypatch):
    read = []
    monkeypatch.setattr("madyn.monitor.following.read_statistics", lambda path: read.append(path.name) or one(path))
    from madyn.dataset.statistics import read_statistics as one

    watching = watcher(root, A)
    watching.look()
    assert len(read) == 11
    assert watching.needs_forecast()
    watching.forecast()
    assert not watching.needs_forecast()
    watching.look()
    assert (len(read), watching.needs_forecast()) == (11, False)
    shutil.copy(layout.statistics_path(root, A, 3000), layout.statistics_path(root, A, 3500))
    (run,) = watching.look().runs
    assert (read[11:], run.step, run.outlook.at) == (["exp2_pythia_14m_step3500"], 3500, 3000)
    assert "forecast from step 3,000" in text(watching.look())
    assert watching.forecast().runs[0].outlook.at == 3500
    write_statistics(layout.statistics_path(root, A, 8), one(layout.statistics_path(root, A, 16)) * 2)
    watching.look()
    assert read[12:] == ["exp2_pythia_14m_step8"]


def test_a_dataset_that_trace_writes_has_no_end_but_the_one_that_is_said(tmp_path, run):
    write_dataset(tmp_path, models=("pythia_14m",))
    code, out, _ = run("watch", tmp_path, "--once")
    assert code == 0
    assert "no forecast: the run's last step is not known (--last-step says it)" in out
    assert "step 20,000 ·" in out
    out = run("watch", tmp_path, "--once", "--last-step", "40000")[1]
    assert "step 20,000 of 40,000 (50 %)" in out
    assert "end (90 %)" in out
    assert "end: forecast for step 40,000" in out


def test_what_is_not_there_yet_is_waited_for(tmp_path, run):
    folder = tmp_path / "runs"
    code, out, err = run("watch", folder, "--once")
    assert (code, out, "no such folder" in err) == (1, "", True)
    folder.mkdir()
    watching = watcher(folder)
    assert "nothing was measured yet: waiting for the first step of a model" in text(watching.look())
    assert run("watch", folder, "--once")[0] == 0
    write_monitor(folder, record(last_step=100))
    assert "m · running · of 100 steps" in text(watching.look())
    assert "waiting for its first measured step" in text(watching.look())
    (folder / "m").mkdir()  # half of a model's folders
    (folder / "n" / "stats").mkdir(parents=True)
    assert watching.look().runs
    for step, fewest in ((0, True), (1, True), (2, False)):
        write_step(folder, step, ratio=10 + step)
        watching.look()
        assert ("no forecast yet: it takes 3 measured steps" in text(watching.forecast())) == fewest
    assert watching.look().runs[0].outlook.last_step == 100
    assert "no x yet; there are m, n" in text(watcher(folder, "x").look())


def test_damaged_files_are_lines_and_nothing_else_is_lost(root, run):
    layout.statistics_path(root, A, 64).write_text("[[")
    write_statistics(layout.statistics_path(root, A, 2), np.ones((1, 4, 2)))
    layout.monitor_path(root, A).write_text("{")
    layout.locations_path(root, A, 3000).write_text("[]")
    watching = watcher(root, A)
    view = watching.look()
    said = text(view, 300)
    for name in ("exp2_pythia_14m_step64", "exp2_pythia_14m_step2", f"monitor/{A}.json", f"locations/{A}/step3000"):
        (line,) = [line for line in said.splitlines() if line.startswith("wrong: ") and name in line.partition(": ")[2]]
        assert len(line) < 300
    assert view.runs[0].steps.size == 9
    assert text(watching.look(), 300) == said  # what is wrong stays said
    code, out, err = run("watch", root, "--once", "--model", A)
    assert (code, err) == (1, "")
    assert "exp2_pythia_14m_step64" in out
    shutil.copy(layout.statistics_path(root, A, 16), layout.statistics_path(root, A, 64))
    assert watching.look().runs[0].steps.size == 10


def test_failed_steps_and_values_that_are_not_finite_show(root):
    for step in (2500, 2600):
        unit = manifest.Unit(model=A, step=step, source="a folder", failure="layer 1: holds [red]NaN[/red]\x1b[2J")
        manifest.write_unit(root, unit)
    manifest.write_unit(root, manifest.Unit(model=A, step=3500, source="a folder"))  # is being measured
    nan = json.dumps(np.full((2, 4, 2), 1.0).tolist()).replace("1.0]", "NaN]")
    layout.statistics_path(root, A, 4).write_text(nan)
    view = watcher(root, A).look()
    (run,) = view.runs
    assert run.failed == dict.fromkeys((2500, 2600), "layer 1: holds [red]NaN[/red] [2J")
    assert run.finite[:, 0].all()
    assert np.flatnonzero(~run.finite[:, 1]).tolist() == [3]
    said = text(view, 120)
    assert "2 steps failed, step 2,600: layer 1: holds [red]NaN[/red] [2J" in said
    first, second = (re.findall(rf"^ +{layer}  (\S+)", said, re.M)[0] for layer in (0, 1))
    assert (first[3] != "!", second[3], first[-3:-1], len(first)) == (True, "!", "xx", 13)


def test_sparklines():
    none = np.zeros(4, bool)
    assert sparkline(np.array([1, 2, 4, 8.0]), none, 9) == "▁▃▆█"
    assert sparkline(np.array([8.0, 4, 2, 1]), none, 2, in_ascii=True) == "*."  # each mark the mean of two
    assert sparkline(np.array([5.0, 5, 5, 5]), none, 9) == "▁▁▁▁"
    assert sparkline(np.array([1, np.inf, np.nan, 2]), np.array([False, False, True, False]), 9) == "▁!x█"
    assert sparkline(np.array([-1, 0, 3.0]), none[:3], 9, in_ascii=True) == "_-#"
    assert sparkline(np.empty(0), none[:0], 9) == ""


def test_silence_is_remarked_on_when_it_is_long(tmp_path):
    for number, step in enumerate((0, 10, 20, 30)):
        write_step(tmp_path, step)
        at = NOW.timestamp() + 60 * number
        os.utime(layout.statistics_path(tmp_path, "m", step), (at, at))
    write_monitor(tmp_path, record(step=30, last_step=1000, updated=stamp(180)))
    soon = watcher(tmp_path, now=NOW.timestamp() + 180 + 100).look()
    assert soon.runs[0].silent(soon.now) == 100
    assert "last measured 1.7 min ago" in text(soon).replace("2 min", "1.7 min")
    assert "UNUSUALLY" not in text(soon)
    late = watcher(tmp_path, now=NOW.timestamp() + 180 + 500).look()
    assert late.runs[0].is_late(late.now)
    assert "UNUSUALLY LONG: steps came at least every 2 min; it may have stopped" in text(late)
    write_monitor(tmp_path, record(step=30, last_step=1000, updated=stamp(180), state="ended"))
    assert "UNUSUALLY" not in text(watcher(tmp_path, now=NOW.timestamp() + 9e5).look())
    layout.monitor_path(tmp_path, "m").unlink()  # of a finished dataset nobody expects a step
    assert "UNUSUALLY" not in text(watcher(tmp_path, now=NOW.timestamp() + 9e5).look())
    assert "last measured 10 days ago" in text(watcher(tmp_path, now=NOW.timestamp() + 9e5).look())


@pytest.mark.parametrize("said", ["yesterday", "", "9999-99-99", "2026-11-26T18:00:00Z"])
def test_times_that_are_none_are_no_trouble(tmp_path, said):
    write_step(tmp_path, 0)
    alert = Alert(step=0, kind="massive", message="m", time=said)
    write_monitor(tmp_path, record(step=0, started=said, updated=said, alerts=[alert]))
    view = watcher(tmp_path).look()
    assert "step 0 massive: m" in text(view)
    assert watch_record(view)["models"][0]["updated"] == said


def test_a_run_that_went_on_says_from_where(tmp_path):
    for step in (0, 100, 200):
        write_step(tmp_path, step)
    write_monitor(tmp_path, record(step=150, last_step=1000, resumed=[40, 120]))
    said = text(watcher(tmp_path).look())
    assert "step 150 of 1,000 (15 %)" in said
    assert "went on from step 120; steps up to 200 were measured before that" in said
    write_monitor(tmp_path, record(step=200, last_step=1000, resumed=[40, 120]))
    assert re.search("went on from step 120$", text(watcher(tmp_path).look()), re.M)


# Which runs


def test_of_several_models_the_one_written_last_is_shown(root, run):
    write_monitor(root, replace(written(root, B), updated="2126-11-26T18:40:00+00:00"))
    view = watcher(root).look()
    assert ([one.model for one in view.runs], view.others) == ([B], 1)
    assert "1 other model here: --model or --all" in text(view)
    assert [one.model for one in watcher(root, A).look().runs] == [A]
    assert [one.model for one in watcher(root, everything=True).look().runs] == [B, A]
    code, out, _ = run("watch", root, "--all", "--once")
    assert code == 0
    title, first, second = out.splitlines()[1:]
    words = ["model", "state", "step", "of", "largest", "ratio", "now", "in", "layer", "alerts"]
    assert title.split() == words
    assert (first.split()[0], second.split()[0]) == (B, A)
    assert first.split()[1:4] == ["running", "3,000", "4,000"]
    with pytest.raises(UsageError, match="contradict"):
        watcher(root, A, everything=True)
    with pytest.raises(UsageError, match="cannot be a model's directory"):
        watcher(root, "../x")


# Terminals


def many_layers(root):
    write_step(root, 0, layers=40)
    for step in (1, 2, 4):
        write_step(root, step, layers=40, ratio=20.0 + step)
    alerts = [Alert(step=n, kind="massive", layer=n, message="layer [red]x[/red] 模型 é turned massive", time=stamp(n))
              for n in range(9)]  # fmt: skip
    write_monitor(root, record(step=4, last_step=4000, inputs="[bold]4[/bold] :smile: 序列", alerts=alerts))
    return root


@pytest.mark.parametrize("in_ascii", [False, True])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_nothing_is_wider_than_the_terminal_or_runs_into_its_neighbour(tmp_path, width, in_ascii):
    watching = watcher(many_layers(tmp_path))
    watching.look()
    said = text(watching.forecast(), width, in_ascii=in_ascii)
    assert said.isascii() == in_ascii
    assert "[red]x[/red]" in said.replace("\n  ", " ")
    assert "[bold]4[/bold]" in said.replace("\n", " ")
    rows = re.findall(r"^ +\d+  \S+ .*$", said, re.M)
    assert len(rows) == 40
    starts = {tuple(found.end() for found in re.finditer(r"[^ ]+ \([^)]*\)|[^ ]+(?= |$)", row))[:1] for row in rows}
    assert len(starts) == 1  # columns stand below each other
    last = watching.look().runs[0].ratio[-1]
    assert [float(row.split()[2].replace(",", "")) for row in rows] == pytest.approx(last.tolist(), rel=0.01)


def test_a_small_terminal_shows_the_layers_that_say_most(tmp_path):
    watching = watcher(many_layers(tmp_path))
    said = text(watching.look(), 80, height=20).splitlines()
    assert len(said) <= 20
    rows = [int(line.split()[0]) for line in said if re.match(r" +\d+  \S", line)]
    assert rows == list(range(40 - len(rows), 40))
    assert len(rows) >= 4
    assert f"{len(rows)} of 40 layers: those that are massive, or have the largest ratios" in said
    assert "5 earlier alerts" in said


def test_no_markup_or_escape_of_a_file_is_obeyed(tmp_path, run):
    folder = many_layers(tmp_path / "[red]data[/red]")
    write_step(folder, 0, model="模型_é")
    code, out, _ = run("watch", folder, "--all", "--once")
    assert code == 0
    assert "[red" in out  # the rest is cut where the folder lies deep
    assert "模型_é" in out
    assert "[bold]4[/bold] :smile: 序列" in run("watch", folder, "--once", "--model", "m")[1].replace("\n", " ")


# JSON


def test_json(root, run):
    code, out, err = run("watch", root, "--once", "--json", "--model", A)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {"dataset", "time", "waiting", "others", "faults", "models"}
    (model,) = found["models"]
    assert (model["model"], model["step"], model["last_step"], model["state"]) == (A, 3000, 4000, "running")
    assert model["steps"] == madyn.open_dataset(root).steps(A)
    assert [alert["kind"] for alert in model["alerts"]] == ["massive", "not_measured"]
    layer = model["layers"][1]
    ratios = madyn.open_dataset(root).trajectories(A, "ratio").values
    assert layer["ratio"] == pytest.approx(ratios[:, 1].tolist())
    assert layer["massive"] == {"published": 0, "start": layer["massive"]["start"]}
    assert layer["forecast"]["lower"] < layer["forecast"]["median"] < layer["forecast"]["upper"]
    assert len(layer["forecast"]["plateau"]) == 3
    page = (madyn_home() / "docs" / "json.md").read_text()
    section = page.split("## watch")[1].split("\n## ")[0]
    for key in (*found, *model, *layer, *layer["forecast"]):
        assert f"`{key}`" in section or f".{key}`" in section, key
    assert run("watch", root, "--json")[0] == 2
    assert run("watch", root, "--interval", "0")[0] == 2
    assert run("watch", root, "--last-step", "-1", "--once")[0] == 2


def madyn_home():
    from pathlib import Path

    return Path(__file__).parent.parent.parent


# While it goes on


def start(root: Any, *options: str, **streams: Any) -> Any:
    command = [sys.executable, "-m", "madyn", "watch", str(root), "--interval", "0.1", *options]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)


def test_in_a_pipe_a_line_a_change(tmp_path):
    for step in (0, 1, 2):
        write_step(tmp_path, step)
    write_monitor(tmp_path, record(step=2, last_step=8))
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []

    def until(words):
        while words not in "".join(lines):
            line = process.stdout.readline()
            assert line, (lines, process.stderr.read())
            lines.append(line)

    until("drawn from its least")
    write_step(tmp_path, 4, ratio=33.0)
    until("m step 4: largest ratio 99 in layer 2; ")
    layout.statistics_path(tmp_path, "m", 5).write_text("[")
    until("wrong: ")
    alert = Alert(step=8, kind="massive", layer=1, message="layer 1\nturned massive", time=stamp(0))
    write_step(tmp_path, 8)
    write_monitor(tmp_path, record(step=8, last_step=8, alerts=[alert], state="ended"))
    rest, err = process.communicate(timeout=60)
    said = "".join(lines) + rest
    assert f"m massive at step 8 ({stamp(0)}): layer 1 turned massive\n" in said
    assert said.endswith("m has ended\n")
    assert "m step 8: largest ratio 30 in layer 2" in said
    assert (process.returncode, err, "\x1b" in said) == (1, "", False)  # a file is damaged


def in_front():
    """What a shell does for a command in the foreground: its terminal's signals reach it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A pseudo-terminal in which a command runs, and what was written to it."""

    def __init__(self, root, *options, columns=100, rows=30):
        self.own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "madyn", "watch", str(root), "--interval", "0.1", *options],
            stdin=other, stdout=other, stderr=other, start_new_session=True,
            preexec_fn=in_front,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        os.close(other)
        self.written = b""

    def until(self, words, seconds=60):
        end = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < end, f"no {words!r} in {self.text[-3000:]}"
            if not self.read(0.2):
                break
        assert words in self.text, self.text[-3000:]

    def read(self, seconds):
        if select.select([self.own], [], [], seconds)[0]:
            try:
                self.written += os.read(self.own, 65536)
            except OSError:  # the other end is closed
                return False
        return True

    def finish(self, seconds=60):
        end = time.monotonic() + seconds
        while self.read(1):
            if time.monotonic() > end:
                self.process.kill()
        os.close(self.own)
        return self.process.wait(60)

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.decode("utf-8", "replace"))


def test_on_a_terminal_new_steps_and_the_end_are_seen(tmp_path):
    for step in (0, 1, 2):
        write_step(tmp_path, step)
    write_monitor(tmp_path, record(step=2, last_step=8))
    terminal = Terminal(tmp_path)
    terminal.until("step 2 of 8 (25 %)")
    terminal.until("end (90 %)")
    write_step(tmp_path, 4, ratio=33.0)
    write_monitor(tmp_path, record(step=4, last_step=8))
    terminal.until("step 4 of 8 (50 %)")
    before = len(terminal.written)
    write_step(tmp_path, 8, ratio=44.0)
    write_monitor(tmp_path, record(step=8, last_step=8, state="ended"))
    assert terminal.finish() == 0
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.written[before:].decode()).split("m · ")[-1]
    assert last.startswith("ended · step 8 of 8 (100 %)")
    assert re.search(r" 2  \S+ +132 ", last)
    assert terminal.written.endswith(b"\x1b[?25h") or b"\x1b[?25h" in terminal.written[before:]  # the cursor is back


def test_ctrl_c_ends_it_at_once_however_long_it_would_wait(tmp_path):
    terminal = Terminal(tmp_path, "--interval", "1000", columns=40)
    terminal.until("nothing was measured yet")
    since = time.monotonic()
    os.write(terminal.own, b"\x03")
    assert terminal.finish() == 130
    assert time.monotonic() - since < 20
    assert "Traceback" not in terminal.text


def test_changes_are_said_once(root):
    watching = watcher(root, A)
    first = watching.look()
    assert changes(first, watching.look()) == []
    shutil.copy(layout.statistics_path(root, A, 3000), layout.statistics_path(root, A, 3500))
    write_monitor(root, replace(written(root, A), state="ended", step=3500))
    second = watching.look()
    step, ended = changes(first, second)
    assert step.startswith(f"{A} step 3,500: largest ratio ")
    assert (ended, second.has_ended) == (f"{A} has ended", True)


# Elsewhere


@pytest.fixture
def served(tmp_path):
    """A folder on a loopback web server, and what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            asked.append((self.command, self.path))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_dataset_on_a_url_is_asked_for_what_is_new_alone(served, run):
    folder, url, asked = served
    make_dataset(folder / "data")
    watching = watcher(f"{url}/data", A)
    assert watching.is_remote
    assert watching.look().runs[0].step == 3000
    assert sum("/stats/exp2_" in path and method == "GET" for method, path in asked) == 11
    asked.clear()
    view = watching.look()
    assert (view.runs[0].step, view.faults) == (3000, ())
    assert not [path for _, path in asked if "/stats/exp2_" in path]
    assert len(asked) < 15
    new = layout.statistics_path(folder / "data", A, 3500)
    shutil.copy(layout.statistics_path(folder / "data", A, 3000), new)
    asked.clear()
    assert watching.look().runs[0].step == 3500
    assert {path.rpartition("/")[2] for _, path in asked if "exp2_" in path} == {new.name}
    code, out, err = run("watch", f"{url}/data", "--once")
    assert (code, err) == (0, "")
    assert "step 3,000 of 4,000" in out
    assert run("watch", f"{url}/nothing", "--once")[0] == 1


def test_a_network_that_is_gone_is_a_line_and_what_was_seen_stays(served, monkeypatch):
    folder, url, _ = served
    make_dataset(folder / "data")
    watching = watcher(f"{url}/data", A)
    watching.look()

    def gone(*_):
        raise DatasetError(f"{url}: cannot be read: no route to host")

    monkeypatch.setattr("madyn.monitor.watching.layout.monitor_files", gone)
    monkeypatch.setattr("madyn.monitor.following.read_monitor", gone)
    monkeypatch.setattr("madyn.monitor.following.layout.statistics_files", gone)
    view = watching.look()
    assert view.runs[0].step == 3000
    assert view.faults == (f"{url}: cannot be read: no route to host; it is tried again",)


def test_a_dataset_of_the_hub_is_fetched_again(hub, root, capfd):
    hub.add("owner/watched", {"main": root}, kind="datasets")
    watching = watcher("owner/watched", A)
    assert watching.is_remote
    assert watching.look().runs[0].step == 3000
    capfd.readouterr()
    shutil.copy(layout.statistics_path(root, A, 3000), layout.statistics_path(root, A, 3500))
    hub.add("owner/watched", {"main": root}, kind="datasets")
    view = watching.look()
    assert (view.runs[0].step, view.runs[0].record.step, view.faults) == (3500, 3000, ())
    assert capfd.readouterr().err == ""  # no bars across the view


def test_a_dataset_in_memory(root):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/watched", recursive=True)
    try:
        view = watcher("memory://watched", A).look()
        assert (view.runs[0].step, view.runs[0].faults) == (3000, ())
    finally:
        memory.rm("/watched", recursive=True)


def test_watching_needs_no_torch():
    code = "import sys, madyn.monitor.watching, madyn.summaries.watch_live; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
