"""Statistics files: written exactly, read from whatever others wrote, never evaluated."""

import ast
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from madyn.dataset import statistics
from madyn.dataset.statistics import read_statistics, write_statistics
from madyn.errors import DatasetError


def shapes():
    return st.tuples(st.integers(1, 3), st.just(4), st.integers(1, 5))


@given(hnp.arrays(np.float32, shapes(), elements=st.floats(0, width=32, allow_nan=False, allow_infinity=False)))
def test_every_float32_survives_every_reader(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("s") / "exp2_m_step0"
    write_statistics(path, values)
    assert np.array_equal(read_statistics(path), values)
    assert np.array_equal(np.array(json.loads(path.read_text())), values)
    assert np.array_equal(np.array(ast.literal_eval(path.read_text())), values)


def as_written_by_others(values):
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        yield repr(values.tolist())
        yield repr(tuple(tuple(map(tuple, s)) for s in values.tolist()))
        yield repr([[[np.float32(v) for v in row] for row in s] for s in values])
        yield repr([[list(row) for row in s] for s in values])
        yield repr(values)
        yield repr(list(values))
        yield repr(values.astype(np.float64)).replace("array", "numpy.array")
        yield f"  {values.tolist()}\n\n"
    yield (
        "["
        + ", ".join(f"[{', '.join(f'tensor({row.tolist()}, dtype=torch.float32)' for row in s)}]" for s in values)
        + ",]"
    )


@given(hnp.arrays(np.float32, shapes(), elements=st.floats(0, 2.0**100, width=32)))
def test_reads_what_others_write(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("s") / "exp2_m_step0"
    for text in as_written_by_others(values):
        path.write_text(text)
        assert np.array_equal(read_statistics(path).astype(np.float32), values), text


@pytest.mark.parametrize(
    "text", ["[[[nan,inf],[-inf,1],[np.nan,2],[np.inf,.5]]]", "[[[NaN,Infinity],[-Infinity,1],[NaN,2],[Infinity,0.5]]]"]
)
def test_nan_and_inf_are_read(tmp_path, text):
    (tmp_path / "f").write_text(text)
    expected = [[[np.nan, np.inf], [-np.inf, 1], [np.nan, 2], [np.inf, 0.5]]]
    assert np.array_equal(read_statistics(tmp_path / "f"), expected, equal_nan=True)


BAD = {
    "truncated": ("[[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2", r"quantity 3, layer 2\): .*truncated"),
    "truncated number": ("[[[1.0, 2.0], [1.0, 2.", "truncated"),
    "two deep": ("[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]", "sequence 0: expected the 4 lists"),
    "four deep": ("[[[[1.0]], [[1.0]], [[1.0]], [[1.0]]]]", "expected a list of numbers"),
    "text": ("hello", "is not a number"),
    "empty": ("", "empty"),
    "brackets": ("[" * 1_000_000, "nested more than 3"),
    "closed brackets": ("[" * 1_000_000 + "]" * 1_000_000, "nested more than 3"),
    "code": ("__import__('os')", "is not a number"),
    "code inside": ("[[[__import__('os').system('true')], [1], [1], [1]]]", "is not a number"),
    "calls": ("array(" * 100_000, "nested more than 3"),
    "three quantities": ("[[[1], [1], [1]]]", "found a list of 3"),
    "ragged": ("[[[1, 2], [1, 2], [1, 2], [1]]]", "sequence 0, quantity 3: 1 layers where the first row has 2"),
    "no comma": ("[[[1 2], [1], [1], [1]]]", "no comma"),
    "two commas": ("[[[1,, 2], [1], [1], [1]]]", "comma with no value"),
    "two values": ("[[[1], [1], [1], [1]]] [1]", "no comma between"),
    "ellipsis": ("array([[[1., ..., 2.], [1.], [1.], [1.]]])", "is not a number"),
    "a string": ("[[['1'], [1], [1], [1]]]", "is not a number"),
    "a boolean": ("[[[true], [1], [1], [1]]]", "is not a number"),
    "an object": ('{"a": [[[1]]]}', "is not a number"),
    "null": ("[[[null], [1], [1], [1]]]", "is not a number"),
    "an empty list": ("[]", "empty list"),
    "brackets that do not match": ("[[[1, 2), [1, 2], [1, 2], [1, 2]]]", "closes nothing"),
    "a call of nothing": ("[[[np.float32(), 1], [1, 2], [1, 2], [1, 2]]]", "0 values in a call"),
    "a call of two": ("[[[np.float32(1, 2)], [1, 2], [1, 2], [1, 2]]]", "2 values in a call"),
    "extra closing": ("[[[1], [1], [1], [1]]]]", "closes nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_malformed_files_say_where(tmp_path, name):
    text, message = BAD[name]
    path = tmp_path / "exp2_m_step7"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        read_statistics(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.text(alphabet="[](),.0123456789eE+-naifNpry= d't", max_size=60))
def test_no_text_does_worse_than_an_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("s") / "f"
    path.write_text(text)
    try:
        values = read_statistics(path)
    except DatasetError:
        return
    assert values.ndim == 3
    assert values.shape[1] == 4


def test_an_integer_of_many_digits_is_a_number(tmp_path):
    (tmp_path / "f").write_text(f"[[[{'9' * 400}], [{'9' * 5000}], [3], [10000000000000000000001]]]")
    assert read_statistics(tmp_path / "f").ravel().tolist() == [np.inf, np.inf, 3, 1e22]


def test_bytes_that_are_no_text_and_files_too_large(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"\xff\xfe[[[")
    with pytest.raises(DatasetError, match="not text"):
        read_statistics(path)
    monkeypatch.setattr(statistics, "MAX_BYTES", 10)
    path.write_text("[[[1], [1], [1], [1]]]")
    with pytest.raises(DatasetError, match="at most 10"):
        read_statistics(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_statistics(tmp_path / "nothing")


@pytest.mark.parametrize(
    "values", [np.ones((2, 3, 4)), np.ones((4, 4)), np.ones((0, 4, 2)), np.full((1, 4, 1), np.nan)]
)
def test_what_is_wrong_is_not_written(tmp_path, values):
    with pytest.raises(DatasetError):
        write_statistics(tmp_path / "f", values)
    assert not list(tmp_path.iterdir())
