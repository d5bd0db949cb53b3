"""Paths of layers: relative to the model that is passed, and to what is inside it."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

import madyn
from madyn.errors import UsageError
from tiny import TEXT, save_checkpoints

IDS = np.random.default_rng(0).integers(0, 97, size=(2, 9))
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 97}


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        ("llama", ["model.layers", "layers"]),
        ("gpt_neox", ["gpt_neox.layers", "layers", "module.gpt_neox.layers", "_orig_mod.gpt_neox.layers"]),
        ("gpt2", ["transformer.h", "h", "base_model.h"]),
        ("bloom", ["transformer.h", "h"]),
    ],
)
def test_a_path_with_and_without_the_head(kind, paths):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES))
    found = madyn.measure(model, IDS)
    for path in paths:
        np.testing.assert_array_equal(madyn.measure(model, IDS, layers=path), found)
        np.testing.assert_array_equal(madyn.measure(model.base_model, IDS, layers=path), found)  # pyright: ignore[reportArgumentType]


def test_the_text_part_of_a_model_of_two_modalities():
    vision = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
              "image_size": 8, "patch_size": 4}  # fmt: skip
    config = AutoConfig.for_model(
        "llava",
        text_config={"model_type": "llama", **SIZES},
        vision_config={"model_type": "clip_vision_model", **vision},
    )
    model = AutoModelForImageTextToText.from_config(config)
    found = madyn.measure(model, IDS)
    for path in ("model.language_model.layers", "language_model.layers", "layers"):
        np.testing.assert_array_equal(madyn.measure(model, IDS, layers=path), found)
    with pytest.raises(UsageError, match="not in the part of the model that is measured"):
        madyn.measure(model, IDS, layers="model.vision_tower.encoder.layers")


def test_a_wrapped_model():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    wrapped = torch.nn.DataParallel(model)
    for path in ("module.model.layers", "model.layers", "layers"):
        np.testing.assert_array_equal(madyn.measure(wrapped, IDS, layers=path), madyn.measure(model, IDS))


@pytest.mark.parametrize("stream", [False, True])
def test_the_documented_path_of_a_checkpoint_whole_and_streamed(tmp_path, stream):
    folder = save_checkpoints(tmp_path, steps=(0,)) / "step0"
    (tmp_path / "text.txt").write_text(TEXT)
    probe = madyn.sweep.Probe(str(tmp_path / "text.txt"), sequences=2, length=8)
    found = madyn.sweep.scan_checkpoint(folder, probe=probe)
    for path in ("gpt_neox.layers", "layers"):
        table = madyn.sweep.scan_checkpoint(
            folder, probe=probe, settings=madyn.sweep.Settings(layers=path, stream=stream)
        )
        np.testing.assert_allclose(table["top1"], found["top1"], rtol=1e-5)


@pytest.mark.parametrize(
    ("path", "said"), [("model.nothing", "has no module.*its lists of modules: layers"), ("lm_head", "not in the part"),
                       ("model.norm", "not a list of layers")]
)  # fmt: skip
def test_a_path_that_leads_nowhere(path, said):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    with pytest.raises(UsageError, match=said):
        madyn.measure(model, IDS, layers=path)
