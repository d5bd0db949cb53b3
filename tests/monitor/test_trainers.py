"""Real runs of transformers' Trainer and of Lightning: unchanged, logged, resumed; with several processes too."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import madyn
from madyn import Monitor, open_dataset
from madyn.checking import check_dataset
from madyn.dataset.monitoring import read_monitor
from madyn.errors import UsageError
from training_runs import Rows, batches, build, require_same, trainer

PROBE = torch.cat(batches(1, seed=9))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What a folder of TensorBoard's event files holds, read with tensorboard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file.parent)).Reload()
        for tag in events.Tags()["scalars"]:
            found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def state_of(run) -> dict[str, torch.Tensor]:
    found = dict(run.model.state_dict())
    for number, kept in run.optimizer.state_dict()["state"].items():
        found |= {f"{number}.{name}": value for name, value in kept.items()}
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    return {**found, "losses": torch.tensor(losses), "rng": torch.get_rng_state()}


def test_a_trainer_is_watched_and_stays_the_same_and_its_loggers_show_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    plain = trainer(tmp_path / "plain", [])
    plain.train()
    before = state_of(plain)
    monitor = Monitor(tmp_path / "d", every="log2+5")
    run = trainer(tmp_path / "my-run", [monitor.for_transformers()], report_to="tensorboard")
    run.train()
    require_same(state_of(run), before)

    dataset = open_dataset(tmp_path / "d")
    assert dataset.steps("my_run") == [0, 1, 2, 4, 5, 10, 12]
    assert check_dataset(tmp_path / "d").faults == []
    seen = np.load(tmp_path / "d" / "monitor" / "inputs.npy")
    np.testing.assert_array_equal(dataset.statistics("my_run").sel(step=0), madyn.measure(build(), seen))
    np.testing.assert_array_equal(dataset.statistics("my_run").sel(step=12), madyn.measure(run.model, seen))
    record = read_monitor(tmp_path / "d", "my_run")
    assert record is not None
    assert (record.state, record.last_step) == ("ended", 12)

    written = scalars(tmp_path / "events")
    ratio = dataset.trajectories("my_run", "ratio").sel(layer=1)
    assert [step for step, _ in written["train/massive/ratio/layer_01"]] == dataset.steps("my_run")
    np.testing.assert_allclose([value for _, value in written["train/massive/ratio/layer_01"]], ratio, rtol=1e-6)
    assert [step for step, _ in written["train/massive/forecast/final_ratio_upper"]] == [2, 4, 5, 10]
    assert "train/loss" in written


def test_a_trainer_that_is_resumed_goes_on_in_the_same_dataset(tmp_path):
    first = trainer(tmp_path / "run", [Monitor(tmp_path / "d", PROBE, every=3).for_transformers()],
                    save_strategy="steps", save_steps=4)  # fmt: skip

    def kill(args, state, control, **kwargs):
        if state.global_step == 7:
            raise KeyboardInterrupt

    callback = next(one for one in first.callback_handler.callbacks if hasattr(one, "monitor"))
    stepped = callback.on_step_end
    callback.on_step_end = lambda *a, **k: (stepped(*a, **k), kill(*a, **k))[0]
    with pytest.raises(KeyboardInterrupt):
        first.train()
    callback.monitor._run._held.close()  # what the operating system does with a process's locks
    assert open_dataset(tmp_path / "d").steps("run") == [0, 3, 6]

    plain = trainer(tmp_path / "plain", [])
    plain.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    again = trainer(tmp_path / "run", [Monitor(tmp_path / "d", PROBE, every=3).for_transformers()])
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert open_dataset(tmp_path / "d").steps("run") == [0, 3, 6, 9, 12]
    logged = [entry["step"] for entry in again.state.log_history if "massive/largest_ratio" in entry]
    assert logged == [0, 3, 9, 12]  # 0 and 3 from the checkpoint; 6 is not measured twice
    record = read_monitor(tmp_path / "d", "run")
    assert record is not None
    assert (record.resumed, record.state) == ([4], "ended")
    require_same(dict(plain.model.state_dict()), dict(again.model.state_dict()))


def test_a_monitor_that_is_attached_twice_is_refused_before_training(tmp_path):
    monitor = Monitor(tmp_path / "d", PROBE)
    run = trainer(tmp_path / "run", [monitor.for_transformers(), monitor.for_transformers()])
    with pytest.raises(UsageError, match="this monitor watches run already"):
        run.train()
    assert run.state.global_step == 0
    monitor.finish()


def test_a_training_that_failed_can_be_tried_again_with_the_same_callback(tmp_path):
    callback = Monitor(tmp_path / "d", PROBE, every=2).for_transformers()
    run = trainer(tmp_path / "run", [callback], max_steps=4)
    step = run.training_step
    run.training_step = lambda *a, **k: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.train()
    run.training_step = step
    run.train()
    assert open_dataset(tmp_path / "d").steps("run") == [0, 2, 4]


def test_a_callback_of_two_trainers_watches_the_one_that_trains(tmp_path):
    monitor = Monitor(tmp_path / "d", every=2)
    callback = monitor.for_transformers()
    first, second = (trainer(tmp_path / name, [callback], max_steps=2) for name in ("first", "second"))
    first.train()
    second.train()
    dataset = open_dataset(tmp_path / "d")
    assert {name: dataset.steps(name) for name in dataset} == {"first": [0, 2], "second": [0, 2]}


def test_what_a_trainer_of_somebody_logs_is_not_taken_from_it(tmp_path):
    from transformers import Trainer

    class Gathering(Trainer):
        def log(self, logs, start_time=None):
            taken.append(sorted(logs))
            super().log(logs, start_time)

    taken = []
    run = trainer(tmp_path / "a@b c", [Monitor(tmp_path / "d", PROBE, every=2).for_transformers()], max_steps=2)
    run.__class__ = Gathering
    run.train()
    assert not any(name.startswith("massive/") for names in taken for name in names)
    assert any("massive/largest_ratio" in entry for entry in run.state.log_history)
    assert open_dataset(tmp_path / "d").steps("a_b_c") == [0, 2]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_trainer_with_checkpointing_accumulation_or_compilation(tmp_path, compiled):
    """The first batch is taken from what the model is called with, whatever is around it."""
    monitor = Monitor(tmp_path / "d", every=1)
    changes = (
        {"torch_compile": True, "torch_compile_backend": "eager"}
        if compiled
        else {"gradient_checkpointing": True, "gradient_accumulation_steps": 2}
    )
    run = trainer(tmp_path / "run", [monitor.for_transformers()], max_steps=3, **changes)
    run.train()
    dataset = open_dataset(tmp_path / "d")
    assert dataset.steps("run") == [0, 1, 2, 3]
    seen = np.load(tmp_path / "d" / "monitor" / "inputs.npy")
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=0), madyn.measure(build(), seen))
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=3), madyn.measure(run.model, seen))


def test_a_trainer_gives_a_text_probe_its_tokenizer(tmp_path):
    from madyn.lab.tokenizer import train_tokenizer
    from madyn.settings import Probe
    from tiny import SENTENCES

    monitor = Monitor(tmp_path / "d", Probe("stdlib", sequences=2, documents=5), every=100)
    run = trainer(tmp_path / "run", [monitor.for_transformers()], build(vocab_size=300), max_steps=1)
    run.callback_handler.processing_class = train_tokenizer(SENTENCES, 300)
    run.train()
    assert open_dataset(tmp_path / "d").steps("run") == [0, 1]


def test_a_trainer_shows_in_trackio(tmp_path, monkeypatch):
    """A real Trackio run, which keeps everything on this machine."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    monitor = Monitor(tmp_path / "d", PROBE, every=4, name="run")
    run = trainer(tmp_path / "run", [monitor.for_transformers()], report_to="trackio", project="madyn-test",
                  run_name="run", trackio_space_id=None)  # fmt: skip
    run.train()
    logged = trackio_values("madyn-test", "run")
    ratio = open_dataset(tmp_path / "d").trajectories("run", "ratio").max("layer").values
    np.testing.assert_allclose(logged, ratio, rtol=1e-5)


