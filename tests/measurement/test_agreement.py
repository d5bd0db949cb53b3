"""Every way to one number gives the same number, or the same refusal.

A checkpoint can be measured whole, streamed from disk, by exchanging the weights in a model that is in memory already,
by `scan` and by `trace`. Here each kind of checkpoint that real folders hold goes all these ways, for several families
of architecture, and what comes out is held against a brute force that shares no code with any of them: the model as it
was before it was saved, every hidden state of it kept and sorted in full.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
)

import madyn
from madyn.checkpoints import find_checkpoint
from madyn.checkpoints.loading import Loader
from madyn.checkpoints.streaming import streamed_model
from madyn.errors import MadynError
from madyn.measurement.layers import layers_by_structure
from madyn.sweep import Settings, trace

SIZES: dict[str, Any] = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES, intermediate_size=24, max_position_embeddings=32),
    "gpt_neox": GPTNeoXConfig(**SIZES, intermediate_size=24, max_position_embeddings=32),
    "gpt2": GPT2Config(vocab_size=61, n_embd=16, n_layer=3, n_head=2, n_positions=32),
    "opt": OPTConfig(**SIZES, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=32),
    "gemma2": Gemma2Config(
        **SIZES, intermediate_size=24, head_dim=8, num_key_value_heads=1, max_position_embeddings=32
    ),
    "mixtral": MixtralConfig(
        **SIZES, intermediate_size=24, num_key_value_heads=1, num_local_experts=3, max_position_embeddings=32
    ),
}  # fmt: skip
IDS = np.random.default_rng(0).integers(3, 61, size=(2, 9))

Tensors = dict[str, torch.Tensor]


def build(family: str, seed: int, **changes: Any) -> Any:
    torch.manual_seed(seed)
    config = type(FAMILIES[family]).from_dict({**FAMILIES[family].to_dict(), **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases of ones and zeros would hide a tensor that is lost
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def brute_force(model: Any) -> np.ndarray:
    """(B, 4, L) from the outputs of the layers, found by their number alone, each sorted in full by numpy."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == 3]
    kept: list[Any] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: kept.append(out[0] if isinstance(out, tuple) else out))
        for layer in lists[0]
    ]
    rows = []
    for ids in IDS:
        kept.clear()
        with torch.no_grad():
            model(torch.as_tensor(ids)[None], use_cache=False)
        columns = []
        for hidden in kept:
            values = np.sort(np.abs(hidden.float().numpy().ravel()))
            columns.append([*values[::-1][:3], values[(len(values) - 1) // 2]])
        rows.append(np.array(columns).T)
    for hook in hooks:
        hook.remove()
    return np.stack(rows)


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def rewrite(folder: Path, change: Callable[[Tensors], Tensors], **config: Any) -> None:
    """Change the tensors and the config of a saved checkpoint."""
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in change(load_file(file)).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    if config:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


# The ways to measure one checkpoint. `before` is a sound checkpoint of the same model at an earlier step.


def whole(before: Path, folder: Path) -> np.ndarray:
    return madyn.measure(find_checkpoint(folder).model(torch.float32), IDS)  # pyright: ignore[reportReturnType]


def swapped(before: Path, folder: Path) -> np.ndarray:
    loader = Loader(torch.float32, "cpu")
    loader.load(find_checkpoint(before), before)
    return madyn.measure(loader.load(find_checkpoint(folder), folder), IDS)  # pyright: ignore[reportReturnType]


def streamed(before: Path, folder: Path) -> np.ndarray:
    model, path, _ = streamed_model(find_checkpoint(folder), folder, torch.float32, "cpu", layers_by_structure)
    return madyn.measure(model, IDS, layers=path)  # pyright: ignore[reportReturnType]


def traced(before: Path, folder: Path, stream: bool = False) -> np.ndarray:
    out = folder.parent.parent / f"traced-{stream}"
    report = trace(folder.parent, out, inputs=IDS, name="m", settings=Settings(stream=stream))
    failed = [unit for unit in report.failures if unit.step == 1]
    if failed:
        raise MadynError(failed[0].failure)
    return report.open().statistics("m").sel(step=1).values


def traced_streamed(before: Path, folder: Path) -> np.ndarray:
    return traced(before, folder, stream=True)


WAYS = {"whole": whole, "swapped": swapped, "streamed": streamed, "traced": traced, "traced_streamed": traced_streamed}


def outcomes(tmp_path: Path, family: str, prepare: Callable[[Any, Path], None], ways: Any = WAYS) -> dict[str, Any]:
    """What each way makes of a checkpoint: the statistics, or the message of the refusal without its place."""
    run = tmp_path / "run"
    before = save(build(family, seed=1), run / "step0")
    folder = save(build(family, seed=2), run / "step1")
    prepare(build(family, seed=2), folder)
    found: dict[str, Any] = {}
    for name, way in ways.items():
        try:
            found[name] = way(before, folder)
        except MadynError as e:
            found[name] = str(e)
    return found


def assert_right(found: dict[str, Any], expected: np.ndarray) -> None:
    for name, statistics in found.items():
        assert not isinstance(statistics, str), f"{name}: {statistics}"
        np.testing.assert_allclose(statistics, expected, rtol=2e-6, atol=1e-7, err_msg=name)
    alike = {name: np.asarray(s, np.float32) for name, s in found.items() if "streamed" not in name}
    assert len({array.tobytes() for array in alike.values()}) == 1, "the ways through memory give one set of bytes"


def assert_refused(found: dict[str, Any], *said: str) -> None:
    for name, message in found.items():
        assert isinstance(message, str), f"{name} measured it"
        for part in said:
            assert part in message, f"{name}: {message}"


def without_converted(family: str) -> dict[str, Any]:
    """Weights that transformers converts as it loads them (experts, joined) are not streamed, and it says so."""
    return {n: w for n, w in WAYS.items() if "streamed" not in n} if family == "mixtral" else WAYS


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def layer_tensor(folder: Path, ending: str = "weight", dims: int = 2) -> str:
    """The name of a tensor of the second layer."""
    tensors = load_file(folder / "model.safetensors")
    second = {n: t for n, t in tensors.items() if re.search(r"(?:layers|h)\.1\.", n) and "experts" not in n}
    return next(n for n, t in second.items() if n.endswith(ending) and t.ndim == dims)


# Sound checkpoints, however they are saved: one number.


def as_saved(model: Any, folder: Path) -> None:
    pass


def in_shards(model: Any, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="4KB")


def beside_older_shards(model: Any, folder: Path) -> None:
    """An older save in more shards than the last: its shards are left, and the index names the new ones."""
    (folder / "model.safetensors").unlink()
    tensors = {n: t.clone() for n, t in build(model.config.model_type, seed=9).state_dict().items()}
    for number in range(1, 4):  # all tensors of the older save, in each of its shards
        save_file(tensors, folder / f"model-0000{number}-of-00003.safetensors", metadata={"format": "pt"})
    model.save_pretrained(folder / "new", max_shard_size="6KB")
    for file in (folder / "new").iterdir():
        shutil.move(file, folder / file.name)


def whole_beside_shards(model: Any, folder: Path) -> None:
    """One whole file and an older save in shards with its index: transformers reads the whole file."""
    build(model.config.model_type, seed=9).save_pretrained(folder / "old", max_shard_size="6KB")
    for file in (folder / "old").glob("model*"):
        shutil.move(file, folder / file.name)


def as_pickle(model: Any, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def of_the_decoder_alone(model: Any, folder: Path) -> None:
    model.base_model.save_pretrained(folder)


def after_torch_compile(model: Any, folder: Path) -> None:
    rewrite(folder, lambda tensors: {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()})


def after_ddp(model: Any, folder: Path) -> None:
    rewrite(folder, lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()})


def after_fsdp_and_checkpointing(model: Any, folder: Path) -> None:
    mark = lambda name: name.replace(".1.", ".1._checkpoint_wrapped_module._fsdp_wrapped_module.")  # noqa: E731
    rewrite(folder, lambda tensors: {f"module._orig_mod.{mark(name)}": t for name, t in tensors.items()})


def with_something_outside_the_layers(model: Any, folder: Path) -> None:
    rewrite(folder, lambda tensors: {**tensors, "value_head.weight": torch.ones(1, 16)})


def with_a_draft_head(model: Any, folder: Path) -> None:
    """A stack of layers that only drafts tokens, which the model's class does not have."""
    rewrite(folder, lambda tensors: {**tensors, "mtp.layers.0.mlp.weight": torch.ones(16, 16)})


def with_old_buffers(model: Any, folder: Path) -> None:
    """Masks and rotary tables that older versions of transformers saved with every layer."""
    name = layer_tensor(folder).rpartition(".1.")[0] + ".1.self_attn"
    buffers = {f"{name}.masked_bias": torch.tensor(-1e9), f"{name}.rotary_emb.inv_freq": torch.ones(4),
               f"{name}.bias": torch.ones(1, 1, 32, 32, dtype=torch.uint8),
               f"{name}.rotary_emb.cos_cached": torch.ones(1, 1, 32, 4)}  # fmt: skip
    rewrite(folder, lambda tensors: {**tensors, **buffers})


SOUND = [
    as_saved, in_shards, beside_older_shards, whole_beside_shards, as_pickle, of_the_decoder_alone, after_torch_compile,
    after_ddp, after_fsdp_and_checkpointing, with_something_outside_the_layers, with_old_buffers,
    with_a_draft_head,
]  # fmt: skip


@pytest.mark.parametrize("prepare", SOUND, ids=lambda f: f.__name__)
def test_a_sound_checkpoint_gives_one_number(tmp_path, family, prepare):
    found = outcomes(tmp_path, family, prepare, without_converted(family))
    assert_right(found, brute_force(build(family, seed=2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_that_weights_are_stored_in(tmp_path, family, dtype):
    def store(model: Any, folder: Path) -> None:
        rewrite(folder, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})

    model = build(family, seed=2)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() and tensor.numel() > 8:  # the rotary table is computed, not stored
            tensor.data = tensor.to(dtype).float()
    assert_right(outcomes(tmp_path, family, store, without_converted(family)), brute_force(model))


# A pickle of torch before 1.6 can only be read whole.


def test_a_pickle_of_an_old_torch(tmp_path, family):
    def legacy(model: Any, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)

    found = outcomes(tmp_path, family, legacy)
    right = {name: found.pop(name) for name in ("whole", "swapped", "traced")}
    assert_right(right, brute_force(build(family, seed=2)))
    assert_refused(found, "cannot be streamed")


# Tied embeddings of which the other name alone is stored.


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2"])
def test_tied_embeddings_under_the_name_of_the_head(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        tied = build(family, seed=2, tie_word_embeddings=True)
        tied.save_pretrained(folder)
        name = next(n for n, p in tied.named_parameters() if p is tied.get_input_embeddings().weight)
        rewrite(folder, lambda tensors: {("lm_head.weight" if n == name else n): t for n, t in tensors.items()})

    found = outcomes(tmp_path, family, prepare)
    assert_right(found, brute_force(build(family, seed=2, tie_word_embeddings=True)))


# What is not the model: one refusal, which names the tensor.


def with_tensor(ending: str, tensor: torch.Tensor) -> Callable[[Any, Path], None]:
    def prepare(model: Any, folder: Path) -> None:
        name = layer_tensor(folder).rpartition(".")[0]
        rewrite(folder, lambda tensors: {**tensors, f"{name}.{ending}": tensor})

    return prepare


REFUSED = {
    "lora": (with_tensor("lora_A.default.weight", torch.ones(2, 16)), ("lora_A.default.weight [2, 16]", "not merged")),
    "scale": (with_tensor("weight_scale_inv", torch.ones(1, 1)), ("weight_scale_inv [1, 1]", "quantization_config")),
    "bias": (with_tensor("extra.bias", torch.ones(16)), ("extra.bias [16]", "no place in the model")),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tensor_inside_the_layers_that_has_no_place(tmp_path, family, kind):
    prepare, said = REFUSED[kind]
    assert_refused(outcomes(tmp_path, family, prepare), "inside the layers", *said)


def test_a_layer_more_than_the_config_has(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        name = layer_tensor(folder)
        more = name.replace(".1.", ".3.")
        rewrite(folder, lambda tensors: {**tensors, more: tensors[name]})

    assert_refused(outcomes(tmp_path, family, prepare), "inside the layers", ".3.")


def test_a_missing_tensor(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        name = layer_tensor(folder, dims=1)
        rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != name})

    assert_refused(outcomes(tmp_path, family, prepare), "1 weights are missing", ".1.")


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_an_embedding_that_is_not_tied_is_not_taken_from_the_head(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        untied = build(family, seed=2, tie_word_embeddings=False)
        untied.save_pretrained(folder)
        name = next(n for n, p in untied.named_parameters() if p is untied.get_input_embeddings().weight)
        rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != name})

    assert_refused(outcomes(tmp_path, family, prepare), "are missing", "emb")


def test_a_tensor_of_another_shape(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        name = layer_tensor(folder, dims=1)
        rewrite(folder, lambda tensors: {n: t[:-1] if n == name else t for n, t in tensors.items()})

    assert_refused(outcomes(tmp_path, family, prepare), "has the shape", "where the config says")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.uint8])
def test_numbers_that_do_not_say_what_they_stand_for(tmp_path, family, dtype):
    def prepare(model: Any, folder: Path) -> None:
        name = layer_tensor(folder)
        rewrite(folder, lambda tensors: {n: t.to(dtype) if n == name else t for n, t in tensors.items()})

    word = str(dtype).removeprefix("torch.")
    assert_refused(
        outcomes(tmp_path, family, prepare, without_converted(family)), f"is stored as {word}", "quantization_config"
    )


@pytest.mark.parametrize("family", ["llama"])
def test_quantized_weights_are_never_streamed(tmp_path, family):
    """With a quantization_config transformers makes weights of them, or refuses; their raw numbers are no weights."""

    def prepare(model: Any, folder: Path) -> None:
        def quantize(tensors: Tensors) -> Tensors:
            found: Tensors = {}
            for name, tensor in tensors.items():
                if "proj.weight" in name:
                    scale = tensor.abs().max() / 448
                    found[name] = (tensor / scale).to(torch.float8_e4m3fn)
                    found[f"{name}_scale_inv"] = scale.reshape(1, 1)
                else:
                    found[name] = tensor
            return found

        rewrite(folder, quantize, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})

    found = outcomes(tmp_path, family, prepare)
    expected = brute_force(build(family, seed=2))
    assert_refused({n: found.pop(n) for n in ("streamed", "traced_streamed")}, "quantization_config")
    for name, result in found.items():
        if not isinstance(result, str):
            np.testing.assert_allclose(result, expected, rtol=0.15, err_msg=name)


@pytest.mark.parametrize("family", ["llama"])
def test_a_pointer_in_place_of_a_file(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234\n"
        (folder / "model.safetensors").write_text(pointer)

    assert_refused(outcomes(tmp_path, family, prepare), "Git LFS pointer", "git lfs pull")


@pytest.mark.parametrize("family", ["llama"])
def test_an_adapter_beside_the_weights_is_refused_whether_or_not_peft_is_installed(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/else"}))

    assert_refused(outcomes(tmp_path, family, prepare), "adapter_config.json", "merge")


@pytest.mark.parametrize("family", ["llama"])
def test_shards_that_no_index_tells_apart(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        beside_older_shards(model, folder)
        (folder / "model.safetensors.index.json").unlink()

    assert_refused(outcomes(tmp_path, family, prepare), "model.safetensors.index.json")


@pytest.mark.parametrize("family", ["llama"])
@pytest.mark.parametrize("index", ['{"weight_map": {"a": "../../secret"}}', "[]", '{"weight_map": {}}', "{"])
def test_an_index_of_nonsense(tmp_path, family, index):
    def prepare(model: Any, folder: Path) -> None:
        in_shards(model, folder)
        next(folder.glob("model-00001-*")).rename(folder / "model-00001-of-00099.safetensors")
        (folder / "model.safetensors.index.json").write_text(index)

    assert_refused(outcomes(tmp_path, family, prepare), "model.safetensors.index.json")


@pytest.mark.parametrize("family", ["llama"])
def test_a_shard_that_lacks_a_tensor_of_the_index(tmp_path, family):
    def prepare(model: Any, folder: Path) -> None:
        in_shards(model, folder)
        shard = next(folder.glob("model-00001-*"))
        tensors = load_file(shard)
        save_file({"other": torch.ones(1)}, shard, metadata={"format": "pt"})
        assert tensors

    assert_refused(outcomes(tmp_path, family, prepare), "model-00001-of-", "is missing or incomplete", "is to be in it")


def test_what_is_passed_over_is_told(tmp_path):
    """In the manifest, and by `madyn check`."""
    run = tmp_path / "run"
    for step, prepare in enumerate((as_saved, beside_older_shards, with_something_outside_the_layers)):
        prepare(build("llama", step), save(build("llama", step), run / f"step{step}"))
    for stream in (False, True):
        out = tmp_path / f"out{stream}"
        trace(run, out, inputs=IDS, name="m", settings=Settings(stream=stream))
        units = madyn.open_dataset(out).units("m")
        assert units[0].remarks == []
        assert "model-00001-of-00003.safetensors" in units[1].remarks[0]
        assert "value_head.weight [1, 16]" in units[2].remarks[0]
        remarks = madyn.checking.check_dataset(out).remarks
        assert len(remarks) == 2
        assert "value_head.weight" in remarks[1]
