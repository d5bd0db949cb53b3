"""Which checkpoints a name means: every name that is seen is traced or told, and none is taken for another."""

import json
import re
import shutil
from pathlib import Path

import pytest

import madyn
from madyn.checkpoints import find_checkpoint, find_checkpoints
from madyn.checkpoints.forms import stored_forms
from madyn.checkpoints.naming import compile_revisions, describe_left_out, read_names
from madyn.dataset import manifest
from madyn.errors import CheckpointError
from tiny import TEXT, save_checkpoints


@pytest.mark.parametrize(
    ("name", "step"),
    [("step1", 1), ("step01", 1), ("Step_1", 1), ("STEP-50K", 50_000), ("step-50k", 50_000), ("checkpoint-100", 100),
     ("Checkpoint-100", 100), ("checkpoint_7", 7), ("checkpoint-2k", 2000), ("iter_0000100", 100),
     ("global_step100", 100), ("globalstep_100", 100), ("iteration-5", 5), ("ckpt-100", 100), ("ckpt_100", 100),
     ("step1000-tokens5B", 1000),
     ("stage1-step1000-tokens5B", 1000), ("stage1-step-40000", 40_000), ("step=30", 30), ("epoch-3", None),
     ("epoch_3", None), ("Epoch3", None), ("50K", None), ("1000", None), ("main", None), ("step", None),
     ("step1000-final", None), ("my-step1", None), ("step-1.5k", None), ("step١", None), ("v1.0", None)],
)  # fmt: skip
def test_what_a_name_means(name, step):
    found = read_names([name], "m")
    assert found.by_step == ({} if step is None else {step: name})
    assert [one.name for one in found.left_out] == ([name] if step is None else [])


def test_every_name_is_traced_or_told():
    names = ["main", "step1", "checkpoint-2", "ckpt_3k", "epoch-1", "epoch-2", "50K", "v1"]
    found = read_names(names, "m")
    assert found.by_step == {1: "step1", 2: "checkpoint-2", 3000: "ckpt_3k"}
    assert describe_left_out(found.left_out) == [
        "not traced: 3 names whose step cannot be read (--revisions says how, such as '(?P<step>\\d+K)'): main, 50K, "
        "v1",
        "not traced: 2 names that count epochs, which are no steps (--revisions 'epoch-(?P<step>\\d+)' takes them for "
        "steps): epoch-1, epoch-2",
    ]
    assert sorted([*found.by_step.values(), *(one.name for one in found.left_out)]) == sorted(names)
    many = describe_left_out(read_names([f"v{i}" for i in range(99)], "m").left_out)
    assert many[0].endswith("v0, v1, v2, v3, v4, ... (93 more), v98")


def test_revisions_read_names_their_own_way():
    names = ["50K", "100k", "epoch-1", "step7"]
    found = read_names(names, "m", compile_revisions(r"(?P<step>\d+[kK])"))
    assert found.by_step == {50_000: "50K", 100_000: "100k"}
    assert [(one.name, one.reason) for one in found.left_out] == [
        (name, "that --revisions does not match") for name in ("epoch-1", "step7")
    ]
    assert read_names(names, "m", compile_revisions(r"epoch-(?P<step>\d+)")).by_step == {1: "epoch-1"}


@pytest.mark.parametrize(
    "names", [["step1", "step01"], ["step100", "checkpoint-100"], ["step-2k", "step2000"], ["Step1", "step1"],
              ["stage1-step5-tokens1B", "step5"]],
)  # fmt: skip
def test_two_names_for_one_step_are_refused_where_it_is_asked_for(names):
    found = read_names(["step9", *names], "m")
    assert found.by_step == {9: "step9"}
    assert left_out(found) == dict.fromkeys(names, left_out(found)[names[0]])
    found.collisions.refuse("m", [9])
    with pytest.raises(
        CheckpointError, match=f"m has several names for one step: {names[0]} and {names[1]}.*--revisions"
    ) as refused:
        found.collisions.refuse("m", [9, *found.collisions.by_step])
    each = re.findall("'([^']*)'", str(refused.value))
    assert len(each) == 2
    for name, expression in zip(names, each, strict=True):  # each chooses the one
        chosen = read_names(names, "m", compile_revisions(expression))
        assert chosen.by_step == dict.fromkeys(found.collisions.by_step, name)


def test_the_expressions_that_choose_take_the_other_steps_too():
    names = [f"step{i}000{suffix}" for i in range(1, 4) for suffix in ("", f"-tokens{4 * i}B")]
    found = read_names(names, "m")
    assert found.by_step == {}
    assert found.collisions.advice.endswith(r"'step(?P<step>\d+)' or 'step(?P<step>\d+)-tokens\d+B'")
    expression = compile_revisions(r"step(?P<step>\d+)-tokens\d+B")
    assert list(read_names(names, "m", expression).by_step.values()) == names[1::2]