def trackio_values(project: str, name: str) -> list[float]:
    """The largest ratio as Trackio keeps it."""
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs(project, name)
    return [row[key] for row in rows for key in row if key.endswith("massive/largest_ratio")]


def module_of(lightning, model):
    class Language(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            loss = self.model(**batch).loss
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

        def train_dataloader(self):
            return torch.utils.data.DataLoader(Rows(), batch_size=4)

    return Language()


def lightning_run(out: Path, callbacks, steps: int = 12, **changes):
    import lightning.pytorch as lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    lightning.seed_everything(0, verbose=False)
    module = module_of(lightning, build())
    arguments = {
        "max_steps": steps, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "log_every_n_steps": 5, "logger": TensorBoardLogger(str(out)),
        "callbacks": callbacks,
    }  # fmt: skip
    run = lightning.Trainer(**{**arguments, **changes})
    run.fit(module)
    return module


def test_lightning_is_watched_and_stays_the_same_and_its_loggers_show_it(tmp_path):
    plain = lightning_run(tmp_path / "plain", [])
    monitor = Monitor(tmp_path / "d", every="log2+5", name="run")
    module = lightning_run(tmp_path / "watched", [monitor.for_lightning()])
    require_same(plain.state_dict(), module.state_dict())
    dataset = open_dataset(tmp_path / "d")
    assert dataset.steps("run") == [0, 1, 2, 4, 5, 10, 12]
    seen = np.load(tmp_path / "d" / "monitor" / "inputs.npy")
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=12), madyn.measure(module.model, seen))
    written = scalars(tmp_path / "watched")
    assert [step for step, _ in written["massive/largest_ratio"]] == dataset.steps("run")
    np.testing.assert_allclose(
        [value for _, value in written["massive/largest_ratio"]],
        dataset.trajectories("run", "ratio").max("layer"), rtol=1e-6,
    )  # fmt: skip
    record = read_monitor(tmp_path / "d", "run")
    assert record is not None
    assert (record.state, record.last_step) == ("ended", 12)


