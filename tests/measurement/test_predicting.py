"""What models predict, against transformers' own losses; and forwards that begin behind a layer, against whole ones."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from madyn.checkpoints import find_checkpoint
from madyn.errors import UsageError
from madyn.measurement.forward import stacks_of
from madyn.measurement.predicting import Predictions, divergence
from madyn.measurement.resuming import can_resume, recording, resumed_behind
from tiny import save_checkpoints

SHAPE: dict[str, Any] = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=32, n_layer=3, n_head=2, n_positions=64)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, num_key_value_heads=1, head_dim=16)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SHAPE, num_key_value_heads=2, num_local_experts=2)),
    "bert": lambda: BertForMaskedLM(BertConfig(**SHAPE)),
    "encoder": lambda: BertModel(BertConfig(**SHAPE)),
}
IDS = np.random.default_rng(0).integers(5, 90, (2, 20))


def build(family: str) -> Any:
    torch.manual_seed(0)
    return FAMILIES[family]().eval()


def assert_same(one: torch.Tensor | None, other: torch.Tensor | None) -> None:
    assert one is other is None or (one is not None and other is not None and torch.equal(one, other))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("bert", "encoder")])
def test_losses_are_those_of_transformers(family):
    model, ids = build(family), torch.as_tensor(IDS)
    predictions = Predictions(model, IDS)
    for row in range(2):
        reading = predictions.read(row)
        with torch.no_grad():
            expected = float(model(input_ids=ids[row : row + 1], labels=ids[row : row + 1]).loss)
        assert reading.positions.tolist() == list(range(1, 20))
        assert reading.losses.mean() == pytest.approx(expected, rel=1e-5)


def test_an_encoder_is_judged_at_masked_tokens():
    model, ids = build("bert"), torch.as_tensor(IDS)
    reading = Predictions(model, IDS, mask_token_id=4).read(1)
    assert reading.positions.tolist() == [3, 10, 17]
    masked, labels = ids[1:].clone(), torch.full((1, 20), -100)
    masked[0, reading.positions] = 4
    labels[0, reading.positions] = ids[1, reading.positions]
    assert reading.losses.mean() == pytest.approx(float(model(input_ids=masked, labels=labels).loss), rel=1e-5)
    with pytest.raises(UsageError, match="no mask token"):
        Predictions(model, IDS)


def test_an_encoder_without_a_head_is_judged_by_its_embedding():
    model = build("encoder")
    predictions = Predictions(model, IDS)
    first, second = predictions.read(0), predictions.read(1)
    hidden = model(input_ids=torch.as_tensor(IDS)).last_hidden_state.double().mean(dim=1)
    assert first.losses.size == 0
    torch.testing.assert_close(first.embedding, hidden[0].detach())
    assert divergence(first, first) == pytest.approx(0, abs=1e-12)
    assert divergence(first, second) == pytest.approx(1 - float(torch.cosine_similarity(hidden[0], hidden[1], dim=0)))


def test_the_divergence_is_that_of_the_distributions():
    predictions = Predictions(build("llama"), IDS)
    before, after = predictions.read(0), predictions.read(1)
    logs: list[Any] = [before.log_probs, after.log_probs]
    p, q = (torch.distributions.Categorical(logits=one.double()) for one in logs)
    assert divergence(before, after) == pytest.approx(float(torch.distributions.kl_divergence(p, q).mean()), rel=1e-5)
    assert divergence(before, before) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_from_behind_a_layer_is_the_whole_one(family):
    model = build(family)
    (stack,) = stacks_of(model, IDS)
    predictions = Predictions(model, IDS, mask_token_id=4)
    assert can_resume(stack.modules)
    for layer in range(3):
        with recording(stack.modules[layer]) as outputs:
            whole = predictions.read(0)
        inside = [module for module in stack.modules[0].modules() if module is not stack.modules[0]]
        with ExitStack() as hooks, resumed_behind(stack.modules, layer, outputs[0]):
            for module in inside:  # nothing of the first layer is computed
                hooks.callback(module.register_forward_hook(lambda m, i, o: pytest.fail(f"{m} ran")).remove)
            again = predictions.read(0)
        assert np.array_equal(whole.losses, again.losses)
        assert_same(whole.log_probs, again.log_probs)
        assert_same(whole.embedding, again.embedding)
    assert not any("forward" in vars(module) for module in stack.modules)


def test_a_checkpoint_is_loaded_with_the_head_that_it_has(tmp_path):
    save_checkpoints(tmp_path / "run", (0,))
    model, _ = find_checkpoint(tmp_path / "run" / "step0").load_whole(torch.float32, head=True)
    assert type(model).__name__ == "GPTNeoXForCausalLM"
    for family, expected in (("bert", "BertForMaskedLM"), ("encoder", "BertModel")):
        build(family).save_pretrained(tmp_path / family)
        loaded, _ = find_checkpoint(tmp_path / family).load_whole(torch.float32, head=True)
        assert type(loaded).__name__ == expected
