"""Every code block of README and docs runs.

A page's Python blocks run in order, in one namespace, in a folder that holds what a reader would have: a dataset
`pythia/`, a family `family/`, one of several wirings `remedies/`, a suite file, and a Hub with tiny models under
Pythia's names. Each `madyn` line runs in this process. What costs too much, or needs a machine of its own, stands in
one of the two tables below with its reason; everything that is not there is run, a new block too. The options of all
lines are parsed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer

import madyn
from madyn import cli
from madyn.suites import PYTHIA
from remedy_family import make_remedies
from tiny import SENTENCES, save_checkpoints, write_dataset, write_family, write_wired
from training_runs import Rows, batches, build

HOME = Path(__file__).parent.parent
DOCS = HOME / "docs"
PAGES = {"README.md": HOME / "README.md"} | {p.relative_to(DOCS).as_posix(): p for p in sorted(DOCS.rglob("*.md"))}

INSTEAD = {
    "madyn trace EleutherAI/pythia-14m EleutherAI/pythia-70m --steps paper --probe redpajama --out pythia/": (
        "madyn trace EleutherAI/pythia-14m --steps 0,1,1000 --length 16 --out traced/",
        "37 checkpoints twice, and 5 GB of text",
    ),
    "madyn effects tiny-suite": ("madyn effects family/", "162 models"),
    "madyn effects tiny-suite --out page/": ("madyn effects family/ --out page/", "162 models"),
    "madyn intervene MODEL --set zero --set mean --out report/": (
        "madyn intervene EleutherAI/pythia-14m --layer 1 --length 16 --set zero --set mean --out report/",
        "a model in which nothing is massive",
    ),
    "madyn intervene RUN/ --steps all --out DATASET/": (
        "madyn intervene EleutherAI/pythia-14m --steps 0,1 --layer 1 --length 16 --out studied/",
        "a model in which nothing is massive",
    ),
    "madyn quantization model.gguf": ("madyn quantization EleutherAI/pythia-14m --length 16", "a model of the Hub"),
    "madyn quantization model.gguf --out report/": (
        "madyn quantization EleutherAI/pythia-14m --length 16 --out report/", "a model of the Hub",
    ),
    "madyn report MODEL --out report.html": (
        "madyn report EleutherAI/pythia-14m --length 16 --out report.html", "a model of the Hub",
    ),
    "madyn scan MODEL --features": ("madyn scan EleutherAI/pythia-14m --length 16 --features", "a model of the Hub"),
    "madyn report tiny-suite --out report.html": ("madyn report family/ --out report.html", "162 models"),
    "madyn evaluate tiny-suite": ("madyn evaluate family/ --approach nearest", "three minutes"),
    "madyn watch massive-activations": ("madyn watch pythia/ --once", "it waits for what comes"),
    "madyn watch DATASET": ("madyn watch DATASET --once", "it waits for what comes"),
    "madyn watch DATASET --model M --last-step 40000": (
        "madyn watch DATASET --model M --last-step 40000 --once", "it waits for what comes",
    ),
    "madyn watch DATASET --all": ("madyn watch DATASET --all --once", "it waits for what comes"),
}  # fmt: skip
"""Lines that are run in another form, and why."""

PARSED = {
    "madyn demo --out demo/": "minutes; test_demo has it",
    "madyn trace EleutherAI/pythia-14m --steps 0,1,1000 --length 16 --engine ray --out with-ray/": (
        "a Ray cluster, which tests/sweep has"
    ),
    "madyn trace EleutherAI/pythia-70m --out s3://bucket/pythia --shard 1/8": "a bucket",
    "madyn show s3://bucket/pythia --locations": "a bucket",
    "madyn watch s3://bucket/runs --interval 300": "a bucket",
    "madyn lab control-suite --out control/": "a day of one core",
    "madyn app tiny-suite": "it serves until it is stopped; test_app has it",
    "madyn app pythia/ --watch massive-activations": "it serves until it is stopped; test_app has it",
    "madyn control control/ --throughput": "models that the lab has trained, which test_control has",
    "madyn export pythia/ --out arrays/ --format zarr": "zarr, which test_exporting asks for",
    'madyn publish pythia/ OWNER/NAME --license cc-by-4.0 --title "Pythia, measured again" --upload': (
        "a Hub that takes files, which test_publish has"
    ),
    "madyn scan MODEL --images FOLDER": "a vision model and images, which test_scan has",
}
"""Lines of which only the options are looked at, and why."""

STANDS_FOR = {"DATASET": "pythia/", "STEP": "20000", "M": "pythia_14m", "FOLDER": "written/", "MODEL": "pythia_14m"}
"""What is written for the reader to fill in. Brackets are left out: all that may be given is given."""

SLOW = {
    "madyn lab SUITE.toml --out family/",
    "madyn evaluate tiny-suite",
    "madyn figures pythia/ --no-steps",
    "madyn effects tiny-suite --out page/",
    "madyn effects family/ --out page/",
}
SLOW_PAGES = {"lab.md"}
WITH_TRAINERS = {"README.md", "monitor.md", "howto/own-runs.md"}


SHELLS = ("sh", "bash", "shell", "console")
RUN_BY_THE_SITE = "python exec"
LANGUAGES = ("", "python", RUN_BY_THE_SITE, "py", "r", "julia", "toml", "sbatch", *SHELLS)
"""py is Python that stands in a file of the package, and is not run."""


class Block(NamedTuple):
    page: str
    line: int
    text: str


def blocks(page: str) -> list[tuple[str, Block]]:
    """(language, block) of everything on a page that is fenced, also in a list. A block that is run when the site is
    built, which test_site does, has the language `RUN_BY_THE_SITE`."""
    found, opened, inside = [], None, []
    for number, line in enumerate(PAGES[page].read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        if opened is None and line.lstrip().startswith("```"):
            language, _, options = line.strip("` \n").partition(" ")
            opened, inside = (RUN_BY_THE_SITE if 'exec="1"' in options else language, number + 1), []
        elif opened is not None and line.lstrip().startswith("```"):
            found.append((opened[0], Block(page, opened[1], textwrap.dedent("".join(inside)))))
            opened = None
        else:
            inside.append(line)
    assert opened is None, f"{page}: a fence is not closed"
    return found


def fenced(page: str, language: str) -> list[Block]:
    return [block for name, block in blocks(page) if name == language]


def commands() -> list[Block]:
    """Every line that calls madyn, and is indented or in a block of a shell."""
    found = []
    for page, path in PAGES.items():
        fences = {block.line + n for _, block in blocks(page) for n in range(block.text.count("\n"))}
        lines = [(n, line) for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
                 if line.startswith("    ") and n not in fences]  # fmt: skip
        for block in (block for language in SHELLS for block in fenced(page, language)):
            lines += list(enumerate(block.text.splitlines(), start=block.line))
        for number, line in lines:
            if re.match(r"[ $]*madyn [a-z]", line):
                found.append(Block(page, number, " ".join(shlex.split(line.lstrip(" $"), comments=True, posix=False))))
    return found


COMMANDS = list({block.text: block for block in commands()}.values())
PYTHON = [page for page in PAGES if fenced(page, "python")]


def arguments(text: str) -> list[str]:
    """Of a line up to a pipe, with what stands for something filled in."""
    words = shlex.split(text)[1:]
    words = words[: words.index("|")] if "|" in words else words
    optional = re.compile(r"\[(?=--)|(?<=\w)\]$")
    words = [optional.sub("", word) for word in words]
    return [STANDS_FOR.get(word, word) for word in words]


def marked(values: list[Any], slow: set[str], name: Any) -> list[Any]:
    return [pytest.param(v, id=name(v), marks=[pytest.mark.slow] if name(v) in slow else []) for v in values]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What the pages speak of, made once."""
    root = tmp_path_factory.mktemp("reader")
    write_dataset(root / "pythia", steps=(0, *(2**k for k in range(10)), *range(1000, 30_001, 2000)))
    madyn.fit_dataset(root / "pythia", quantities=["ratio"])
    write_family(root / "family", count=14, repeated=5)
    make_remedies(root / "control")
    wirings = {"plain": ({}, 100.0), "sink": ({"attention": "sink"}, 8.0), "gate": ({"output_gate": "headwise"}, 12.0)}
    runs = {f"{k}_s{n}": ({}, wiring, {}, end + n, 3.0) for k, (wiring, end) in wirings.items() for n in range(2)}
    write_wired(root / "remedies", runs)
    (root / "SUITE.toml").write_text(
        'name = "my-family"\n[recipe]\nsteps = 2000\nbatch_size = 1\nlength = 8\n[text]\nvocab_size = 300\n'
        "[measure]\ncount = 6\nsequences = 2\ndocuments = 2\nloss_sequences = 2\n"
        "[[model]]\nhidden_size = 64\nnum_hidden_layers = 4\nnum_attention_heads = 8\nmlp_ratio = 4.0\nseeds = [0]\n"
    )
    save_checkpoints(root / "hub", steps=(0, 1, 1000))
    return root


