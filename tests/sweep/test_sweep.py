"""Sweeps that are spread out, interrupted, or raced: the dataset is an undisturbed run's, and no unit is done twice.

Scripts run in processes of their own where the test kills them, or where Ray must find its environment before import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import madyn
from madyn.checkpoints import find_checkpoints
from madyn.checkpoints.loading import Loader
from madyn.checkpoints.streaming import streamed_model
from madyn.dataset import layout, manifest
from madyn.dataset.partial import is_partial
from madyn.errors import ArchitectureError, CheckpointError, MadynError, ProbeMismatchError, UsageError
from madyn.measurement import measure_with_locations
from madyn.measurement.layers import layers_by_structure
from madyn.sweep.claims import claim
from madyn.sweep.planning import plan_models, take_share
from tiny import TEXT, save_checkpoints

STEPS = tuple(range(12))
IDS = np.random.default_rng(0).integers(0, 300, size=(3, 16))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoints(tmp_path_factory.mktemp("run") / "tiny-net", STEPS)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def probe(book: str) -> madyn.sweep.Probe:
    return madyn.sweep.Probe(book, sequences=3, length=12)


@pytest.fixture(scope="module")
def undisturbed(run_folder: Path, book: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    madyn.trace(run_folder, root, probe=madyn.sweep.Probe(book, sequences=3, length=12))
    return statistics(root)


def statistics(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in layout.statistics_files(root, "tiny_net").values()}


def run_script(script: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=540,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# Killed

KILLED = """
    import json, os, random, signal, sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    import madyn, madyn.measurement, transformers, tenacity, filelock
    from madyn.sweep import trace
    from transformers import AutoModel, AutoConfig, AutoTokenizer, GPTNeoXModel, PreTrainedTokenizerFast
    source, book, out, kills, seed = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    wait, seen, done = random.Random(seed), {}, 0
    def files():
        return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.glob("*/stats/exp2*")}
    for attempt in range(100 * kills):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            trace(source, out, probe=madyn.sweep.Probe(book, sequences=3, length=12))
            os._exit(0)
        if done < kills:
            time.sleep(wait.uniform(0, 0.7))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        done += killed
        assert killed or os.WEXITSTATUS(status) == 0, status
        now = files()
        assert all(now.get(name) == place for name, place in seen.items()), "a unit was measured twice"
        seen = now
        if not killed and done >= kills:
            break
        if not killed:  # it was faster than the kill: start again from nothing
            import shutil
            shutil.rmtree(out)
            seen = {}
    print(done)
