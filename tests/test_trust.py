"""What madyn does not do: run a model's code, ask the Hub for what looks like a path, follow links out."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import madyn
from madyn.dataset import layout, manifest
from madyn.dataset.copying import bring
from madyn.dataset.shipped import pack_dataset
from madyn.dataset.training import read_record, write_record
from madyn.errors import (
    MOST_WORKERS,
    CheckpointError,
    DatasetError,
    StorageError,
    TextError,
    UsageError,
    missing_dependency,
)
from madyn.paths import describe_missing, means_path
from madyn.telemetry import SETTINGS
from tiny import TEXT, save_checkpoints, write_dataset, write_family

MADYN = [sys.executable, "-c", "from madyn.cli import main; main()"]
PACKAGE = Path(madyn.__file__).parent

# Code of others


LOADERS = ("from_pretrained", "from_config")
OURS = {"architecture.py"}  # defines a `from_config` of its own, which reads a shape


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_loader_is_told_whether_code_may_run(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute) or node.attr not in LOADERS:
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "Architecture":
            continue
        calls = [call for call in ast.walk(ast.parse(path.read_text())) if isinstance(call, ast.Call)]
        mine = [call for call in calls if ast.dump(call.func) == ast.dump(node)]
        if mine:
            assert all("trust_remote_code" in [k.arg for k in call.keywords] for call in mine), (path, node.lineno)
        else:  # handed on: to the one function that adds the argument
            handed = [call for call in calls if any(ast.dump(a) == ast.dump(node) for a in call.args)]
            assert handed, (path, node.lineno)
            assert all(ast.unparse(call.func) == "self._load" for call in handed), (path, node.lineno)


CODE = """
from pathlib import Path
from transformers import PreTrainedConfig, PreTrainedTokenizerFast
Path({marker!r}).write_text("it ran")
class Foreign(PreTrainedTokenizerFast): pass
class ForeignConfig(PreTrainedConfig): model_type = "foreign"
"""
MAPS = {
    "tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["foreign.Foreign", "foreign.Foreign"]}}),
    "config": ("config.json", {"auto_map": {"AutoConfig": "foreign.ForeignConfig"}, "model_type": "foreign"}),
    "model": ("config.json", {"auto_map": {"AutoModel": "foreign.ForeignModel"}}),
    "image_processor": (
        "preprocessor_config.json",
        {"auto_map": {"AutoImageProcessor": "foreign.Foreign"}, "image_processor_type": "Foreign"},
    ),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("trust") / "run", steps=(1,)) / "step1"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("trust") / "seeing/step1"
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(params=MAPS)
def hostile(request, plain, seeing, tmp_path):
    """A run's folder whose checkpoint brings code, and what that code would write."""
    folder, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(seeing if request.param == "image_processor" else plain, folder / "step1")
    (folder / "step1/foreign.py").write_text(CODE.format(marker=str(marker)))
    name, values = MAPS[request.param]
    file = folder / "step1" / name
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **values}))
    if request.param == "tokenizer":  # nothing of it can be read without the code
        (folder / "step1/tokenizer.json").unlink()
        file.write_text(json.dumps({**values, "tokenizer_class": "Foreign"}))
    return folder, marker, request.param


