"""`madyn info`, `python -m madyn` and what completes the command line in a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import madyn
from madyn.errors import EXTRAS

SECRET = "hf_a-token-that-nobody-may-see"


def test_it_says_what_a_report_needs_and_no_secret(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    (tmp_path / ".cache" / "madyn").mkdir(parents=True)
    (tmp_path / ".cache" / "madyn" / "one").write_bytes(b"x" * 2000)
    code, out, err = run("info")
    assert (code, err) == (0, "")
    assert f"madyn       {madyn.__version__} in " in out
    assert "madyn: ~/.cache/madyn, 2 kB" in out
    assert "tiny-suite" in out
    assert SECRET not in out
    assert str(tmp_path) not in out
    code, out, _ = run("info", "--json")
    found = json.loads(out)
    assert (code, found["madyn"], set(found["extras"])) == (0, madyn.__version__, set(EXTRAS))
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["devices"][0] == "cpu"
    assert found["caches"]["madyn"] == {"path": "~/.cache/madyn", "bytes": 2000, "whole": True}
    assert SECRET not in out


def test_what_is_missing_is_said_with_how_to_get_it(run, monkeypatch):
    from madyn.cli import installation

    there = installation.find_spec
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name in ("torch", "ray") else there(name))
    _, out, _ = run("info")
    assert "torch missing" in out
    assert 'pip install "madyn[models]"' in out
    assert 'pip install "madyn[cluster]"' in out
    assert "torch is not installed" in out
    assert "models" in json.loads(run("info", "--json")[1])["missing"]


def test_python_m_madyn_is_the_command():
    run = subprocess.run([sys.executable, "-m", "madyn", "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, f"madyn {madyn.__version__}\n")


COMPLETE = """
import sys
from madyn.cli import main
sys.argv = ["madyn"]
try:
    main()
finally:
    heavy = sorted({"numpy", "pandas", "torch", "matplotlib", "scipy"} & set(sys.modules))
    print("heavy:", *heavy, file=sys.stderr)
"""


@pytest.mark.parametrize(("words", "expected"), [
    ("madyn fo", {"forecast"}), ("madyn compare --hyp", {"--hypothesis"}), ("madyn show --ex", {"--explain"}),
])  # fmt: skip
def test_bash_completes_commands_and_options_without_loading_much(words, expected):
    environment = {**os.environ, "_MADYN_COMPLETE": "complete_bash", "COMP_WORDS": words,
                   "COMP_CWORD": str(len(words.split()) - 1)}  # fmt: skip
    run = subprocess.run([sys.executable, "-c", COMPLETE], capture_output=True, text=True, env=environment)
    assert set(run.stdout.split()) == expected, run.stderr
    assert run.stderr.splitlines()[-1] == "heavy:"


def test_bash_takes_the_script_that_installs_completion():
    environment = {**os.environ, "_MADYN_COMPLETE": "source_bash"}
    run = subprocess.run([sys.executable, "-m", "madyn"], capture_output=True, text=True, env=environment)
    assert "complete -o default -F" in run.stdout
    assert subprocess.run(["bash", "-n"], input=run.stdout, text=True, capture_output=True).returncode == 0
    assert Path(sys.executable).name not in run.stdout
