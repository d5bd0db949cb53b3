"""Files that would be waited for, never end, or unpack to gigabytes: refused in one line, and at once.

Each is tried in a process with little memory to spare, so that a reader that takes it all fails.
"""

import gzip
import json
import os
import resource
import signal
import struct
import zlib
from pathlib import Path

import pytest
import torch

from madyn.checkpoints import find_checkpoint, find_checkpoints
from madyn.checkpoints.fingerprints import step_inside, trainer_step
from madyn.errors import CheckpointError, MadynError, TextError, UsageError
from madyn.lab.suites import read_suite
from madyn.regular import open_gzip, read_regular
from madyn.text import read_text
from tiny import save_checkpoints


@pytest.fixture
def little_memory():
    """A quarter of a gigabyte more than there is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 28), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def nothing(path):
    pass


NO_FILES = [pipe, endless, folder, nothing]


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_not_read(tmp_path, make, little_memory):
    make(tmp_path / "a")
    for read in (lambda path: read_regular(path, 100), open_gzip):
        with pytest.raises(OSError, match=r"not a regular file|No such file|Is a directory"):
            read(tmp_path / "a")


def test_a_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_regular(tmp_path / "a", 100) == b"x" * 100
    with pytest.raises(OSError, match="100 bytes, where at most 99"):
        read_regular(tmp_path / "a", 99)
    assert read_regular("/proc/self/cmdline", 10_000)  # whose size is said to be 0


def test_names_that_no_file_can_have():
    with pytest.raises(ValueError, match="null"):
        read_regular("a\0b", 1)
    with pytest.raises(OSError, match="too long"):
        read_regular("a" * 300, 1)


@pytest.mark.parametrize("make", NO_FILES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_texts(tmp_path, make, name, little_memory):
    make(tmp_path / name)
    with pytest.raises(TextError) as caught:
        read_text(str(tmp_path / name))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz"])
@pytest.mark.parametrize("content", [b"\n", b"x", b'{"text": "x"}\n'], ids=["lines", "one line", "documents"])
def test_packed_text_that_unpacks_to_gigabytes(tmp_path, name, content, little_memory):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = content * (1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(1 << 28 >> 20 >> len(content).bit_length() - 1))
    (tmp_path / name).write_bytes(packed + packer.flush())
    with pytest.raises(TextError, match="unpacks to more than 100 times its size"):
        read_text(str(tmp_path / name))


def test_text_that_packs_well_is_read(tmp_path):
    line = json.dumps({"text": "the same words again and again " * 100}) + "\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode() * 2000))
    assert len(read_text(str(tmp_path / "a.jsonl.gz"), None).documents) == 2000


def test_damaged_gzip(tmp_path):
    whole = bytearray(gzip.compress(b'{"text": "a"}\n' * 1000))
    whole[20] ^= 255
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    with pytest.raises(TextError, match=r"a\.jsonl\.gz: cannot be read: "):
        read_text(str(tmp_path / "a.jsonl.gz"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('name = "a"\nx = ' + "[" * 100_000, "not a TOML file"),
        ('name = "a"\nmodel = ' + "[" * 500 + "]" * 500, ""),
        ('name = "a"\ndesign = {count = 1000000000, factors = {hidden_size = [16]}}', "at most 10000 models"),
        ('name = "a"\nmodel = [{hidden_size = 1, num_hidden_layers = 1000000000, num_attention_heads = 1}]', "1048576"),
        ('name = "a"\nmodel = [{hidden_size = 2, num_hidden_layers = 1, num_attention_heads = 1, seeds = [-1]}]', "-1"),
        (f'name = "a"\ntext = {{seed = {"9" * 4000}}}', "seed"),
        ("name = 1e400", "name"),
        ('name = "a"\nrecipe = {learning_rate = inf}', "learning_rate"),
        ("\ufeff" + "x" * (1 << 21), "at most 1048576"),
    ],
)
def test_suites(tmp_path, content, said, little_memory):
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(UsageError, match=r"a\.toml|architectures|model 0") as caught:
        read_suite(tmp_path / "a.toml").runs()
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "step"),
    [
        ('{"global_step": 30}', 30),
        ('{"log_history": [{"global_step": 3, "loss": NaN}], "global_step": 30}', 30),
        ('{"global_step": 1e400}', None),
        ('{"global_step": -5}', None),
        ('{"global_step": "30"}', None),
        ('{"global_step": [30]}', None),
        ('{"log_history": [{"global_step": 3}]}', None),
        ('{"global_step": ' + "9" * 5000 + "}", None),
        ('{"a": ' * 5000 + "1" + "}" * 5000, None),
        ("[]", None),
        ("", None),
    ],
)
def test_the_trainer_s_record(tmp_path, content, step):
    (tmp_path / "trainer_state.json").write_text(content)
    assert step_inside(tmp_path) == (None if step is None else (step, "trainer_state.json"))
    if step is not None:
        assert trainer_step(tmp_path) == step
        return
    with pytest.raises(CheckpointError, match=r"trainer_state\.json: does not give the training step: ") as caught:
        trainer_step(tmp_path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("run"), steps=(0,)) / "step0"


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "gemma2", "qwen2", "mixtral"])
@pytest.mark.parametrize(
    "changed", [{"num_hidden_layers": 10**9}, {"hidden_size": 10**12}, {"vocab_size": 2**70}, {"num_experts": 10**9}]
)
def test_a_config_that_asks_for_what_nobody_has(tmp_path, checkpoint, family, changed, little_memory):
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": family, **changed}))
    with pytest.raises(CheckpointError, match=f"its config says that {next(iter(changed))} is "):
        find_checkpoint(tmp_path).config()


def test_configs_within_a_config_are_bounded_too(tmp_path, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "text_config": {"num_hidden_layers": 10**9}}))
    with pytest.raises(CheckpointError, match="num_hidden_layers"):
        find_checkpoint(tmp_path).config()


def test_a_pipe_in_a_checkpoint_s_folder(tmp_path, checkpoint):
    for name in ("config.json", "trainer_state.json", "model.safetensors"):
        where = tmp_path / name.replace(".", "_")
        where.mkdir()
        for file in checkpoint.iterdir():
            (where / file.name).write_bytes(file.read_bytes())
        (where / name).unlink(missing_ok=True)
        os.mkfifo(where / name)
        signal.alarm(60)
        with pytest.raises(CheckpointError, match=name):
            find_checkpoint(where).model(torch.float32)
        signal.alarm(0)


def gguf_of(*fields, tensors=0):
    """A GGUF file's head: its metadata as (key, kind, bytes)."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, tensors, len(fields))]
    for key, kind, value in fields:
        parts += [struct.pack("<Q", len(key)), key.encode(), struct.pack("<I", kind), value]
    return b"".join(parts)


