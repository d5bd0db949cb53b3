"""Training is real, repeatable bit for bit, and goes on from where it was stopped."""

import itertools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from madyn.checkpoints import find_checkpoints
from madyn.errors import StorageError, UsageError
from madyn.lab import Recipe, checkpoint_steps, train, train_family
from madyn.lab.tokenizer import train_tokenizer
from madyn.text import tokenize
from tiny import SENTENCES, tiny_shape

RECIPE = Recipe(steps=30, batch_size=4, length=16)
SAVE = [0, 1, 10, 20, 30]
LONG = Recipe(steps=300, batch_size=4, length=16)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(SENTENCES, 300)


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return np.array(tokenize("".join(SENTENCES), tokenizer))


@pytest.fixture(scope="module")
def trained(tokenizer, tokens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "whole"
    train(tiny_shape(), RECIPE, tokens, tokenizer, folder, SAVE)
    return folder


def weights(folder, step):
    return find_checkpoints(folder).by_step[step].model(torch.float32).state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_saves_real_checkpoints(trained):
    assert list(find_checkpoints(trained).by_step) == SAVE
    assert not (trained / "training_state.pt").exists()
    assert not same(weights(trained, 0), weights(trained, 1))
    assert find_checkpoints(trained).by_step[30].tokenizer().bos_token_id == 0


def test_learns(trained, tokens):
    from transformers import AutoModelForCausalLM

    batch = torch.as_tensor(tokens[: 16 * 20].reshape(20, 16))
    losses = []
    for step in (0, 30):
        model = AutoModelForCausalLM.from_pretrained(trained / f"step{step}")
        losses.append(model(batch, labels=batch).loss.item())
    assert losses[1] < losses[0] - 1


@pytest.mark.parametrize("stop_at", [0, 1, 13, 29])
def test_goes_on_to_the_same_weights(trained, tokenizer, tokens, tmp_path, stop_at):
    def stop(step):
        if step == stop_at:
            raise StoppedError

    folder = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        train(tiny_shape(), RECIPE, tokens, tokenizer, folder, SAVE, stop)
    made: list[int] = []
    train(tiny_shape(), RECIPE, tokens, tokenizer, folder, SAVE, made.append)
    assert made[0] == max(step for step in SAVE if step <= stop_at)
    for step in SAVE:
        assert same(weights(folder, step), weights(trained, step))


def test_a_finished_run_is_left_alone(trained, tokenizer, tokens, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    train(tiny_shape(), RECIPE, tokens, tokenizer, folder, SAVE)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_another_recipe_or_shape_is_refused(trained, tokenizer, tokens):
    for shape, recipe in ((tiny_shape(), Recipe(steps=31)), (tiny_shape(hidden_size=8), RECIPE)):
        with pytest.raises(UsageError, match="another shape or recipe"):
            train(shape, recipe, tokens, tokenizer, trained, SAVE)


def test_text_too_short_and_folders_that_cannot_be(tokenizer, tokens, tmp_path):
    with pytest.raises(UsageError, match="a sequence needs 16"):
        train(tiny_shape(), RECIPE, tokens[:5], tokenizer, tmp_path / "a", SAVE)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        train(tiny_shape(), RECIPE, tokens, tokenizer, tmp_path / "file" / "a", SAVE)


# The kernel refuses to let a file grow, as it does on a full disk: first the weights, then the state to go on from.
_FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from test_lab import RECIPE, SAVE, SENTENCES, StorageError, np, tiny_shape, train, train_tokenizer
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tokenizer = train_tokenizer(SENTENCES, 300)
for limit in (20_000, 80_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        train(tiny_shape(), RECIPE, np.arange(300), tokenizer, Path(sys.argv[2]), SAVE)
    except StorageError as e:
        print(e)
"""


def test_a_full_disk_stops_training_and_loses_nothing(tmp_path, tokenizer):
    command = [sys.executable, "-c", _FULL_DISK, str(Path(__file__).parent), str(tmp_path / "run")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith(f"cannot write {tmp_path / 'run' / 'step0'}: ")
    assert said[1].startswith(f"cannot write {tmp_path / 'run' / 'training_state.pt'}: File too large")
    made: list[int] = []
    train(tiny_shape(), RECIPE, np.arange(300), tokenizer, tmp_path / "run", SAVE, made.append)
    assert list(find_checkpoints(tmp_path / "run").by_step) == SAVE


def test_a_family_is_trained_in_processes_to_the_same_weights(tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("".join(SENTENCES))
    shapes = {"one": tiny_shape(), "two": tiny_shape(hidden_size=24, num_hidden_layers=3)}
    for run in ("a", "b"):
        models = {tmp_path / run / name: shape for name, shape in shapes.items()}
        train_family(models, RECIPE, corpus=tmp_path / run / "corpus", text=str(text), save_at=SAVE, at_once=2)
    for name in shapes:
        for step in SAVE:
            assert same(weights(tmp_path / "a" / name, step), weights(tmp_path / "b" / name, step))


_FAMILY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_lab import LONG, tiny_shape, train_family
if __name__ == "__main__":
    root = Path(sys.argv[2])
    models = {root / name: tiny_shape() for name in ("one", "two", "three")}
    train_family(models, LONG, corpus=root / "corpus", text=str(root / "book.txt"), save_at=[0, 50, 300], at_once=2)
"""


def test_a_family_that_is_interrupted_stops_at_once_and_goes_on(tmp_path):
    (tmp_path / "book.txt").write_text("".join(SENTENCES))
    (tmp_path / "family.py").write_text(_FAMILY)
    command = [sys.executable, str(tmp_path / "family.py"), str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "one/step50").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
    assert not (tmp_path / "three").joinpath("step300").exists()
    subprocess.run(command, check=True)
    for name in ("one", "two", "three"):
        assert list(find_checkpoints(tmp_path / name).by_step) == [0, 50, 300]
    assert same(weights(tmp_path / "one", 300), weights(tmp_path / "three", 300))  # one recipe, one seed


def test_another_text_or_recipe_for_a_family_is_refused(tmp_path):
    for name, content in (("a.txt", "".join(SENTENCES)), ("b.txt", "".join(SENTENCES[1:]))):
        (tmp_path / name).write_text(content)
    models, quick = {tmp_path / "m": tiny_shape()}, Recipe(steps=1, batch_size=2, length=8)
    train_family(models, quick, corpus=tmp_path / "corpus", text=str(tmp_path / "a.txt"), save_at=[1])
    with pytest.raises(UsageError, match="holds another text"):
        train_family(models, quick, corpus=tmp_path / "corpus", text=str(tmp_path / "b.txt"), save_at=[1])
    with pytest.raises(UsageError, match="another shape or recipe"):
        train_family(models, RECIPE, corpus=tmp_path / "corpus", text=str(tmp_path / "a.txt"), save_at=[1])


def test_the_learning_rate_rises_and_falls():
    recipe = Recipe(steps=1000)
    rates = [recipe.rate(step) for step in range(1001)]
    assert max(rates) == rates[9] == recipe.learning_rate
    assert rates[0] == pytest.approx(recipe.learning_rate / 10)
    assert rates[1000] == pytest.approx(recipe.learning_rate * 0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(("total", "count"), [(30, 5), (400, 19), (2000, 30), (1, 2), (143000, 37)])
def test_checkpoint_steps(total, count):
    steps = checkpoint_steps(total, count)
    assert steps[0] == 0
    assert steps[-1] == total
    assert steps == sorted(set(steps))
    assert len(steps) <= count + 3
