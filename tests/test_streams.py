"""What reaches a terminal: text for a reader, in any encoding, and a right exit code where it cannot be written."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from madyn.errors import StorageError
from madyn.processes import Workers
from madyn.streams import READER_GONE, guarded, visible
from madyn.terminal import note, print_json, print_table, progress_display
from tiny import write_dataset

MADYN = [sys.executable, "-c", "from madyn.cli import main; main()"]
CLIPBOARD = "\x1b]52;c;aGVsbG8=\x07"
FOREIGN = f"a{CLIPBOARD}b\x9b31mc\u202ed\x7fe\rf"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\x7f", "\r")


def clean(text: str) -> bool:
    return not any(character in text for character in OBEYED)


def test_what_a_terminal_obeys_is_shown_and_the_rest_is_left():
    assert visible(FOREIGN) == r"a\x1b]52;c;aGVsbG8=\x07b\x9b31mc\u202ed\x7fe\x0df"
    assert visible("été 模型\tשלום\n") == "été 模型\tשלום\n"
    assert visible("\udc80") == r"\udc80"


def test_everything_printed_goes_through_it(capsys):
    with guarded():
        print(FOREIGN)
        print_table(FOREIGN, [FOREIGN, "n"], [[FOREIGN, 1]], left=[FOREIGN])
        note(FOREIGN)
        logging.StreamHandler().emit(logging.LogRecord("x", logging.ERROR, "", 0, FOREIGN, (), None))
        with progress_display() as progress:
            progress.console.print(FOREIGN)
    out, err = capsys.readouterr()
    assert clean(out)
    assert clean(err)
    assert (out.count("aGVsbG8="), err.count("aGVsbG8=")) == (4, 3)


def test_json_is_the_same_value_for_a_program(capsys):
    print_json({"text": FOREIGN + "\udc80"})
    out = capsys.readouterr().out
    assert clean(out)
    assert json.loads(out) == {"text": FOREIGN + "\udc80"}


def test_bars_of_other_packages_are_drawn():
    tqdm = pytest.importorskip("tqdm")
    terminal = io.StringIO()
    before, sys.stderr = sys.stderr, terminal
    try:
        with guarded():
            for _ in tqdm.tqdm(range(2), desc=FOREIGN, file=sys.stderr, position=1):
                pass
    finally:
        sys.stderr = before
    said = terminal.getvalue()
    assert "\r" in said
    assert "\x1b[A" in said
    assert clean(said.replace("\x1b[A", "").replace("\r", "", said.count("\r") - said.count("e\rf")))
    assert r"\x1b]52" in said


def test_colours_are_this_programs_own(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "d", models=("m",), steps=(0, 1))
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run([*MADYN, "show", str(root)], capture_output=True, text=True, env=environment, check=True)
    assert "\x1b[1m" in done.stdout


def say_foreign_text() -> None:
    print(FOREIGN)
    print(FOREIGN, file=sys.stderr)


def test_workers_are_guarded_too(capfd):
    with Workers(1) as workers:
        workers.submit(say_foreign_text).result()
    out, err = capfd.readouterr()
    assert clean(out + err)
    assert (out.count("aGVsbG8="), err.count("aGVsbG8=")) == (1, 1)


def test_nothing_is_asked_of_the_user(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with guarded(), pytest.raises(EOFError):
        input("run it? ")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(write_dataset(tmp_path_factory.mktemp("streams") / "été 模型", models=("m",), steps=(0, 1)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("command", [["--version"], ["show", "DATASET", "--json"], ["show", "DATASET"]])
def test_a_full_standard_output_is_one_line_and_1(dataset, command):
    arguments = [dataset if word == "DATASET" else word for word in command]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*MADYN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "madyn: standard output cannot be written: No space left on device\n"


def test_a_closed_standard_output_is_one_line_and_1(dataset):
    code = f"import os, sys; os.close(1); os.execv(sys.executable, {[*MADYN, 'show', dataset]!r})"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "madyn: standard output is closed\n")


def test_a_pipe_that_nobody_reads_ends_it_quietly(dataset):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*MADYN, "show", dataset], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (READER_GONE, "")


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({"PYTHONIOENCODING": "ascii"}, r"\xe9t\xe9 \u6a21"), ({"LC_ALL": "C"}, "été 模"),
     ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, r"\udcc3\udca9t")],
)  # fmt: skip
def test_a_terminal_without_letters(dataset, environment, shown):
    environment = {**os.environ, **environment}
    for command in (["check", dataset], ["show", dataset, "--json"]):
        done = subprocess.run([*MADYN, *command], capture_output=True, encoding="utf-8", env=environment, check=False)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1)
        if "--json" in command:
            assert json.loads(done.stdout)["models"][0]["model"] == "m"
        else:
            assert shown in done.stdout + done.stderr


def test_a_stream_refuses_again_and_again(tmp_path):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    before, sys.stdout = sys.stdout, Full()
    try:
        with guarded():
            for _ in range(2):
                with pytest.raises(StorageError, match="standard output cannot be written: No space left"):
                    print("x")
    finally:
        sys.stdout = before