"""


def kill_and_compare(kills: int, seed: int, run_folder: Path, book: str, out: Path, expected: dict[str, bytes]) -> None:
    environment = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    assert int(run_script(KILLED, run_folder, book, out, kills, seed, **environment)) >= kills
    assert statistics(out) == expected
    assert all(unit.failure is None for unit in manifest.read_units(out, "tiny_net").values())
    left = [path for path in out.rglob(".*") if path.is_file() and path.parent.name != ".locks"]
    # What a kill leaves is a file that was being written, which nothing reads.
    assert all(is_partial(path.name) for path in left)
    assert madyn.checking.check_dataset(out).faults == []


def test_killed_a_few_times_and_started_again(run_folder, book, tmp_path, undisturbed):
    kill_and_compare(4, 0, run_folder, book, tmp_path / "d", undisturbed)


@pytest.mark.slow
def test_killed_fifty_times_and_started_again(run_folder, book, tmp_path, undisturbed):
    kill_and_compare(50, 1, run_folder, book, tmp_path / "d", undisturbed)


# Spread out


def test_what_was_damaged_is_measured_again(run_folder, probe, tmp_path, undisturbed):
    """A statistics file that says another number, one that is cut short, and a manifest that cannot be read."""
    root, name = tmp_path / "d", "tiny_net"
    madyn.trace(run_folder, root, probe=probe)
    assert statistics(root) == undisturbed
    number, cut = (layout.statistics_path(root, name, step) for step in STEPS[:2])
    number.write_text(number.read_text().replace("1", "2", 1))
    cut.write_text(cut.read_text()[:100])
    layout.manifest_path(root, name, STEPS[2]).write_text("{")
    assert len(madyn.checking.check_dataset(root).faults) >= 3
    madyn.trace(run_folder, root, probe=probe)
    assert statistics(root) == undisturbed
    assert madyn.checking.check_dataset(root).faults == []


def test_in_processes_and_in_shares(run_folder, probe, tmp_path, undisturbed):
    threads = torch.get_num_threads()
    report = madyn.trace(run_folder, tmp_path / "a", probe=probe, jobs=2)
    assert sorted(step for _, step in report.measured) == list(STEPS)
    units = manifest.read_units(tmp_path / "a", "tiny_net")
    if {unit.threads for unit in units.values()} == {threads}:
        assert statistics(tmp_path / "a") == undisturbed
    for share in ("1/3", "3/3", "2/3"):
        assert len(madyn.trace(run_folder, tmp_path / "b", probe=probe, shard=share).measured) == 4
    assert statistics(tmp_path / "b") == undisturbed
    assert len(madyn.trace(run_folder, tmp_path / "b", probe=probe, shard="2/3").already) == 4


def test_a_share_does_not_depend_on_what_is_done(run_folder, probe, tmp_path):
    madyn.trace(run_folder, tmp_path, probe=probe, steps=[0, 1, 2])
    plans = plan_models(tmp_path, [run_folder], "all", None, madyn.sweep.Settings())
    (share,) = take_share(plans, "1/4")
    assert ([c.step for c in share.todo], share.done) == ([4, 8], [0])
    for wrong in ("0/4", "5/4", "x", "1/0", "1"):
        with pytest.raises(UsageError, match="expected i/N"):
            take_share(plans, wrong)


@pytest.mark.parametrize("options", [{"jobs": 0}, {"engine": "slurm"}, {"engine": "ray", "jobs": 2}])
def test_engines_that_do_not_exist(run_folder, probe, tmp_path, options):
    with pytest.raises(UsageError):
        madyn.trace(run_folder, tmp_path / "d", probe=probe, **options)
    assert not (tmp_path / "d").exists()


def test_two_processes_into_one_dataset(run_folder, book, tmp_path, undisturbed):
    script = """
        import sys, madyn
        report = madyn.trace(sys.argv[1], sys.argv[3], probe=madyn.sweep.Probe(sys.argv[2], sequences=3, length=12))
        print(*[step for _, step in report.measured])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(run_folder), book, str(tmp_path / "d")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    measured = [int(step) for process in both for step in process.communicate(timeout=300)[0].split()]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(measured) == list(STEPS)  # each once
    assert statistics(tmp_path / "d") == undisturbed
    assert not list((tmp_path / "d" / ".locks").rglob("step*"))


def test_a_unit_that_another_process_holds_is_left_to_it(run_folder, probe, tmp_path):
    holder = """
        import sys, time
        from pathlib import Path
        from madyn.sweep.claims import claim
        with claim(Path(sys.argv[1]), "tiny_net", 1) as mine:
            print(mine, flush=True)
            time.sleep(60)
    """
    held = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(holder), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "True\n"
    with claim(tmp_path, "tiny_net", 1) as mine:
        assert not mine
    held.kill()
    held.wait()
    with claim(tmp_path, "tiny_net", 1) as mine:  # its claim died with it
        assert mine


