"""Tables as CSV: what `--csv` writes of each command, what `--csv -` prints, and cells that a spreadsheet would run."""

import io
import json

import pandas as pd
import pytest

import madyn
from madyn.summaries.tables import csv_text
from tiny import write_dataset, write_family


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("tables") / "data", models=("pythia_14m", "pythia_70m"))
    return str(madyn.fit_dataset(root, hypotheses=["step1", "reparam"]).path)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return str(write_family(tmp_path_factory.mktemp("family"), count=8, repeated=4).path)


def read(text):
    return pd.read_csv(io.StringIO(text))


SHAPE = ("--layers", "3", "--hidden-size", "64", "--heads", "2", "--mlp-ratio", "2")
COMMANDS = {
    "show": (("show", "DATA"), ["model", "layers", "sequences", "steps", "complete"], 2),
    "compare": (("compare", "DATA", "--hypothesis", "step1"), ["model", "layer", "hypothesis", "r2", "aicc"], 6),
    "fit": (("fit", "DATA", "--hypothesis", "step1", "--quantity", "ratio"), ["quantity", "hypothesis", "layers"], 2),
    "forecast": (
        ("forecast", "DATA", "--model", "pythia_14m", "--at", "10000", "--prior", "default"),
        ["layer", "step", "median", "lower", "upper", "measured"],
        30,
    ),
    "predict": (("predict", "FAMILY", *SHAPE, "--steps", "1,10"), ["layer", "step", "quantile", "ratio"], 18),
    "design": (("design", "--suite", "FAMILY", "--minimize", "max ratio"), ["num_hidden_layers", "hidden_size"], None),
    "evaluate": (
        ("evaluate", "FAMILY", "--approach", "nearest", "--jobs", "1"), ["protocol", "approach", "r2"], None
    ),
    "effects": (("effects", "FAMILY"), ["model", "architecture"], 16),
    "quantization": (("quantization", "DATA"), ["model"], 2),
}  # fmt: skip


def arguments(command, data, family):
    given, columns, rows = COMMANDS[command]
    return [{"DATA": data, "FAMILY": family}.get(one, one) for one in given], columns, rows


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_alone_is_printed_to_a_dash_and_written_to_a_file_beside_the_text(
    run, data, family, tmp_path, command
):
    given, columns, rows = arguments(command, data, family)
    code, printed, _ = run(*given, "--csv", "-")
    table = read(printed)
    assert code == 0
    assert list(table.columns[: len(columns)]) == columns
    assert len(table) == rows or rows is None
    assert len(table)
    file = tmp_path / "table.csv"
    code, said, _ = run(*given, "--csv", file)
    assert code == 0
    assert said.endswith(f"written: {file}\n")
    assert len(said.splitlines()) > 1
    assert file.read_text() == printed


def test_out_is_the_same_where_a_command_writes_one_table(run, family, tmp_path):
    given = arguments("predict", "", family)[0]
    assert run(*given, "--out", tmp_path / "a.csv")[0] == 0
    assert (tmp_path / "a.csv").read_text() == run(*given, "--csv", "-")[1]


def test_beside_json_the_table_goes_to_a_file_and_never_to_standard_output(run, data, tmp_path):
    code, out, err = run("show", data, "--json", "--csv", tmp_path / "t.csv")
    assert (code, json.loads(out)["models"][0]["model"]) == (0, "pythia_14m")
    assert "written: " in err
    assert len(pd.read_csv(tmp_path / "t.csv")) == 2
    for order in (("--json", "--csv", "-"), ("--csv", "-", "--json")):
        code, out, err = run("compare", data, *order)
        assert (code, out) == (2, "")
        assert "give the table a file" in err
    code, out, err = run("design", "--out", "-", "--json", "--suite", data, "--minimize", "max ratio")
    assert (code, out) == (2, "")


def test_a_folder_beside_a_printed_table_is_told_of_on_standard_error(run, data, tmp_path):
    code, out, err = run("compare", data, "--hypothesis", "step1", "--csv", "-", "--out", tmp_path)
    assert code == 0
    assert len(read(out)) == 6
    assert "written: " in err
    assert (tmp_path / "comparison_ratio.csv").read_text() == out


def test_a_check_is_a_row_a_sentence_and_exits_as_ever(run, tmp_path):
    root = write_dataset(tmp_path, models=("net",), steps=(0, 1))
    code, out, _ = run("check", root, "--csv", "-")
    assert code == 0
    assert set(read(out)["kind"]) == {"absence"}
    (root / "net/stats/exp2_net_step1").write_text("[[")
    code, out, _ = run("check", root, "--csv", "-")
    assert code == 1
    assert "fault" in set(read(out)["kind"])


def test_locations_are_no_table_of_it(run, data):
    code, _, err = run("show", data, "--locations", "--csv", "-")
    assert code == 2
    assert "--csv is of the contents" in err


def test_cells_are_numbers_lists_and_text_that_no_spreadsheet_runs():
    table = pd.DataFrame(
        {"a": [0.1 + 0.2, None], "n": [3, 4], "text": ["=1+1", "a,b"], "list": [[1, 2], ["-x"]], "map": [{"k": 1}, {}]}
    )
    assert csv_text(table) == (
        "a,n,text,list,map\n"
        "0.30000000000000004,3,'=1+1,1 2,\"{\"\"k\"\": 1}\"\n"
        ",4,\"a,b\",'-x,{}\n"
    )  # fmt: skip
    assert csv_text(pd.DataFrame({"kind": [], "message": []})) == "kind,message\n"