def test_no_command_runs_code_that_comes_with_a_model(hostile, plain, run, tmp_path, monkeypatch):
    folder, marker, what = hostile
    (tmp_path / "book.txt").write_text(TEXT)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "pictures/a.png")
    probe = ["--probe", tmp_path / "book.txt", "--sequences", "1", "--length", "8"]
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'name = "s"\n[recipe]\nsteps = 2\nlength = 8\nbatch_size = 1\n[text]\nsource = "{tmp_path}/book.txt"\n'
        f'tokenizer = "{folder}/step1"\n[measure]\nsource = "{tmp_path}/book.txt"\nloss_sequences = 1\nsequences = 1\n'
        "[[model]]\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 1\n"
    )
    commands = [
        ["scan", folder / "step1", *probe],
        ["scan", plain, "--tokenizer", folder / "step1", *probe],
        ["scan", folder / "step1", "--images", tmp_path / "pictures"],
        ["plan", folder, *probe],
        ["trace", folder, "--out", tmp_path / "d", *probe],
        ["verify", folder],
        ["lab", suite, "--dry-run"],
        ["lab", suite, "--out", tmp_path / "lab", "--jobs", "1"],
    ]
    said = []
    for command in commands:
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
        code, out, err = run(*command)
        assert not marker.exists(), command
        assert "Traceback" not in err
        assert "[y/N]" not in out + err
        if code:
            said.append(err.splitlines()[-1])
            assert said[-1].startswith("madyn: ")
    refused = [line for line in said if "--trust-remote-code" in line]
    # A model of a type that transformers knows is built from its own class.
    assert bool(refused) is (what != "model"), said
    if what != "model":
        command = ["scan", folder / "step1", *(probe if what != "image_processor" else commands[2][2:])]
        assert "--trust-remote-code" in run(*command)[2]


KERNELS = {
    "attention": {"attn_implementation": "other/repo:fn"},
    "attention, in its private name": {"_attn_implementation": "other/repo@main:fn"},
    "attention by config": {"attn_implementation": {"": "eager", "text_config": "other/repo"}},
    "experts": {"experts_implementation": "other/repo"},
    "of a config in it": {"text_config": {"_attn_implementation": "flash|other/repo"}},
    "by layer": {"per_layer_config": [{"attn_implementation": "other/repo"}]},
}


@pytest.fixture
def asked_kernels(monkeypatch):
    """The kernels that transformers would fetch of the Hub and run, as if the package `kernels` were there."""
    from transformers.integrations import hub_kernels

    asked = []

    def get_kernel(name, **options):
        asked.append(name)
        raise RuntimeError("fetched")

    monkeypatch.setattr(hub_kernels, "is_kernels_available", lambda *arguments: True)
    monkeypatch.setattr(hub_kernels, "get_kernel", get_kernel)
    return asked


@pytest.mark.parametrize("values", KERNELS.values(), ids=KERNELS)
def test_no_kernel_of_the_hub_runs_because_a_config_names_it(plain, run, tmp_path, asked_kernels, values):
    folder = tmp_path / "run"
    config = shutil.copytree(plain, folder / "step1") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **values}))
    (tmp_path / "book.txt").write_text(TEXT)
    probe = ["--probe", tmp_path / "book.txt", "--sequences", "1", "--length", "8"]
    said = []
    for command in (
        ["scan", folder / "step1", *probe],
        ["scan", folder / "step1", "--stream", *probe],
        ["plan", folder, "--probe", tmp_path / "book.txt", "--sequences", "1", "--length", "8"],
        ["trace", folder, "--out", tmp_path / "d", *probe],
        ["verify", folder],
    ):
        _, out, err = run(*command)
        assert "Traceback" not in err
        said += [] if command[0] == "verify" else ["".join((out + err).split())]
    assert asked_kernels == []
    assert all("--trust-remote-code" in one and "other/repo" in one for one in said), said


def test_a_kernel_is_asked_for_where_that_is_trusted(plain, run, tmp_path, asked_kernels):
    """The other way round, so that the test above can fail."""
    config = shutil.copytree(plain, tmp_path / "step1") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **KERNELS["attention"]}))
    run("scan", tmp_path / "step1", "--trust-remote-code")
    assert set(asked_kernels) == {"other/repo"}