@pytest.fixture
def folder(made, tmp_path, monkeypatch) -> Path:
    """A reader's working directory."""
    for name in ("pythia", "family", "control", "remedies"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "SUITE.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def models(made, hub) -> None:
    """Pythia's names on the loopback Hub, with tiny models at every step of its grid."""
    kept = {step: {p.name: p.read_bytes() for p in (made / "hub" / f"step{step}").iterdir()} for step in (0, 1, 1000)}
    steps = {f"step{step}": kept.get(step) or nudged(kept[1], i) for i, step in enumerate(PYTHIA.grids["paper"])}
    for size in ("14m", "70m", "1b"):
        # One byte more in a text file makes a commit of its own of each name.
        own = {step: {**files, "README.md": size.encode()} for step, files in steps.items()}
        hub.add(f"EleutherAI/pythia-{size}", {"main": own["step1000"], **own})


def nudged(files: dict[str, bytes], by: int) -> dict[str, bytes]:
    """A checkpoint that differs from another in the last digits of its last weight: every step has its own."""
    weights = bytearray(files["model.safetensors"])
    weights[-4] = weights[-4] ^ (by + 1)
    return {**files, "model.safetensors": bytes(weights)}


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.text)
def test_the_options_of_every_line_are_there(block):
    parsed(block.text)


