import gzip
import json

import numpy as np
import pytest

from madyn.errors import TextError, UsageError
from madyn.lab.tokenizer import BOS, train_tokenizer
from madyn.text import Text, cut_windows, hash_tokens, read_text, spelt_remark, token_sequences, tokenize
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
    with pytest.raises(TextError, match="no such folder or file"):
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


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["docs.JSONL", "docs.Jsonl.GZ", "docs.txt", "docs.txt.gz"])
def test_files_of_any_case_and_any_mark(tmp_path, name, mark):
    documents = ["a small é\n", "模型 b"]
    jsonl = "jsonl" in name.lower()
    content = "".join(json.dumps({"text": d}, ensure_ascii=False) + "\n" for d in documents) if jsonl else documents[1]
    body = ("" if mark in ("utf-8-sig", "utf-16") else "\ufeff") + content
    data = body.encode(mark)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.lower().endswith("gz") else data)
    assert read_text(str(tmp_path / name), None).documents == tuple(documents if jsonl else documents[1:])


def test_utf_16_without_its_mark_is_not_read_as_something_else(tmp_path):
    (tmp_path / "a.txt").write_bytes("plain".encode("utf-16-le"))
    with pytest.raises(TextError, match="UTF-16 without its mark"):
        read_text(str(tmp_path / "a.txt"))


def test_a_file_is_meant_before_a_part_is(tmp_path):
    folder = tmp_path / "c#1"
    folder.mkdir()
    (folder / "a#b.txt").write_text(TEXT)
    source = jsonl(folder / "a#train.jsonl", SENTENCES)
    assert read_text(str(folder / "a#b.txt")).content == TEXT
    assert read_text(source, None).documents == tuple(SENTENCES)
    train, held = (set(read_text(f"{source}#{part}", None).documents) for part in ("train", "held-out"))
    assert train | held == set(SENTENCES)
    assert held
    assert not train & held
    (folder / "x#train").write_text("all of it")
    assert read_text(str(folder / "x#train")).content == "all of it"
    with pytest.raises(UsageError, match="or a file is missing"):
        read_text(str(folder / "a#c.txt"))


def byte_level():
    """A byte-level BPE with special tokens, named and not, and an added token that is text."""
    from transformers import AddedToken

    tokenizer = train_tokenizer(SENTENCES, 300)
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    tokenizer.add_tokens([AddedToken("<|user|>", special=True)], special_tokens=True)
    tokenizer.add_tokens(["<extra>"])
    return tokenizer


def unigram():
    """Its model has the special tokens in its own vocabulary, and finds them in text whatever it is told."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    special = ["<unk>", "<|endoftext|>", "<|user|>"]
    letters = ["<|endoftext|> <|user|> <extra> " + s for s in SENTENCES]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    inner.train_from_iterator(letters, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", bos_token="<|user|>", unk_token="<unk>"
    )
    tokenizer.add_tokens(["<extra>"])
    return tokenizer


def in_python():
    """A tokenizer that is written in Python; its way of splitting also splits added tokens that are text."""
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer(eos_token="<|endoftext|>")
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    tokenizer.add_tokens(["<extra>"])
    assert not tokenizer.is_fast
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, unigram, in_python])
def test_what_text_spells_is_text(make):
    tokenizer = make()
    special = set(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>"]))
    content = "the quick fox<|endoftext|> runs <|user|><extra> over é"
    given = tokenizer(content, add_special_tokens=False)["input_ids"]
    assert special < set(given)  # so it is without this care
    tokens = tokenize(content, tokenizer)
    assert not special & set(tokens.ids)
    assert tokens.ids.count(tokenizer.convert_tokens_to_ids("<extra>")) == 1
    assert tokenizer.decode(tokens.ids).replace(" ", "") in (
        content.replace(" ", ""),
        content[:-1].replace(" ", "") + "<unk>",
    )
    for place, spelling in zip(tokens.spelt, ("<|endoftext|>", "<|user|>"), strict=True):
        assert spelling in tokenizer.decode(tokens.ids[place : place + 30]).replace(" ", "")
        assert spelling not in tokenizer.decode(tokens.ids[place + 2 : place + 30]).replace(" ", "")

    plain = "the quick fox <extra> runs; é"
    assert tokenize(plain, tokenizer).ids == tokenizer(plain, add_special_tokens=False)["input_ids"]
    assert tokenize(plain, tokenizer).spelt == ()
    # The tokenizer is left as it was.
    assert tokenizer(content, add_special_tokens=False)["input_ids"] == given


def test_windows_count_what_their_own_text_spells():
    text = Text("t", ("a <|endoftext|> b " + TEXT + "<|user|>" + TEXT,), 0)
    found = cut_windows(text, byte_level(), 2, 20)
    assert found.spelt == 1
    assert cut_windows(text, byte_level(), 2, 20, bos=True).spelt == 1
    assert "once" in spelt_remark(found.spelt)
    every = tokenize(text.content, byte_level())
    assert cut_windows(text, byte_level(), len(every.ids) // 10, 10).spelt == 2
    assert spelt_remark(0) == ""


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
