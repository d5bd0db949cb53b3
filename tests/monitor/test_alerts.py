"""What a monitor warns of: each cause once, and nothing where nothing happens."""

import numpy as np
import pytest

from madyn.dataset.monitoring import ALERTS, Alert, MonitorRecord, read_monitor, write_monitor
from madyn.monitor.alerts import Judge, Seen, alert, describe, known_causes, massive_layers, now

SEQUENCES, LAYERS, VALUES = 4, 3, 64 * 128


def seen(step, ratio, median=1.0):
    """A measurement in which each layer's largest value is so many times its median."""
    top1 = np.tile(np.asarray(ratio, float) * median, (SEQUENCES, 1))
    return Seen(step, top1, np.full_like(top1, median), top1, VALUES)


START = seen(0, [6, 6, 6])


def kinds(alerts):
    return [(one.kind, one.layer, one.layers) for one in alerts]


def test_nothing_is_said_where_nothing_happens():
    judge = Judge(set())
    for step in (0, 1, 2, 4, 8, 16):
        assert judge.judge(seen(step, [6.1, 6, 5.9]), np.full(LAYERS, 9.0), np.zeros(LAYERS)) == []


def test_a_layer_turns_massive_once():
    judge = Judge(set())
    judge.judge(START, None, None)
    assert kinds(judge.judge(seen(100, [7, 400, 900]), None, None)) == [("massive", 2, [1, 2])]
    assert judge.judge(seen(200, [7, 500, 900]), None, None) == []
    told = judge.judge(seen(300, [2000, 500, 900]), None, None)
    assert kinds(told) == [("massive", 0, [0])]
    assert "layer 0 turned massive: its largest value is 2,000 times the median" in told[0].message


def test_massive_is_by_the_published_rule_where_step_0_was_not_seen():
    assert massive_layers(seen(5, [400, 999, 1000], median=0.2), None).tolist() == [False, False, True]
    assert massive_layers(seen(5, [400, 999, 1000], median=0.05), None).tolist() == [False] * 3  # not above 100
    assert massive_layers(seen(5, [6, 400, 6]), START).tolist() == [False, True, False]


def test_a_layer_is_massive_where_most_of_its_sequences_are():
    one = seen(5, [6, 6, 6])
    one.top1[:2, 0] = 5000
    one.top1[:3, 1] = 5000
    assert massive_layers(one, START).tolist() == [False, True, False]


def test_a_ratio_above_its_forecast_is_told_when_it_is_so_twice_in_a_row():
    judge, upper = Judge(set()), np.full(LAYERS, 9.0)
    assert judge.judge(seen(1, [10, 8, 8]), upper, None) == []
    assert judge.judge(seen(2, [8, 10, 8]), upper, None) == []  # another layer, and the first is back
    assert judge.judge(seen(4, [10, 8, 8]), upper, None) == []
    told = judge.judge(seen(8, [11, 8, 8]), upper, None)
    assert kinds(told) == [("above_forecast", 0, [0])]
    assert "is 11, above its forecast for the second time in a row (to 9 with 99.9%)" in told[0].message
    assert judge.judge(seen(16, [12, 8, 8]), upper, None) == []


def test_float16_is_warned_of_ahead_and_when_it_comes():
    judge = Judge(set())
    told = judge.judge(seen(1, [6, 6, 6]), None, np.array([0.2, 0.97, 0.6]))
    assert kinds(told) == [("overflow_ahead", 1, [1, 2])]
    assert "after layer 1 (and 2) will pass what float16 holds (65,504)" in told[0].message
    assert "probability 97%" in told[0].message
    assert judge.judge(seen(2, [6, 6, 6]), None, np.array([0.2, 0.97, 0.6])) == []
    told = judge.judge(seen(4, [6, 6, 6], median=12_000), None, np.ones(LAYERS))
    assert kinds(told) == [("overflow", 0, [0, 1, 2])]  # and what has come is no more ahead
    assert "|h| reaches 72,000 after layer 0 (and 1, 2)" in told[0].message


def test_the_largest_values_at_positions_that_are_left_out_count_for_float16():
    one = seen(1, [6, 6, 6])
    one = Seen(one.step, one.top1, one.median, np.where(np.arange(LAYERS) == 2, 70_000.0, one.peaks), VALUES)
    assert kinds(Judge(set()).judge(one, None, None)) == [("overflow", 2, [2])]


def test_what_was_told_before_a_run_was_stopped_is_not_told_again(tmp_path):
    first = Judge(set())
    first.judge(START, None, None)
    alerts = [*first.judge(seen(8, [7, 400, 6]), None, None), *first.once(9, "not_measured", "no space")]
    record = MonitorRecord(model="run", every="log2", inputs="x", started=now(), updated=now(), alerts=alerts)
    write_monitor(tmp_path, record)
    read = read_monitor(tmp_path, "run")
    assert read is not None
    assert read == record
    again = Judge(known_causes(read.alerts), START)
    assert kinds(again.judge(seen(16, [400, 400, 6]), None, None)) == [("massive", 0, [0])]
    assert again.once(17, "not_measured", "no space") == []
    again.forget("not_measured")
    assert len(again.once(18, "not_measured", "no space")) == 1


def test_an_alert_is_a_line_of_a_log():
    one = alert(7, "massive", "layer 3 turned massive", [3])
    assert describe(ALERTS, one) == "step 7: a layer turned massive: layer 3 turned massive"
    assert describe({}, Alert(step=7, kind="new", message="x", time="")) == "step 7: new: x"


@pytest.mark.parametrize("count", [1, 2, 40])
def test_many_layers_are_named_in_a_line(count):
    judge, large = Judge(set()), np.full((2, count), 70_000.0)
    told = judge.judge(Seen(1, large, large, large, None), None, None)
    assert len(told[0].message) < 200
    assert told[0].layers == list(range(count))