CLUSTER = """
    import json, sys, threading, time
    from pathlib import Path
    import ray, torch
    from ray.cluster_utils import Cluster
    import madyn
    out = Path(sys.argv[1])
    here = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=here)
    second = cluster.add_node(**here)
    ray.init(address=cluster.address, log_to_driver=False)

    def load(step):
        class Blocks(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(step)
                self.embed = torch.nn.Embedding(300, 8)
                self.blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))
            def forward(self, ids):
                hidden = self.embed(ids)
                for block in self.blocks:
                    hidden = hidden + block(hidden)
                return hidden
        time.sleep(1)
        return Blocks()

    done = lambda: len(list(out.glob("*/stats/exp2*")))
    said = {}
    def kill():
        while done() < 4:  # both nodes are at work by then
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)
        said["done when removed"] = done()
    killer = threading.Thread(target=kill)
    killer.start()
    inputs = [list(range(n, n + 16)) for n in range(3)]
    report = madyn.trace("net", out, load=load, steps=range(12), inputs=inputs, engine="ray")
    killer.join()
    deadline = time.time() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 1 and time.time() < deadline:
        time.sleep(0.5)
    said |= {"measured": len(report.measured), "already": len(report.already), "failed": len(report.failures)}
    said["nodes"] = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
    cluster.shutdown()
    # The same in this process: the work of the dead node was done again, and gave the same.
    torch.set_num_threads(1)
    madyn.trace("net", sys.argv[2], load=load, steps=range(12), inputs=inputs)
    read = lambda root: {p.name: p.read_bytes() for p in Path(root).glob("*/stats/exp2*")}
    said["equal"] = read(out) == read(sys.argv[2])
    print(json.dumps(said))
"""


@pytest.mark.slow
def test_a_node_of_a_cluster_dies(tmp_path):
    pytest.importorskip("ray")
    said = json.loads(
        run_script(
            CLUSTER,
            tmp_path / "d",
            tmp_path / "e",
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
            RAY_USAGE_STATS_ENABLED="0",
        ).splitlines()[-1]
    )
    assert said["done when removed"] < 12
    # What the dead node had just written is found done when its task runs again.
    assert said["measured"] + said["already"] == 12
    assert (said["failed"], said["nodes"], said["equal"]) == (0, 1, True)


@pytest.fixture
def bucket(monkeypatch):
    """A bucket on a server that speaks S3's protocol."""
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("shelf")
    yield "s3://shelf"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_dataset_in_a_bucket(run_folder, probe, bucket, tmp_path, undisturbed, run, monkeypatch):
    from madyn.dataset.files import create_bytes, root_path

    url = f"{bucket}/mine"
    first = madyn.trace(run_folder, url, probe=probe, steps="0,1,2")
    assert [step for _, step in first.measured] == [0, 1, 2]
    again = madyn.trace(run_folder, url, probe=probe)
    assert ([s for _, s in again.already], len(again.measured)) == ([0, 1, 2], len(STEPS) - 3)
    assert statistics(root_path(url)) == undisturbed
    dataset = madyn.open_dataset(url)
    assert dataset.trajectories("tiny_net", "ratio").shape == (len(STEPS), 2)
    assert dataset.units("tiny_net")[3].dtype == "float32"
    assert madyn.checking.check_dataset(url).faults == []
    # Whoever comes second does not write over the first.
    path = layout.statistics_path(root_path(url), "tiny_net", 0)
    assert not create_bytes(path, b"other")
    assert statistics(root_path(url)) == undisturbed
    assert run("show", url)[0] == 0
    # Fits are read, joined and written again under a lock that is an object, and is gone afterwards.
    for hypothesis in ("step1", "step2"):
        assert run("fit", url, "--hypothesis", hypothesis)[0] == 0
    assert set(madyn.open_dataset(url).fit_records("tiny_net", "ratio")[0]) == {"step1", "step2"}
    lock = root_path(url) / ".locks" / ".fits"
    assert not lock.exists()
    assert create_bytes(lock, b'{"host": "elsewhere", "process": 7, "since": "2026-01-01T00:00:00+00:00"}')
    monkeypatch.setattr("madyn.dataset.locking.PATIENCE_STORE", 0.5)
    code, _, err = run("fit", url, "--hypothesis", "step1")
    assert code == 1
    assert "process 7 on elsewhere writes fits since 2026-01-01T00:00:00+00:00" in err
    assert "remove that object and run this again" in err


def test_an_address_that_cannot_be_used(run_folder, probe):
    with pytest.raises(UsageError, match="nothing://x"):
        madyn.trace(run_folder, "nothing://x", probe=probe)


# Loaded


def test_weights_are_swapped_where_that_is_right(run_folder):
    loader = Loader(torch.float32, "cpu")
    for checkpoint in list(find_checkpoints(run_folder).by_step.values())[:4]:
        swapped = madyn.measure(loader.load(checkpoint, checkpoint.folder()), IDS)
        assert np.array_equal(swapped, madyn.measure(checkpoint.model(torch.float32), IDS))
    assert loader.swapped == 3


