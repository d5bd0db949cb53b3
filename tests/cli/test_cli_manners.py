"""How commands behave whatever they do: -v and -q, errors that lead on, one exit code for one fault, short answers, and
JSON alone on standard output where it is asked for.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import madyn
from madyn.dataset import layout, manifest
from madyn.dataset.statistics import write_statistics
from madyn.summaries.grouping import grouped
from madyn.terminal import counted, data_size
from tiny import TEXT, save_checkpoints, write_dataset, write_family


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Sixty models, as many as a reader would not want listed."""
    return write_family(tmp_path_factory.mktemp("manners") / "family", count=30, repeated=15).path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("manners") / "fitted")
    return madyn.fit_dataset(root, hypotheses=["reparam", "step1"]).path


SHAPE = ("--layers", "3", "--hidden-size", "64", "--heads", "2", "--mlp-ratio", "2")


def test_the_version(run):
    assert run("--version") == (0, f"madyn {madyn.__version__}\n", "")


@pytest.mark.parametrize("place", ["before", "behind"])
def test_voice_stands_before_a_command_or_behind_it(run, family, place):
    def call(option):
        return run(*([option, "show", family] if place == "before" else ["show", family, option]))

    usual = run("show", family)[1]
    assert len(call("-v")[1].splitlines()) > 60 > 40 >= len(usual.splitlines())
    assert call("-q")[1] == usual
    assert run("show", family)[1] == usual  # one call's voice is not the next one's


def test_quiet_leaves_results_and_errors(run, tmp_path):
    checkpoints = save_checkpoints(tmp_path / "net", steps=(0,))
    (tmp_path / "book.txt").write_text(TEXT)
    probe = ["--probe", tmp_path / "book.txt", "--sequences", "2", "--length", "8"]
    run("--version")  # what was said so far is not of the command
    code, out, err = run("trace", checkpoints, "--out", tmp_path / "d", *probe, "-q")
    assert (code, err) == (0, "")
    assert "1 measured" in out
    assert run("-q", "show", "/nowhere")[2].startswith("madyn: /nowhere")
    code, _, err = run("-q", "show", tmp_path / "d", "-v")
    assert (code, "contradict" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(["trace", "x"], "madyn trace"), (["fit"], "madyn fit"), (["forecast", "x"], "madyn forecast"),
     (["scan", "x", "--nope"], "madyn scan"), (["nothing"], "madyn"), (["-v"], "madyn"),
     (["scan"], "madyn scan"), (["trace"], "madyn trace")],
)  # fmt: skip
def test_an_error_leads_to_the_help_of_its_command(run, arguments, command):
    code, _, err = run(*arguments)
    assert code == 2
    assert err.endswith(f"(see {command} --help)\n")