@pytest.mark.parametrize("name", ["step" + "9" * 5000, "checkpoint-" + "1" * 19, "step" + "9" * 17 + "k"])
def test_a_number_that_is_too_long_is_no_step(name):
    assert read_names([name], "m").by_step == {}
    assert read_names([name], "m", compile_revisions(r"\D+(?P<step>\d+k?)")).by_step == {}
    assert list(read_names([f"step{2**53}", f"step{2**53 + 1}"], "m").by_step) == [2**53]
    assert stored_forms([f"model-00001-of-{name}.safetensors", f"model-00001-of-{'9' * 5000}.safetensors"]) == []


def test_names_of_one_thing_are_one():
    found = read_names(["step1", "step01", "step2"], "m", same={"step1": "a", "step01": "a", "step2": "b"})
    assert found.by_step == {1: "step1", 2: "step2"}
    assert describe_left_out(found.left_out) == ["not traced: 1 name for what is also called step1: step01"]


def test_the_first_of_several_stages_is_taken():
    first = [f"stage1-step{i}000-tokens{i}B" for i in range(3)]
    second = [f"stage2-ingredient{i}-step1000-tokens5B" for i in (1, 2, 3)]
    found = read_names([*second, *first, "main"], "m")
    assert list(found.by_step.values()) == first
    assert {one.name for one in found.left_out} == {"main", *second}
    one = compile_revisions(r"stage2-ingredient2-step(?P<step>\d+)-tokens.*")
    assert read_names([*second, *first], "m", one).by_step == {1000: second[1]}
    with pytest.raises(CheckpointError, match=r"m has 3 stages .*stage2-ingredient1, stage2-ingredient2.*--revisions"):
        read_names(second, "m")
    assert read_names(second[:1], "m").by_step == {1000: second[0]}  # the only one there is
    every = compile_revisions(r"stage2-.*-step(?P<step>\d+)-tokens.*")
    both = read_names(second, "m", every)
    assert (both.by_step, both.collisions.by_step) == ({}, {1000: tuple(second)})
    assert "'stage2-ingredient1-step(?P<step>\\d+)-tokens\\d+B'" in both.collisions.advice


# Folders


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("made"), (0, 1, 2, 3))


@pytest.fixture
def folder(made, tmp_path):
    """Puts a checkpoint's files somewhere: folder("run/checkpoint-1", 1)."""

    def put(name, step, state=None):
        target = tmp_path / name
        shutil.copytree(made / f"step{step}", target, dirs_exist_ok=True)
        if state is not None:
            (target / "trainer_state.json").write_text(json.dumps({"global_step": state}))
        return target

    return put


def left_out(found):
    return {one.name: one.reason for one in found.left_out}


def names_of(found):
    by_step = found if isinstance(found, dict) else found.by_step
    return {step: Path(c.source).name for step, c in by_step.items()}


def test_a_trainer_s_folder_with_the_final_model_in_it(folder, tmp_path, run):
    run_folder = folder("run", 3)
    folder("run/checkpoint-10", 1)
    folder("run/Checkpoint-20", 2)
    (run_folder / "runs").mkdir()
    (run_folder / "checkpoint-30").mkdir()
    found = find_checkpoints(run_folder)
    assert names_of(found) == {10: "checkpoint-10", 20: "Checkpoint-20"}
    assert set(left_out(found)) == {"run", "checkpoint-30"}
    assert "no config.json" in left_out(found)["checkpoint-30"]
    assert "the final model" in left_out(found)["run"]

    (run_folder / "trainer_state.json").write_text('{"global_step": 25}')
    found = find_checkpoints(run_folder)
    assert (found.name, names_of(found)) == ("run", {10: "checkpoint-10", 20: "Checkpoint-20", 25: "run"})
    (run_folder / "trainer_state.json").write_text('{"global_step": 20}')
    found = find_checkpoints(run_folder)
    assert names_of(found) == {10: "checkpoint-10", 20: "Checkpoint-20"}
    assert "step, 20, is that of Checkpoint-20" in left_out(found)["run"]
    (run_folder / "trainer_state.json").write_text("{")
    assert "does not give the training step" in left_out(find_checkpoints(run_folder))["run"]
    (run_folder / "trainer_state.json").unlink()
    config = json.loads((run_folder / "config.json").read_text())
    (run_folder / "config.json").write_text(json.dumps({**config, "global_step": 40}))
    assert names_of(find_checkpoints(run_folder))[40] == "run"

    (tmp_path / "t.txt").write_text(TEXT)
    options = ("--probe", tmp_path / "t.txt", "--length", "8", "--sequences", "2")
    code, out, err = run("trace", run_folder, "--out", tmp_path / "d", *options)
    assert (code, "3 measured" in out) == (0, True)
    assert "not traced: 1 name" in err + out
    assert "checkpoint-30" in err + out
    _, planned, _ = run("plan", run_folder, "--length", "8")
    assert "checkpoint-30" in planned
    assert list(manifest.read_units(tmp_path / "d", "run")) == [10, 20, 40]
    alone = madyn.trace(
        run_folder / "checkpoint-10", tmp_path / "e", probe=madyn.sweep.Probe(str(tmp_path / "t.txt"), 2, 8)
    )
    assert alone.measured == [("run", 10)]


