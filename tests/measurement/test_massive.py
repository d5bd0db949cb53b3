"""What is massive: the published rule, and rules whose rate of false alarms is held to by simulation."""

import json

import numpy as np
import pytest
from scipy import stats

import madyn
from madyn.massive import judge_tails, massive_by_start, massive_by_tail, massive_published, tail_ranks

SHAPES = [(2048, 512), (512, 576), (64, 32)]
# |h| by the probability of more; Student-t down to Cauchy's, whose values have no mean.
QUANTILES = {
    "gaussian": stats.halfnorm.isf,
    "laplace": stats.expon.isf,
    **{f"t{nu}": lambda p, nu=nu: stats.t.isf(p / 2, nu) for nu in (1, 2, 3, 5)},
}
RATE, ROUNDS = 0.1, 3000


def bound(rate, rounds=ROUNDS):
    """Three deviations above a rate that is counted."""
    return rate + 3 * np.sqrt(rate * (1 - rate) / rounds)


def smallest(rng, draws, count, rounds=ROUNDS):
    """The `count` smallest of so many uniform draws, exactly, without making the others; shape (rounds, count)."""
    gaps = np.cumsum(rng.exponential(size=(rounds, count)), axis=1)
    return gaps / (gaps[:, -1:] + rng.gamma(draws - count + 1, size=(rounds, 1)))


def tail_alarms(top1, inner, outer, shape, of_features):
    """How often one half of the rule gives an alarm, the other half being silent."""
    silent = np.full((2, len(top1)), 1e300)
    tails = np.stack([*silent, inner, outer] if of_features else [inner, outer, *silent], axis=1)
    size = shape[0] * shape[1], shape[1]
    return np.mean([judge_tails(top1[r : r + 1], tails[r : r + 1], *size, RATE).massive[0] for r in range(len(top1))])


