"""JSON text is the standard library's, byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madyn.dataset.json_text import deeper, encoded

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
keys = st.text() | st.integers() | st.booleans() | st.none()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner), max_leaves=30
)


def standard(value):
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


@given(values)
def test_text_is_what_the_standard_library_writes(value):
    assert encoded(value) == standard(value)


@given(values)
def test_a_text_goes_deeper_without_being_encoded_again(value):
    assert f"[\n {deeper(encoded(value))}\n]" == standard([value])


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], {"a": [[1.0], [float("nan")]]}])
def test_what_other_readers_refuse_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoded(value)