@pytest.mark.parametrize(
    "command",
    [["fit"], ["figures"], ["compare"], ["forecast", "--at", "500"], ["effects"],
     ["fit", "--out", "OUT"], ["figures", "--out", "OUT"]],
)  # fmt: skip
def test_a_model_that_a_dataset_does_not_have_is_2_in_every_command(run, fitted, tmp_path, command):
    arguments = [tmp_path / "out" if word == "OUT" else word for word in command[1:]]
    code, out, err = run(command[0], fitted, "--model", "nosuch", *arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith("has no model 'nosuch'; it has pythia_14m, pythia_70m")


def test_a_model_that_a_suite_does_not_have_is_2(run, tmp_path):
    code, out, err = run("lab", "tiny-suite", "--model", "nosuch", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "tiny-suite has no model 'nosuch'; it has neox_4x32_h4_m32_s0, " in err
    assert "(156 more)" in err


@pytest.mark.parametrize("command", [["scan"], ["plan"], ["verify"], ["trace", "--out", "OUT"]])
@pytest.mark.parametrize("name", ["/no/such/folder", "no such name"])
def test_a_model_that_does_not_exist_is_1_in_every_command(run, tmp_path, command, name):
    arguments = [tmp_path / "out" if word == "OUT" else word for word in command[1:]]
    code, out, err = run(command[0], name, *arguments)
    assert (code, out) == (1, "")
    assert name in err


@pytest.mark.parametrize(
    "command", ["show", "check", "fit", "figures", "compare", "effects", "evaluate", "predict", "watch"]
)
def test_a_dataset_that_does_not_exist_is_1_in_every_command(run, command):
    code, out, err = run(command, "/no/such/folder", *(SHAPE if command == "predict" else ()))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "/no/such/folder: no such folder" in err


def test_figures_of_a_pattern_that_matches_nothing(run, fitted):
    code, out, err = run("figures", fitted, "--only", "serie/*")
    assert (code, out) == (2, "")
    assert "no picture's path matches 'serie/*'; there are " in err
    assert "*/series/*" in err
    assert (".png" in err, len(err) < 300) == (False, True)


def test_figures_of_a_bare_word_and_where_they_are(run, tmp_path):
    root = write_dataset(tmp_path / "d", models=("m",), steps=(0, 1, 2))
    code, out, err = run("figures", root, "--only", "series", "--jobs", "1", "--out", tmp_path / "o")
    assert code == 0, err
    drawn = list((tmp_path / "o").rglob("*.png"))
    assert drawn
    assert {path.parent for path in drawn} == {tmp_path / "o/m/series"}
    assert f"{len(drawn)} figures drawn, 0 unchanged\nthey are in {tmp_path / 'o'}/: m/\n" in out


def test_sizes_and_counts_are_told_in_the_words_that_fit(run, tmp_path):
    sizes = (0, 676_800, 1.2e9, 999_999, 13_700_000_000, None)
    assert [data_size(size) for size in sizes] == ["0 B", "677 kB", "1.2 GB", "1 MB", "13.7 GB", "-"]
    assert [counted(number, "model") for number in (0, 1, 1200)] == ["0 models", "1 model", "1,200 models"]
    out = run("show", write_dataset(tmp_path, models=("m",), steps=(1, 2)))[1]
    assert "1 model, 3 layers" in out
    assert "- without a step 0" in out
    assert "complete: no step failed" in out


@pytest.mark.parametrize("command", [["predict", "/nowhere"], ["design", "--suite", "/nowhere"]])
def test_an_unknown_size_is_named_before_anything_is_read(run, command):
    code, _, err = run(*command, "--architecture", '{"hidden_sise": 96}')
    assert code == 2
    assert "unknown key 'hidden_sise' (did you mean hidden_size?)" in err
    code, _, err = run(*command, "--layers", "4", "--architecture", '{"num_hidden_layers": 4}')
    assert (code, "--layers and num_hidden_layers in --architecture say one thing" in err) == (2, True)


def test_predict_and_design_take_the_same_words(run, family, tmp_path):
    as_json = '{"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "mlp_ratio": 2}'
    saved = tmp_path / "p.json"
    assert run("predict", family, "--save", saved)[0] == 0
    code, by_options, err = run("predict", saved, *SHAPE)
    assert code == 0, err
    assert run("predict", saved, "--architecture", as_json)[1] == by_options
    search = ("design", "--predictor", saved, "--minimize", "max ratio", "--json")
    code, found, err = run(*search, *SHAPE)
    assert code == 0, err
    only = json.loads(found)["designs"]
    assert [(d["num_hidden_layers"], d["hidden_size"], d["num_attention_heads"], d["mlp_ratio"]) for d in only] == [
        (3, 64, 2, 2)
    ]
    assert run(*search, "--architecture", as_json)[1] == found
    ranges = run(*search, "--layers", "2..3", "--width", "64")[1]
    assert run(*search, "--architecture", '{"num_hidden_layers": [2, 3], "hidden_size": "64..64"}')[1] == ranges
    for wrong in ('{"hidden_size": true}', '{"vocab_size": 5}', '{"hidden_size": [1, 2, 3]}', '{"heads": 2}'):
        assert run(*search, "--architecture", wrong)[0] == 2


def test_answers_about_many_models_are_short_and_v_tells_all(run, family, tmp_path):
    said = {}
    for command in (["check"], ["show"], ["show", "--locations"], ["compare", "--hypothesis", "step1"], ["effects"],
                    ["fit", "--hypothesis", "step1", "--quantity", "ratio", "--out", tmp_path / "fits"]):  # fmt: skip
        name = " ".join(map(str, command[:2]))
        code, said[name], err = run(command[0], family, *command[1:])
        assert code == 0, err
        assert len(said[name].splitlines()) <= 40, name
        # The table of effects is short as it is; the others have a row a model to show.
        if command[0] != "effects":
            everything = run(command[0], family, *command[1:], "-v")[1].splitlines()
            assert len(everything) > len(madyn.open_dataset(family).models), name
    assert f"absent: {family}/MODEL/series: no figures (60 such)" in said["check"]
    assert "... and 35 more; -v shows all" in said["show"]


def test_check_counts_what_is_said_of_many(run, tmp_path):
    models = tuple(f"net_{number}" for number in range(20))
    root = write_dataset(tmp_path, models=models, steps=(0, 1))
    for model in models:
        values = np.ones((4, 4, 3))
        write_statistics(layout.statistics_path(root, model, 2), np.cumsum(values, axis=1))  # top1 < median
    code, out, _ = run("check", root)
    assert code == 1
    wrong = [line for line in out.splitlines() if line.startswith("wrong:")]
    assert wrong == [
        f"wrong:  {root}/MODEL/stats/exp2_MODEL_step2: not in the order top1 >= top2 >= top3 >= median (20 such)"
    ]
    assert "20 models, 20 wrong" in out
    assert run("check", root, "-v")[1].count("wrong:  ") == 20
    for step in (0, 1):
        layout.statistics_path(root, "net_0", step).write_text("")
    out = run("check", root)[1]
    file = f"{root}/net_0/stats/exp2_net_0_stepN"
    assert f"{file}: steps 0 and 1: " in out
    assert "run `madyn trace` again with the step's checkpoint, which measures the step again (2 such)" in out


def test_a_model_s_name_in_another_word_is_left_alone():
    lines = ["d/net/stats: no net in it", "d/net_2/stats: no net_2 in it", "d/network/stats: planet"]
    said = [said for said, _ in grouped(lines, Path("d"), ["net", "net_2"])]
    assert said == ["d/MODEL/stats: no MODEL in it", "d/network/stats: planet"]


@pytest.mark.parametrize("command", ["show", "check"])
def test_duplicates_are_grouped_by_whose_weights_they_hold(run, tmp_path, command):
    root = write_dataset(tmp_path, models=("net",), steps=(0,))
    for step, owner in ((64, 143000), (1000, 143000), (2000, 3000)):
        failure = f"it holds the weights of step {owner} and main"
        manifest.write_unit(root, manifest.Unit(model="net", step=step, source="s", failure=failure))
    out = run(command, root)[1]
    where = f"{root}/manifest/net"
    assert f"{where}/stepN.json: net steps 64 and 1000 failed: it holds the weights of step 143000 and main (2" in out
    assert f"{where}/step2000.json: net step 2000 failed: it holds the weights of step 3000 and main\n" in out


def test_figures_say_each_reason_once(run, family, tmp_path):
    code, out, _ = run("figures", family, "--only", "*/example_fits/*", "--out", tmp_path)
    assert code == 0
    reasons = [line for line in out.splitlines() if line.startswith("not drawn:")]
    assert len(reasons) <= 3
    assert f"not drawn: {60 * 3 * 3} (" in out or sum(int(line.split()[2]) for line in reasons) == 60 * 9
    assert len(run("figures", family, "--only", "*/example_fits/*", "--out", tmp_path, "-v")[1].splitlines()) > 500


def parsed(result):
    code, out, err = result
    assert code in (0, 1), err
    return json.loads(out)


def test_show_as_json(run, fitted):
    found = parsed(run("show", fitted, "--json"))
    assert set(found) == {"path", "models"}
    first = found["models"][0]
    assert set(first) == {"model", "layers", "sequences", "steps", "complete", "largest_ratio", "in_layer", "massive",
                          "fitted", "missing"}  # fmt: skip
    last = madyn.open_dataset(fitted).trajectories("pythia_14m", "ratio").isel(step=-1)
    assert (first["model"], first["layers"], first["sequences"]) == ("pythia_14m", 3, 4)
    assert first["largest_ratio"] == float(last.max())
    assert first["steps"][-1] == 20000
    assert first["fitted"] == ["ratio", "top1", "median"]
    assert "of the paper's steps are not measured" in first["missing"][0]


def test_check_as_json(run, fitted, tmp_path):
    found = parsed(run("check", fitted, "--json"))
    assert set(found) == {"path", "models", "faults", "remarks", "absences"}
    assert (found["models"], found["faults"], found["remarks"]) == (["pythia_14m", "pythia_70m"], [], [])
    assert all(isinstance(said, str) for said in found["absences"])
    root = write_dataset(tmp_path, models=("m",), steps=(0, 1))
    layout.statistics_path(root, "m", 1).write_text("[[[1")
    code, out, _ = run("check", root, "--json")
    assert (code, len(json.loads(out)["faults"])) == (1, 1)


def test_fit_as_json(run, tmp_path):
    root = write_dataset(tmp_path, models=("m", "n"))
    (found,) = parsed(run("fit", root, "--hypothesis", "reparam", "--quantity", "ratio", "--json", "--model", "m"))
    assert set(found) == {"path", "quantity", "hypotheses", "models"}
    (hypothesis,), (model,) = found["hypotheses"], found["models"]
    assert set(hypothesis) == {"hypothesis", "layers", "r2", "below_zero", "at_edge", "failed"}
    r2 = madyn.open_dataset(root).fits("m", "ratio")["r2"].values
    assert (hypothesis["hypothesis"], hypothesis["layers"], hypothesis["r2"]) == (
        "reparam",
        3,
        pytest.approx(r2.mean()),
    )
    assert model == {"model": "m", "layers": 3, "r2": {"reparam": pytest.approx(r2.mean())}, "failed": 0}


def test_compare_as_json(run, fitted, tmp_path):
    arguments = ("compare", fitted, "--hypothesis", "reparam", "--hypothesis", "step1", "--json")
    code, out, err = run(*arguments, "--out", tmp_path)
    found = parsed((code, out, err))
    assert "written: " in err
    assert set(found) == {"quantity", "overall", "by_model", "not_ranked", "at_edge"}
    scores = {"layers", "r2", "aicc", "bic", "aicc_above_best", "akaike_weight", "wins", "kfold_error", "last20_error",
              "failed"}  # fmt: skip
    assert [set(one) for one in found["overall"]] == [scores | {"hypothesis"}] * 2
    assert [set(one) for one in found["by_model"]] == [scores | {"hypothesis", "model"}] * 4
    assert sum(one["wins"] for one in found["overall"]) == 6


def test_plan_as_json(run, tmp_path):
    checkpoints = save_checkpoints(tmp_path / "net", steps=(0, 1))
    found = parsed(run("plan", checkpoints, "--sequences", "1", "--length", "8", "--json"))
    assert set(found) == {"models", "start_up"}
    assert set(found["start_up"]) == {"parts", "unknown"}
    (one,) = found["models"]
    assert {"model", "checkpoints", "left", "download", "disk", "seconds", "memory", "streamed", "note"} <= set(one)
    assert (one["model"], one["checkpoints"], one["left"], one["download"]) == ("net", 2, 2, 0)


def test_predict_as_json(run, family):
    found = parsed(run("predict", family, *SHAPE, "--steps", "0,50", "--json"))
    assert set(found) == {"architecture", "caution", "steps", "quantiles", "ratio", "quantities", "parameters"}
    assert (found["steps"], found["quantiles"]) == ([0, 50], [0.05, 0.5, 0.95])
    assert np.shape(found["ratio"]) == (3, 2, 3)
    assert found["architecture"]["hidden_size"] == 64
    assert len(found["parameters"]) == 3


NEW_COMMAND = """
from madyn.cli.command import Command


def greet() -> None:
    \"\"\"Say hello.\"\"\"
    print("hello")


COMMAND = Command(greet, panel="Start here")
"""


def test_a_new_command_is_one_new_file(tmp_path):
    from madyn.cli import commands

    (tmp_path / "greeting.py").write_text(NEW_COMMAND)
    code = f"""
import sys, types
package = types.ModuleType("madyn.cli.commands")
package.__path__ = [{commands.__path__[0]!r}, {str(tmp_path)!r}]  # as if the file stood among the others
sys.modules["madyn.cli.commands"] = package
from madyn.cli import main
main()
"""

    def said(*arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        ).stdout

    assert said("greet") == "hello\n"
    shown = said("--help")
    assert shown.index("demo") < shown.index("greet") < shown.index("scan")  # the last of its group