def test_a_model_that_cannot_be_built_is_one_line(plain, run, tmp_path):
    """Here for the lack of a package: transformers raises an ImportError."""
    folder = tmp_path / "run"
    config = shutil.copytree(plain, folder / "step1") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **KERNELS["attention"]}))
    for command in (["plan", folder], ["scan", folder / "step1", "--stream"], ["scan", folder / "step1"]):
        _, out, err = run(*command, "--trust-remote-code")
        assert "Traceback" not in err
        assert "`kernels`iseithernotinstalled" in "".join((out + err).split()), command
    settings = madyn.sweep.Settings(trust_remote_code=True, decoder_only=True)
    report = madyn.trace(folder, tmp_path / "d", probe=madyn.sweep.Probe("stdlib", 1, 8), settings=settings)
    assert [unit.step for unit in report.failures] == [1]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("value", ["foreign.Foreign", ["a"], {"AutoConfig": 3, "AutoTokenizer": 3}])
def test_an_auto_map_that_is_none_is_said_in_words(plain, run, tmp_path, name, value):
    file = shutil.copytree(plain, tmp_path / "step1") / name
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": value}))
    code, _, err = run("scan", tmp_path / "step1", "--sequences", "1", "--length", "8")
    assert "object" not in err
    assert "Traceback" not in err
    if code:
        assert f"auto_map in {name} is" in err


def test_code_runs_where_it_is_trusted(plain, run, tmp_path):
    """The other way round, so that the test above can fail."""
    folder, marker = tmp_path / "step1", tmp_path / "marker"
    shutil.copytree(plain, folder)
    (folder / "foreign.py").write_text(CODE.format(marker=str(marker)))
    file, values = MAPS["config"]
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **values}))
    run("scan", folder, "--trust-remote-code")
    assert marker.exists()


# What looks like a path