@pytest.mark.parametrize("name", QUANTILES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("of_features", [False, True])
def test_the_tail_gives_no_more_false_alarms_than_it_says(name, shape, of_features):
    rng, (S, d) = np.random.default_rng(1), shape
    inner, outer = tail_ranks(S * d, d)[2 * of_features :][:2]
    p = smallest(rng, d if of_features else S * d, outer)[:, [0, inner - 1, outer - 1]]
    if of_features:  # a feature's value is the largest of S: its distribution function is F^S
        p = -np.expm1(np.log1p(-p) / S)
    top1, first, last = QUANTILES[name](p).T
    assert tail_alarms(top1, first, last, shape, of_features) <= bound(RATE / 2)


@pytest.mark.parametrize("of_features", [False, True])
def test_the_rate_of_the_tail_is_exact_for_pareto(of_features):
    """Where the tail is a straight line the rate is reached: the bound is no guess on the safe side."""
    rng, (S, d) = np.random.default_rng(2), (512, 576)
    inner, outer = tail_ranks(S * d, d)[2 * of_features :][:2]
    p = smallest(rng, 10**9, outer)[:, [0, inner - 1, outer - 1]]
    top1, first, last = (p**-0.7).T
    counted = tail_alarms(top1, first, last, (S, d), of_features)
    assert counted == pytest.approx(RATE / 2, abs=bound(RATE / 2) - RATE / 2)


@pytest.mark.parametrize("name", QUANTILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_start_gives_no_more_false_alarms_than_it_says(name, shape):
    rng, n, (B, L) = np.random.default_rng(3), shape[0] * shape[1], (5, 4)
    p = smallest(rng, n, 1, ROUNDS * 2 * B * L).reshape(ROUNDS, 2, B, L)
    middle = rng.beta(n // 2, n - n // 2 + 1, p.shape)
    top, median = QUANTILES[name](p), QUANTILES[name](middle)
    rounds = [massive_by_start(t[0], m[0], t[1], m[1], n, RATE) for t, m in zip(top, median, strict=True)]
    assert np.mean([verdict.massive.any() for verdict in rounds]) <= bound(RATE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["normal", "laplace", "t"])
def test_whole_hidden_states_give_no_alarm_and_one_with_a_massive_value_does(name, shape):
    """At the usual rate, one in a hundred; an alarm in these draws would be bad luck or a fault."""
    rng = np.random.default_rng(4)
    draw = (lambda **k: rng.standard_t(3, **k)) if name == "t" else getattr(rng, f"standard_{name}", rng.laplace)
    hidden = draw(size=(2, *shape))
    quiet = massive_by_tail(hidden)
    assert not quiet.massive.any()
    hidden[1, [0, 3, 9], 5] = 2 * quiet.threshold[1]  # several do not hide one another
    assert massive_by_tail(hidden).massive.tolist() == [False, True]


def test_what_the_rules_find_where_tokens_or_features_are_large_together():
    """A first token that is large everywhere hides no value from the one half, a large feature none from the other."""
    rng = np.random.default_rng(5)
    hidden = rng.standard_normal((512, 256))
    hidden[0] *= 10
    assert not massive_by_tail(hidden).massive
    hidden[0, 3] = 5000
    assert massive_by_tail(hidden).massive
    hidden = rng.standard_normal((512, 256))
    hidden[:, 7] *= 1000
    assert massive_by_tail(hidden).massive


def test_real_models_at_initialisation_give_no_alarm():
    import torch
    from transformers import AutoConfig, AutoModel

    from madyn.measurement import measure_with_locations

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 3, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 512}
    ids = torch.randint(0, 40, (3, 256)) ** 2  # a few tokens, over and over
    for kind in ("gpt_neox", "llama"):
        model = AutoModel.from_config(AutoConfig.for_model(kind, **sizes, vocab_size=2000))
        found = measure_with_locations(model, ids, tails=True)
        assert found.tails is not None
        verdict = judge_tails(found.statistics[:, 0], found.tails.values, found.tails.count, found.tails.features)
        assert not verdict.massive.any()


def test_tails_of_a_measured_model_are_those_of_its_hidden_states():
    import torch
    from torch import nn

    from madyn.measurement import measure_with_locations

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 48)
            self.layers = nn.ModuleList([nn.Linear(48, 48) for _ in range(2)])

        def forward(self, input_ids):
            states = [self.embed(input_ids)]
            for layer in self.layers:
                states.append(layer(states[-1]))
            self.states = torch.stack(states[1:], dim=1)
            return states[-1]

    torch.manual_seed(1)
    model, ids = Stack(), torch.randint(0, 50, (2, 64))
    found = measure_with_locations(model, ids, batch_size=2, layers="layers", tails=True, exclude=(0,))
    kept = model.states[:, :, 1:].detach().numpy()
    tails = found.tails
    assert tails is not None
    assert (tails.count == 63 * 48).all()
    assert (tails.features == 48).all()
    verdict = judge_tails(found.statistics[:, 0], tails.values, tails.count, tails.features)
    np.testing.assert_allclose(verdict.threshold, massive_by_tail(kept).threshold, rtol=1e-5)


def test_the_published_rule():
    top, median = np.array([99.0, 101, 101, 1e5]), np.array([0.01, 0.1, 0.102, 100.0])
    assert massive_published(top, median).tolist() == [False, True, False, True]


def test_a_small_trained_model_grows_what_the_published_rule_misses():
    """tiny-suite: nothing in it reaches 1000 times the median; its widest models leave their step 0 far behind."""
    data = madyn.open_dataset("tiny-suite")
    counts = data.massive("neox_2x128_h1_m256_s0")
    assert counts["published"].values.max() == 0
    assert counts["start"].sel(step=0).values.max() == 0
    assert (counts["start"].sel(step=3000).values == 10).all()


def test_show_says_in_how_many_layers(run):
    code, out, _ = run("show", "tiny-suite", "--json", "-q")
    model = next(one for one in json.loads(out)["models"] if one["model"] == "neox_2x128_h1_m256_s0")
    assert (code, model["massive"]) == (0, {"published": [], "start": [0, 1]})


def test_a_dataset_without_a_step_0_has_the_published_rule_alone(tmp_path):
    from tiny import write_dataset

    counts = madyn.open_dataset(write_dataset(tmp_path, steps=(1, 2, 4))).massive("pythia_14m")
    assert list(counts) == ["published"]
    assert counts["published"].dims == ("step", "layer")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: massive_by_tail(np.zeros(3)), "tokens and features"),
        (lambda: massive_by_tail(np.zeros((2, 3)), 2), "between 0 and 1"),
        (lambda: massive_by_start([[1.0]], [[1.0]], [[1.0, 2.0]], [[1.0, 2.0]], 100), "do not|needed"),
        (lambda: massive_by_start([[1.0]], [[1.0]], [[1.0]], [[1.0]], 3), "no tail"),
    ],
)
def test_what_means_nothing_is_said(call, said):
    with pytest.raises(madyn.MadynError, match=said):
        call()


def test_too_few_values_give_no_verdict():
    assert np.isinf(massive_by_tail(np.array([[1.0, 1e9]])).threshold)
    assert not massive_by_tail(np.zeros((64, 64))).massive
