"""JSON read into types: what is refused, and what the one line of it says."""

from dataclasses import dataclass

import pytest

from madyn.dataset.schema import Count, Line, Number, Step, read_as
from madyn.errors import DatasetError


@dataclass
class _Sample:
    step: Step
    loss: Number = 0.0
    name: Line = ""
    counts: dict[str, Count] | None = None


def _read(tmp_path, content):
    path = tmp_path / "sample.json"
    path.write_bytes(content)
    return read_as(path, _Sample)


def test_a_sound_file_is_read_with_fields_of_later_versions_passed_over(tmp_path):
    assert _read(tmp_path, b'\xef\xbb\xbf{"step": 3, "loss": 1, "later": [1]}') == _Sample(3, 1.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "recursion limit"),
        (b"[]", "a list of 0"),
        (b"{}", "step: field required"),
        (b'{"step": "3"}', "step: input should be a valid integer, found '3'"),
        (b'{"step": -1}', "step: input should be greater than or equal to 0, found -1"),
        (b'{"step": 1e400}', "step: input should be a finite number, found inf"),
        (b'{"step": ' + b"9" * 4000 + b"}", "found a huge number"),
        (b'{"step": ' + b"9" * 10_000 + b"}", "number out of range"),
        (b'{"step": 1, "loss": NaN}', "loss: input should be a finite number, found nan"),
        (b'{"step": 1, "loss": 1e400}', "loss: "),
        (b'{"step": 1, "counts": {"a": -3}}', "counts.a: "),
        (b'{"step": 1, "name": "' + b"a" * 20_000 + b'"}', "name: "),
        (b'{"step": 1, "name": "\\ud800"}', "not JSON"),
    ],
)
def test_anything_else_is_refused_in_one_short_line_that_names_the_place(tmp_path, content, said):
    with pytest.raises(DatasetError, match=r"sample\.json: ") as caught:
        _read(tmp_path, content)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    assert "\n" not in str(caught.value)
