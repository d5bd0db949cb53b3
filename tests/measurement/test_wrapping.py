"""Models as a run holds them: compiled, parallelised, offloaded, with adapters; and sequences with padding."""

import copy
import socket
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from accelerate import cpu_offload, disk_offload, dispatch_model
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from madyn import measure
from madyn.errors import ArchitectureError, UsageError
from madyn.measurement import measure_with_locations

IDS = np.random.default_rng(0).integers(1, 97, (3, 9))
SIZES: dict[str, Any] = {"vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48)).eval()


@pytest.fixture(scope="module")
def process_group():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def wrap(request, process_group, tmp_path):
    everywhere: Any = {f"model.{name}": "cpu" for name in ("embed_tokens", "rotary_emb", "norm")}
    everywhere |= {"model.layers": "disk", "lm_head": "cpu"}
    ways = {
        "compiled": torch.compile,
        "data parallel": nn.DataParallel,
        "distributed": nn.parallel.DistributedDataParallel,
        "distributed and compiled": lambda model: torch.compile(nn.parallel.DistributedDataParallel(model)),
        "offloaded to memory": lambda model: cpu_offload(model, execution_device=torch.device("cpu")),
        "offloaded to disk": lambda model: disk_offload(model, tmp_path, execution_device=torch.device("cpu")),
        "dispatched": lambda model: dispatch_model(
            model, everywhere, main_device=torch.device("cpu"), offload_dir=tmp_path, force_hooks=True
        ),
    }
    return ways[request.param]


WRAPPED = ["compiled", "data parallel", "distributed", "distributed and compiled", "offloaded to memory",
           "offloaded to disk", "dispatched"]  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPED, indirect=True)
def test_the_model_inside_is_measured(wrap):
    assert np.array_equal(measure(wrap(llama()), IDS), measure(llama(), IDS))


def test_a_module_of_ones_own_is_measured_uncompiled():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(97, 8)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, ids):
            hidden = self.embed(ids)
            for block in self.blocks:
                hidden = hidden + block(hidden)
            return hidden

    torch.manual_seed(0)
    model = Blocks()
    assert np.array_equal(measure(torch.compile(model), IDS), measure(model, IDS))  # pyright: ignore[reportArgumentType]


def test_adapters_in_the_layers_count():
    adapted = peft.get_peft_model(copy.deepcopy(llama()), peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    measured = measure(adapted, IDS)
    assert not np.allclose(measured, measure(llama(), IDS), rtol=1e-3)
    merged = copy.deepcopy(adapted).merge_and_unload()  # pyright: ignore[reportCallIssue]
    np.testing.assert_allclose(measured, measure(merged, IDS), rtol=1e-4)
    with adapted.disable_adapter():
        np.testing.assert_allclose(measure(adapted, IDS), measure(llama(), IDS), rtol=1e-6)


def test_virtual_tokens_are_refused():
    model = peft.get_peft_model(llama(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(UsageError, match="virtual tokens"):
        measure(model, IDS)


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        model = llama()
    with pytest.raises(ArchitectureError, match="meta device"):
        measure(model, IDS)
    with pytest.raises(UsageError, match="a str is no torch module"):
        measure("pythia-14m", IDS)  # pyright: ignore[reportArgumentType]


# Padding.


def models() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "llama": llama(),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=24, n_layer=3, n_head=4)).eval(),
        "bert": BertModel(BertConfig(**SIZES, intermediate_size=48)).eval(),
    }


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_padding_is_left_out(name, side, batch_size):
    model = models()[name]
    lengths = [9, 5, 5]
    mask = np.array([[i < n if side == "right" else i >= 9 - n for i in range(9)] for n in lengths])
    alone = [measure_with_locations(model, IDS[row, mask[row]]) for row in range(3)]
    ids = np.where(mask, IDS, -100)  # which is no token of the model
    found = measure_with_locations(model, ids, attention_mask=mask.astype(int), batch_size=batch_size)
    for row, one in enumerate(alone):
        np.testing.assert_allclose(found.statistics[row], one.statistics[0], rtol=1e-6 if batch_size > 1 else 0)
        assert np.array_equal(found.positions[row], one.positions[0] + int(mask[row].argmax()))
        assert np.array_equal(found.features[row], one.features[0])
    as_batch = transformers.BatchEncoding({"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask).long()})
    masked = np.ma.array(IDS, mask=~mask)
    for given in (as_batch, dict(as_batch), masked):
        np.testing.assert_array_equal(measure(model, given, batch_size=batch_size), found.statistics)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((3, 8)), "attention_mask of shape"),
        (np.full((3, 9), 2), "one 0 or 1"),
        (np.zeros((3, 9)), "leaves nothing of sequence 0"),
        ([[1] * 9, [1, 0] * 4 + [1], [1] * 9], "sequence 1 has zeros between tokens"),
        ("no", "attention_mask are text; they must be real numbers"),
    ],
)
def test_masks_that_mean_nothing(mask, said):
    with pytest.raises(UsageError, match=said):
        measure(llama(), IDS, attention_mask=mask)


def test_mappings_that_cannot_be_measured():
    with pytest.raises(UsageError, match="token_type_ids"):
        measure(llama(), {"input_ids": IDS, "token_type_ids": np.ones_like(IDS)})
    with pytest.raises(UsageError, match="a mapping with labels"):
        measure(llama(), {"labels": IDS})
    with pytest.raises(UsageError, match="input_ids and pixel_values"):
        measure(llama(), {"input_ids": IDS, "pixel_values": np.ones((1, 3, 8, 8))})