def test_folders_whose_names_say_nothing_are_asked(folder, tmp_path):
    folder("run/epoch-1", 1, state=100)
    folder("run/best", 2, state=200)
    folder("run/epoch-3", 3)
    folder("run/final", 3)
    (tmp_path / "run" / "latest").symlink_to(tmp_path / "run" / "best")
    found = find_checkpoints(tmp_path / "run")
    assert names_of(found) == {100: "epoch-1", 200: "best"}
    assert set(left_out(found)) == {"latest", "epoch-3", "final"}
    assert "also called best" in left_out(found)["latest"]
    assert "epochs" in left_out(found)["epoch-3"]
    taken = find_checkpoints(tmp_path / "run", revisions=r"epoch-(?P<step>\d+)")
    assert names_of(taken) == {1: "epoch-1", 3: "epoch-3"}


def test_folders_for_one_step_are_refused(folder, tmp_path):
    folder("run/step1", 1)
    folder("run/step01", 2)
    with pytest.raises(CheckpointError, match="run has several names for one step: step01 and step1"):
        find_checkpoints(tmp_path / "run")  # there is nothing else
    folder("other/best", 1, state=5)
    folder("other/final", 2, state=5)
    with pytest.raises(
        CheckpointError, match=r"2 names that record one step, 5, with different weights.*: best, final"
    ):
        find_checkpoints(tmp_path / "other")
    folder("third/step5", 1)
    folder("third/final", 2, state=5)
    found = find_checkpoints(tmp_path / "third")
    assert names_of(found) == {5: "step5"}
    assert "step, 5, is that of step5" in left_out(found)["final"]
    folder("run/final", 2, state=1)
    folder("run/step7", 2)
    found = find_checkpoints(tmp_path / "run")
    assert names_of({7: found.at([7])[0]}) == {7: "step7"}
    assert "step, 1, is that of step01 and step1" in left_out(found)["final"]
    for steps in ([1], [1, 7], found.steps):
        with pytest.raises(CheckpointError, match="several names for one step: step01 and step1"):
            found.at(steps)


def test_names_that_say_nothing_never_cost_the_checkpoints_that_do(folder, tmp_path):
    folder("run/checkpoint-100", 1)
    folder("run/best", 2, state=150)
    folder("run/last", 2, state=150)
    found = find_checkpoints(tmp_path / "run")
    assert names_of(found) == {100: "checkpoint-100", 150: "best"}
    assert left_out(found) == {"last": "that hold the weights of best"}
    folder("run/last", 3)
    found = find_checkpoints(tmp_path / "run")
    assert names_of(found) == {100: "checkpoint-100"}
    assert set(left_out(found)) == {"best", "last"}
    assert "call the one meant checkpoint-150" in left_out(found)["best"]
    (tmp_path / "run" / "last").rename(tmp_path / "run" / "checkpoint-150")  # as it says
    assert names_of(find_checkpoints(tmp_path / "run")) == {100: "checkpoint-100", 150: "checkpoint-150"}


@pytest.mark.parametrize("file", ["trainer_state.json", "config.json"])
@pytest.mark.parametrize("digits", [19, 4000, 5000])
def test_a_step_of_thousands_of_digits_is_none(folder, tmp_path, file, digits):
    path = folder("run/best", 1) / file
    content = path.read_text() if path.exists() else "{}"
    path.write_text('{"global_step": ' + "9" * digits + ("," if len(content) > 2 else "") + content[1:])
    folder("run/checkpoint-1", 2)
    found = find_checkpoints(tmp_path / "run")
    assert names_of(found) == {1: "checkpoint-1"}
    assert list(left_out(found)) == ["best"]


def test_a_folder_with_none_says_what_was_seen(folder, tmp_path):
    folder("run/final", 1)
    with pytest.raises(CheckpointError, match=r"no training checkpoints.*not traced: 1 name whose step.*: final"):
        find_checkpoints(tmp_path / "run")


# Adapters


