import gzip
import json

import numpy as np
import pytest

from madyn.errors import TextError, UsageError
from madyn.lab.tokenizer import BOS, train_tokenizer
from madyn.text import hash_tokens, read_text, token_sequences
from tiny import SENTENCES, TEXT


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(SENTENCES, 300)


def jsonl(path, documents):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": d, "meta": 1}) + "\n" for d in documents)
    return str(path)


def test_the_standard_library_is_always_there():
    text = read_text("stdlib", documents=5, seed=1)
    assert len(text.documents) == 5
    assert read_text("stdlib", documents=5, seed=1).sha256 == text.sha256
    assert read_text("stdlib", documents=5, seed=2).sha256 != text.sha256
    assert text.content == "\n\n".join(text.documents)


def test_train_and_held_out_share_no_document():
    train, held = (set(read_text(f"stdlib#{part}", documents=None).documents) for part in ("train", "held-out"))
    assert not train & held
    assert 0.01 < len(held) / (len(train) + len(held)) < 0.15
    with pytest.raises(UsageError, match="no part of a text"):
        read_text("stdlib#test")


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.jsonl.gz"])
def test_jsonl_is_drawn_at_random_without_replacement(tmp_path, name):
    source = jsonl(tmp_path / name, SENTENCES)
    drawn = read_text(source, documents=50, seed=3).documents
    assert len(set(drawn)) == 50
    assert list(drawn) != SENTENCES[:50]
    assert read_text(source, documents=None).documents == tuple(SENTENCES)
    assert sorted(read_text(source, documents=10**6).documents) == sorted(SENTENCES)


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "book.txt").write_text("\ufeff" + TEXT)
    assert read_text(str(tmp_path / "book.txt")).content == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"text": "a"}\n{"txt": "b"}\n', 'line 2: not a JSON object'), ("[1]\n", "line 1"), ("{\n", "line 1"),
     ('{"text": 3}\n', "not a string"), ('{"text": "\\ud800"}\n', "not Unicode"),
     ("", "no text in it"), ('{"text": "  "}\n', "no text in it")],
)  # fmt: skip
def test_malformed_jsonl_says_where(tmp_path, content, message):
    path = tmp_path / "docs.jsonl"
    path.write_text(content)
    with pytest.raises(TextError, match=message) as caught:
        read_text(str(path))
    assert "docs.jsonl" in str(caught.value)


def test_sources_that_cannot_be_read(tmp_path):
    with pytest.raises(TextError, match="cannot be read"):
        read_text(str(tmp_path / "nothing.jsonl"))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(TextError, match="cannot be read as UTF-8"):
        read_text(str(tmp_path / "picture.png"))
    with pytest.raises(TextError, match="neither a known text source"):
        read_text("no-such-thing")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-20])
    with pytest.raises(TextError, match="cannot be read"):
        read_text(str(tmp_path / "cut.jsonl.gz"))
    with pytest.raises(UsageError, match="at least one"):
        read_text("stdlib", documents=0)


def test_windows_follow_one_another(tmp_path, tokenizer):
    (tmp_path / "t.txt").write_text(TEXT)
    text = read_text(str(tmp_path / "t.txt"))
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    plain = token_sequences(text, tokenizer, 4, 16)
    assert plain.tolist() == [ids[16 * i : 16 * (i + 1)] for i in range(4)]
    assert plain.dtype == np.int64
    bos = token_sequences(text, tokenizer, 4, 16, bos=True)
    assert bos[:, 0].tolist() == [tokenizer.convert_tokens_to_ids(BOS)] * 4
    assert bos[:, 1:].tolist() == [ids[15 * i : 15 * (i + 1)] for i in range(4)]
    assert hash_tokens(plain) != hash_tokens(bos)
    assert hash_tokens(plain) != hash_tokens(plain.reshape(8, 8))
    with pytest.raises(TextError, match=r"tokens fill \d+ sequences of 500, and 900 were asked for"):
        token_sequences(text, tokenizer, 900, 500)
    tokenizer_without = train_tokenizer(SENTENCES, 300)
    tokenizer_without.bos_token = None
    with pytest.raises(UsageError, match="no BOS token"):
        token_sequences(text, tokenizer_without, 2, 8, bos=True)
    with pytest.raises(UsageError, match="at least 1"):
        token_sequences(text, tokenizer, 0, 8)
