"""The short form of the fuzz: a few hundred spoilt files, those that ever failed, and what the check notices of them.

The whole form is `python tests/fuzz/fuzzing.py --files 100000`.
"""

import json
from pathlib import Path

import pytest

from fuzz_targets import TARGETS, remove_kept
from fuzzing import CHECKED, fuzz, noticed, sample_of, warm_up

FAILED = json.loads((Path(__file__).parent / "fuzz_seeds.json").read_text())
"""By target, seeds that once gave something else than a value or a MadynError of one line."""


@pytest.fixture(scope="module", autouse=True)
def kept_samples():
    yield
    remove_kept()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_a_value_or_a_madyn_error(name):
    seeds = [*FAILED.get(name, []), *range(1, 26)]
    with sample_of(TARGETS[name]) as sample:
        warm_up(sample)
        tally = fuzz(sample, seeds)
    assert tally.findings == []
    assert tally.files == len(seeds)
    assert tally.values + tally.errors > 0


@pytest.mark.parametrize("kind", CHECKED)
def test_check_notices_what_changes_a_value(kind):
    count, missed = noticed(range(100, 115), [kind])[kind]
    assert count >= 9
    assert missed == []


def test_the_same_seed_spoils_a_file_in_the_same_way():
    with sample_of(TARGETS["training"]) as one, sample_of(TARGETS["training"]) as other:
        for seed in range(20):
            (file, data), (same_file, same_data) = one.spoilt(seed), other.spoilt(seed)
            assert file.relative_to(one.root) == same_file.relative_to(other.root)
            assert data == same_data