STRING, ARRAY, UINT32, UINT8 = 8, 9, 4, 0
LLAMA = ("general.architecture", STRING, struct.pack("<Q", 5) + b"llama")


@pytest.mark.parametrize(
    "content",
    [
        gguf_of(tensors=2**60),
        gguf_of(LLAMA, ("llama.block_count", UINT32, b"\0\xff\xff\xff")),
        gguf_of(("a", ARRAY, struct.pack("<IQ", UINT8, 2**60))),
        gguf_of(("a", ARRAY, struct.pack("<IQ", UINT8, 30_000_000) + bytes(30_000_000))),
        gguf_of(("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)),
        gguf_of(("a", STRING, struct.pack("<Q", 2**62))),
    ],
    ids=["tensors", "layers", "array", "long array", "nested", "string"],
)  # fmt: skip
def test_gguf_files_that_say_they_hold_more(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.gguf") as caught:
        find_checkpoint(tmp_path / "m.gguf").config()
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def png(width, height, *chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks) + chunk(b"IEND", b"")


BOMBS = {
    "pixels": png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(1000)))),
    "text": png(
        2, 2, (b"zTXt", b"madyn-inputs\0\0" + zlib.compress(bytes(1 << 27))), (b"IDAT", zlib.compress(bytes(14)))
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_pictures_that_unpack_to_gigabytes(tmp_path, kind, little_memory, recwarn):
    from madyn.figures.png import inputs_of
    from madyn.sweep.images import _open

    (tmp_path / "a.png").write_bytes(BOMBS[kind])
    assert inputs_of(tmp_path / "a.png") is None
    if kind == "pixels":
        with pytest.raises(TextError, match=r"a\.png: cannot be read as an image"):
            _open(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert inputs_of(tmp_path / "b.png") is None
    assert not recwarn.list


def test_a_run_s_folder_in_which_one_record_is_damaged(checkpoint, tmp_path):
    run = save_checkpoints(tmp_path / "run", steps=(0, 1))
    (run / "step1" / "trainer_state.json").write_text('{"global_step": 1e400}')
    assert find_checkpoints(run).steps == [0, 1]
    with pytest.raises(MadynError, match="finite number"):
        find_checkpoint(run / "step1")
