"""A kind of checkpoint is one file: it is found, scanned, traced and compared like those that are built in."""

import ast
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import madyn
from madyn.checkpoints import find_checkpoint, find_checkpoints, sources
from madyn.checkpoints.sources import registry
from madyn.errors import CheckpointError, UsageError
from tiny import TEXT, save_checkpoints

ARCHIVES = '''
"""Checkpoints as archives of NumPy's, `N.npz` in a folder of them, with config and tokenizer beside."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from madyn.checkpoints.sources.protocol import Checkpoint, Checkpoints, Source
from madyn.errors import CheckpointError


@dataclass(frozen=True)
class Archive(Checkpoint):
    def config(self, folder=None):
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(Path(self.source).parent)

    def tokenizer(self):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(Path(self.source).parent)

    def load_whole(self, dtype, device="cpu", folder=None):
        import torch
        from transformers import AutoModel

        try:
            with np.load(self.source) as stored:
                state = {name: torch.from_numpy(stored[name]) for name in stored}
        except (OSError, ValueError, EOFError) as e:
            raise CheckpointError(f"{self}: cannot be read: {e}") from e
        model = AutoModel.from_config(self.config())
        model.load_state_dict(state)
        return model.to(dtype).eval().to(device), ["weights came as an archive"]

    def weight_files(self, form=None):
        return {"weights.npz": Path(self.source)}


class Archives(Source):
    words = "a folder of .npz archives"

    def takes(self, model):
        path = Path(model)
        return path.suffix == ".npz" or (path.is_dir() and any(path.glob("*.npz")))

    def find(self, model, asked):
        return Archive(str(model), int(Path(model).stem))

    def find_all(self, model, asked):
        paths = [model] if Path(model).is_file() else Path(model).glob("*.npz")
        found = [self.find(path, asked) for path in paths]
        return Checkpoints(Path(model).name, str(model), {one.step: one for one in found})


SOURCE = Archives()
'''


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """The kind, put where kinds are found; and away again."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "archives.py").write_text(ARCHIVES)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "more")])
    registry.kinds.cache_clear()
    yield
    sys.modules.pop(f"{sources.__name__}.archives", None)
    registry.kinds.cache_clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("made") / "net", (0, 1, 20))


@pytest.fixture
def packed(folders, tmp_path):
    """The same weights as archives."""
    to = tmp_path / "packed" / "net"
    shutil.copytree(folders / "step0", to, ignore=shutil.ignore_patterns("*.safetensors"))
    for step in (0, 1, 20):
        state = load_file(folders / f"step{step}" / "model.safetensors")
        inside = {n.removeprefix("gpt_neox."): t for n, t in state.items() if n.startswith("gpt_neox.")}
        np.savez(to / f"{step}.npz", **inside)  # pyright: ignore[reportArgumentType]
    return to


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return madyn.sweep.Probe(str(tmp_path / "text.txt"), sequences=2, length=12)


def test_the_kinds_that_are_built_in(tmp_path, folders):
    assert [type(source).__module__.rpartition(".")[2] for source in registry.kinds()] == ["folder", "gguf", "hub"]
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"x\.txt: a model is a folder, a \.gguf file, or a name of the Hub$"):
        find_checkpoint(tmp_path / "x.txt")


def test_nobody_else_asks_of_which_kind_a_checkpoint_is():
    package = Path(madyn.__file__).parent
    made = {"madyn.checkpoints.sources.function": ["sweep/tracing.py"]}  # by an option of its own, and by no name
    kinds = {f"{sources.__name__}.{name}" for name in ("hub", "folder", "gguf", "function")}
    importers: dict[str, list[str]] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in kinds:
                importers.setdefault(node.module, []).append(str(path.relative_to(package)))
    assert importers == made
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        find_checkpoint("x" * 5000 + ".gguf")


@pytest.mark.usefixtures("archives")
def test_a_kind_in_one_file_is_found_scanned_and_traced(packed, folders, probe, run, tmp_path):
    assert find_checkpoints(packed).steps == [0, 1, 20]
    assert find_checkpoints(folders).steps == [0, 1, 20]  # those built in are found as ever
    one, same = (madyn.sweep.scan_checkpoint(m, probe=probe) for m in (packed / "20.npz", folders / "step20"))
    assert one.equals(same)
    assert one.attrs["remarks"] == ["weights came as an archive"]

    report = madyn.trace(packed, tmp_path / "a", probe=probe)
    assert (len(report.measured), report.failures) == (3, [])
    wanted = madyn.trace(folders, tmp_path / "b", probe=probe).open()
    assert np.array_equal(report.open().statistics("net"), wanted.statistics("net"))
    unit = report.open().units("net")[20]
    assert (unit.revision, unit.commit, unit.remarks) == ("20.npz", None, ["weights came as an archive"])
    assert unit.weights_xxh3 is not None
    assert len(madyn.trace(packed, tmp_path / "a", probe=probe).already) == 3

    code, out, _ = run("plan", packed, "--probe", probe.text, "--sequences", "2", "--length", "8", "--json")
    (cost,) = json.loads(out)["models"]
    assert (code, cost["checkpoints"], cost["download"], cost["note"]) == (0, 3, 0, "")


@pytest.mark.usefixtures("archives")
def test_its_checkpoints_are_compared(packed, probe, tmp_path):
    shutil.copy(packed / "20.npz", packed / "7.npz")
    (found,) = madyn.sweep.verify_checkpoints(packed)
    assert sorted(found.faults) == [7, 20]
    assert "hold the same weights" in found.faults[7]
    report = madyn.trace(packed, tmp_path / "a", probe=probe)
    assert [unit.step for unit in report.failures] == [7, 20]


@pytest.mark.usefixtures("archives")
def test_another_model_of_its_name_is_refused_by_its_weights(packed, probe, tmp_path):
    madyn.trace(packed, tmp_path / "a", probe=probe, steps=[0])
    moved = shutil.copytree(packed, tmp_path / "moved" / "net")
    assert len(madyn.trace(moved, tmp_path / "a", probe=probe, steps=[0]).already) == 1
    shutil.copy(packed / "1.npz", moved / "0.npz")
    with pytest.raises(UsageError, match=r"step 0 of .*0\.npz has other weights"):
        madyn.trace(moved, tmp_path / "a", probe=probe, steps=[0, 1])


@pytest.mark.usefixtures("archives")
def test_one_that_is_broken_costs_only_itself(packed, probe, tmp_path):
    (packed / "1.npz").write_bytes(b"broken")
    report = madyn.trace(packed, tmp_path / "a", probe=probe)
    assert len(report.measured) == 2
    (failure,) = report.failures
    assert f"{packed / '1.npz'}: cannot be read" in (failure.failure or "")
