"""The command line as a user has it: one line for an error, 2 for usage, 1 for data, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import madyn
from madyn.dataset import layout
from madyn.errors import StorageError
from tiny import TEXT, save_checkpoints, write_dataset, write_family


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    names = tuple(f"pythia_{size}" for size in ("14m", "70m", "160m", "410m", "1b"))
    return write_dataset(tmp_path_factory.mktemp("cli") / "data", models=names)


@pytest.fixture(scope="module")
def fitted(data):
    return madyn.fit_dataset(data, hypotheses=["reparam_regularized", "reparam", "step1"]).path


def one_line(err):
    return err.startswith("madyn: ") and err.count("\n") == 1


def test_help_is_grouped_with_an_example_each(run):
    code, out, _ = run("--help")
    assert code == 0
    for group in ("Start here", "Measure", "Fit and draw", "Predict", "Look into a dataset"):
        assert group in out
    flat = " ".join(out.replace("│", " ").split())
    for command in ("demo", "scan", "trace", "fit", "figures", "predict", "evaluate", "show", "check"):
        assert f"madyn {command}" in flat
        assert run(command, "--help")[0] == 0
    assert run()[1] == out


@pytest.mark.parametrize(
    "arguments",
    [["fit"], ["nothing"], ["fit", "x", "--nope"], ["trace", "x"], ["scan", "x", "--length", "many"],
     ["fit", "DATA", "--hypothesis", "parabola"], ["fit", "DATA", "--quantity", "speed"],
     ["figures", "DATA", "--jobs", "0"],
     ["predict", "DATA", "--architecture", "{"], ["predict", "DATA", "--architecture", "3"],
     ["scan", "DATA", "--dtype", "int4"], ["trace", "x", "--out", "y", "--steps", "1,a", "--dtype", "int4"],
     ["figures", "DATA", "--model", "gpt"], ["figures", "DATA", "--only", "nothing/*"]],
)  # fmt: skip
def test_usage_errors_are_one_line_and_2(run, data, arguments):
    code, out, err = run(*[data if a == "DATA" else a for a in arguments])
    assert (code, out) == (2, "")
    assert one_line(err)


@pytest.mark.parametrize(
    "arguments",
    [["show", "no/such/place/at/all"], ["check", "."], ["scan", "no such model"], ["trace", "/no/such", "--out", "OUT"],
     ["predict", "DATA", "--architecture", '{"num_hidden_layers": 2}'], ["fit", "."], ["figures", "/nowhere"]],
)  # fmt: skip
def test_data_errors_are_one_line_and_1(run, fitted, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    names = {"DATA": fitted, "OUT": tmp_path / "out"}
    code, _, err = run(*[names.get(a, a) for a in arguments])
    assert code == 1
    assert one_line(err)


def test_trace_scan_show_check(run, tmp_path):
    checkpoints = save_checkpoints(tmp_path / "tiny-net", steps=(0, 1))
    (tmp_path / "book.txt").write_text(TEXT)
    probe = ["--probe", tmp_path / "book.txt", "--sequences", "2", "--length", "8"]
    code, out, err = run("trace", checkpoints, "--out", tmp_path / "d", *probe)
    assert (code, "2 measured, 0 already there" in out) == (0, True)
    assert "2 checkpoints: 0 already measured, 2 to measure on 2 sequences" in err
    assert run("trace", checkpoints, "--out", tmp_path / "d", *probe)[1].count("0 measured, 2 already there") == 1
    (checkpoints / "step1" / "model.safetensors").write_bytes(b"broken")
    code, out, err = run("trace", checkpoints, "--out", tmp_path / "e", *probe)
    assert (code, "1 measured, 0 already there, 1 failed" in out) == (1, True)
    assert "tiny_net step 1 failed" in err
    code, out, _ = run("show", tmp_path / "e")
    assert (code, "tiny_net step 1 failed:" in out) == (0, True)
    assert run("check", tmp_path / "e")[0] == 1
    assert run("check", tmp_path / "d")[0] == 0
    code, out, _ = run("scan", checkpoints / "step0", *probe)
    assert code == 0
    assert "at least 1000 times the median (Sun et al. 2024): in no layer" in out


def test_fit_show_check_predict(run, tmp_path):
    names = tuple(f"pythia_{size}" for size in ("14m", "70m", "160m", "410m"))
    root = write_dataset(tmp_path / "data", models=names)
    code, out, _ = run("fit", root, "--hypothesis", "reparam", "--quantity", "ratio")
    assert (code, "mean R2 of the ratio's fits" in out) == (0, True)
    code, out, _ = run("show", root)
    assert (code, out.count("ratio") >= 4, "0..20000" in out) == (0, True, True)


def test_predict(run, tmp_path):
    write_family(tmp_path / "d", count=6, repeated=0, locations=False)
    shape = json.dumps({"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 4, "mlp_ratio": 2})
    code, out, _ = run(
        "predict", tmp_path / "d", "--architecture", shape, "--steps", "0,50", "--out", tmp_path / "p.csv",
        "--save", tmp_path / "p.json",
    )  # fmt: skip
    assert code == 0
    assert "6 architectures, too few" in out
    rows = (tmp_path / "p.csv").read_text().splitlines()
    assert rows[0] == "layer,step,quantile,ratio"
    assert len(rows) == 1 + 3 * 2 * 3
    again = run("predict", tmp_path / "p.json", "--architecture", shape, "--steps", "0,50")
    assert again[0] == 0
    assert "published curve" not in again[1]
    for asked in ("--parameters", "-v"):
        shown = run("predict", tmp_path / "p.json", "--architecture", shape, "--steps", "0,50", asked)[1]
        assert "published curve fitted to the prediction" in shown
        assert shown.startswith(again[1][:200])
    code, _, err = run("predict", tmp_path / "p.json", "--architecture", '{"hidden_size": 96}')
    needed = "needs num_hidden_layers (--layers), num_attention_heads (--heads), mlp_ratio (--mlp-ratio)"
    assert (code, needed in err) == (1, True), err
    for wrong in ('"rotary_pct": "x"', '"model_type": [1]', '"num_hidden_layers": 3000000', '"mlp_ratio": {}'):
        code, _, err = run("predict", tmp_path / "p.json", "--architecture", shape[:-1] + ", " + wrong + "}")
        assert (code, one_line(err)) == (1, True)
    longer = run("predict", tmp_path / "p.json", "--architecture", shape, "--training-steps", "1000")
    assert "training steps is 1000, not 100" in longer[1]
    for wrong in ([], ["--out", tmp_path / "x.csv"], ["--save", tmp_path / "q.json", "--steps", "1"]):
        assert run("predict", tmp_path / "p.json", *wrong)[0] == 2


def test_a_series_too_short_is_one_line_and_1(run, tmp_path):
    root = write_dataset(tmp_path / "d", models=("m",), steps=(0, 1, 2))
    code, _, err = run("fit", root, "--hypothesis", "reparam")
    assert code == 1
    assert one_line(err)  # and nothing of its having been fitted all the same
    assert "too few points: 3 finite, for the 5 parameters of reparam" in err
    assert layout.params_path(root, "m").exists()
    code, _, err = run("fit", root, "--hypothesis", "step1")
    assert code == 0
    assert "fewer points than the 27 that the paper asks for, so that parameters are less certain: m (3)" in err


def test_figures_are_drawn(run, fitted, tmp_path):
    code, out, _ = run("figures", fitted, "--model", "pythia_14m", "--jobs", "1", "--out", tmp_path)
    assert (code, " figures drawn, 0 unchanged" in out) == (0, True)
    assert (tmp_path / "pythia_14m/series/ratio.png").exists()
    assert not (fitted / "pythia_14m/series").exists()


def test_a_full_disk_is_one_line(run, fitted, monkeypatch):
    def full(*_):
        raise StorageError("cannot write x: No space left on device; free some space")

    monkeypatch.setattr("madyn.analysis.fitting.write_fit_records", full)
    code, _, err = run("fit", fitted, "--hypothesis", "step1", "--quantity", "median")
    assert code == 1
    assert one_line(err)
    assert "No space left" in err


def test_ctrl_c_says_how_to_go_on(run, fitted, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("madyn.analysis.fitting.fit_records", stopped)
    code, _, err = run("fit", fitted)
    assert code == 130
    assert "goes on from there" in err


def test_without_an_extra_it_says_what_to_install(tmp_path):
    write_family(tmp_path, count=2, repeated=0, locations=False)
    code = "import sys; sys.modules['sklearn'] = None; from madyn.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", str(tmp_path), "--save", str(tmp_path / "p.json")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}, check=False)
    assert done.returncode == 1
    assert done.stderr == 'madyn: sklearn is not installed: pip install "madyn[predict]"\n'


def test_the_installed_command():
    script = Path(sys.executable).with_name("madyn")
    done = subprocess.run([script, "check", "/nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("madyn: /nowhere: no such folder")) == (1, True)