@pytest.fixture
def here(tmp_path, monkeypatch, plain):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(plain, tmp_path / "runs/first")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/book.txt").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["scan", "runs/frist"], ["trace", "runs/frist", "--out", "o"], ["plan", "runs/frist"], ["verify", "runs/frist"],
        ["scan", "elsewhere/model.gguf"], ["scan", "a/b/c"], ["scan", "./typo"], ["scan", "~/typo/x"],
        ["scan", "runs/first", "--probe", "data/bock.txt"], ["scan", "runs/first", "--probe", "typo/book.jsonl.zst"],
        ["scan", "runs/first", "--probe", "data/typo"], ["scan", "runs/first", "--tokenizer", "runs/frist"],
        ["show", "data/typo"], ["fit", "runs/frist"], ["check", "a/b/c"], ["compare", "x/data.parquet"],
        ["lab", "suite/typo.toml", "--out", "o"], ["lab", "typo", "--dry-run"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_path_with_a_typo_is_said_at_once_and_asked_of_nobody(here, hub, run, command):
    code, out, err = run(*command)
    assert (code in (1, 2), out, err.count("\n")) == (True, "", 1), err
    assert "no such folder or file" in err
    assert hub.requests == []
    if "runs/frist" in command:
        assert err.endswith("there is runs/first\n")
    if "data/bock.txt" in command:
        assert err.endswith("there is data/book.txt\n")


def test_names_of_the_hub_are_asked_there(here, hub, run):
    for command in (["scan", "owner/frist"], ["show", "owner/nowhere-at-all"], ["scan", "gpt5"]):
        code, _, err = run(*command)
        assert (code, "no such repository" in err) == (1, True)
    assert hub.requests


def test_what_has_the_form_of_a_path(here):
    names = ("EleutherAI/pythia-1.4b", "gpt2", "owner/name.v2", "hf://datasets/a/b", "s3://bucket/x/y.txt")
    assert not any(map(means_path, names))
    assert all(map(means_path, ("runs", "runs/", "runs/x", "/x", ".", "~x", "a/b/c", "x.GGUF", "a/b.txt", Path("a"))))
    assert describe_missing("x" * 300) == "cannot be read: File name too long"
    assert describe_missing("a\0b") == "no name that a file can have"
    assert describe_missing("nothing/like/it") == "no such folder or file"


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x" * 5000, "a/" + "x" * 300, ".", "é\udcff"])
def test_no_name_is_too_odd(here, name):
    """Every way in, with names that no file can have, or that are none of what is asked for."""
    for error, call in (
        (DatasetError, madyn.open_dataset), (DatasetError, madyn.checking.check_dataset),
        (CheckpointError, madyn.sweep.scan_checkpoint), (UsageError, madyn.lab.read_suite),
        ((CheckpointError, UsageError), lambda n: madyn.trace(n, here / "o")),
        (TextError, lambda n: madyn.sweep.scan_checkpoint("runs/first", probe=madyn.sweep.Probe(n, length=8))),
        (CheckpointError, lambda n: madyn.sweep.scan_checkpoint("runs/first", tokenizer=n)),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            call(name)
        assert len(str(caught.value)) < 6000


@pytest.mark.parametrize("environment", [{"HF_ENDPOINT": "http://127.0.0.1:1"}, {"HF_HUB_OFFLINE": "1"}])
def test_no_way_to_the_hub_is_found_out_in_seconds(here, tmp_path, environment):
    """Without a patched clock: the client and transformers would each try for half a minute."""
    code = """
import json, sys, time
import huggingface_hub, torch, transformers, datasets
from madyn.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["madyn", *arguments]
    start = time.monotonic()
    try:
        main()
    except SystemExit as e:
        assert e.code == 1, e.code
    took = time.monotonic() - start
    assert took < 8, (arguments, took)
"""
    commands = [
        ["show", "owner/data"], ["trace", "owner/tiny", "--out", "out"], ["scan", "owner/tiny"],
        ["scan", "runs/first", "--tokenizer", "owner/tok"], ["scan", "runs/first", "--probe", "owner/text"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], cwd=here, capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(commands), done.stderr
    assert all(line.startswith("madyn: ") for line in done.stderr.splitlines())


# Links


@pytest.fixture
def linked(tmp_path):
    """A dataset, and a folder of somebody else's that a test may lead a link to; what that holds must stay."""
    root = write_dataset(tmp_path / "d", models=("m",), steps=(0, 1, 2, 4, 8, 16, 32))
    other = write_dataset(tmp_path / "other", models=("m",), steps=(0, 1, 2, 4, 8, 16, 32))
    (other / "secret").write_text("secret")
    return root, other


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lead(path, to):
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(to)


@pytest.mark.parametrize("place", ["m", "m/params", "m/series"])
def test_fit_and_figures_follow_no_link_out(linked, run, place):
    root, other = linked
    (other / place).mkdir(exist_ok=True)
    lead(root / place, other / place)
    before = content(other)
    codes = []
    for command in (["fit", root, "--hypothesis", "step1", "--quantity", "ratio"],
                    ["figures", root, "--only", "*/series/*", "--jobs", "1"]):  # fmt: skip
        code, _, err = run(*command)
        codes.append(code)
        if code:
            assert err.splitlines()[-1].startswith("madyn: ")
            assert f"{root / place} is a link that leads out of the dataset" in err
    assert 1 in codes
    assert content(other) == before


@pytest.mark.parametrize("place", ["run", "run/stats", "manifest", "locations", "locations/run", ".locks"])
def test_trace_and_lab_follow_no_link_out(tmp_path, plain, run, place):
    other, root = tmp_path / "other", tmp_path / "d"
    other.mkdir()
    (tmp_path / "book.txt").write_text(TEXT)
    probe = ["--probe", tmp_path / "book.txt", "--sequences", "1", "--length", "8"]
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(other)
    code, _, err = run("trace", plain.parent, "--out", root, *probe)
    assert code == 1
    assert "is a link that leads out of the dataset" in err.splitlines()[-1]
    assert list(other.iterdir()) == []


@pytest.mark.parametrize("place", ["a_s0", "training", "manifest", "checkpoints", ".lab", "training/tokenizer"])
def test_the_lab_follows_no_link_out(tmp_path, run, place):
    other, root = tmp_path / "other", tmp_path / "d"
    other.mkdir()
    (tmp_path / "book.txt").write_text(TEXT)
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(other)
    suite = tmp_path / "s.toml"
    suite.write_text(
        f'name = "s"\n[recipe]\nsteps = 2\nlength = 8\nbatch_size = 1\n[text]\nsource = "{tmp_path}/book.txt"\n'
        f'vocab_size = 300\n[measure]\nsource = "{tmp_path}/book.txt"\nloss_sequences = 1\nsequences = 1\n[[model]]\n'
        'hidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 1\nrotary_pct = 1.0\nname = "a"\n'
    )
    code, _, err = run("lab", suite, "--out", root, "--jobs", "1", "--keep-weights")
    assert code == 1
    assert "is a link that leads out of the dataset" in err.splitlines()[-1]
    assert list(other.iterdir()) == []


@pytest.mark.parametrize("place", ["m/stats/exp2_m_step0", "README.md", "m", "manifest"])
def test_what_a_link_leads_to_is_not_packed_and_not_copied(linked, tmp_path, place):
    root, other = linked
    (root / place).unlink() if (root / place).is_file() else shutil.rmtree(root / place, ignore_errors=True)
    (root / place).symlink_to(other / "secret" if place.startswith(("m/", "R")) else other)
    if place in ("m", "manifest"):
        (other / "stats").mkdir()
        (other / "stats/exp2_m_step0").write_text("[[[1]]]")
        (other / "step0.json").write_text("{}")
    for call in (lambda: pack_dataset(root, tmp_path / "packed"), lambda: bring(root, tmp_path / "copy")):
        with pytest.raises(StorageError, match="leads out of the dataset"):
            call()
    assert not (tmp_path / "packed").exists()


def test_links_inside_and_the_root_itself_are_fine(linked, tmp_path, run):
    root, _ = linked
    (root / "m").rename(root / "real")
    (root / "m").symlink_to("real")
    (tmp_path / "link").symlink_to(root)
    assert run("fit", tmp_path / "link", "--model", "m", "--hypothesis", "step1", "--quantity", "ratio")[0] == 0
    assert (root / "real/params/layer_fit_params_ratio.json").is_file()
    pack_dataset(tmp_path / "link", tmp_path / "packed.tar.xz")
    assert (tmp_path / "packed.tar.xz").is_file()


# Listeners and reports


def test_what_would_be_sent_home_is_off_and_the_users_own_setting_wins():
    code = """
import json, os
from madyn.telemetry import SETTINGS
from huggingface_hub import constants
print(json.dumps([{n: os.environ[n] for n in SETTINGS}, constants.HF_HUB_DISABLE_TELEMETRY]))
"""
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}

    def said(**own):
        environment = {**clean, **own}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return json.loads(done.stdout)

    assert said() == [SETTINGS, True]
    found, off = said(HF_HUB_DISABLE_TELEMETRY="0", DO_NOT_TRACK="0", RAY_USAGE_STATS_ENABLED="1")
    assert (off, found["RAY_USAGE_STATS_ENABLED"]) == (False, "1")


LISTENING = """
import json, sys
from madyn.sweep.clusters import start_ray
{before}
ray = start_ray()
assert ray.get(ray.remote(lambda: 1).remote()) == 1
import psutil
own = [psutil.Process(), *psutil.Process().children(recursive=True)]
pids = {{process.pid for process in own}}
print(json.dumps([c.laddr.ip for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.pid in pids]))
ray.shutdown()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Ray's processes are no children there")
def test_ray_started_here_listens_on_loopback_alone():
    pytest.importorskip("ray")
    environment = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING.format(before="")], capture_output=True, text=True, check=True, env=environment
    )
    addresses = json.loads(done.stdout.splitlines()[-1])
    assert len(addresses) >= 3
    assert set(addresses) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert "note: Ray listens" not in done.stderr


def test_ray_that_is_missing_is_said_before_anything_is_read(monkeypatch, run, tmp_path):
    monkeypatch.setattr("madyn.sweep.clusters.find_spec", lambda name: None)
    code, _, err = run("trace", "/nowhere", "--out", tmp_path / "d", "--engine", "ray")
    assert (code, err) == (1, 'madyn: ray is not installed: pip install "madyn[cluster]"\n')


def test_the_extra_of_a_missing_package():
    for name, extra in (("ray", "cluster"), ("s3fs", "cluster"), ("shap", "predict"), ("torch", "models")):
        assert f"madyn[{extra}]" in str(missing_dependency(ModuleNotFoundError(name=name)))


# Numbers that cannot be meant


@pytest.mark.parametrize(
    "options",
    [["--sequences", "1000000000"], ["--sequences", "0"], ["--sequences", "-1"], ["--sequences", "1e9"],
     ["--sequences", "9" * 30], ["--length", "0"], ["--length", "-3"], ["--length", "9" * 30], ["--seed", "-1"],
     ["--seed", "9" * 30], ["--batch-size", "0"], ["--exclude-positions", "0-999999999999999"]],
    ids=" ".join,
)  # fmt: skip
def test_a_number_that_cannot_be_meant_is_one_line(plain, tmp_path, run, options):
    (tmp_path / "book.txt").write_text(TEXT)
    for command in (["scan", plain], ["trace", plain.parent, "--out", tmp_path / "d"]):
        code, out, err = run(*command, "--probe", tmp_path / "book.txt", *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("madyn: ")
        assert len(err) < 300


@pytest.mark.parametrize("jobs", ["0", "-1", "100000", "9" * 30])
def test_so_many_processes_are_one_line(plain, tmp_path, run, jobs):
    root = write_dataset(tmp_path / "d", models=("m",), steps=(0, 1))
    for command in (
        ["trace", plain.parent, "--out", tmp_path / "o", "--jobs", jobs],
        ["trace", plain.parent, "--out", tmp_path / "o", "--engine", "ray", "--cpus", jobs],
        ["figures", root, "--jobs", jobs],
        ["lab", "tiny-suite", "--out", tmp_path / "o", "--jobs", jobs],
        ["lab", "tiny-suite", "--dry-run", "--threads", jobs],
    ):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1), command
        assert f"from 1 to {MOST_WORKERS}" in err


# Object stores


@pytest.mark.parametrize("url", ["s3://no-such-bucket-of-anybody/x", "nosuch://bucket/x", "s3:///x", "file://host/x"])
def test_a_store_that_cannot_be_had_is_one_line_in_short_time(plain, tmp_path, url):
    """Nothing answers at the store's address, and there are no credentials."""
    (tmp_path / "book.txt").write_text(TEXT)
    keep = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    environment = {**keep, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true",
                   "AWS_MAX_ATTEMPTS": "1", "HOME": str(tmp_path)}  # fmt: skip
    for command in (["show", url], ["trace", str(plain.parent), "--out", url, "--probe", str(tmp_path / "book.txt")]):
        start = time.monotonic()
        done = subprocess.run([*MADYN, *command], capture_output=True, text=True, check=False, env=environment)
        assert time.monotonic() - start < 40
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("madyn: ")
        assert len([line for line in done.stderr.splitlines() if line.startswith("madyn: ")]) == 1


# Folders that may not be looked into


@pytest.mark.skipif(os.name != "posix" or not Path("/proc").exists(), reason="permissions of Linux")
def test_what_may_not_be_read_is_one_line(plain, tmp_path, request):
    """As a user whom permissions bind: the superuser gives that up first."""
    drop = [
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
        "--inh-caps",
        "-dac_override,-dac_read_search",
    ]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("the superuser may read everything, and setpriv is not there")
    as_user = drop if os.geteuid() == 0 else []
    root, run = write_dataset(tmp_path / "d", steps=(0, 1)), tmp_path / "run"
    for step in (1, 2):
        shutil.copytree(plain, run / f"step{step}")
    closed = [root / "pythia_14m/stats", run / "step1", tmp_path / "shut"]
    closed[-1].mkdir()
    (tmp_path / "book.txt").write_text(TEXT)
    probe = ["--probe", str(tmp_path / "book.txt"), "--length", "8", "--sequences", "1"]
    for folder in closed:
        folder.chmod(0)
    request.addfinalizer(lambda: [folder.chmod(0o755) for folder in closed])
    for code, command in (
        (1, ["show", root]), (1, ["fit", root]), (1, ["show", closed[-1]]), (1, ["scan", run / "step1", *probe]),
        (1, ["trace", run, "--out", closed[-1], *probe]), (2, ["lab", closed[-1] / "x.toml", "--dry-run"]),
        (0, ["trace", run, "--out", tmp_path / "o", *probe]),
    ):  # fmt: skip
        done = subprocess.run([*as_user, *MADYN, *map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "Permission denied" in done.stderr
        said = [line for line in done.stderr.splitlines() if line.startswith("madyn: ")]
        assert len(said) == (code != 0)


# Control characters


FOREIGN = "a\x1b]52;c;aGVsbG8=\x07b\x9b31mc\u202ed\x7fe\x85f\x1b[2Jg"
OBEYED = ("\x1b]", "\x07", "\x9b", "\u202e", "\x7f", "\x85", "\x1b[2J")
RUN_ALL = """
import json, sys
from madyn.cli import main
for number, arguments in enumerate(json.load(open(sys.argv[1]))):
    sys.argv = ["madyn", *arguments]
    try:
        main()
    except SystemExit as e:
        print("DONE", number, e.code, flush=True)
"""


def plant(root, *, damage):
    """Foreign text in every field of a dataset's files that holds text, sealed as their writers seal them; and with
    `damage` where no text belongs, so that readers quote it."""
    for model in layout.manifest_models(root):
        for step, unit in manifest.read_units(root, model).items():
            said = dict.fromkeys(("source", "revision", "commit", "first_token", "dtype", "device"), FOREIGN)
            failure = FOREIGN if damage and step == 100 else None
            changed = replace(
                unit, **said, remarks=[FOREIGN], versions={FOREIGN: FOREIGN}, stacks={FOREIGN: 1}, failure=failure
            )
            manifest.write_unit(root, changed)
            if failure:
                layout.statistics_path(root, model, step).unlink()
    manifest.write_unit(root, manifest.Unit(model="none_measured", step=0, source=FOREIGN, failure=FOREIGN))
    manifest.claim_probe(root, manifest.ProbeRecord(text=FOREIGN, sha256="0" * 64, documents=1, seed=0))
    (root / f"x{FOREIGN}" / "stats").mkdir(parents=True, exist_ok=True)
    if not damage:
        return
    model = layout.model_directories(root)[0]
    record = read_record(root, model)
    assert record is not None
    write_record(root, model, replace(record, failure=FOREIGN, plan={"suite": FOREIGN, FOREIGN: FOREIGN}))
    layout.statistics_path(root, model, 1).write_text(f"[[[1, {FOREIGN}]]]")
    for path in root.glob("*/params/*.json"):
        value = json.loads(path.read_text())
        first = value[0]
        first[FOREIGN] = {**next(iter(first.values())), "param_names": [FOREIGN], "popt": [1.0], "pcov": [[1.0]]}
        path.write_text(json.dumps(value))
    table = root / layout.PARAMETER_TABLE
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},{FOREIGN}", *(f"{row},{FOREIGN}" for row in rows)]).replace(model, FOREIGN, 1))


@pytest.mark.slow
def test_no_command_prints_what_a_terminal_obeys(tmp_path, plain):
    root = write_family(tmp_path / f"d{FOREIGN}", count=4, repeated=2).path
    madyn.fit_dataset(root, hypotheses=["reparam"], quantities=["ratio"])
    plant(root, damage=False)
    damaged = f"{tmp_path}/damaged{FOREIGN}"
    shutil.copytree(root, damaged)
    plant(Path(damaged), damage=True)
    folder = tmp_path / f"run{FOREIGN}" / "net"
    shutil.copytree(plain, folder / "step1")
    tokenizer = json.loads((folder / "step1/tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    tokenizer["added_tokens"] += [
        {"id": words[word], "content": f"{word}{FOREIGN}", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": False} for word in list(words)[1:80]
    ]  # fmt: skip
    (folder / "step1/tokenizer.json").write_text(json.dumps(tokenizer))
    shutil.copytree(plain, folder / "step2")
    (folder / "step2/model.safetensors").write_bytes(FOREIGN.encode() * 9)
    (folder / "step3").mkdir()
    (folder / "step3/config.json").write_text(json.dumps({"model_type": FOREIGN, FOREIGN: 1}))
    (tmp_path / "book.txt").write_text(TEXT)
    suite = tmp_path / "s.toml"
    name = json.dumps(FOREIGN)
    shape = "hidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 1\nrotary_pct = 1.0\n"
    suite.write_text(f'name = {name}\n[text]\nsource = "{tmp_path}/book.txt"\n[[model]]\n{shape}name = "a"\n')
    broken = tmp_path / "b.toml"
    broken.write_text(f"name = {name}\n{name} = 1\n[[model]]\n{shape}name = {name}\n")
    probe = ["--probe", str(tmp_path / "book.txt"), "--sequences", "1", "--length", "8"]
    shape_options = ["--layers", "3", "--hidden-size", "64", "--heads", "2", "--mlp-ratio", "2"]
    data, run = str(root), str(folder)
    commands = [
        ["show", data, "-v"], ["show", damaged, "--locations"], ["show", damaged, "--json"], ["check", damaged, "-v"],
        ["check", damaged, "--json"], ["check", data], ["show", damaged, "-v"], ["compare", damaged],
        ["compare", data, "-v", "--hypothesis", "step1"],
        ["forecast", data, "--at", "90", "--model", layout.model_directories(root)[0]], ["effects", data],
        ["effects", damaged], ["fit", damaged, "--hypothesis", "step1"], ["predict", data, *shape_options],
        ["predict", damaged, *shape_options], ["evaluate", data, "--jobs", "1", "--approach", "ridge"],
        ["design", "--suite", data, "--params", FOREIGN],
        ["design", "--suite", data, "--minimize", "max ratio", "--params", "..9M"],
        ["figures", data, "--only", "*/series/*median*", "--jobs", "1"],
        ["fit", data, "--model", FOREIGN], ["fit", data, "--hypothesis", FOREIGN], ["show", f"{data}/{FOREIGN}"],
        ["scan", f"{run}/step1", *probe], ["scan", f"{run}/step1", *probe, "--json"], ["scan", f"{run}/step2", *probe],
        ["scan", f"{run}/step3", *probe], ["plan", run, *probe], ["verify", run], ["scan", FOREIGN], ["show", FOREIGN],
        ["trace", run, *probe, "--out", str(tmp_path / f"o{FOREIGN}")], ["trace", run, "--out", "o"],
        ["scan", f"{run}/step1", "--probe", FOREIGN], ["scan", f"{run}/step1", "--tokenizer", FOREIGN],
        ["lab", str(suite), "--dry-run"], ["lab", str(broken), "--dry-run"], ["lab", FOREIGN], [FOREIGN],
    ]  # fmt: skip
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(tmp_path / "commands.json")],
        capture_output=True, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, err[-3000:]
    assert out.count("DONE") == len(commands)
    for text in (out, err):
        assert not [character for character in OBEYED if character in text], text
        assert text.count("aGVsbG8=") > 10
    assert "Traceback" not in err
    assert "\x1b[1m" in out  # it was a terminal
    assert "Glyph" not in err
