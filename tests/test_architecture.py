import pytest
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig

from madyn import PYTHIA, Architecture
from madyn.errors import ArchitectureError


def test_pythia_is_the_published_family():
    assert sum(a.num_hidden_layers for a in PYTHIA.architectures.values()) == 188
    assert len(PYTHIA.grids["paper"]) == 37
    assert PYTHIA.models[0] == "EleutherAI/pythia-14m"


# Counted from the checkpoints on the Hub.
@pytest.mark.parametrize(
    ("name", "count"),
    [("pythia-14m", 14067712), ("pythia-70m", 70426624), ("pythia-160m", 162322944), ("pythia-1.4b", 1414647808),
     ("pythia-6.9b", 6857302016), ("pythia-12b", 11846072320)],
)  # fmt: skip
def test_parameters_of_pythia(name, count):
    assert PYTHIA.architectures[name].num_parameters == count


def test_counts_a_built_model():
    from transformers import GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40, vocab_size=77
    )
    assert Architecture.from_config(config).num_parameters == GPTNeoXForCausalLM(config).num_parameters()


def test_reads_every_spelling():
    neox = GPTNeoXConfig(rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5})
    assert (Architecture.from_config(neox).rotary_pct, Architecture.from_config(neox).rotary_emb_base) == (0.5, 5000.0)
    old = {"num_hidden_layers": 6, "hidden_size": 128, "num_attention_heads": 4, "rotary_pct": 0.25,
           "rotary_emb_base": 10000, "intermediate_size": 512, "vocab_size": 50304}  # fmt: skip
    assert Architecture.from_config(old) == PYTHIA.architectures["pythia-14m"].__class__(
        **{**PYTHIA.architectures["pythia-14m"].to_dict(), "model_type": "unknown"}
    )
    llama = Architecture.from_config(LlamaConfig(intermediate_size=100))
    assert (llama.rotary_pct, llama.intermediate_size) == (1.0, 100)
    gpt2 = Architecture.from_config(GPT2Config())
    assert (gpt2.intermediate_size, gpt2.rotary_pct, gpt2.rotary_emb_base) == (3072, 0.0, None)
    assert Architecture.from_config({"text_config": old}).hidden_size == 128


@pytest.mark.parametrize(
    "values",
    [{}, {"num_hidden_layers": 2}, {"num_hidden_layers": 0, "hidden_size": 8, "num_attention_heads": 1},
     {"num_hidden_layers": 2.5, "hidden_size": 8, "num_attention_heads": 1},
     {"num_hidden_layers": "many", "hidden_size": 8, "num_attention_heads": 1},
     {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 1, "colour": "red"},
     {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 1, "rotary_pct": 3}],
)  # fmt: skip
def test_refuses(values):
    with pytest.raises(ArchitectureError):
        Architecture.from_dict(values)


def test_a_config_without_a_shape_is_refused():
    with pytest.raises(ArchitectureError, match="does not give num_hidden_layers"):
        Architecture.from_config({"model_type": "thing"})