def parsed(text: str) -> None:
    """Parse a line as its command does, and no more."""
    group: Any = typer.main.get_command(cli.app)
    context = group.make_context("madyn", arguments(text), resilient_parsing=False)
    rest = [*context._protected_args, *context.args]
    name, command, left = group.resolve_command(context, rest)
    command.make_context(name, left, parent=context)


def test_the_job_for_slurm_is_a_script_whose_lines_are_there(tmp_path):
    (job,) = fenced("howto/clusters.md", "sbatch")
    (tmp_path / "trace.sbatch").write_text(job.text)
    subprocess.run(["bash", "-n", tmp_path / "trace.sbatch"], check=True)
    filled = job.text.replace("$SLURM_ARRAY_TASK_ID", "3").replace("$SLURM_ARRAY_TASK_COUNT", "8")
    lines = [line for line in filled.replace("\\\n", "").splitlines() if line.startswith("madyn ")]
    assert lines
    for line in lines:
        parsed(line)


def test_an_unknown_option_would_be_found():
    with pytest.raises(typer.TyperException, match="--nothing"):
        parsed("madyn show pythia/ --nothing 3")


@pytest.mark.parametrize("block", marked([b for b in COMMANDS if b.text not in PARSED], SLOW, lambda b: b.text))
def test_every_line_runs(block, folder, models, run):
    text = INSTEAD.get(block.text, (block.text, ""))[0]
    code, out, err = run(*arguments(text))
    assert code == 0, f"{block.page}:{block.line}: {text}\n{err[-2000:]}"
    assert out.strip()


@pytest.mark.parametrize("page", marked(PYTHON, SLOW_PAGES, str))
def test_the_python_of_every_page_runs(page, folder, models):
    names = reader() | (trainers() if page in WITH_TRAINERS else {})
    for block in fenced(page, "python"):
        code = compile("\n" * (block.line - 1) + block.text, str(PAGES[page]), "exec")
        exec(code, names)


def reader() -> dict[str, Any]:
    """What the pages take for given: series, a model and its inputs."""
    import torch
    from torch import nn

    from madyn.lab.tokenizer import train_tokenizer

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(16, 16)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden + self.inner(hidden)

    class Model(nn.Module):
        """A module of a user's own, with its layers at transformer.blocks."""

        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(300, 16)
            self.blocks = nn.ModuleList([Block(), Block()])
            self.transformer = nn.ModuleDict({"blocks": self.blocks})

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            hidden = self.tokens(ids)
            for block in self.blocks:
                hidden = block(hidden)
            return hidden

    t = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 10_001, 1000)], float)
    y = 20 + 5 * (1 - np.exp(-t / 2000)) + 0.1 * np.random.default_rng(0).standard_normal((3, t.size))
    ids = np.random.default_rng(1).integers(0, 64, (2, 16))
    tokenizer = train_tokenizer(SENTENCES, 300)
    tokenizer.pad_token = tokenizer.bos_token
    return {
        "np": np, "madyn": madyn, "tokenizer": tokenizer, "t": t, "y": y, "t_new": [20_000.0, 50_000.0],
        "ratio": madyn.open_dataset("pythia/").trajectories("pythia_14m", "ratio"),
        "model": Model(0), "input_ids": ids, "token_ids": ids, "my_loader": Model,
    }  # fmt: skip


def trainers() -> dict[str, Any]:
    """What a page takes for given that trains: a model of transformers, its text and a trainer's arguments."""
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments("my-run", max_steps=2, report_to="none", save_strategy="no", disable_tqdm=True)
    return {
        "model": build(), "args": args, "train_set": Rows(), "Trainer": Trainer, "loader": batches(3),
        "wandb": SimpleNamespace(log=lambda values, step: None), "send_mail": print,
    }  # fmt: skip


@pytest.mark.parametrize("block", fenced("lab.md", "toml"), ids=lambda block: f"line {block.line}")
def test_a_suite_file_of_the_docs_is_one(block, tmp_path):
    (tmp_path / "SUITE.toml").write_text(block.text, encoding="utf-8")
    assert madyn.lab.read_suite(tmp_path / "SUITE.toml").name == "my-family"


def test_no_exception_has_lost_its_line():
    """An entry of the tables whose line was changed or dropped."""
    assert {*INSTEAD, *PARSED, *SLOW} <= {block.text for block in COMMANDS}
    assert all(fenced(page, "python") for page in SLOW_PAGES)


def test_every_fence_says_its_language():
    """So that nothing is passed over for the want of a word; plain fences are what a command printed."""
    for page in PAGES:
        for language, block in blocks(page):
            assert language in LANGUAGES, f"{page}:{block.line}"
            if not language:
                assert not re.search(r"^[ $]*madyn |madyn\.|import ", block.text, re.MULTILINE), f"{page}:{block.line}"


def test_the_links_between_pages_lead_somewhere():
    for path in PAGES.values():
        for target in targets(path):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def targets(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            yield target
