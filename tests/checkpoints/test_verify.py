"""Checkpoints that are not what their names say: found before anything is downloaded, and not measured by default."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import madyn
from madyn.checkpoints import verdicts
from madyn.checkpoints.fingerprints import sample_files, step_inside
from madyn.checkpoints.forms import stored_forms
from madyn.checkpoints.verifying import at_another_step
from madyn.dataset import layout, manifest
from madyn.dataset.statistics import write_statistics
from madyn.errors import CheckpointError, UsageError
from madyn.sharing import MAIN, find_sharings, list_steps
from tiny import TEXT, save_checkpoints

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
STEPS = (0, 1, 64, 128, 600, 1000)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("source") / "tiny-net", STEPS)


@pytest.fixture
def net(source, tmp_path):
    return shutil.copytree(source, tmp_path / "here" / "tiny-net")


@pytest.fixture
def revisions(source):
    """A branch a step, and main at the last; each with its files in both forms."""
    steps = {}
    for folder in source.iterdir():
        steps[folder.name] = {p.name: p.read_bytes() for p in folder.iterdir()}
        path = folder.parent.parent / f"{folder.name}.bin"
        torch.save(load_file(folder / WEIGHTS), path)
        steps[folder.name][PICKLE] = path.read_bytes()
    return {"main": dict(steps["step1000"]), **steps}


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "probe.txt").write_text(TEXT)
    return ["--probe", str(tmp_path / "probe.txt"), "--length", "12", "--sequences", "3"]


def found_in(folder, **options):
    (found,) = madyn.sweep.verify_checkpoints(folder, **options)
    return found


# How it is judged: pieces by name, a letter for their content.


def sharing(held, last=None, **options):
    named = {key: {f"piece {n}": content for n, content in enumerate(pieces)} for key, pieces in held.items()}
    found = find_sharings(named, steps=() if last is None else [last], **options)
    return [(s.steps, s.main, s.whole, s.owner, s.suspects) for s in found]


def test_steps_that_hold_the_final_weights_are_told_from_the_final_step():
    held = {0: "a", 1: "a", 2: "b", 53000: "a", 143000: "a", MAIN: "a"}
    assert sharing(held, last=143000) == [((0, 1, 53000, 143000), True, True, 143000, (0, 1, 53000))]


def test_nothing_tells_whose_they_are_where_the_final_step_is_not_borne_out():
    assert sharing({1: "a", 2: "b", 4: "a", 5: "a"}, last=9) == [((1, 4, 5), False, True, None, (1, 4, 5))]
    assert sharing({64: "a", 128: "b", 600: "a"}, last=600) == [((64, 600), False, True, None, (64, 600))]
    assert sharing({64: "a", 128: "a", 600: "b", MAIN: "a"}, last=600) == [((64, 128), True, True, None, (64, 128))]


def test_what_a_checkpoint_says_itself_tells_whose_it_is():
    held = {64: "a", 128: "b", 600: "a", 700: "a"}
    assert sharing(held, last=700, inside={64: 600, 600: 600, 700: 600}) == [
        ((64, 600, 700), False, True, 600, (64, 700))
    ]


@pytest.mark.parametrize(
    "held",
    [
        {1: "a", 9: "b", MAIN: "b"},  # main was made from the last step
        {1: "a", 5: "b", 9: "c", MAIN: "b"},  # or from another
        {0: "a", 1: "a", 9: "b"},  # a first update at a learning rate of zero
        {1: "a", 8: "b", 9: "b", MAIN: "b"},  # or a last one
    ],
)
def test_what_is_plausible_is_no_fault(held):
    ((_, _, _, owner, suspects),) = sharing(held, last=9)
    assert (owner, suspects) == (None, ())


def test_a_part_of_another_step():
    held = {0: "ax", 1: "by", 50: "cX", 55: "fz", 58: "dX", 143: "eX", MAIN: "eX"}
    whole, part = sharing(held, last=143)
    assert whole == ((143,), True, True, None, ())
    assert part[2:] == (False, 143, (50, 58))


@pytest.mark.parametrize(
    ("held", "faults"),
    [
        ({1: "a", 2: "b", 3: "b", 4: "c"}, (2, 3)),  # a copy of the step before
        ({1: "a", 2: "a", 3: "b", 4: "c"}, (1, 2)),  # a difference of one is no single update: all have it
        ({0: "a", 1: "b", 2: "b", 4: "c", 8: "d"}, (1, 2)),
        ({0: "a", 1: "a", 2: "a", 4: "c", 8: "d"}, ()),  # the first updates were skipped
        ({0: "a", 1: "a", 2: "a", 4: "a", 8: "d"}, (0, 1, 2, 4)),
        ({0: "a", 1: "a", 8: "d", MAIN: "a"}, (0, 1)),
        ({0: "a", 1: "a"}, ()),
        ({1: "a", 2: "a"}, (1, 2)),
    ],
)
def test_neighbours_that_are_equal(held, faults):
    assert sum((suspects for *_, suspects in sharing(held)), ()) == faults


def test_equal_steps_at_the_end_are_refused_and_may_be_of_a_learning_rate_of_zero():
    held = {step: {"w": "a"} for step in (9000, 9500, 10000, MAIN)}
    (one,) = find_sharings({0: {"w": "b"}, 500: {"w": "c"}, **held})
    assert (one.owner, one.suspects, one.ending) == (10000, (9000, 9500), True)
    assert str(verdicts.shared(one, ("w",), {})).startswith(
        "steps 9000 and 9500 hold the weights of step 10000 and main (w), or the learning rate was zero: "
    )
    (other,) = find_sharings({0: {"w": "b"}, **held, 9700: {"w": "c"}})
    assert (other.suspects, other.ending) == ((9000, 9500), False)


@pytest.mark.parametrize(
    ("pieces", "faults", "of_files"),
    [
        ("xxxx", (), ()),
        ("xxxy", (), ()),
        ("xxyz", (), (0, 10)),  # frozen for the first two that were saved
        ("yxxx", (), (10, 20, 30)),  # frozen later
        ("yxxz", (), (10, 20)),  # an expert that no token came to
        ("xxyx", (0, 10, 30), (0, 10, 30)),
        ("xyzx", (0, 30), (0, 30)),
    ],
)
def test_a_tensor_that_neighbours_share_may_be_frozen_and_a_file_is_not(pieces, faults, of_files):
    held = {10 * step: f"{step}{piece}" for step, piece in enumerate(pieces)}
    assert sum((suspects for *_, suspects in sharing(held)), ()) == faults
    assert sum((suspects for *_, suspects in sharing(held, files={"piece 1"})), ()) == of_files
    further = {**held, MAIN: "my"}  # main was trained on, which says nothing of the steps
    assert sum((suspects for *_, suspects in sharing(further)), ()) == faults


def test_a_duplicate_does_not_stand_between_neighbours():
    held = {0: "ax", 10: "bx", 20: "ey", 30: "cx", 40: "dy", 50: "ey", MAIN: "ey"}
    assert sum((suspects for *_, suspects in sharing(held)), ()) == (20,)


def test_two_checkpoints_that_agree_in_part_tell_nothing():
    assert sharing({1: "ax", 9: "bx"}, last=9) == []


def test_weak_pieces_are_no_evidence():
    held = {1: "ax", 2: "by", 3: "cx"}
    assert [s[4] for s in sharing(held, last=3)] == [(1, 3)]
    assert sharing(held, last=3, weak={"piece 1"}) == []


def test_steps_in_words():
    assert list_steps([5]) == "step 5"
    assert list_steps([2, 1, 3]) == "steps 1, 2 and 3"
    assert list_steps(range(20)) == "steps 0, 1, 2, ..., 18, 19 (20 of them)"


def test_the_forms_that_names_tell():
    names = [PICKLE, "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors", "optimizer.bin"]
    shards, pickle = stored_forms(names)
    assert (shards.label, shards.missing) == ("model-*-of-00003.safetensors", ("model-00002-of-00003.safetensors",))
    assert (pickle.files, pickle.ending) == ((PICKLE,), "bin")
    assert stored_forms(["model-1-of-99999999999.safetensors"]) == []


# On disk


def test_sound_checkpoints(net):
    found = found_in(net)
    assert (found.steps, found.compared, found.requests, found.findings) == (STEPS, 6, 0, ())


def test_a_copy_of_another_step(net):
    shutil.copy(net / "step600" / WEIGHTS, net / "step64" / WEIGHTS)
    found = found_in(net, steps=[64, 128])
    assert list(found.faults) == [64]  # step 600 was not asked about, and is looked at all the same
    (finding,) = found.findings
    assert (finding.kind, finding.shares_with) == ("duplicate", ("step 64", "step 600"))
    assert str(finding).startswith(
        "steps 64 and 600 hold the same weights (model.safetensors), and nothing tells whose"
    )
    for step, said in ((64, 600), (600, 600), (128, 128)):
        (net / f"step{step}" / "trainer_state.json").write_text(json.dumps({"epoch": 1.5, "global_step": said}))
    found = found_in(net)
    assert list(found.faults) == [64]
    assert "it holds the weights of step 600" in found.faults[64]
    assert "it is step 600, says trainer_state.json in it" in found.faults[64]


def test_a_copy_that_differs_where_no_sample_is_taken_is_another_checkpoint(net):
    for step, change in ((64, 0.0), (600, 1.0)):
        weights = load_file(net / "step64" / WEIGHTS)
        weights["more"] = torch.arange(100_000.0).reshape(100, 1000)
        weights["more"].view(-1)[20_000] += change
        save_file(weights, net / f"step{step}" / WEIGHTS)
    samples = [sample_files([net / f"step{step}" / WEIGHTS])["more"].sample for step in (64, 600)]
    assert samples[0] == samples[1]
    (finding,) = found_in(net).findings  # everything else is the same, and is said to be
    assert finding.kind == "part"
    assert "more" not in finding.pieces


def test_the_embedding_of_one_step_and_the_layers_of_another(net):
    own, other = (load_file(net / f"step{step}" / WEIGHTS) for step in (64, 600))
    name = next(name for name in own if "embed_in" in name)
    save_file({**own, name: other[name]}, net / "step64" / WEIGHTS, metadata={"format": "pt"})
    (finding,) = found_in(net).findings
    assert (finding.kind, finding.steps, finding.pieces) == ("part", (64, 600), (name,))
    assert "hold the same 1 tensor (" in str(finding)


def test_a_copy_of_the_step_before_where_steps_are_one_apart(source, tmp_path):
    folders = {0: 0, 1: 1, 2: 64, 3: 64, 4: 600}
    for step, of in folders.items():
        shutil.copytree(source / f"step{of}", tmp_path / "net" / f"step{step}")
    assert list(found_in(tmp_path / "net").faults) == [2, 3]


def test_frozen_tensors_are_told_and_hide_no_duplicate(net):
    """All hold the embedding, and some of them are read whole for another reason."""
    frozen = load_file(net / "step0" / WEIGHTS)
    name, expert = next(name for name in frozen if "embed_in" in name), torch.randn(64, 64)
    for step in STEPS:
        weights = {**load_file(net / f"step{step}" / WEIGHTS), name: frozen[name]}
        weights["expert"] = expert if step in (128, 600) else torch.randn(64, 64)
        save_file(weights, net / f"step{step}" / WEIGHTS)
    (finding,) = found_in(net).findings
    assert (finding.kind, finding.steps, finding.pieces) == ("frozen", (128, 600), ("expert",))
    assert str(finding) == "steps 128 and 600 hold the same 1 tensor (expert), which may be frozen"
    shutil.copy(net / "step1000" / WEIGHTS, net / "step64" / WEIGHTS)
    assert list(found_in(net).faults) == [64, 1000]


def test_another_form_that_cannot_be_read_is_passed_over(net, monkeypatch):
    def on_a_bad_disk(paths):
        if net / "step64" / PICKLE in paths:
            raise CheckpointError("Input/output error")
        return sample_files(paths)

    monkeypatch.setattr("madyn.checkpoints.stores.sample_files", on_a_bad_disk)
    shutil.copy(net / "step600" / WEIGHTS, net / "step64" / WEIGHTS)
    for step in STEPS:
        (net / f"step{step}" / PICKLE).write_bytes(b"%d" % step)
    (finding,) = found_in(net).findings
    assert (finding.steps, finding.sound) == ((64, 600), {600: (PICKLE,)})
    assert "pytorch_model.bin of step 600 is not shared, --weights bin reads it" in str(finding)
    assert "(a trainer_state.json with its global_step in each would)" in str(finding)


def test_frozen_and_constant_tensors_are_no_evidence(net):
    frozen = load_file(net / "step0" / WEIGHTS)
    name = next(name for name in frozen if "embed_in" in name)
    for step in STEPS:
        weights = load_file(net / f"step{step}" / WEIGHTS)
        zeros = {"adapter": torch.zeros(64, 64)} if step < 2 else {"adapter": torch.randn(64, 64)}
        norms = {"norm": torch.linspace(0, 1, 16)} if step in (64, 600) else {"norm": torch.randn(16)}
        mask = {"mask": torch.ones(9, 9, dtype=torch.bool).tril()}
        save_file({**weights, name: frozen[name], **zeros, **norms, **mask}, net / f"step{step}" / WEIGHTS)
    assert found_in(net).findings == ()


def test_a_checkpoint_with_no_weights_and_one_with_a_shard_missing(net):
    (net / "step64" / WEIGHTS).unlink()
    assert found_in(net).faults == {64: "no weights in it (model.safetensors or pytorch_model.bin)"}
    for count in (1, 2):
        (net / "step64" / f"model-0000{count}-of-00003.safetensors").write_bytes(b"")
    assert "model-00003-of-00003.safetensors" in found_in(net).faults[64]


@pytest.mark.parametrize("file", ["trainer_state.json", "config.json"])
def test_the_wrong_step_inside(net, file):
    for step in STEPS:
        path = net / f"step{step}" / file
        value = json.loads(path.read_text()) if path.exists() else {"best_global_step": 3}
        path.write_text(json.dumps({**value, "global_step": 128 if step == 64 else step}))
    found = found_in(net)
    assert {step: reason.split(":")[0] for step, reason in found.faults.items()} == {
        64: f"it is step 128, says {file} in it"
    }
    assert step_inside(net / "step64") == (128, file)


def test_the_record_of_a_folder_alone_tells_nothing(net):
    (net / "step64" / "trainer_state.json").write_text(json.dumps({"global_step": 600}))
    assert (found_in(net / "step64").steps, found_in(net / "step64").findings) == ((600,), ())


def test_an_adapter_is_called_one(net):
    (net / "step64" / WEIGHTS).unlink()
    (net / "step64" / "config.json").unlink()
    (net / "step64" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    found = found_in(net)
    assert [finding.kind for finding in found.findings] == ["not compared"]
    assert "is an adapter (PEFT) on owner/base" in str(found.findings[0])


def test_shards_named_by_their_index_alone():
    names = ["part-a.safetensors", "part-b.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"]
    (form,) = stored_forms(names)
    assert (form.files, form.missing) == (("part-a.safetensors", "part-b.safetensors"), ())


@pytest.mark.parametrize(
    ("inside", "steps", "wrong"),
    [
        ({0: 0, 1: 500, 2: 1000}, (0, 1, 2), []),  # epochs; 0 is 0 in any unit
        ({1: 500}, (1,), []),
        ({1: 500}, (1, 2, 3), []),
        ({64: 600}, (64, 600), [64]),
        ({64: 64, 600: 1, 700: 77}, (64, 600, 700), [600, 700]),
        ({1: 2, 2: 1}, (1, 2, 3), [1, 2]),
    ],
)
def test_what_records_tell_of_names(inside, steps, wrong):
    assert at_another_step(inside, steps) == wrong


def test_epochs_are_measured_one_by_one_and_together(source, tmp_path):
    for epoch, step in enumerate(STEPS):
        folder = shutil.copytree(source / f"step{step}", tmp_path / "net" / f"epoch-{epoch}")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": 500 * epoch}))
    assert found_in(tmp_path / "net").findings == ()
    assert found_in(tmp_path / "net" / "epoch-1").findings == ()


def test_a_step_that_all_configs_say_is_not_their_own(net):
    for step in STEPS:
        path = net / f"step{step}" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "step": 600}))
    found = found_in(net)
    (finding,) = found.findings
    assert (found.faults, finding.kind, finding.steps) == ({}, "inherited", STEPS)
    assert str(finding).startswith("config.json says step 600 in all of steps 0, 1, 64, 128, 600 and 1000")


def test_many_wrong_records_are_one_finding(net):
    wrong = {0: 1, 1: 0, 64: 77, 128: 5, 600: 3}
    for step in STEPS:
        (net / f"step{step}" / "trainer_state.json").write_text(json.dumps({"global_step": wrong.get(step, step)}))
    found = found_in(net)
    (finding,) = found.findings
    assert str(finding).startswith(
        "steps 0, 1, 64, 128 and 600 are other steps (0 is 1, 1 is 0, 64 is 77, 128 is 5, 600 is 3), says "
        "trainer_state.json in it: mend the name or"
    )
    assert found.faults[64].startswith("it is step 77, says trainer_state.json in it: mend")


def test_many_frozen_tensors_are_one_finding(net):
    experts = {f"expert.{n}": torch.randn(64, 64) for n in range(5)}
    for number, step in enumerate(STEPS):
        held = {
            name: t if n in (number, number - 1) else torch.randn(64, 64) for n, (name, t) in enumerate(experts.items())
        }
        save_file({**load_file(net / f"step{step}" / WEIGHTS), **held}, net / f"step{step}" / WEIGHTS)
    (finding,) = found_in(net).findings
    assert (finding.kind, finding.steps, len(finding.pieces)) == ("frozen", STEPS, 5)


def two_saves(files, older):
    """Shards of an older save beside those of the last, with the index that names the last."""
    new, old = in_shards(files, 3), in_shards(older, 2)
    index = {"weight_map": {f"w{n}": name for n, name in enumerate(name for name in new if "-of-" in name)}}
    return {**old, **new, f"{WEIGHTS}.index.json": json.dumps(index).encode()}


def test_the_index_says_which_of_two_saves_is_the_model_on_disk(net, revisions):
    for step in STEPS:
        (net / f"step{step}" / WEIGHTS).unlink()
        for name, content in two_saves(revisions[f"step{step}"], revisions["step0"]).items():
            (net / f"step{step}" / name).write_bytes(content + (b"%d" % step if "of-00003" in name else b""))
    assert found_in(net).faults == {}
    for n in (1, 2, 3):
        shard = f"model-0000{n}-of-00003.safetensors"
        shutil.copy(net / "step600" / shard, net / "step64" / shard)
    assert list(found_in(net).faults) == [64, 600]
    (net / "step1" / f"{WEIGHTS}.index.json").unlink()
    assert "no model.safetensors.index.json to tell which are" in found_in(net).faults[1]


def test_the_index_says_which_of_two_saves_is_the_model_on_the_hub(hub, revisions):
    steps = {}
    for step in STEPS:
        files = two_saves(revisions[f"step{step}"], revisions["step0"])
        steps[f"step{step}"] = {n: c + (b"%d" % step if "of-00003" in n else b"") for n, c in files.items()}
    steps["main"] = dict(steps["step1000"])
    hub.add("owner/two-saves", steps)
    found = found_in("owner/two-saves")
    assert found.faults == {}
    assert found.requests == 2 * len(STEPS)
    for name in [name for name in steps["step64"] if "of-00003" in name]:
        steps["step64"][name] = steps["step600"][name]
    hub.add("owner/two-saves-stale", steps)
    assert list(found_in("owner/two-saves-stale").faults) == [64, 600]


def test_names_that_count_in_another_unit_are_no_fault(net):
    for step in STEPS:
        (net / f"step{step}" / "trainer_state.json").write_text(json.dumps({"global_step": 500 * step + 500}))
    assert found_in(net).findings == ()


def test_files_that_are_no_safetensors_are_compared_whole(net):
    for step in STEPS:
        folder = net / f"step{step}"
        torch.save(load_file(folder / WEIGHTS), folder / PICKLE)
        (folder / WEIGHTS).unlink()
    shutil.copy(net / "step600" / PICKLE, net / "step64" / PICKLE)
    assert list(found_in(net).faults) == [64, 600]


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x10" + bytes(7) + b"{" * 16, b"\x02" + bytes(7) + b"[]"])
def test_a_file_that_is_not_what_its_name_says_is_left_to_loading(net, content):
    (net / "step64" / WEIGHTS).write_bytes(content)
    assert found_in(net).findings == ()
    assert list(sample_files([net / "step64" / WEIGHTS])) == [WEIGHTS]


# On the Hub


def listings(hub, name):
    """How often each commit was asked for; nothing but branches and listings may be."""
    asked = [request for request in hub.requests if name in request]
    assert not [r for r in asked if not r.startswith((f"GET /api/models/{name}/refs", f"GET /api/models/{name}/tree/"))]
    return Counter(request.split("/")[-1] for request in asked)


def test_one_request_a_commit(hub, revisions):
    revisions["step1"] = dict(revisions["step0"])
    hub.add("owner/counted", revisions)
    found = found_in("owner/counted")
    assert found.faults == {}
    assert {finding.kind for finding in found.findings} == {"plausible"}  # main and step 1000, steps 0 and 1
    counts = listings(hub, "owner/counted")
    assert (counts.pop("refs"), set(counts.values()), len(counts)) == (1, {1}, len(STEPS) - 1)
    assert found.requests == len(STEPS) - 1
    found_in("owner/counted")
    assert sum("/tree/" in request for request in hub.requests) == len(STEPS) - 1  # a commit does not change


def test_a_few_steps_are_compared_with_others(hub, revisions, run):
    for step in (0, 64, 128, 600):
        revisions[f"step{step}"][WEIGHTS] = revisions["main"][WEIGHTS]
    hub.add("owner/few", revisions)
    found = found_in("owner/few", steps=64)
    assert list(found.faults) == [64]
    assert len(listings(hub, "owner/few")) == 5  # its branches; steps 0, 64, 128 and 1000, which is main
    assert (found.total, found.unseen) == (6, 2)
    _, out, _ = run("verify", "owner/few", "--steps", "64")
    assert "owner/few: 4 of 6 steps were compared; --steps all compares the others too" in " ".join(out.split())
    assert "steps were compared" not in run("verify", "owner/few")[1]


def test_safetensors_of_the_final_model_and_pickles_that_are_sound(hub, revisions, run):
    for step in (0, 1, 64):
        revisions[f"step{step}"][WEIGHTS] = revisions["main"][WEIGHTS]
    revisions["step64"][PICKLE] = revisions["main"][PICKLE]
    revisions["refs/pr/7"] = {**revisions["step1"], WEIGHTS: revisions["step600"][WEIGHTS][:-4] + b"mend"}
    revisions["refs/pr/8"] = dict(revisions["step128"])
    hub.add("owner/stale", revisions)
    finding = found_in("owner/stale").findings[0]
    assert (finding.kind, finding.steps, finding.shares_with) == ("duplicate", (0, 1, 64), ("step 1000", "main"))
    assert finding.sound == {0: (PICKLE,), 1: (PICKLE,)}
    assert "pytorch_model.bin of steps 0 and 1 is not shared, --weights bin reads it" in str(finding)
    assert found_in("owner/stale", weights="bin").faults.keys() == {64}
    assert found_in("owner/stale", pull_requests=True).findings[0].sound[1] == (PICKLE, "refs/pr/7")
    code, out, _ = run("verify", "owner/stale", "--json")
    (one,) = json.loads(out)
    assert (code, sorted(one["faults"]), one["findings"][0]["sound"]["0"]) == (1, ["0", "1", "64"], [PICKLE])
    code, out, _ = run("verify", "owner/stale", "--steps", "128,600")
    assert (code, "nothing is wrong" in out) == (0, True)
    code, out, _ = run("verify", "owner/stale")
    assert (code, "3 of 6 are not what they say" in out) == (1, True)


def in_shards(files: dict[str, bytes], count: int) -> dict[str, bytes]:
    """The files with the weights cut into pieces; these are only listed."""
    content = files[WEIGHTS]
    size = -(-len(content) // count)
    rest = {name: data for name, data in files.items() if name not in (WEIGHTS, PICKLE)}
    shards = {f"model-{n + 1:05d}-of-{count:05d}.safetensors": content[n * size : (n + 1) * size] for n in range(count)}
    return {**rest, **{name: data[:-1] + bytes([n]) for n, (name, data) in enumerate(shards.items())}}


def test_one_shard_of_the_final_model_and_one_missing(hub, revisions):
    sharded = {name: in_shards(files, 3) for name, files in revisions.items()}
    first, second = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
    # The same header is the same first bytes, so that the shards of different steps differ after them.
    for step in STEPS:
        sharded[f"step{step}"][first] += b"%d" % step
    sharded["main"] = dict(sharded["step1000"])
    for step in (64, 600):
        sharded[f"step{step}"][first] = sharded["main"][first]
    del sharded["step1"][second]
    del sharded["step128"]["model-00003-of-00003.safetensors"]
    hub.add("owner/shards", sharded)
    found = found_in("owner/shards")
    kinds = {finding.kind: finding for finding in found.findings if finding.fault}
    assert (kinds["part"].steps, kinds["part"].pieces) == ((64, 600), (first,))
    assert kinds["part"].shares_with == ("step 1000", "main")
    assert list(found.faults) == [1, 64, 128, 600]
    assert found.faults[1] == f"{second} missing"


def test_three_steps_with_the_same_shards(hub, revisions):
    sharded = {name: in_shards(files, 2) for name, files in revisions.items()}
    sharded["step64"] = {**sharded["step600"], "README.md": b"another commit"}
    sharded["step128"] = sharded["step600"]
    hub.add("owner/three", sharded)
    found = found_in("owner/three")
    assert list(found.faults) == [64, 128, 600]
    assert "nothing tells whose they are (main would, if it and the last step held them)" in found.faults[64]
    assert "`madyn verify --pull-requests` looks for mended files" in found.faults[64]
    assert "--pull-requests" not in found_in("owner/three", pull_requests=True).faults[64]


def test_a_busy_hub_is_waited_for_and_one_that_fails_is_said(hub, revisions, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    hub.add("owner/busy-list", revisions)
    hub.fail("owner/busy-list/tree", 429, times=3, Retry_After="5")
    assert found_in("owner/busy-list").faults == {}
    assert sum(wait >= 5 for wait in waits) == 3
    commit = hub.add("owner/half", revisions).commit("step64")
    hub.fail(f"owner/half/tree/{commit}", 503)
    found = found_in("owner/half")
    (finding,) = [f for f in found.findings if f.kind == "not compared"]
    assert (finding.steps, found.faults) == ((64,), {})
    assert "the Hub could not be reached" in str(finding)


# In a sweep


@pytest.fixture
def stale(hub, revisions):
    def add(name):
        for step in (1, 64):
            revisions[f"step{step}"][WEIGHTS] = revisions["main"][WEIGHTS]
        hub.add(name, revisions)
        return name

    return add


def test_a_trace_leaves_out_what_is_not_what_it_says(hub, stale, source, probe, run, tmp_path):
    name, out = stale("owner/traced"), tmp_path / "d"
    code, printed, err = run("trace", name, "--out", out, *probe)
    assert code == 1
    assert "traced: steps 1 and 64 hold the weights of step 1000 and main (model.safetensors)" in err
    assert "traced: 2 of 6 checkpoints are not measured: steps 1 and 64" in err
    assert len([line for line in err.splitlines() if line.startswith("traced: ")]) == 2
    assert "4 measured, 0 already there, 2 failed" in printed
    units = manifest.read_units(out, "traced")
    assert "it holds the weights of step 1000 and main" in (units[64].failure or "")
    assert set(layout.statistics_files(out, "traced")) == {0, 128, 600, 1000}
    assert units[0].weights_sha256 == {WEIGHTS: hub_sha256(source / "step0" / WEIGHTS)}

    code, printed, _ = run("trace", name, "--out", out, *probe, "--weights", "bin")
    assert (code, "2 measured, 4 already there" in printed) == (0, True)
    assert list(manifest.read_units(out, "traced")[1].weights_sha256) == [PICKLE]
    assert run("trace", source, "--name", "traced", "--out", tmp_path / "e", *probe)[0] == 0
    for step in STEPS:
        mended, expected = (layout.statistics_path(tmp_path / root, "traced", step).read_bytes() for root in "de")
        assert mended == expected
    assert run("check", out)[0] == 0


def hub_sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_nothing_of_a_duplicate_is_downloaded(hub, stale, probe, run, tmp_path):
    repository = hub.add(stale("owner/unread"), hub._repositories["models", "owner/unread"].revisions)
    run("trace", "owner/unread", "--out", tmp_path / "d", *probe, "--steps", "0,64,1000")
    of_faulty = [r for r in hub.requests if repository.commit("step64") in r]
    assert of_faulty == [f"GET /api/models/owner/unread/tree/{repository.commit('step64')}"]


def test_duplicates_are_measured_where_they_are_allowed(stale, probe, run, tmp_path):
    name, out = stale("owner/allowed"), tmp_path / "d"
    code, printed, err = run("trace", name, "--out", out, *probe, "--allow-duplicates")
    assert (code, "6 measured" in printed, "are not measured" in err) == (0, True, False)
    units = manifest.read_units(out, "allowed")
    assert "it holds the weights of step 1000 and main" in units[64].remarks[0]
    assert not [remark for remark in units[0].remarks if "it holds" in remark]
    statistics = madyn.open_dataset(out).statistics("allowed")
    assert np.array_equal(statistics.sel(step=64), statistics.sel(step=1000))


def test_first_steps_that_are_equal_are_said_once_and_measured(net, probe, run, tmp_path):
    shutil.copy(net / "step0" / WEIGHTS, net / "step1" / WEIGHTS)
    code, _, err = run("trace", net, "--out", tmp_path / "d", *probe)
    said = "steps 0 and 1 hold the same weights (model.safetensors), which a learning rate of zero leaves, and so does"
    assert (code, err.count(said)) == (0, 1)
    report = madyn.checking.check_dataset(tmp_path / "d")
    assert (list(report.faults), sum("steps 0 and 1" in remark for remark in report.remarks)) == ([], 1)


def test_a_share_of_the_work_sees_all_the_steps(net, probe, run, tmp_path):
    shutil.copy(net / "step600" / WEIGHTS, net / "step64" / WEIGHTS)
    shares = [run("trace", net, "--out", tmp_path / "d", *probe, "--shard", f"{i}/6") for i in range(1, 7)]
    assert [code for code, *_ in shares] == [0, 0, 1, 0, 1, 0]
    assert set(layout.statistics_files(tmp_path / "d", "tiny_net")) == {0, 1, 128, 1000}


def test_a_plan_says_it_too(stale, run):
    code, out, _ = run("plan", stale("owner/planned-stale"), "--length", "12")
    assert code == 0
    assert "planned_stale: steps 1 and 64 hold the weights of step 1000 and main" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("planned_stale ") and "0." in line)
    assert row[1:3] == ["6", "4"]


def test_a_wrong_step_inside_is_not_measured(net, probe, run, tmp_path):
    for step in STEPS:
        said = 600 if step == 128 else step
        (net / f"step{step}" / "trainer_state.json").write_text(json.dumps({"global_step": said}))
    code, _, err = run("trace", net, "--out", tmp_path / "d", *probe)
    assert (code, "step 128 is step 600, says trainer_state.json in it" in err) == (1, True)
    assert set(layout.statistics_files(tmp_path / "d", "tiny_net")) == set(STEPS) - {128}


# Afterwards


def test_a_check_finds_equal_weights_and_equal_statistics(net, probe, run, tmp_path):
    shutil.copy(net / "step600" / WEIGHTS, net / "step64" / WEIGHTS)
    out = tmp_path / "d"
    assert run("trace", net, "--out", out, *probe, "--allow-duplicates")[0] == 0
    report = madyn.checking.check_dataset(out)
    assert [f.removeprefix(f"{out / 'tiny_net'}: ") for f in report.faults] == [
        "steps 64 and 600 were measured on the same weights, says the manifest; compare the checkpoints with "
        "`madyn verify`"
    ]
    assert any("and nothing tells whose they are" in remark for remark in report.remarks)
    shutil.rmtree(out / "manifest")
    (fault,) = madyn.checking.check_dataset(out).faults
    assert "steps 64 and 600 have the same statistics in all layers, bit for bit" in fault
    _, printed, err = run("fit", out, "--hypothesis", "step1", "--quantity", "ratio")
    assert "tiny_net: steps 64 and 600 have statistics of another step, bit for bit" in printed + err


def repeated(values, tmp_path):
    """What a check says of a model with these statistics by step, with no manifest."""
    for step, statistics in values.items():
        write_statistics(layout.statistics_path(tmp_path, "m", step), statistics)
    return [said.split("m: ", 1)[1] for said in madyn.checking.check_dataset(tmp_path).faults]


def made_up(seed, layers=4, sequences=3):
    values = np.random.default_rng(seed).random((sequences, 4, layers)).astype(np.float32)
    return -np.sort(-values, axis=1)


def test_statistics_that_are_equal_in_the_first_layers(tmp_path):
    values = {step: made_up(step) for step in STEPS}
    values[64][..., :2] = values[600][..., :2]
    values[128][..., 3] = values[600][..., 3]  # of no weights that are shared: earlier layers differ
    assert repeated(values, tmp_path) == [
        "steps 64 and 600 have the same statistics up to layer 1, bit for bit: in part they are of one checkpoint; "
        "compare the checkpoints with `madyn verify`"
    ]


def test_statistics_that_may_be_equal(tmp_path):
    values = {step: made_up(step) for step in STEPS}
    values[1] = values[0]
    for step in STEPS:
        values[step][..., 0] = values[0][..., 0]  # frozen
    assert repeated(values, tmp_path) == []
    remarks = [said.split("m: ", 1)[1] for said in madyn.checking.check_dataset(tmp_path).remarks]
    assert remarks[0].startswith("steps 0 and 1 have the same statistics in all layers, bit for bit: a learning rate")


def test_few_values_of_few_digits_agree_by_chance(tmp_path):
    values = {step: made_up(step) for step in STEPS}
    values[64] = values[600]
    coarse = {step: value.astype(np.float16).astype(float) for step, value in values.items()}
    assert repeated(coarse, tmp_path / "coarse") == []
    assert len(repeated(values, tmp_path / "fine")) == 1


def test_a_wrong_step_inside_is_not_measured_from_the_hub(hub, revisions, probe, run, tmp_path):
    for step, said in ((64, 600), (128, 77)):  # 77 is no step of this model: it may count something else
        revisions[f"step{step}"]["trainer_state.json"] = json.dumps({"global_step": said}).encode()
    repository = hub.add("owner/inside", revisions)
    code, _, err = run("trace", "owner/inside", "--out", tmp_path / "d", *probe)
    assert code == 1
    assert "owner/inside at step64 is step 600, says trainer_state.json in it" in err
    assert set(layout.statistics_files(tmp_path / "d", "inside")) == set(STEPS) - {64}
    assert not [r for r in hub.requests if repository.commit("step64") in r and r.endswith(WEIGHTS)]


def test_a_scan_says_what_speaks_against_a_revision(stale, probe, run):
    name = stale("owner/scanned-stale")
    code, out, _ = run("scan", name, "--revision", "step64", *probe)
    assert (code, "step 64 holds the weights of step 1000 and main" in out) == (0, True)
    assert "holds the weights" not in run("scan", name, "--revision", "step128", *probe)[1]
    assert "holds the weights" not in run("scan", name, "--revision", "step64", "--weights", "bin", *probe)[1]


def test_weights_are_one_of_three():
    with pytest.raises(UsageError, match="it is one of auto, safetensors, bin"):
        madyn.sweep.Settings(weights="pickle")