def adapter(path, base: str | None = "meta/base"):
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    (path / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return path


def test_an_adapter_is_called_one(folder, tmp_path, run):
    said = "is an adapter .PEFT. on meta/base, without that model's own weights; merge it with `merge_and_unload"
    alone = adapter(tmp_path / "lora")
    for find in (find_checkpoint, find_checkpoints):
        with pytest.raises(CheckpointError, match=f"lora {said}"):
            find(alone)
    code, _, err = run("scan", alone)
    assert (code, len([line for line in err.splitlines() if "madyn: " in line])) == (1, 1)
    nameless = adapter(tmp_path / "nameless", None)
    with pytest.raises(CheckpointError, match="on a model that it does not name"):
        find_checkpoint(nameless)

    (tmp_path / "run").mkdir()
    adapter(tmp_path / "run" / "checkpoint-10")
    found = find_checkpoints(tmp_path / "run")
    assert list(found.by_step) == [10]
    (tmp_path / "t.txt").write_text(TEXT)
    probe = madyn.sweep.Probe(str(tmp_path / "t.txt"), 2, 8)
    with pytest.raises(CheckpointError, match=f"checkpoint-10 {said}"):
        madyn.trace(tmp_path / "run", tmp_path / "d", probe=probe)
    assert not (tmp_path / "d").exists()
    folder("run/checkpoint-20", 1)
    report = madyn.trace(tmp_path / "run", tmp_path / "d", probe=probe)
    assert report.measured == [("run", 20)]
    assert [(unit.step, "is an adapter (PEFT) on meta/base" in str(unit.failure)) for unit in report.failures] == [
        (10, True)
    ]
    _, planned, _ = run("plan", tmp_path / "run", "--length", "8")
    assert "adapter" in " ".join(planned.split())


# The Hub


def files(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_branches_of_every_kind(hub, made, run, tmp_path):
    branches = ["main", "step-1k", "Checkpoint-2", "iter_0000003", "epoch-1", "50K", "stage2-step1-tokens1B"]
    hub.add("owner/mixed", {name: files(made / f"step{i % 4}") for i, name in enumerate(branches)})
    found = find_checkpoints("owner/mixed")
    assert {step: c.revision for step, c in found.by_step.items()} == {
        2: "Checkpoint-2", 3: "iter_0000003", 1000: "step-1k"
    }  # fmt: skip
    assert set(left_out(found)) == {"epoch-1", "50K", "stage2-step1-tokens1B"}
    _, out, _ = run("plan", "owner/mixed", "--length", "8")
    said = " ".join(out.split())
    assert "not traced: 1 name whose step cannot be read" in said
    assert "): 50K" in said
    assert "stage2-step1-tokens1B" in said
    assert list(find_checkpoints("owner/mixed", revisions=r"(?P<step>\d+K)").by_step) == [50_000]


def test_main_is_the_model_itself_and_nothing_is_said_of_it(hub, made, run):
    hub.add("owner/plain", {name: files(made / f"step{i}") for i, name in enumerate(["main", "step1", "step2"])})
    assert find_checkpoints("owner/plain").left_out == []
    code, out, err = run("plan", "owner/plain", "--length", "8")
    assert (code, "not traced" in out + err) == (0, False)
    assert find_checkpoints("owner/plain", revisions=r"step(?P<step>\d+)").left_out == []


def test_branches_for_one_step(hub, made):
    ingredients = {f"stage2-ingredient{i}-step1-tokens1B": files(made / f"step{i}") for i in (1, 2)}
    hub.add("owner/soup", {"main": files(made / "step0"), **ingredients})
    with pytest.raises(CheckpointError, match=r"owner/soup has 2 stages .*--revisions"):
        find_checkpoints("owner/soup")
    hub.add("owner/twice", {"step1": files(made / "step1"), "step01": files(made / "step2")})
    with pytest.raises(CheckpointError, match="owner/twice has several names for one step: step1 and step01"):
        find_checkpoints("owner/twice")
    hub.add("owner/beside", {name: files(made / f"step{i}") for i, name in enumerate(["step1", "step01", "step2"])})
    found = find_checkpoints("owner/beside")
    assert [c.revision for c in found.at([2])] == ["step2"]
    with pytest.raises(CheckpointError, match="owner/beside has several names"):
        found.at(found.steps)
    hub.add("owner/same", {"step1": files(made / "step1"), "step01": files(made / "step1")})
    found = find_checkpoints("owner/same")
    assert found.by_step[1].revision == "step1"
    assert "also called step1" in left_out(found)["step01"]


def test_an_adapter_of_the_hub(hub, run, tmp_path):
    hub.add("owner/lora", {"main": files(adapter(tmp_path / "lora"))})
    code, _, err = run("scan", "owner/lora")
    assert code == 1
    assert "owner/lora at main is an adapter (PEFT) on meta/base" in err