def save(models: list[nn.Module], folder: Path, **options: object) -> list[object]:
    for step, model in enumerate(models):
        model.save_pretrained(folder / f"step{step}", **options)  # pyright: ignore[reportCallIssue]
    return list(find_checkpoints(folder).by_step.values())


def test_weights_that_are_converted_or_changed_are_not_swapped(tmp_path):
    from transformers import MixtralConfig, MixtralModel, RwkvConfig, RwkvModel

    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 3, "vocab_size": 300}
    mixtral = MixtralConfig(
        **sizes, num_attention_heads=4, intermediate_size=48, num_key_value_heads=2, num_local_experts=3
    )
    rwkv = RwkvConfig(**sizes, attention_hidden_size=24)
    for name, build in (("mixtral", lambda: MixtralModel(mixtral)), ("rwkv", lambda: RwkvModel(rwkv))):
        loader = Loader(torch.float32, "cpu")
        for checkpoint in save([build(), build()], tmp_path / name):
            loaded = madyn.measure(loader.load(checkpoint, checkpoint.folder()), IDS)  # pyright: ignore
            assert np.array_equal(loaded, madyn.measure(checkpoint.model(torch.float32), IDS))  # pyright: ignore
        assert loader.swapped == 0


def test_shards_and_pickles_are_read_like_one_file(run_folder, tmp_path):
    checkpoints = list(find_checkpoints(run_folder).by_step.values())[:2]
    models = [checkpoint.model(torch.float32) for checkpoint in checkpoints]
    expected = [madyn.measure(model, IDS) for model in models]
    sharded = save(models, tmp_path / "sharded", max_shard_size="10KB")
    assert len(list((tmp_path / "sharded/step0").glob("model-*.safetensors"))) > 1
    for step, model in enumerate(models):
        folder = tmp_path / "pickled" / f"step{step}"
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    pickled = list(find_checkpoints(tmp_path / "pickled").by_step.values())
    for found in (sharded, pickled):
        loader = Loader(torch.float32, "cpu")
        for checkpoint, statistics in zip(found, expected, strict=True):
            assert np.array_equal(madyn.measure(loader.load(checkpoint, checkpoint.folder()), IDS), statistics)  # pyright: ignore
        assert loader.swapped == 1
    (tmp_path / "sharded/step1/model-00001-of-00002.safetensors").unlink(missing_ok=True)
    next((tmp_path / "sharded/step1").glob("model-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="is missing or incomplete"):
        sharded[1].model(torch.float32)  # pyright: ignore


def test_a_pickle_with_code_is_refused(run_folder, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (checkpoint,) = list(find_checkpoints(run_folder).by_step.values())[:1]
    folder = tmp_path / "hostile" / "step0"
    checkpoint.config().save_pretrained(folder)
    torch.save({"layers.0.mlp.weight": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        next(iter(find_checkpoints(folder.parent).by_step.values())).model(torch.float32)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_weights_give_the_same_statistics(run_folder, dtype):
    for checkpoint in list(find_checkpoints(run_folder).by_step.values())[:2]:
        folder = checkpoint.folder()
        assert folder is not None
        model, path, _ = streamed_model(checkpoint, folder, dtype, "cpu", layers_by_structure)
        found = measure_with_locations(model, IDS, batch_size=len(IDS), layers=path)
        assert all(p.is_meta for p in model.get_submodule(path).parameters())
        expected = madyn.measure(checkpoint.model(dtype), IDS)
        assert np.allclose(found.statistics, expected, rtol=1e-5 if dtype is torch.float32 else 2e-2)


def test_a_streamed_trace_says_so(run_folder, probe, tmp_path, undisturbed):
    settings = madyn.sweep.Settings(stream=True)
    dataset = madyn.trace(run_folder, tmp_path, probe=probe, steps=[0, 1], settings=settings).open()
    assert [unit.streamed for unit in dataset.units("tiny_net").values()] == [True, True]
    for step in (0, 1):
        expected = np.array(json.loads(undisturbed[f"exp2_tiny_net_step{step}"]))
        assert np.allclose(dataset.statistics("tiny_net").sel(step=step), expected, rtol=1e-5)


def test_what_cannot_be_streamed_is_refused(tmp_path):
    from transformers import MixtralConfig, MixtralModel, T5Config, T5Model

    mixtral = MixtralConfig(hidden_size=24, num_hidden_layers=2, vocab_size=300, num_attention_heads=4,
                            intermediate_size=48, num_key_value_heads=2, num_local_experts=3)  # fmt: skip
    t5 = T5Config(vocab_size=300, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    for name, model, said in (("mixtral", MixtralModel(mixtral), "converts the weights"),
                              ("t5", T5Model(t5), "say which of its stacks")):  # fmt: skip
        (checkpoint,) = save([model], tmp_path / name)
        with pytest.raises(ArchitectureError, match=said):
            streamed_model(checkpoint, checkpoint.folder(), torch.float32, "cpu", layers_by_structure)  # pyright: ignore


# Any model, any names


class Blocks(nn.Module):
    """Not from transformers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(300, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.body = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(8, 8) for _ in range(3))})

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for norm, block in zip(self.norms, self.body["blocks"], strict=True):  # pyright: ignore
            hidden = hidden + block(norm(hidden))
        return hidden


def test_a_function_gives_the_models(tmp_path):
    settings = madyn.sweep.Settings(layers="body.blocks")
    report = madyn.trace("my-own", tmp_path, load=Blocks, steps=[0, 5, 10], inputs=IDS, settings=settings)
    dataset = report.open()
    assert dataset.steps("my_own") == [0, 5, 10]
    expected = madyn.measure(Blocks(5), IDS, layers="body.blocks")
    assert np.array_equal(dataset.statistics("my_own").sel(step=5), expected)
    assert madyn.trace("my-own", tmp_path, load=Blocks, steps=[0, 5], inputs=IDS).already == [
        ("my_own", 0),
        ("my_own", 5),
    ]
    with pytest.raises(ProbeMismatchError):
        madyn.trace("my-own", tmp_path, load=Blocks, steps=[20], inputs=IDS[:2])
    with pytest.raises(UsageError, match="steps as a list"):
        madyn.trace("my-own", tmp_path, load=Blocks, inputs=IDS)

    def broken(step: int) -> nn.Module:
        raise OSError("not on this disk")

    report = madyn.trace("broken", tmp_path, load=broken, steps=[1], inputs=IDS)
    assert "not on this disk" in str(report.failures[0].failure)


def test_a_vision_transformer_is_measured_on_pixels():
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    model = ViTModel(ViTConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
                               image_size=16, patch_size=4)).eval()  # fmt: skip
    pixels = torch.randn(2, 3, 16, 16)
    found = madyn.measure(model, pixels)
    with torch.no_grad():
        states = model(pixels[:1], output_hidden_states=True).hidden_states
    assert found.shape == (2, 4, 3)
    for layer in range(2):
        assert found[0, 0, layer] == states[layer + 1].abs().max().item()


def test_revisions_named_in_a_way_of_their_own(run_folder, tmp_path):
    import shutil

    for step in (0, 1):
        shutil.copytree(run_folder / f"step{step}", tmp_path / "net" / f"ck{step}k")
    with pytest.raises(CheckpointError, match="no training checkpoints"):
        find_checkpoints(tmp_path / "net")
    assert list(find_checkpoints(tmp_path / "net", revisions=r"ck(?P<step>\d+)k").by_step) == [0, 1]
    for wrong in ("ck(", "ck(.*)"):
        with pytest.raises(UsageError):
            find_checkpoints(tmp_path / "net", revisions=wrong)


# Positions


def test_positions_left_out_and_by_group(run_folder, book, tmp_path):
    probe = madyn.sweep.Probe(book, sequences=2, length=12, exclude_positions="0", positions="0;1-3;4-")
    dataset = madyn.trace(run_folder, tmp_path, probe=probe, steps=0).open()
    groups = json.loads(layout.positions_path(tmp_path, "tiny_net", 0).read_text())
    first, second, rest = (np.array(groups[name]) for name in ("0", "1-3", "4-"))
    found = dataset.statistics("tiny_net").sel(step=0).values
    assert first.shape == found.shape
    assert np.array_equal(found[:, 0], np.maximum(second[:, 0], rest[:, 0]))
    where = json.loads(layout.locations_path(tmp_path, "tiny_net", 0).read_text())
    assert np.array(where["position"]).min() > 0
    assert dataset.units("tiny_net")[0].exclude_positions == [0]
    with pytest.raises(ProbeMismatchError, match="without the positions"):
        madyn.trace(run_folder, tmp_path, probe=madyn.sweep.Probe(book, sequences=2, length=12))
    wrong: list[dict[str, Any]] = [{"exclude_positions": "x"}, {"exclude_positions": "2-"}, {"positions": "3-1"}]
    for options in wrong:
        with pytest.raises(UsageError, match="is no position"):
            madyn.sweep.Probe(book, **options)
    with pytest.raises(MadynError, match="left out"):
        measure_with_locations(Blocks(0), IDS, layers="body.blocks", exclude=range(16))


def test_where_the_largest_value_stands_and_since_when(run_folder, probe, tmp_path, run):
    """Three steps, the last two with a bias that pushes one feature of the last layer far out."""
    import shutil

    from safetensors.torch import load_file, save_file

    from madyn.dataset.locations import locked_in, read_locations

    source = shutil.copytree(run_folder, tmp_path / "tiny-net")
    for step in (1, 2):
        path = source / f"step{step}" / "model.safetensors"
        weights = load_file(path)
        name = next(k for k in weights if k.endswith("layers.1.mlp.dense_4h_to_h.bias"))
        weights[name][7] = 3000.0
        save_file(weights, path, metadata={"format": "pt"})
    dataset = madyn.trace(source, tmp_path / "d", probe=probe, steps=[0, 1, 2]).open()
    found = read_locations(dataset, "tiny_net")
    assert dict(found.sizes) == {"step": 3, "sequence": 3, "rank": 3, "layer": 2}
    assert set(found) == {"position", "feature", "token_id"}
    row = locked_in(found).loc[1]
    before = locked_in(found.isel(step=[0])).loc[1, "feature"]
    assert (row["feature"], row["feature_share"]) == (7, 1.0)
    assert row["locked_in_step"] == (0 if before == 7 else 1)
    code, out, _ = run("show", tmp_path / "d", "--locations")
    assert (code, "locked in at step" in out) == (0, True)


# What it will cost


def test_a_plan_says_what_a_trace_will_take(run_folder, probe, tmp_path, run, monkeypatch):
    from madyn.sweep import costs, plan_costs

    costs_of_all = plan_costs([run_folder], steps=[0, 1, 2], probe=probe)
    assert set(costs_of_all.start_up.parts) == {"imports", "first model", "text"}
    assert costs_of_all.start_up.seconds == sum(costs_of_all.start_up.parts.values()) > 0
    assert costs_of_all.start_up.unknown == []
    (cost,) = costs_of_all
    assert (cost.checkpoints, cost.left, cost.download, cost.disk, cost.streamed) == (3, 3, 0, 0, False)
    assert cost.seconds is not None
    assert 0 < cost.seconds < 60
    assert cost.memory is not None
    assert cost.memory > 10_000
    madyn.trace(run_folder, tmp_path, probe=probe, steps=[0, 1])
    (cost,) = plan_costs([run_folder], tmp_path, steps=[0, 1, 2], probe=probe)
    assert (cost.checkpoints, cost.left) == (3, 1)
    monkeypatch.setattr(costs, "free_memory", lambda device: 10)
    (cost,) = plan_costs([run_folder], steps=[0], probe=probe)
    assert cost.streamed
    code, out, _ = run("plan", run_folder, "--steps", "0,1", "--length", "12")
    assert (code, "weights and activations" in out, "calibration" in out) == (0, True, True)
    assert "before the first checkpoint: " in out