def test_lightning_says_where_the_transformer_is(tmp_path):
    with pytest.raises(UsageError, match="Language has no module 'decoder'; its own are: model"):
        lightning_run(tmp_path / "a", [Monitor(tmp_path / "d", PROBE).for_lightning("decoder")])
    lightning_run(tmp_path / "b", [Monitor(tmp_path / "d", PROBE).for_lightning("model")], steps=1)
    assert open_dataset(tmp_path / "d").steps("Language") == [0, 1]


DISTRIBUTED = """
import os
import sys
from pathlib import Path
import torch
import torch.distributed as distributed
from madyn import Monitor
from training_runs import build, batches

root, watched = Path(sys.argv[1]), sys.argv[2] == "watched"
distributed.init_process_group("gloo")
rank = distributed.get_rank()
model = torch.nn.parallel.DistributedDataParallel(build())
torch.manual_seed(rank)  # dropout of its own in each process
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
monitor = Monitor(root / "d", torch.cat(batches(1, seed=9)), every=2, name="run") if watched else None
logged, losses = {}, []
for step, batch in enumerate(batches(8, seed=rank)):
    if monitor is not None:
        logged[step] = monitor.step(model, step)
    optimizer.zero_grad()
    loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
if monitor is not None:
    monitor.step(model, 8)
    monitor.finish()
assert rank == 0 or not any(logged.values())
torch.save({**model.module.state_dict(), "rng": torch.get_rng_state(), "losses": torch.tensor(losses)},
           root / f"{sys.argv[2]}-{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
os._exit(0)  # torch's own threads may abort a process that ends in the usual way
"""


def together(script: str, *arguments: str, timeout: int = 240) -> subprocess.CompletedProcess[str]:
    """A script in two processes on this machine."""
    code = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "--local-addr=127.0.0.1",
    ]
    return subprocess.run([*code, script, *arguments], capture_output=True, text=True, timeout=timeout)


def test_two_processes_train_the_same_with_a_monitor(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{DISTRIBUTED}")
    for how in ("plain", "watched"):
        done = together(str(script), str(tmp_path), how)
        assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        plain, watched = (torch.load(tmp_path / f"{how}-{rank}.pt", weights_only=True) for how in ("plain", "watched"))
        require_same(plain, watched)
    dataset = open_dataset(tmp_path / "d")
    assert dataset.steps("run") == [0, 2, 4, 6, 8]
    trained = build()
    trained.load_state_dict({k: v for k, v in plain.items() if k not in ("rng", "losses")})
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=8), madyn.measure(trained, PROBE))
    assert dataset.statistics("run").sizes["sequence"] == 4
